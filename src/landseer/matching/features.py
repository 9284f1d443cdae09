"""The points of one photo with their descriptors, and the small form in which they are kept.

Axes: K points of a photo, D numbers of a descriptor, M pairs of points.

The small form of a point is 2 + 2 bytes of place (a 65535th of the longer side, at most .005 px off at 640 px), 2
of score (float16) and its descriptor, a byte a number.  Features are always matched in that form, so that it makes no
difference whether they were kept or just made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_STEPS = 65535
"""Places along the longer side."""
_PLACE_AND_SCORE = 6
"""Bytes of a point without its descriptor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalFeatures:
    """Points of a photo, best first, and what surrounds each.

    ``keypoints_K2`` float32: x to the right and y down, in pixels of the photo as described, whose (width, height) is
    ``size``.  ``scores_K`` float32, never rising.  ``descriptors_KD`` uint8 or int8: their Euclidean distance counts,
    not their length.
    """

    keypoints_K2: np.ndarray
    scores_K: np.ndarray
    descriptors_KD: np.ndarray
    size: tuple[int, int]

    def __post_init__(self) -> None:
        num = len(self.scores_K)
        if self.keypoints_K2.shape != (num, 2) or self.descriptors_KD.ndim != 2:
            raise ValueError(
                f"{num} scores need keypoints [{num}, 2] and descriptors [{num}, D], not "
                f"{self.keypoints_K2.shape} and {self.descriptors_KD.shape}"
            )
        if len(self.descriptors_KD) != num or self.descriptors_KD.dtype not in (np.uint8, np.int8):
            raise ValueError(
                f"{num} points need as many uint8 or int8 descriptors, not "
                f"{len(self.descriptors_KD)} {self.descriptors_KD.dtype}"
            )
        if self.keypoints_K2.dtype != np.float32 or self.scores_K.dtype != np.float32:
            raise ValueError("keypoints and scores must be float32")
        if num and not (np.isfinite(self.keypoints_K2).all() and np.isfinite(self.scores_K).all()):
            raise ValueError("keypoints and scores must be finite")
        if np.any(self.scores_K[1:] > self.scores_K[:-1]):
            raise ValueError("points must stand best first")

    def __len__(self) -> int:
        return len(self.scores_K)

    @property
    def num_bytes(self) -> int:
        """What they take in memory."""
        return self.keypoints_K2.nbytes + self.scores_K.nbytes + self.descriptors_KD.nbytes

    def packed(self) -> bytes:
        """The small form."""
        step = max(self.size) / _STEPS
        places = np.clip(np.rint(self.keypoints_K2 / step), 0, _STEPS).astype("<u2")
        return places.tobytes() + self.scores_K.astype("<f2").tobytes() + self.descriptors_KD.tobytes()

    def settled(self) -> LocalFeatures:
        """As they come back from the small form."""
        kept, dim = self.descriptors_KD, self.descriptors_KD.shape[1]
        return unpacked(self.packed(), num=len(self), dim=dim, dtype=kept.dtype, size=self.size)

    def precedes(self, other: LocalFeatures) -> bool:
        """An order by content, so that a pair of photos is computed alike from either side."""
        for mine, theirs in (
            (self.keypoints_K2, other.keypoints_K2),
            (self.descriptors_KD, other.descriptors_KD),
        ):
            if mine.tobytes() != theirs.tobytes():
                return mine.tobytes() < theirs.tobytes()
        return self.size <= other.size


def unpacked(small: bytes, *, num: int, dim: int, dtype: np.dtype, size: tuple[int, int]) -> LocalFeatures:
    """The features whose small form is *small*.  Raises ``ValueError`` where its length is not theirs."""
    if len(small) != num * bytes_a_point(dim):
        raise ValueError(f"{num} points take {num * bytes_a_point(dim)} bytes, not {len(small)}")
    step = max(size) / _STEPS
    places = np.frombuffer(small, "<u2", count=2 * num).reshape(num, 2)
    return LocalFeatures(
        keypoints_K2=(places * np.float64(step)).astype(np.float32),
        scores_K=np.frombuffer(small, "<f2", count=num, offset=4 * num).astype(np.float32),
        descriptors_KD=np.frombuffer(small, dtype, offset=_PLACE_AND_SCORE * num).reshape(num, dim),
        size=size,
    )


def nothing(size: tuple[int, int], *, dim: int, dtype: np.dtype) -> LocalFeatures:
    """The features of a photo without points."""
    return unpacked(b"", num=0, dim=dim, dtype=dtype, size=size)


def bytes_a_point(dim: int) -> int:
    """Size of the small form of one point."""
    return _PLACE_AND_SCORE + dim


class Extractor(Protocol):
    """Finds and describes points.  Called from several threads at once; equal pixels give equal features."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides its features, JSON-able; of weights their sha256."""

    @property
    def longest(self) -> int:
        """Pixels of the longer side to which larger photos are shrunk."""

    @property
    def keypoints(self) -> int:
        """Most points of a photo."""

    @property
    def dim(self) -> int:
        """Numbers of a descriptor."""

    @property
    def dtype(self) -> np.dtype:
        """Of the descriptors: uint8 or int8."""

    def __call__(self, pixels_HW3: np.ndarray) -> LocalFeatures:
        """The points of a photo, RGB uint8 ``[H, W, 3]`` of any size from 1 x 1, shrunk where it is larger."""


class Pairer(Protocol):
    """Pairs the points of two photos.  Called from several threads at once; equal features give equal pairs."""

    def __call__(self, a: LocalFeatures, b: LocalFeatures) -> np.ndarray:
        """int64 ``[M, 2]``: a point of *a* and one of *b*, by that of *a*; no point stands in two pairs."""
