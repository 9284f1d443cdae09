"""The metrics of the Google Landmarks challenges, from lists of ids.

A list is what a system answered, best first.  An id answered a second time earns nothing but keeps its rank.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np


def new_hits(answers: Sequence[str], relevant: Collection[str], *, k: int) -> np.ndarray:
    """Which of the first *k* answers are relevant and not answered before: one bool each."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    wanted = set(relevant)
    hits = np.zeros(min(len(answers), k), np.bool_)
    for rank, answer in enumerate(answers[:k]):
        if answer in wanted:
            hits[rank] = True
            wanted.remove(answer)
    return hits


def average_precision_of_hits(
    hit_ranks: np.ndarray, num_relevant: int, *, k: int, full_divisor: bool = False
) -> float:
    """AP@k from the 1-based ranks of the hits, rising.  See ``average_precision_at_k``."""
    if num_relevant < 1:
        raise ValueError("average precision needs at least one relevant photo; do not score this query")
    ranks = hit_ranks[hit_ranks <= k]
    divisor = num_relevant if full_divisor else min(num_relevant, k)
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks) / divisor)


def average_precision_at_k(
    answers: Sequence[str], relevant: Collection[str], *, k: int = 100, full_divisor: bool = False
) -> float:
    """How early the relevant photos come: the mean, over min(m, k) of them, of the precision at each hit's
    rank.

    m is the number of relevant photos; one that is not among the first *k* answers contributes 0.
    *full_divisor* divides by m instead, as some published offline evaluators do.  Raises ``ValueError``
    where nothing is relevant.
    """
    ranks = np.flatnonzero(new_hits(answers, relevant, k=k)) + 1
    return average_precision_of_hits(ranks, len(set(relevant)), k=k, full_divisor=full_divisor)


def mean_average_precision(
    answers: Mapping[str, Sequence[str]],
    relevant: Mapping[str, Collection[str]],
    *,
    k: int = 100,
    full_divisor: bool = False,
) -> float:
    """The mean of AP@k over the queries of *relevant* that have a relevant photo.

    A query without answers scores 0.  Raises ``ValueError`` for an answered query that *relevant* does not
    know.
    """
    _refuse_unknown(answers, relevant)
    scored = [query for query, photos in relevant.items() if photos]
    if not scored:
        raise ValueError("no query has a relevant photo; there is nothing to score")
    return float(
        np.mean(
            [
                average_precision_at_k(
                    answers.get(query, ()), relevant[query], k=k, full_divisor=full_divisor
                )
                for query in scored
            ]
        )
    )


def precision_at_k(answers: Sequence[str], relevant: Collection[str], *, k: int) -> float:
    """Relevant photos among the first *k* answers, divided by *k* even where fewer were given."""
    return float(new_hits(answers, relevant, k=k).sum()) / k


def recall_at_k(answers: Sequence[str], relevant: Collection[str], *, k: int) -> float:
    """The share of the relevant photos that is among the first *k* answers."""
    if not relevant:
        raise ValueError("recall needs at least one relevant photo; do not score this query")
    return float(new_hits(answers, relevant, k=k).sum()) / len(set(relevant))


def first_hit(answers: Sequence[str], relevant: Collection[str], *, k: int = 100) -> int | None:
    """The 1-based rank of the first relevant answer, None where none is among the first *k*."""
    hits = np.flatnonzero(new_hits(answers, relevant, k=k))
    return int(hits[0]) + 1 if hits.size else None


def global_average_precision(
    predictions: Sequence[tuple[str, int, float]],
    landmarks: Mapping[str, Collection[int]],
    *,
    ignore_non_gt: bool = False,
) -> float:
    """GAP (micro average precision) of (query, landmark, confidence) predictions.

    All predictions are pooled and sorted by confidence, falling, then query id, then landmark; the
    precision at each right one is summed and divided by the number of queries that show a landmark.  A
    prediction for a query that shows none is wrong, unless *ignore_non_gt* leaves it out.  A prediction
    made twice earns nothing the second time. Raises ``ValueError`` for a query that *landmarks* does not
    know, or a confidence that is NaN.
    """
    _refuse_unknown((query for query, _, _ in predictions), landmarks)
    num_shown = sum(1 for shown in landmarks.values() if shown)
    if not num_shown:
        raise ValueError("no query shows a landmark; there is nothing to score")
    pooled = [entry for entry in predictions if landmarks[entry[0]] or not ignore_non_gt]
    right, seen = np.zeros(len(pooled), np.bool_), set()
    for rank, (query, landmark, _) in enumerate(sort_predictions(pooled)):
        right[rank] = landmark in landmarks[query] and (query, landmark) not in seen
        seen.add((query, landmark))
    return summed_precision(right) / num_shown


def sort_predictions(predictions: Sequence[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
    """By confidence, falling; ties by query id, then landmark, rising."""
    if any(math.isnan(confidence) for _, _, confidence in predictions):
        raise ValueError("a prediction's confidence is NaN")
    return sorted(predictions, key=lambda entry: (-entry[2], entry[0], entry[1]))


def summed_precision(right: np.ndarray) -> float:
    """The precision at each right entry of a sorted pool (bool ``[M]``), summed."""
    ranks = np.flatnonzero(right) + 1
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks))


def _refuse_unknown(queries: Iterable[str], known: Mapping[str, object]) -> None:
    strange = next((query for query in queries if query not in known), None)
    if strange is not None:
        raise ValueError(
            f"query {strange!r} was answered but is not in the truth; is this the truth of another set?"
        )
