"""Batches of photos of one shape, so that wide and tall photos keep their proportions.

Yokoo et al., 1st place of the Google Landmark Retrieval challenge 2019.  Axes: N photos, B photos of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from landseer.datasets.samplers.base import (
    Stream,
    WholeBatches,
    require,
    require_column,
    require_count,
    stream,
)


@dataclass(frozen=True, kw_only=True)
class AspectSizes:
    """The shapes photos are sorted into, widest first, and the input size of each."""

    splits: tuple[float, ...]
    """Where height / width passes from one bin to the next, rising."""
    sizes_px: tuple[tuple[int, int], ...]
    """(width, height) of each bin."""

    def __post_init__(self) -> None:
        require(
            len(self.sizes_px) == len(self.splits) + 1,
            f"sizes_px: {len(self.splits)} splits make {len(self.splits) + 1} bins, not {len(self.sizes_px)}",
        )
        require(
            all(low < high for low, high in zip((0.0, *self.splits), self.splits, strict=False)),
            f"splits: must be above 0 and rise, not {self.splits}",
        )
        require(
            all(side >= 1 for size in self.sizes_px for side in size), "sizes_px: a side is at least 1 pixel"
        )

    def bin_of(self, ratio_N: np.ndarray) -> np.ndarray:
        """The bin of each height / width, int64 ``[N]``; one that lies on a split is in the taller bin."""
        return np.searchsorted(np.asarray(self.splits), ratio_N, side="right")


_FIVE = (0.67, 0.77, 1.33, 1.5)
_THREE = (0.77, 1.33)


def _sizes(splits: tuple[float, ...], *sizes_px: tuple[int, int]) -> AspectSizes:
    return AspectSizes(splits=splits, sizes_px=sizes_px)


ASPECT_SIZES: Mapping[str, AspectSizes] = MappingProxyType(
    {
        "SS2": _sizes(_FIVE, (480, 320), (480, 352), (384, 384), (352, 480), (320, 480)),
        "S2": _sizes(_FIVE, (512, 352), (512, 384), (448, 448), (384, 512), (352, 512)),
        "SM2": _sizes(_FIVE, (736, 512), (704, 544), (608, 608), (544, 704), (512, 736)),
        "M2": _sizes(_FIVE, (800, 544), (800, 608), (704, 704), (608, 800), (544, 800)),
        "L2": _sizes(_FIVE, (800, 544), (800, 608), (800, 800), (608, 800), (544, 800)),
        "SS": _sizes(_THREE, (384, 256), (256, 256), (256, 384)),
        "S": _sizes(_THREE, (512, 384), (448, 448), (384, 512)),
        "M": _sizes(_THREE, (800, 608), (704, 704), (608, 800)),
        "L": _sizes(_THREE, (800, 608), (800, 800), (608, 800)),
    }
)
"""The winners' templates: five bins (names with a 2) or three."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AspectGrouped(WholeBatches):
    """Every photo at most once an epoch, and every batch from one bin of shapes.

    Photos are shuffled within their bin and cut into batches, an uneven last batch of each bin is dropped, and
    the batches of all bins are shuffled.  Which photos are dropped changes from epoch to epoch, but a bin that
    cannot fill a batch is never seen: see ``num_never_seen``.
    """

    ratio_N: np.ndarray
    """Height / width of each photo."""
    sizes: AspectSizes
    """Where the bins are split, and their input sizes."""
    batch: int
    """Photos a step, all ranks together."""

    def __post_init__(self) -> None:
        require_column("ratio_N", self.ratio_N)
        require(
            bool(np.all(np.isfinite(self.ratio_N) & (self.ratio_N > 0))),
            "ratio_N: height / width must be above 0 and finite",
        )
        require_count("batch", self.batch)
        require(
            self.num_batches() >= 1,
            f"batch: no bin of shapes has {self.batch} photos; the largest has {max(self._count_by_bin)}",
        )

    @property
    def num_photos(self) -> int:
        """N."""
        return len(self.ratio_N)

    @property
    def batch_photos(self) -> int:
        """Photos of a whole batch."""
        return self.batch

    @property
    def num_never_seen(self) -> int:
        """Photos in bins that cannot fill a batch."""
        return sum(count for count in self._count_by_bin if count < self.batch)

    def num_batches(self) -> int:
        """Batches of an epoch."""
        return sum(count // self.batch for count in self._count_by_bin)

    def size_of(self, position_B: np.ndarray) -> tuple[int, int]:
        """(width, height) in pixels of the input that a batch is resized to.

        Raises ``ValueError`` for no photos, and for photos of several bins.
        """
        bins = np.unique(self._bin_N[position_B])
        require(len(bins) == 1, f"the photos lie in {len(bins)} bins of shapes; a batch has one")
        return self.sizes.sizes_px[int(bins[0])]

    @cached_property
    def _bin_N(self) -> np.ndarray:
        return self.sizes.bin_of(self.ratio_N).astype(np.int8)

    @cached_property
    def _count_by_bin(self) -> list[int]:
        return [int(count) for count in np.bincount(self._bin_N, minlength=len(self.sizes.sizes_px))]

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        rng = stream(seed, Stream.ASPECTS, epoch)
        tables = []
        for place, count in enumerate(self._count_by_bin):
            order = rng.permutation(np.flatnonzero(self._bin_N == place))
            tables.append(order[: count // self.batch * self.batch].reshape(-1, self.batch))
        table_MB = np.concatenate(tables)
        for number in rng.permutation(len(table_MB))[start:]:
            yield table_MB[number]
