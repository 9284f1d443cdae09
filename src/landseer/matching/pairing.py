"""Points of two photos that are each other's nearest, and clearly nearer than the second nearest.

Axes: K points of photo a, L of photo b, D numbers of a descriptor, M pairs.
"""

from __future__ import annotations

import cv2
import numpy as np

from landseer.matching.features import LocalFeatures


class MutualRatio:
    """Mutual nearest neighbours whose distance is less than *ratio* times that to the second, from both sides."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def __call__(self, a: LocalFeatures, b: LocalFeatures) -> np.ndarray:
        """int64 ``[M, 2]``; see ``mutual_pairs``."""
        return mutual_pairs(a.descriptors_KD, b.descriptors_KD, ratio=self.ratio)


def mutual_pairs(a_KD: np.ndarray, b_LD: np.ndarray, *, ratio: float) -> np.ndarray:
    """Pairs (row of *a_KD*, row of *b_LD*), int64 ``[M, 2]``, by the row of *a_KD*.

    By Euclidean distance; a row's second nearest is any other row of the other photo, so a photo with fewer than two
    points has no pairs, and rows equally near to two others are in none.  Of at most 128 bytes a row distances are
    exact, since no sum of their products reaches 2 ** 24.  Exchanging the photos exchanges the columns, nothing else.
    """
    if len(a_KD) < 2 or len(b_LD) < 2:
        return np.empty((0, 2), np.int64)
    squared_KL = _squared_distances(a_KD, b_LD)
    nearest_K = squared_KL.argmin(axis=1)
    rows_K = np.arange(len(a_KD))
    best_K = squared_KL[rows_K, nearest_K]
    mutual = np.flatnonzero(best_K <= squared_KL.min(axis=0)[nearest_K])
    alone = np.bincount(nearest_K[mutual], minlength=len(b_LD))[nearest_K[mutual]] == 1  # else a tie
    mutual = mutual[alone]
    nearest_M, best_M = nearest_K[mutual], best_K[mutual]
    squared_KL[mutual, nearest_M] = np.inf  # what is left of a row or column is its second nearest
    second_M = np.minimum(squared_KL[mutual].min(axis=1), squared_KL[:, nearest_M].min(axis=0))
    clear = best_M < second_M.astype(np.float64) * ratio**2
    return np.stack([mutual[clear], nearest_M[clear]], axis=1)


def _squared_distances(a_KD: np.ndarray, b_LD: np.ndarray) -> np.ndarray:
    """|a|^2 - 2 ab + |b|^2 as one product of rows that carry their squared lengths, float32 ``[K, L]``."""
    a, b = a_KD.astype(np.float32), b_LD.astype(np.float32)
    left = np.concatenate([a, _squared_lengths(a), np.ones((len(a), 1), np.float32)], axis=1)
    right = np.concatenate(
        [b * np.float32(-2), np.ones((len(b), 1), np.float32), _squared_lengths(b)], axis=1
    )
    # OpenCV's product takes no thread pool of BLAS, which workers side by side would fight over
    found: np.ndarray = cv2.gemm(left, right, 1.0, None, 0.0, flags=cv2.GEMM_2_T)
    return found


def _squared_lengths(rows: np.ndarray) -> np.ndarray:
    squared: np.ndarray = np.square(rows).sum(axis=1, keepdims=True)
    return squared
