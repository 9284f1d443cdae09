"""95 % intervals by the bootstrap, resampling landmarks rather than queries.

Queries of one landmark succeed and fail together, so they are drawn together: a resample takes as many
clusters as there are, with replacement, and all queries of each (Davison and Hinkley, *Bootstrap Methods*,
section 3.8).  The interval is the 2.5th to 97.5th percentile of the statistic over the resamples, widened
to hold the measured value.

Everything is computed for a block of resamples at once, so memory is bounded whatever the number of queries.

Axes: Q queries, C clusters, R resamples, r resamples of a block, V statistics, U distinct values, M predictions, H
right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Literal

import numpy as np

from landseer.evaluation.metrics import summed_precision

_CELLS_AT_ONCE = 2**21


def cluster_numbers(keys: Sequence[Hashable | None]) -> np.ndarray:
    """Equal keys, equal number, from 0 on; every None is a cluster of its own: int64 ``[Q]``."""
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(("alone", q) if key is None else ("key", key), len(numbers))
            for q, key in enumerate(keys)
        ],
        dtype=np.int64,
    )


def mean_interval(
    value_Q: np.ndarray,
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
    limits: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float]:
    """The interval of a mean over queries.  *limits* is all that is known where there is but one cluster."""
    return intervals([value_Q], ["mean"], cluster_Q, resamples=resamples, seed=seed, limits=[limits])[0]


def median_interval(
    value_Q: np.ndarray, cluster_Q: np.ndarray, *, resamples: int, seed: int, limits: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a median over queries."""
    return intervals([value_Q], ["median"], cluster_Q, resamples=resamples, seed=seed, limits=[limits])[0]


