"""Every photo once an epoch, or every landmark equally often.

Axes: N photos, C landmarks, P landmarks of a batch, K photos of each, B photos of a batch.
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


@dataclass(frozen=True, kw_only=True)
class Shuffle(WholeBatches):
    """Every photo once an epoch, in random order.

    An uneven last batch is dropped, unless it is the only one.
    """

    num_photos: int
    batch: int
    """Photos a step, all ranks together."""

    def __post_init__(self) -> None:
        require_count("num_photos", self.num_photos)
        require_count("batch", self.batch)

    @property
    def batch_photos(self) -> int:
        """Photos of a whole batch: all there are, where that is less than a batch."""
        return min(self.batch, self.num_photos)

    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self.num_photos // self.batch_photos

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        # seeds are padded with zeros; the last number keeps this apart from augmentation's (seed, epoch, 1...)
        order_N = np.random.default_rng([seed, epoch, 0]).permutation(self.num_photos)
        for number in range(start, self.num_batches()):
            yield order_N[number * self.batch_photos : (number + 1) * self.batch_photos]


@dataclass(frozen=True, eq=False, kw_only=True)
class IdUniform(WholeBatches):
    """P landmarks a batch, whatever their size, and K photos of each, those of a landmark side by side.

    The landmarks are shuffled and dealt out P at a time; when fewer than P are left they are shuffled anew.  So
    no landmark stands in a batch twice, and none comes back before every batch of its round is dealt.  A
    landmark's K photos are drawn without replacement; where it has fewer, all of them, and the rest with
    replacement.  A rank is given whole landmarks.
    """

    landmark_N: np.ndarray
    """The landmark of each photo, or its row in the head; none may be negative."""
    landmarks: int
    """P: landmarks a batch, all ranks together."""
    photos: int
    """K: photos of each."""
    epoch_batches: int | None = None
    """Batches of an epoch; None: as many as hold N photos, at least one."""

    def __post_init__(self) -> None:
        require_column("landmark_N", self.landmark_N)
        require(int(self.landmark_N.min()) >= 0, "landmark_N: a photo has no landmark; leave such photos out")
        require_count("landmarks", self.landmarks)
        require_count("photos", self.photos)
        if self.epoch_batches is not None:
            require_count("epoch_batches", self.epoch_batches)
        known = len(self._start_C)
        require(
            self.landmarks <= known,
            f"landmarks: {self.landmarks} a batch are more than the {known} there are",
        )

    @property
    def num_photos(self) -> int:
        """N."""
        return len(self.landmark_N)

    @property
    def batch_photos(self) -> int:
        """Photos of a whole batch: P x K."""
        return self.landmarks * self.photos

    @property
    def together(self) -> int:
        """Photos that no cut may part: those of a landmark."""
        return self.photos

    def num_batches(self) -> int:
        """Batches of an epoch."""
        if self.epoch_batches is not None:
            return self.epoch_batches
        return max(1, self.num_photos // self.batch_photos)

    @cached_property
    def _order_N(self) -> np.ndarray:
        """Positions, those of a landmark side by side."""
        return np.argsort(self.landmark_N, kind="stable")

    @cached_property
    def _start_C(self) -> np.ndarray:
        """Where in ``_order_N`` each landmark begins."""
        sorted_N = self.landmark_N[self._order_N]
        return np.flatnonzero(np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]]))

    @cached_property
    def _size_C(self) -> np.ndarray:
        return np.diff(self._start_C, append=self.num_photos)

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        a_round = len(self._start_C) // self.landmarks
        shuffled, order_C = -1, np.empty(0, dtype=np.int64)
        for number in range(start, self.num_batches()):
            this_round, place = divmod(number, a_round)
            if this_round != shuffled:
                order_C = stream(seed, Stream.LANDMARKS, epoch, this_round).permutation(len(self._start_C))
                shuffled = this_round
            rng = stream(seed, Stream.LANDMARK_PHOTOS, epoch, number)
            chosen_P = order_C[place * self.landmarks : (place + 1) * self.landmarks]
            yield np.concatenate([self._photos_of(int(landmark), rng) for landmark in chosen_P])

    def _photos_of(self, landmark: int, rng: np.random.Generator) -> np.ndarray:
        size = int(self._size_C[landmark])
        if size >= self.photos:
            pick_K = rng.choice(size, self.photos, replace=False)
        else:
            pick_K = np.concatenate([rng.permutation(size), rng.integers(size, size=self.photos - size)])
        return np.asarray(self._order_N[self._start_C[landmark] + pick_K])
