"""From evidence to a decision about each photo, and what other thresholds would have decided.

A photo's score lies in 0 to 1 and is at least one half where the evidence is enough, whatever its kind:

- geometry: r^3 / (r^3 + 1), with r the inliers of the ``least_neighbours``-th best neighbour as a multiple of the least
  inliers; steep, since a few points agree by chance;
- descriptors: a logistic of how far the margin is above ``margin``;
- both: the higher of the two.

Axes: N photos, F best neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landseer.recipe.cleaning_options import CleaningOptions

ENOUGH = 0.5
"""The least score of a kept photo."""
SOFTNESS = 0.05
"""Cosine over which the score of a descriptor goes from one half to .73."""
REASONS = (
    "not judged",
    "no descriptor",
    "too little evidence",
    "too few of its landmark kept",
    "nearer to its own label",
    "same points in enough photos of its label",
    "nearer to its own label, and same points in enough photos of it",
    "dropped by hand",
    "kept by hand",
)
"""Why a photo was kept or dropped, by number."""
(NOT_JUDGED, NO_DESCRIPTOR, LITTLE, FEW, NEARER, POINTS, NEARER_AND_POINTS, BY_HAND_DROPPED, BY_HAND_KEPT) = (
    range(9)
)
FREQUENCIES, INLIERS = tuple(range(10, 0, -1)), (50, 40, 30, 20)
"""The grid of Yokoo et al.: least neighbours, least inliers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What is known of each photo.

    ``label_N`` int64, below 0: no label, such photos are not judged.  ``described_N`` bool: has a descriptor.
    ``margin_N`` float32, NaN where there is none: how much nearer to its own label.  ``best_NF`` int32: most inliers
    with others of its label, most first.
    """

    label_N: np.ndarray
    described_N: np.ndarray
    margin_N: np.ndarray
    best_NF: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """``kept_N`` bool, ``score_N`` float32 (NaN: not judged), ``reason_N`` int8, numbers of ``REASONS``."""

    kept_N: np.ndarray
    score_N: np.ndarray
    reason_N: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """What one pair of thresholds keeps."""

    least_neighbours: int
    inliers: int
    photos: int
    landmarks: int


def descriptor_score(margin_N: np.ndarray, least: float) -> np.ndarray:
    """Float64 ``[N]``; 0 where there is no margin."""
    with np.errstate(over="ignore"):
        score_N: np.ndarray = 1 / (1 + np.exp((least - margin_N.astype(np.float64)) / SOFTNESS))
    return np.where(np.isnan(score_N), 0.0, score_N)


def geometry_score(best_NF: np.ndarray, *, least_neighbours: int, inliers: int) -> np.ndarray:
    """Float64 ``[N]``."""
    weakest_N = best_NF[:, least_neighbours - 1].astype(np.float64) ** 3
    score_N: np.ndarray = weakest_N / (weakest_N + float(inliers) ** 3)
    return score_N


def decide(
    evidence: Evidence,
    options: CleaningOptions,
    *,
    inliers: int,
    overrides_N: np.ndarray | None = None,
) -> Decision:
    """Keep photos by their score, then landmarks by their kept photos; a person's word stands above both.

    *inliers*: how many prove a pair.  *overrides_N* int8: 1 keep, -1 drop, 0 as the machine says; only labelled photos
    may be kept.  Photos kept by hand count among those of their landmark, those dropped by hand do not.
    """
    label_N = evidence.label_N
    hand_N = np.zeros(len(label_N), np.int8) if overrides_N is None else overrides_N
    assert not np.any((hand_N > 0) & (label_N < 0)), "a photo without a landmark cannot be kept"
    none_N = np.zeros(len(label_N))
    near_N = none_N if options.mode == "geometry" else descriptor_score(evidence.margin_N, options.margin)
    same_N = (
        none_N
        if options.mode == "descriptors"
        else geometry_score(evidence.best_NF, least_neighbours=options.least_neighbours, inliers=inliers)
    )
    score_N = np.maximum(near_N, same_N)
    reason_N = np.full(len(label_N), LITTLE, np.int8)
    reason_N[near_N >= ENOUGH] = NEARER
    reason_N[same_N >= ENOUGH] = POINTS
    reason_N[(near_N >= ENOUGH) & (same_N >= ENOUGH)] = NEARER_AND_POINTS
    reason_N[~evidence.described_N] = NO_DESCRIPTOR
    kept_N = (score_N >= ENOUGH) & evidence.described_N & (label_N >= 0)
    kept_N = (kept_N & (hand_N >= 0)) | (hand_N > 0)
    few_N = kept_N & (hand_N <= 0) & ~enough_of_label(label_N, kept_N, options.least_photos)
    reason_N[few_N] = FEW
    reason_N[label_N < 0] = NOT_JUDGED
    reason_N[hand_N > 0], reason_N[hand_N < 0] = BY_HAND_KEPT, BY_HAND_DROPPED
    judged_N = (label_N >= 0) & evidence.described_N
    return Decision(
        kept_N=kept_N & ~few_N,
        score_N=np.where(judged_N, score_N, np.nan).astype(np.float32),
        reason_N=reason_N,
    )


def enough_of_label(label_N: np.ndarray, kept_N: np.ndarray, least: int) -> np.ndarray:
    """Whether at least so many photos of each photo's label are kept, bool ``[N]``."""
    counts = np.bincount(label_N[kept_N & (label_N >= 0)], minlength=label_N.max(initial=-1) + 1)
    enough_N: np.ndarray = np.zeros(len(label_N), bool)
    labelled = label_N >= 0
    enough_N[labelled] = counts[label_N[labelled]] >= least
    return enough_N


def sweep(
    evidence: Evidence,
    *,
    least_photos: int = 2,
    frequencies: Sequence[int] = FREQUENCIES,
    inliers: Sequence[int] = INLIERS,
) -> list[SweepRow]:
    """What geometry alone keeps at each pair of thresholds, from the inliers that are known.

    These must be of every pair (``every_pair``), else photos that were decided early are counted too low.
    """
    rows = []
    for frequency in frequencies:
        for least in inliers:
            kept_N = (evidence.best_NF[:, frequency - 1] >= least) & (evidence.label_N >= 0)
            kept_N &= enough_of_label(evidence.label_N, kept_N, least_photos)
            rows.append(
                SweepRow(
                    least_neighbours=frequency,
                    inliers=least,
                    photos=int(kept_N.sum()),
                    landmarks=len(np.unique(evidence.label_N[kept_N])),
                )
            )
    return rows
