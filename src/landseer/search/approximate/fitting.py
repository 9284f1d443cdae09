"""Codes for a set of rows, tuned on a sample of them and measured on another.

The same steps serve a plain gallery and the rows of a living index; what they differ in is a ``Source``.

Axes: Q queries, P places (rows of the source), M rows of a sample, K answers, D components.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np

from landseer.search import workers
from landseer.search.approximate.codes import TRAINING_ROWS, Codes
from landseer.search.approximate.plan import Plan, exactly, scanned
from landseer.search.approximate.tuning import Measured, lists_to_probe, measured, tuned
from landseer.types import Descriptors

_log = logging.getLogger(__name__)

SAMPLE = 500
"""So many queries tune, and as many others measure."""
_FEWEST_QUERIES = 20
Answers = tuple[np.ndarray, np.ndarray]
"""Places (-1 for none) and scores ``[Q, K]``, best first."""


class Source(Protocol):
    """Rows that stand at places 0 to ``len - 1``."""

    metric: Literal["cosine", "euclidean"]
    normalised: bool

    def __len__(self) -> int: ...

    def take(self, place_M: np.ndarray) -> np.ndarray:
        """Copies of some rows."""

    def pieces(self) -> Iterator[np.ndarray]:
        """All rows in order, some at a time."""

    def exact(self, queries: Descriptors, *, k: int) -> Answers:
        """The true answers."""

    def approximate(self, codes: Codes, plan: Plan, queries: Descriptors, *, k: int) -> Answers:
        """What a search with *codes* answers."""

    def scanned(self, queries: Descriptors, *, k: int) -> Answers | None:
        """What a scan of a byte a component answers; None where the source keeps none."""


def fit(
    source: Source, plan: Plan, *, queries: Descriptors | None, seed: int
) -> tuple[Codes | None, Plan, Measured]:
    """Build codes for *plan*, tune and measure them.

    The samples are rows of the source, each without itself among its answers, or halves of *queries*.  Where
    the recall is not reached the plan that comes back is exact search and says why, and there are no codes.
    A plan with a byte a component answers in two ways, and the lower of their recalls is the one that is told.
    """
    name = f"recall@{plan.k}"
    if plan.kind == "exact":
        return None, plan, Measured(name=name, value=1.0, low=1.0, high=1.0, num_queries=0)
    rng = np.random.default_rng(seed)
    tuning, holdout = _samples(source, queries, rng)
    truth = tuning.without_own(source.exact(tuning.rows, k=tuning.num(plan.k)))
    codes, plan = _codes(source, plan, tuning, truth[0], seed=seed)
    best = tuned(codes, plan, tuning.rows.rows_ND, truth[0])
    if best is None:
        return _given_up(plan, name, "no number of candidates that saves time reaches the recall")
    if best.cost >= exactly(plan, "").cost:
        return _given_up(plan, name, f"{best.num_candidates} candidates a query take longer")
    asked = holdout.num(plan.k)
    true = holdout.without_own(source.exact(holdout.rows, k=asked))[1]

    def recall_of(answers: Answers) -> Measured:
        return measured(name, (holdout.without_own(answers)[1] >= true[:, -1:]).mean(axis=1))

    recall = recall_of(source.approximate(codes, best, holdout.rows, k=asked))
    if recall.value < plan.recall:
        return _given_up(plan, name, f"codes reached a {recall}, not {plan.recall:g}")
    answers = source.scanned(holdout.rows, k=asked) if best.prepared else None
    in_bytes = None if answers is None else recall_of(answers)
    if in_bytes is None or in_bytes.value < plan.recall:
        return codes, replace(best, prepared=False), recall
    return codes, best, min(recall, in_bytes, key=lambda each: each.value)


class _Sample:
    """Queries, and the place of each among the rows (-1: none)."""

    def __init__(self, rows: Descriptors, own_Q: np.ndarray) -> None:
        self.rows, self._own_Q = rows, own_Q

    def num(self, k: int) -> int:
        """How many answers to ask for to have *k* without the query's own row."""
        return k + 1 if (self._own_Q >= 0).any() else k

    def without_own(self, answers: Answers) -> Answers:
        """The answers but the query's own row, or else the last."""
        if not (self._own_Q >= 0).any():
            return answers
        places, scores = answers
        own_QK = places == self._own_Q[:, None]
        own_QK[~own_QK.any(axis=1), -1] = True
        shape = (len(places), places.shape[1] - 1)
        return places[~own_QK].reshape(shape), scores[~own_QK].reshape(shape)


def _samples(
    source: Source, queries: Descriptors | None, rng: np.random.Generator
) -> tuple[_Sample, _Sample]:
    """One that tunes and one that measures."""
    if queries is not None:
        if len(queries) < 2 * _FEWEST_QUERIES:
            raise ValueError(
                f"{len(queries)} queries do not show a recall; give {2 * _FEWEST_QUERIES} or more, or none"
            )
        order = rng.permutation(len(queries))[: 2 * SAMPLE]
        halves = [np.sort(order[0::2]), np.sort(order[1::2])]
        taken = [queries.take([queries.ids[place] for place in half]) for half in halves]
        tuning, holdout = (_Sample(rows, np.full(len(rows), -1)) for rows in taken)
        return tuning, holdout
    num = min(SAMPLE, len(source) // 2)
    place_M = rng.choice(len(source), size=2 * num, replace=False)
    tuning, holdout = (_sample(source, np.sort(part)) for part in (place_M[:num], place_M[num:]))
    return tuning, holdout


def _sample(source: Source, place_M: np.ndarray) -> _Sample:
    rows = Descriptors(
        ids=tuple(map(str, place_M.tolist())),
        rows_ND=source.take(place_M),
        metric=source.metric,
        normalised=source.normalised,
    )
    return _Sample(rows, place_M)


def _codes(
    source: Source, plan: Plan, tuning: _Sample, truth_QK: np.ndarray, *, seed: int
) -> tuple[Codes, Plan]:
    """Codes of all rows, in lists where the sample's neighbours share them."""
    threads = workers.num_workers()
    rng = np.random.default_rng([seed, 1])
    num = min(TRAINING_ROWS, len(source))
    teachers_MD = source.take(np.sort(rng.choice(len(source), size=num, replace=False)))
    codes = Codes.train(teachers_MD, plan, seed=seed, threads=threads)
    if plan.kind == "lists":
        neighbours = source.take(truth_QK.ravel()).reshape(*truth_QK.shape, plan.dim)
        probes = lists_to_probe(codes, plan, tuning.rows.rows_ND, neighbours)
        if probes:
            plan = replace(plan, num_probes=probes)
        else:
            plan = scanned(plan, "neighbours share no lists, all are scanned")
            codes = Codes.train(teachers_MD, plan, seed=seed, threads=threads)
    for piece in source.pieces():
        codes.add(piece, threads=threads)
    return codes, plan


def _given_up(plan: Plan, name: str, why: str) -> tuple[None, Plan, Measured]:
    _log.warning("approximate search is not used: %s", why)
    return None, exactly(plan, why), Measured(name=name, value=1.0, low=1.0, high=1.0, num_queries=0)
