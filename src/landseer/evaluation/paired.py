"""Is one run better than another on the same queries?  A paired permutation test, with Holm's correction.

If two runs were equally good, it would be chance which of them did better on a landmark, so the sign of its
difference could as well be the other one.  The p-value is the share of all sign flips that give a mean difference
at least as large, in either direction (Good, *Permutation, Parametric and Bootstrap Tests*, chapter 3).  All queries
of a landmark are flipped together, as the bootstrap draws them together.  GAP is no mean over queries; for it the
runs' predictions are swapped instead, landmark by landmark, and both GAPs computed anew.

Axes: Q queries, C clusters, R flips or swaps, M predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.intervals import cluster_numbers, mean_interval
from landseer.evaluation.paired_gap import PairedPool
from landseer.evaluation.protocol import ALL_QUERIES, Protocol
from landseer.evaluation.protocols import PROTOCOLS, Gldv2
from landseer.evaluation.scoring import Evaluated, groups_by_training

EXACT_UP_TO = 16
"""Up to so many landmarks that differ all sign flips are counted, 65,536; beyond it some are drawn."""
_CELLS_AT_ONCE = 2**22
_CLOSE = 1e-12
"""Sums of the same differences in another order count as equal within this share of their absolute values."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A two-sided p-value, how many flips or swaps it rests on, and whether those were all there are."""

    p: float
    num_flips: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better *run* scored than *baseline* on the same queries: ``low`` to ``high`` is its 95 % interval."""

    run: str
    baseline: str
    metric: str
    group: str
    num_queries: int
    value: float
    low: float
    high: float
    test: PairedTest
    p_holm: float
    """The p-value corrected for all comparisons that were made together."""


def paired_test(
    difference_Q: np.ndarray, cluster_Q: np.ndarray, *, flips: int = 9999, seed: int = 0
) -> PairedTest:
    """Test whether the mean of *difference_Q* could as well be 0; queries of one cluster are flipped together.

    All sign flips are counted where no more than ``EXACT_UP_TO`` clusters differ; otherwise *flips* of them are
    drawn, and p = (b + 1) / (flips + 1) with b of them as extreme, so it is never 0 (Phipson and Smyth 2010).
    """
    sum_C = np.bincount(cluster_Q, weights=difference_Q)
    sum_C = sum_C[sum_C != 0]
    bound = abs(float(sum_C.sum())) - _CLOSE * float(np.abs(sum_C).sum())

    def num_extreme(flipped_RC: np.ndarray) -> int:
        total_R = sum_C.sum() - 2 * (flipped_RC.astype(np.float64) @ sum_C)
        return int(np.sum(np.abs(total_R) >= bound))

    return _permuted(len(sum_C), num_extreme, flips=flips, seed=seed)


def paired_gap_test(pool: PairedPool, *, flips: int = 9999, seed: int = 0) -> PairedTest:
    """Test whether the two runs of *pool* could as well have the same GAP.

    The predictions of a landmark's queries are swapped between the runs; of the landmarks of which both say the same
    nothing needs to be swapped.  All swaps are counted, or *flips* of them drawn, as in ``paired_test``.
    """
    differing = np.unique(pool.cluster_Q[pool.differs_Q])
    num_clusters = int(pool.cluster_Q.max(initial=-1)) + 1
    differences = pool.differences()
    bound = abs(float(differences(np.zeros((1, num_clusters), np.bool_))[0])) - _CLOSE

    def num_extreme(swapped_RC: np.ndarray) -> int:
        every_RC = np.zeros((len(swapped_RC), num_clusters), np.bool_)
        every_RC[:, differing] = swapped_RC
        return int(np.sum(np.abs(differences(every_RC)) >= bound))

    return _permuted(len(differing), num_extreme, flips=flips, seed=seed, widest=len(pool.query_M))


def _permuted(
    num_clusters: int,
    num_extreme: Callable[[np.ndarray], int],
    *,
    flips: int,
    seed: int,
    widest: int = 0,
) -> PairedTest:
    """The share of all ways to choose among the clusters, or of *flips* drawn ones, that are as extreme.

    *num_extreme* counts those among some ways, uint8 0 or 1 ``[r, C]``; *widest* columns of what it makes must fit.
    """
    step = max(1, _CELLS_AT_ONCE // max(1, num_clusters, widest))
    if num_clusters <= EXACT_UP_TO:
        num = 2**num_clusters
        extreme = 0
        for start in range(0, num, step):
            number_R = np.arange(start, min(num, start + step), dtype=np.int64)
            extreme += num_extreme(((number_R[:, None] >> np.arange(num_clusters)) & 1).astype(np.uint8))
        return PairedTest(p=extreme / num, num_flips=num, exact=True)
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, flips, step):
        num = min(step, flips - start)
        drawn = np.frombuffer(rng.bytes(num * -(-num_clusters // 8)), np.uint8).reshape(num, -1)
        extreme += num_extreme(np.unpackbits(drawn, axis=1, count=num_clusters))
    return PairedTest(p=(extreme + 1) / (flips + 1), num_flips=flips, exact=False)


def holm(p_values: Sequence[float]) -> list[float]:
    """*p_values* corrected for being several, in the same order (Holm 1979).

    The smallest is multiplied by their number, the next by one less, and so on; none may be smaller than one
    before it, nor above 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = highest
    return corrected


