"""How many candidates reach a recall, and what recall was reached.

The recall of a query is the share of its K answers that score no less than the K-th best of the exact
search: of photos with equal scores any will do.

Axes: Q queries, C candidates, K answers, D components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from landseer.search import workers
from landseer.search.approximate.codes import Codes
from landseer.search.approximate.plan import MOST_CANDIDATES, Plan

_DEVIATIONS = 3.0
"""The sample that tunes must reach the recall with so many standard errors to spare."""
_NORMAL_95 = 1.959964
_MOST_LISTS = 4
"""Lists are worth it where one in so many, or fewer, must be looked into."""
_MORE_LISTS = 1.5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A mean over queries with its 95 % interval; 0 queries: true by definition."""

    name: str
    value: float
    low: float
    high: float
    num_queries: int

    def __str__(self) -> str:
        if not self.num_queries:
            return f"{self.name} {self.value:g}, by definition"
        return (
            f"{self.name} {self.value:.4f} (95 % interval {self.low:.4f} to {self.high:.4f}, "
            f"measured on {self.num_queries} queries)"
        )


def measured(name: str, recall_Q: np.ndarray) -> Measured:
    """The mean of *recall_Q* and its interval.

    Wilson's interval (JASA 1927) for as many independent trials as would scatter like the queries do; where
    all are equal, one trial a query.
    """
    num, mean = len(recall_Q), float(recall_Q.mean())
    variance = float(recall_Q.var(ddof=1)) / num if num > 1 else 0.0
    trials = mean * (1 - mean) / variance if variance > 0 else float(num)
    square = _NORMAL_95**2
    centre = (mean + square / (2 * trials)) / (1 + square / trials)
    half = (
        _NORMAL_95 * math.sqrt(mean * (1 - mean) / trials + square / (4 * trials**2)) / (1 + square / trials)
    )
    low, high = min(centre - half, mean), max(centre + half, mean)
    return Measured(name=name, value=mean, low=max(low, 0.0), high=min(high, 1.0), num_queries=num)


def lists_to_probe(codes: Codes, plan: Plan, queries_QD: np.ndarray, neighbours_QKD: np.ndarray) -> int:
    """How many lists hold enough of the sample's neighbours; 0 where lists are not worth it."""
    num_queries, k, dim = neighbours_QKD.shape
    most = plan.num_lists // _MOST_LISTS
    threads = workers.num_workers()
    near_QL = codes.lists_of(queries_QD, num=most, threads=threads)
    list_QK = codes.lists_of(neighbours_QKD.reshape(-1, dim), num=1, threads=threads).reshape(num_queries, k)
    hits_QL = np.stack([(list_QK == near_Q1[:, None]).sum(axis=1) for near_Q1 in near_QL.T], axis=1)
    enough = _first_enough(np.cumsum(hits_QL, axis=1) / k, min(1.0, plan.recall + (1 - plan.recall) / 8))
    return 0 if enough is None else enough


def tuned(codes: Codes, plan: Plan, queries_QD: np.ndarray, truth_QK: np.ndarray) -> Plan | None:
    """*plan* with the numbers of candidates and probes that cost least at its recall; None: none reach it.

    The plan's ``num_probes`` is the fewest to try.  *truth_QK* are the positions of the true answers.
    """
    found: list[Plan] = []
    probes = plan.num_probes
    while True:
        num = _candidates(codes, plan, probes, queries_QD, truth_QK)
        if num is not None:
            found.append(replace(plan, num_probes=probes, num_candidates=num))
        probes = math.ceil(probes * _MORE_LISTS)
        if not probes or probes * 2 > plan.num_lists:
            break
    return min(found, key=lambda each: each.cost, default=None)


def _candidates(
    codes: Codes, plan: Plan, probes: int, queries_QD: np.ndarray, truth_QK: np.ndarray
) -> int | None:
    """The fewest candidates that hold the recall's share of the true answers."""
    most = min(MOST_CANDIDATES * plan.k, len(codes))
    step = max(1, -(-len(queries_QD) // workers.num_workers()))
    parts = workers.run(
        lambda start: codes.find(queries_QD[start : start + step], num=most, num_probes=probes),
        range(0, len(queries_QD), step),
    )
    hit_QC = np.stack(
        [np.isin(found, true) for found, true in zip(np.concatenate(parts), truth_QK, strict=True)]
    )
    num = _first_enough(np.cumsum(hit_QC, axis=1, dtype=np.float32) / truth_QK.shape[1], plan.recall)
    return None if num is None else max(num, plan.k + 1)


def _first_enough(recall_QC: np.ndarray, recall: float) -> int | None:
    """How many columns it takes until the mean reaches *recall*, with its standard errors to spare."""
    error_C = _DEVIATIONS * recall_QC.std(axis=0) / math.sqrt(len(recall_QC))
    enough = np.flatnonzero(recall_QC.mean(axis=0) - error_C >= recall)
    return int(enough[0]) + 1 if enough.size else None
