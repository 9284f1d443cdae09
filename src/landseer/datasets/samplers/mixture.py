"""Several collections, or several subsets of one, mixed by the batch or by the photo.

Shares are exact, not drawn: an epoch holds each part in proportion to its probability, in random order.  A part
goes on in the next epoch where it stopped in this one, so all its photos are seen before one is seen again.

Axes: N photos of a part, M batches of an epoch, B photos of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

import numpy as np

from landseer.datasets.samplers.base import (
    Sampler,
    Stream,
    WholeBatches,
    exact_shares,
    part_seed,
    require,
    require_column,
    require_count,
    require_place,
    require_shares,
    stream,
)

_DRAWN_AT_ONCE = 65536  # photos: a part of one photo then costs no more than a large one


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Photos of a mixture, and their share of it."""

    position_N: np.ndarray
    """Where the part's photos stand in the mixture; two collections side by side are 0..N-1 and N..N+N'-1."""
    probability: float

    def __post_init__(self) -> None:
        require_column("position_N", self.position_N)
        require(
            np.issubdtype(self.position_N.dtype, np.integer) and int(self.position_N.min()) >= 0,
            "position_N: positions are whole numbers from 0",
        )
        require(
            0 < self.probability <= 1,
            f"probability: must be above 0 and at most 1, not {self.probability}; leave out a part with none",
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledPart(Part):
    """A part whose batches a sampler of its own makes; it counts the part's photos from 0."""

    sampler: Sampler

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.sampler.num_photos == len(self.position_N),
            f"sampler: it draws from {self.sampler.num_photos} photos, the part has {len(self.position_N)}",
        )


AnyPart = TypeVar("AnyPart", bound=Part)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mixture(Generic[AnyPart]):
    parts: tuple[AnyPart, ...]
    epoch_batches: int
    """M: batches of an epoch."""

    @property
    def num_photos(self) -> int:
        """One more than the highest position of a part."""
        return 1 + max(int(part.position_N.max()) for part in self.parts)

    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self.epoch_batches

    def _shares(self, total: int, noun: str) -> list[int]:
        """*total* shared among the parts; ``ValueError`` where one goes without."""
        require_count("epoch_batches", self.epoch_batches)
        require(bool(self.parts), "parts: a mixture needs at least one")
        require_shares("probability", [part.probability for part in self.parts])
        shares = exact_shares(total, [part.probability for part in self.parts])
        for number, (part, share) in enumerate(zip(self.parts, shares, strict=True)):
            require(
                share >= 1,
                f"parts: part {number}, of probability {part.probability:g}, gets none of the {total} {noun} "
                "of an epoch; lengthen the epoch or leave it out",
            )
        return shares


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchMixture(_Mixture[SampledPart]):
    """Every batch from one part, made by that part's sampler."""

    def __post_init__(self) -> None:
        self.batches_by_part()

    def batches_by_part(self) -> list[int]:
        """How many batches of an epoch each part gives; their sum is M."""
        return self._shares(self.epoch_batches, "batches")

    def batches(
        self, *, seed: int, epoch: int, rank: int = 0, world: int = 1, start: int = 0
    ) -> Iterator[np.ndarray]:
        """What ``Sampler.batches`` says."""
        require_place(
            seed=seed, epoch=epoch, rank=rank, world=world, start=start, num_batches=self.epoch_batches
        )
        shares = self.batches_by_part()
        order_M = np.repeat(np.arange(len(self.parts)), shares)
        order_M = stream(seed, Stream.MIXED_BATCHES, epoch).permutation(order_M)
        done = np.bincount(order_M[:start], minlength=len(self.parts))
        runs = [
            _run(part, part_seed(seed, number), epoch * share + int(skipped), rank, world)
            for number, (part, share, skipped) in enumerate(zip(self.parts, shares, done, strict=True))
        ]
        return (next(runs[number]) for number in order_M[start:])


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoMixture(_Mixture[Part], WholeBatches):
    """Every photo of a batch from one part; each part is shuffled anew when it has been gone through."""

    batch: int
    """Photos a step, all ranks together."""

    def __post_init__(self) -> None:
        require_count("batch", self.batch)
        self.photos_by_part()

    @property
    def batch_photos(self) -> int:
        """Photos of a whole batch."""
        return self.batch

    def photos_by_part(self) -> list[int]:
        """How many photos of an epoch each part gives; their sum is M x B."""
        return self._shares(self.epoch_batches * self.batch, "photos")

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        shares = self.photos_by_part()
        part_of = np.repeat(np.arange(len(self.parts), dtype=np.int32), shares)
        part_of = stream(seed, Stream.MIXED_PHOTOS, epoch).permutation(part_of)
        table = np.empty(len(part_of), dtype=np.int64)
        for number, (part, share) in enumerate(zip(self.parts, shares, strict=True)):
            picks = _passes(len(part.position_N), part_seed(seed, number), epoch * share, share)
            table[part_of == number] = part.position_N[picks]
        yield from table.reshape(-1, self.batch)[start:]


def _run(part: SampledPart, seed: int, first: int, rank: int, world: int) -> Iterator[np.ndarray]:
    """The part's batches from number *first* on, its epochs one after the other without end."""
    epoch, start = divmod(first, part.sampler.num_batches())
    now = part.sampler.batches(seed=seed, epoch=epoch, rank=rank, world=world, start=start)

    def run() -> Iterator[np.ndarray]:
        for batch in now:
            yield part.position_N[batch].astype(np.int64)
        for later in count(epoch + 1):
            for batch in part.sampler.batches(seed=seed, epoch=later, rank=rank, world=world):
                yield part.position_N[batch].astype(np.int64)

    return run()


def _passes(size: int, seed: int, first: int, num: int) -> np.ndarray:
    """Numbers *first*, *first* + 1 ... of an endless run of shuffles of 0..size-1, int64 ``[num]``."""
    rows = max(1, _DRAWN_AT_ONCE // size)
    pieces = []
    while num:
        block, start = divmod(first, rows * size)
        shuffles = np.tile(np.arange(size), (rows, 1))
        stream(seed, Stream.MIXED_PHOTOS, block).permuted(shuffles, axis=1, out=shuffles)
        pieces.append(shuffles.reshape(-1)[start : start + num])
        first, num = first + len(pieces[-1]), num - len(pieces[-1])
    return np.concatenate(pieces)
