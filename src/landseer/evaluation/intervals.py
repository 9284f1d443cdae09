"""95 % intervals by the bootstrap, resampling landmarks rather than queries.

Queries of one landmark succeed and fail together, so they are drawn together: a resample takes as many
clusters as there are, with replacement, and all queries of each (Davison and Hinkley, *Bootstrap Methods*,
section 3.8).  The interval is the 2.5th to 97.5th percentile of the statistic over the resamples, widened
to hold the measured value.

Axes: Q queries, C clusters, R resamples, M predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from landseer.evaluation.metrics import summed_precision

_CELLS_AT_ONCE = 2**22


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
    sum_C, count_C = np.bincount(cluster_Q, weights=value_Q), np.bincount(cluster_Q)
    if len(count_C) < 2:
        return limits
    means = [
        (weight_RC @ sum_C) / (weight_RC @ count_C) for weight_RC in _resampled(len(count_C), resamples, seed)
    ]
    return _percentiles(np.concatenate(means), float(np.mean(value_Q)))


def median_interval(
    value_Q: np.ndarray, cluster_Q: np.ndarray, *, resamples: int, seed: int, limits: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a median over queries."""
    order_Q = np.argsort(value_Q, kind="stable")
    sorted_Q = value_Q[order_Q]

    def median(weight_C: np.ndarray) -> float:
        return float(np.median(np.repeat(sorted_Q, weight_C[cluster_Q[order_Q]])))

    return _interval_by(
        median, float(np.median(value_Q)), cluster_Q, resamples=resamples, seed=seed, limits=limits
    )


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
    cluster_M = cluster_Q[query_M]

    def gap(weight_C: np.ndarray) -> float:
        num_shown = weight_C[cluster_Q][shown_Q].sum()
        return summed_precision(np.repeat(right_M, weight_C[cluster_M])) / num_shown if num_shown else np.nan

    value = summed_precision(right_M) / shown_Q.sum()
    return _interval_by(gap, float(value), cluster_Q, resamples=resamples, seed=seed, limits=(0.0, 1.0))


def _interval_by(
    statistic: Callable[[np.ndarray], float],
    value: float,
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
    limits: tuple[float, float],
) -> tuple[float, float]:
    num_clusters = int(cluster_Q.max()) + 1
    if num_clusters < 2:
        return limits
    values = [
        statistic(weight_C) for block in _resampled(num_clusters, resamples, seed) for weight_C in block
    ]
    return _percentiles(np.array(values), value)


def _resampled(num_clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample draws each cluster: blocks of int64 ``[r, C]``, *resamples* rows in all."""
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // num_clusters)
    for start in range(0, resamples, step):
        num = min(step, resamples - start)
        drawn_RC = rng.integers(num_clusters, size=(num, num_clusters))
        drawn_RC += np.arange(num)[:, None] * num_clusters
        yield np.bincount(drawn_RC.ravel(), minlength=num * num_clusters).reshape(num, num_clusters)


def _percentiles(values_R: np.ndarray, value: float) -> tuple[float, float]:
    low, high = np.nanpercentile(values_R, [2.5, 97.5])
    return min(float(low), value), max(float(high), value)
