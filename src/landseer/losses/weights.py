"""Weights of photos in the loss: by the size of their landmark, and by whether they are clean.

The 2020 winners' (S. Jeon, 2020): seldom photographed landmarks count more, noisy photos less.  A weight is
always relative: its mean over the training photos is 1, so that learning rates keep their meaning.
Axes: N training photos, C landmarks of the label space.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np

from landseer.losses.margins import checked_counts

ClassRule = Literal["same", "1/ln n", "1/ln(n+1)"]


def class_weights(photos_C: np.ndarray, *, rule: ClassRule) -> np.ndarray:
    """Weight of a photo of each landmark, float64 ``[C]``; the mean over all photos (not landmarks) is 1.

    Raises ``ValueError`` where a landmark has no photo, and for ``1/ln n`` where one has a single photo.
    """
    weight_C = _by_size(photos_C, rule)
    return weight_C / np.average(weight_C, weights=photos_C)


def sample_weights(
    row_N: np.ndarray,
    photos_C: np.ndarray,
    *,
    rule: ClassRule,
    clean_N: np.ndarray | None = None,
    noisy_weight: float = 1.0,
) -> np.ndarray:
    """Weight of each training photo, float64 ``[N]``: ``u / ln n`` (or as *rule* says), brought to mean 1.

    *row_N* is each photo's row in the label space, *photos_C* counts the photos of each row.  u is 1 where
    *clean_N* (bool) holds and *noisy_weight* elsewhere, so 0.5 is "clean photos count double".
    Raises ``ValueError`` as ``class_weights`` does, and for a *noisy_weight* without *clean_N*.
    """
    if not len(row_N):
        raise ValueError("there is no photo to weigh")
    if noisy_weight <= 0:
        raise ValueError(
            f"noisy_weight must be above 0, not {noisy_weight}; train on clean photos alone instead"
        )
    weight_N = _by_size(photos_C, rule)[row_N]
    if clean_N is not None:
        if np.shape(clean_N) != np.shape(row_N):
            raise ValueError(f"{len(row_N)} photos but {np.shape(clean_N)} marks of which are clean")
        weight_N = weight_N * np.where(clean_N, 1.0, noisy_weight)
    elif noisy_weight != 1.0:
        raise ValueError("noisy_weight needs to know which photos are clean; give clean_N")
    return weight_N / weight_N.mean()


def _by_size(photos_C: np.ndarray, rule: ClassRule) -> np.ndarray:
    counts_C = checked_counts(photos_C)
    if rule == "same":
        return np.ones(len(counts_C))
    if rule == "1/ln(n+1)":
        return 1.0 / np.log(counts_C + 1.0)
    if rule != "1/ln n":
        assert_never(rule)
    if counts_C.min() == 1:
        raise ValueError(
            f"row {int(counts_C.argmin())} of the label space has one photo, and 1/ln 1 is infinite; "
            'use class_weights = "1/ln(n+1)", or min_photos = 2'
        )
    return 1.0 / np.log(counts_C)
