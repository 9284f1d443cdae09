"""Batches of photos of one shape, so that wide and tall photos keep their proportions.

Yokoo et al., 1st place of the Google Landmark Retrieval challenge 2019.  Axes: N photos, B photos of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from landseer.datasets.samplers.base import (
    Stream,
    WholeBatches,
    require,
    require_column,
    require_count,
    stream,
)
from landseer.recipe import AspectOptions


def bin_of(aspects: AspectOptions, ratio_N: np.ndarray) -> np.ndarray:
    """The bin of each height / width, int64 ``[N]``; one that lies on a split is in the taller bin."""
    return np.searchsorted(np.asarray(aspects.splits, dtype=np.float64), ratio_N, side="right")


@dataclass(frozen=True, eq=False, kw_only=True)
class AspectGrouped(WholeBatches):
    """Every photo at most once an epoch, and every batch from one bin of shapes.

    Photos are shuffled within their bin and cut into batches, an uneven last batch of each bin is dropped, and
    the batches of all bins are shuffled.  Which photos are dropped changes from epoch to epoch, but a bin that
    cannot fill a batch is never seen: see ``num_never_seen``.
    """

    ratio_N: np.ndarray
    """Height / width of each photo."""
    aspects: AspectOptions
    """Where the bins are split, and their input sizes."""
    batch: int
    """Photos a step, all ranks together."""

    def __post_init__(self) -> None:
        require(bool(self.aspects.sizes), "aspects: no sizes are said; without them photos need no grouping")
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
        width, height = self.aspects.sizes[int(bins[0])]
        return width, height

    @cached_property
    def _bin_N(self) -> np.ndarray:
        return bin_of(self.aspects, self.ratio_N).astype(np.int8)

    @cached_property
    def _count_by_bin(self) -> list[int]:
        return [int(count) for count in np.bincount(self._bin_N, minlength=len(self.aspects.sizes))]

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        rng = stream(seed, Stream.ASPECTS, epoch)
        tables = []
        for place, count in enumerate(self._count_by_bin):
            order = rng.permutation(np.flatnonzero(self._bin_N == place))
            tables.append(order[: count // self.batch * self.batch].reshape(-1, self.batch))
        table_MB = np.concatenate(tables)
        for number in rng.permutation(len(table_MB))[start:]:
            yield table_MB[number]
