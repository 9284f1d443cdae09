"""What every sampler shares: the protocol, the cut of a batch over ranks, random streams, exact shares.

Axes: N photos, B photos of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """Says which photos stand in which batch of an epoch, in order.

    A batch is what all ranks see together in one step.  Its photos follow from (seed, epoch) alone, whatever
    the number of ranks, and each rank is given its own part of it.
    """

    @property
    def num_photos(self) -> int:
        """Every position that is handed out lies below this."""

    def num_batches(self) -> int:
        """Batches of an epoch, the same for every epoch and any number of ranks."""

    def batches(
        self, *, seed: int, epoch: int, rank: int = 0, world: int = 1, start: int = 0
    ) -> Iterator[np.ndarray]:
        """The positions, int64 ``[B]``, of each batch of *epoch* that *rank* of *world* works on.

        The parts of the ranks in order, one after the other, are the batch of a world of one; their lengths
        differ by at most one photo (one landmark in ``IdUniform``), so a loss that is a mean has to be weighed
        by them.  *start* batches are skipped: what follows is what would have followed them.  Raises
        ``ValueError`` at the call for a rank outside the world, a world with more ranks than a batch has
        parts, and a start beyond the epoch.
        """


class WholeBatches(ABC):
    """A sampler that draws whole batches of one length and cuts each over the ranks."""

    @property
    def together(self) -> int:
        """Photos that no cut may part."""
        return 1

    @property
    @abstractmethod
    def batch_photos(self) -> int:
        """Photos of a whole batch."""

    @abstractmethod
    def num_batches(self) -> int:
        """Batches of an epoch, the same for every epoch and any number of ranks."""

    @abstractmethod
    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        """Every batch from number *start* on, int64 ``[batch_photos]``."""

    def batches(
        self, *, seed: int, epoch: int, rank: int = 0, world: int = 1, start: int = 0
    ) -> Iterator[np.ndarray]:
        """What ``Sampler.batches`` says."""
        require_place(
            seed=seed, epoch=epoch, rank=rank, world=world, start=start, num_batches=self.num_batches()
        )
        parts = self.batch_photos // self.together
        if world > parts:
            raise ValueError(f"a batch has {parts} parts, too few for {world} ranks; make it larger")
        mine = slice(rank * parts // world * self.together, (rank + 1) * parts // world * self.together)
        # a generator of its own: the checks above are made at the call, not at the first batch
        return (whole[mine] for whole in self._whole_batches(seed=seed, epoch=epoch, start=start))


class Stream(IntEnum):
    """Who draws: samplers share a seed and an epoch, never a random stream."""

    LANDMARKS = 1
    LANDMARK_PHOTOS = 2
    CONTINENTS = 3
    ASPECTS = 4
    MIXED_BATCHES = 5
    MIXED_PHOTOS = 6
    PART = 7


def stream(seed: int, who: Stream, *key: int) -> np.random.Generator:
    """The random numbers of one drawing, apart from those of every other *who* and *key*."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(who), *key)))


def part_seed(seed: int, part: int) -> int:
    """The seed of part number *part* of a mixture, so that equal parts are not shuffled alike."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(Stream.PART), part))
    return int(sequence.generate_state(1, np.uint64)[0])


def exact_shares(total: int, weights: Sequence[float]) -> list[int]:
    """*total* as whole numbers in proportion to *weights* (not all 0), by the largest remainder.

    Each is its exact share rounded down or up, and their sum is *total*; of equal remainders the first wins.
    """
    quota = total * np.asarray(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
    count = np.floor(quota).astype(np.int64)
    # rounded, so that remainders that differ by the arithmetic alone are equal
    largest = np.argsort(-np.round(quota - count, 9), kind="stable")
    count[largest[: total - int(count.sum())]] += 1
    return [int(number) for number in count]


def require_place(*, seed: int, epoch: int, rank: int, world: int, start: int, num_batches: int) -> None:
    """Raise ``ValueError`` for a place that no epoch of *num_batches* batches has."""
    for key, value in (("seed", seed), ("epoch", epoch)):
        require(value >= 0, f"{key}: must not be negative, not {value}")
    require(world >= 1, f"world: must be at least 1, not {world}")
    require(0 <= rank < world, f"rank: must lie in 0..{world - 1}, not {rank}")
    require(
        0 <= start <= num_batches, f"start: an epoch has {num_batches} batches, so it cannot start at {start}"
    )


def require_count(key: str, value: int) -> None:
    """Raise ``ValueError`` unless *value* is at least 1."""
    require(value >= 1, f"{key}: must be at least 1, not {value}")


def require_shares(key: str, shares: Sequence[float]) -> None:
    """Raise ``ValueError`` unless *shares* are finite, none negative, and sum to 1."""
    for share in shares:
        require(0 <= share <= 1, f"{key}: must lie in 0..1, not {share}")
    require(abs(sum(shares) - 1) <= 1e-6, f"{key}: must sum to 1, not {sum(shares):.6g}")


def require_column(key: str, values: np.ndarray) -> None:
    """Raise ``ValueError`` unless *values* is a column of at least one photo."""
    require(values.ndim == 1, f"{key}: must have one value a photo, not the shape {values.shape}")
    require(len(values) > 0, f"{key}: there is no photo to draw")


def require(holds: bool, message: str) -> None:
    """Raise ``ValueError`` with *message* unless it holds."""
    if not holds:
        raise ValueError(message)