def intervals(
    values: Sequence[np.ndarray],
    statistics: Sequence[Literal["mean", "median"]],
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
    limits: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
    """The intervals of several statistics over the same queries, from the same resamples: one a ``[Q]`` of *values*.

    *limits* are all that is known where there is but one cluster, or *resamples* is 0.
    """
    num_clusters = _num_clusters(cluster_Q)
    if num_clusters < 2 or not resamples:
        return list(limits)
    kinds = list(zip(values, statistics, strict=True))
    means = _means([value_Q for value_Q, kind in kinds if kind == "mean"], cluster_Q)
    medians = [_medians(value_Q, cluster_Q) for value_Q, kind in kinds if kind == "median"]
    blocks: list[list[np.ndarray]] = []
    for weight_RC in _resampled(num_clusters, resamples, seed, widest=max(num_clusters, len(cluster_Q))):
        mean_columns, median_columns = iter(means(weight_RC)), (median(weight_RC) for median in medians)
        blocks.append([next(mean_columns if kind == "mean" else median_columns) for _, kind in kinds])
    return [
        _percentiles(np.concatenate(parts), float(np.mean(value_Q) if kind == "mean" else np.median(value_Q)))
        for parts, (value_Q, kind) in zip(zip(*blocks, strict=True), kinds, strict=True)
    ]


def _means(values: Sequence[np.ndarray], cluster_Q: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ``weight_RC`` to the mean of each of *values* in each resample, ``[V, r]``."""
    columns = [np.bincount(cluster_Q, weights=value_Q) for value_Q in (*values, np.ones(len(cluster_Q)))]
    sum_CV = np.stack(columns, axis=1)

    def means(weight_RC: np.ndarray) -> np.ndarray:
        total_RV = weight_RC.astype(np.float64) @ sum_CV
        mean_VR: np.ndarray = (total_RV[:, :-1] / total_RV[:, -1:]).T
        return mean_VR

    return means


def _medians(value_Q: np.ndarray, cluster_Q: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ``weight_RC`` to the median of *value_Q* in each resample, ``[r]``."""
    order_Q = np.argsort(value_Q, kind="stable")
    distinct_U, start_U = np.unique(value_Q[order_Q], return_index=True)
    cluster_of_sorted_Q = cluster_Q[order_Q]

    def medians(weight_RC: np.ndarray) -> np.ndarray:
        drawn_RQ = np.take(weight_RC.astype(np.int32), cluster_of_sorted_Q, axis=1)
        upto_RU = np.cumsum(np.add.reduceat(drawn_RQ, start_U, axis=1), axis=1)
        num_R = upto_RU[:, -1]
        # the two middle copies, from 0 on; they are one and the same where the number of copies is odd
        below, above = ((upto_RU <= at_R[:, None]).sum(axis=1) for at_R in ((num_R - 1) // 2, num_R // 2))
        median_R: np.ndarray = (distinct_U[below] + distinct_U[above]) / 2
        return median_R

    return medians


def gap_interval(
    right_M: np.ndarray,
    query_M: np.ndarray,
    shown_Q: np.ndarray,
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The interval of GAP: *right_M* and *query_M* are the pool, sorted; *shown_Q* marks queries with a
    landmark.

    A query drawn twice is in the pool twice, its copies side by side.  A resample without any landmark is
    not one of the statistic's and is left out.
    """
    num_clusters = _num_clusters(cluster_Q)
    if num_clusters < 2 or not resamples:
        return 0.0, 1.0
    gaps = _gaps(right_M, query_M, shown_Q, cluster_Q)
    widest = max(num_clusters, len(right_M))
    blocks = [gaps(weight_RC) for weight_RC in _resampled(num_clusters, resamples, seed, widest=widest)]
    return _percentiles(np.concatenate(blocks), float(summed_precision(right_M) / shown_Q.sum()))


def gap_difference_interval(
    pools: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    shown_Q: np.ndarray,
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The interval of the second pool's GAP minus the first's, both from the same resamples.

    Each of *pools* is ``right_M`` and ``query_M`` of one run, sorted; see ``gap_interval``.
    """
    num_clusters = _num_clusters(cluster_Q)
    if num_clusters < 2 or not resamples:
        return -1.0, 1.0
    (first, second), num_shown = [_gaps(*pool, shown_Q, cluster_Q) for pool in pools], shown_Q.sum()
    widest = max(num_clusters, *(len(right_M) for right_M, _ in pools))
    blocks = [
        second(weight_RC) - first(weight_RC)
        for weight_RC in _resampled(num_clusters, resamples, seed, widest=widest)
    ]
    before, after = (float(summed_precision(right_M) / num_shown) for right_M, _ in pools)
    return _percentiles(np.concatenate(blocks), after - before)


def calibration_error_interval(
    miss_M: np.ndarray,
    bin_M: np.ndarray,
    cluster_M: np.ndarray,
    num_clusters: int,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The interval of ECE: *miss_M* is each prediction's confidence minus 1 if right, *bin_M* its bin.

    Chance moves every bin off its line, so a resample's error lies rather above the measured one than below.
    """
    if num_clusters < 2 or not resamples:
        return 0.0, 1.0
    num_bins = int(bin_M.max()) + 1
    cell_M = cluster_M * num_bins + bin_M
    miss_CB = np.bincount(cell_M, weights=miss_M, minlength=num_clusters * num_bins)
    miss_CB = miss_CB.reshape(num_clusters, num_bins)
    made_C = np.bincount(cluster_M, minlength=num_clusters)
    blocks = []
    for weight_RC in _resampled(num_clusters, resamples, seed, widest=max(num_clusters, num_bins)):
        total_R = np.abs(weight_RC @ miss_CB).sum(axis=1)
        made_R = weight_RC @ made_C
        blocks.append(np.divide(total_R, made_R, out=np.full(len(total_R), np.nan), where=made_R > 0))
    measured = float(np.abs(miss_CB.sum(axis=0)).sum() / len(miss_M))
    return _percentiles(np.concatenate(blocks), measured)


def _gaps(
    right_M: np.ndarray, query_M: np.ndarray, shown_Q: np.ndarray, cluster_Q: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ``weight_RC`` to the GAP of each resample, ``[r]``; NaN where it has no landmark."""
    cluster_M = cluster_Q[query_M]
    shown_C = np.bincount(cluster_Q, weights=shown_Q)
    right = np.flatnonzero(right_M)

    def gaps(weight_RC: np.ndarray) -> np.ndarray:
        weight_RM = weight_RC[:, cluster_M]
        times_RH = weight_RM[:, right]
        rank_RH = np.cumsum(weight_RM, axis=1)[:, right] - times_RH
        nth_RH = np.cumsum(times_RH, axis=1) - times_RH
        total_R = np.zeros(len(weight_RC))
        for copy in range(1, int(times_RH.max(initial=0)) + 1):
            total_R += np.where(times_RH >= copy, (nth_RH + copy) / (rank_RH + copy), 0.0).sum(axis=1)
        num_shown_R = weight_RC @ shown_C
        gap_R: np.ndarray = np.divide(
            total_R, num_shown_R, out=np.full_like(total_R, np.nan), where=num_shown_R > 0
        )
        return gap_R

    return gaps


def _num_clusters(cluster_Q: np.ndarray) -> int:
    return int(cluster_Q.max(initial=-1)) + 1


def _resampled(num_clusters: int, resamples: int, seed: int, *, widest: int) -> Iterator[np.ndarray]:
    """How often each resample draws each cluster: blocks of int64 ``[r, C]``, *resamples* rows in all.

    *widest* columns, of what the caller makes of a block, must fit it.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // widest)
    for start in range(0, resamples, step):
        num = min(step, resamples - start)
        drawn_RC = rng.integers(num_clusters, size=(num, num_clusters))
        drawn_RC += np.arange(num)[:, None] * num_clusters
        yield np.bincount(drawn_RC.ravel(), minlength=num * num_clusters).reshape(num, num_clusters)


def _percentiles(values_R: np.ndarray, value: float) -> tuple[float, float]:
    low, high = np.nanpercentile(values_R, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)