def compare(
    runs: Mapping[str, Evaluated], *, flips: int = 9999, resamples: int = 2000, seed: int = 0
) -> list[Difference]:
    """The headline of every later run minus that of the first, group by group, tested in pairs.

    Holm's correction is over all of the list.  Raises ``ValueError`` where the runs were scored by different
    protocols or on different queries.
    """
    baseline, *others = runs
    first = runs[baseline]
    for run in others:
        _require_alike(baseline, first, run, runs[run])
    measure = _gap_difference if _metric(first) == "GAP" else _mean_difference
    found = [
        (run, group, *measure(first, runs[run], mask_Q, flips=flips, resamples=resamples, seed=seed))
        for run in others
        for group, mask_Q in _groups(first).items()
    ]
    corrected = holm([row[-1].p for row in found])
    return [
        Difference(
            run=run,
            baseline=baseline,
            metric=_metric(first),
            group=group,
            num_queries=num,
            value=mean,
            low=low,
            high=high,
            test=test,
            p_holm=p_holm,
        )
        for (run, group, num, mean, low, high, test), p_holm in zip(found, corrected, strict=True)
    ]


_Measured = tuple[int, float, float, float, PairedTest]
"""How many queries, the difference, its interval's ends, the test."""


def _mean_difference(
    first: Evaluated, other: Evaluated, mask_Q: np.ndarray, *, flips: int, resamples: int, seed: int
) -> _Measured:
    difference_Q = (_headline(other) - _headline(first))[mask_Q]
    cluster_Q = cluster_numbers(first.per_query["landmark"].filter(pa.array(mask_Q)).to_pylist())
    low, high = mean_interval(difference_Q, cluster_Q, resamples=resamples, seed=seed, limits=(-1.0, 1.0))
    test = paired_test(difference_Q, cluster_Q, flips=flips, seed=seed)
    return len(difference_Q), float(difference_Q.mean()), low, high, test


def _gap_difference(
    first: Evaluated, other: Evaluated, mask_Q: np.ndarray, *, flips: int, resamples: int, seed: int
) -> _Measured:
    chosen = pa.array(mask_Q & _counted(first))
    pool = PairedPool.of(first.per_query.filter(chosen), other.per_query.filter(chosen))
    low, high = pool.interval(resamples=resamples, seed=seed)
    test = paired_gap_test(pool, flips=flips, seed=seed)
    value = float(pool.differences()(np.zeros((1, int(pool.cluster_Q.max()) + 1), np.bool_))[0])
    # the interval's own sums are of the same terms in another order
    return len(pool.shown_Q), value, min(low, value), max(high, value), test


def _counted(found: Evaluated) -> np.ndarray:
    """The queries whose predictions count at all: bool ``[Q]``."""
    if found.report.protocol["queries without a landmark"] == "left out":
        shown_Q: np.ndarray = found.per_query["landmark"].combine_chunks().is_valid().to_numpy(False)
        return shown_Q
    return np.ones(len(found.per_query), np.bool_)


def _metric(found: Evaluated) -> str:
    return found.report.protocol["metric"]


def _require_alike(baseline: str, first: Evaluated, run: str, other: Evaluated) -> None:
    for key in ("protocol", "metric"):
        ours, theirs = first.report.protocol[key], other.report.protocol[key]
        if ours != theirs:
            raise ValueError(
                f"{baseline} was scored by {ours} and {run} by {theirs}; score both the same way"
            )
    counted = "queries without a landmark"
    if first.report.protocol.get(counted) != other.report.protocol.get(counted):
        raise ValueError(
            f"one of {baseline} and {run} leaves out {counted}, the other does not; score both the same way"
        )
    same = ("query", "split")
    if first.per_query.select(same) != other.per_query.select(same):
        raise ValueError(
            f"{baseline} and {run} were not scored on the same queries, so they cannot be paired"
        )


def protocol_of(found: Evaluated) -> type[Protocol]:
    """The protocol that *found*, a ranking, was scored by.  Raises ``ValueError`` where it is no known one."""
    name = found.report.protocol["protocol"]
    known = {protocol.name: protocol for protocol in PROTOCOLS.values()}
    if name not in known:
        raise ValueError(f"runs scored by {name} cannot be compared in pairs (known: {', '.join(known)})")
    return known[name]


def _headline(found: Evaluated) -> np.ndarray:
    """The headline's figure of each query, float64 ``[Q]``."""
    values: np.ndarray = found.per_query[protocol_of(found).column].to_numpy()
    return values


def _groups(found: Evaluated) -> dict[str, np.ndarray]:
    """Name -> bool ``[Q]``: the groups of the report, in its order."""
    split_Q = np.array(found.per_query["split"].to_pylist(), dtype=object)
    masks = {
        **{split: split_Q == split for split in dict.fromkeys(split_Q)},
        **Gldv2().groups("", split_Q),
        ALL_QUERIES: np.ones(len(split_Q), np.bool_),
        **groups_by_training(found.per_query["seen"].to_pylist()),
    }
    metric = _metric(found)
    reported = dict.fromkeys(number.group for number in found.report.numbers if number.name == metric)
    return {group: masks[group] for group in reported}
