"""The protocol of the Google Landmark challenges: mAP@100 of a Ranking, GAP of a Recognition.

Public and Private queries are scored apart and together, Ignored ones dropped.  Where it is known which
landmarks a model was trained on, the others are reported apart too.  ``docs/evaluation.md`` has the
definitions.

Axes: Q scored queries, M predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.intervals import cluster_numbers, gap_interval, mean_interval, median_interval
from landseer.evaluation.metrics import (
    average_precision_of_hits,
    global_average_precision,
    new_hits,
    sort_predictions,
)
from landseer.types import Number, Ranking, Recognition, Report, Truth

CUTS = (1, 5, 10)
"""The k of the precisions and recalls beside mAP."""

RETRIEVAL_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("split", pa.string()),
        pa.field("landmark", pa.int64()),
        pa.field("seen", pa.bool_()),
        pa.field("ap", pa.float64()),
        pa.field("num_relevant", pa.int64()),
        pa.field("first_hit", pa.int64()),
        pa.field("precision_at_10", pa.float64()),
    ]
)
"""One row a scored query.  ``landmark`` is the first, if any; ``seen``: trained on, null if unknown;
``first_hit``: the 1-based rank of the first relevant answer, null if there is none among the first k."""

RECOGNITION_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("split", pa.string()),
        pa.field("landmark", pa.int64()),
        pa.field("seen", pa.bool_()),
        pa.field("predicted", pa.int64()),
        pa.field("confidence", pa.float32()),
        pa.field("right", pa.bool_()),
    ]
)
"""One row a scored query; ``predicted`` and ``confidence`` are null where no landmark was named."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The numbers of a run, and the results of each query behind them."""

    report: Report
    per_query: pa.Table


def evaluate_retrieval(
    ranking: Ranking,
    truth: Truth,
    *,
    k: int = 100,
    full_divisor: bool = False,
    trained_landmarks: Collection[int] | None = None,
    landmark_of: Mapping[str, int] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    allow_overlap: bool = False,
    title: str = "Retrieval",
    made_by: Mapping[str, str] | None = None,
) -> Evaluated:
    """Score *ranking* against *truth*: mAP@k, precision and recall at 1, 5, 10, and the first hit's position.

    A query with relevant photos that is missing from the ranking scores 0; junk photos are taken out of the
    answers before ranks are counted (GLDv2 has none).  *full_divisor* divides an AP by m instead of min(m,
    k). *trained_landmarks* adds the groups ``landmarks trained on`` and ``landmarks not trained on``;
    *landmark_of* gives the landmark of queries for which the truth names none (only the index knows it).
    Raises ``ValueError`` for a ranked query the truth does not know, and where a query is itself in the
    gallery, which would find itself, unless *allow_overlap* is set.
    """
    _check_ranking(ranking, truth, allow_overlap=allow_overlap)
    row_of = {query: row for row, query in enumerate(ranking.query_ids)}
    scored = [q for q, good in enumerate(truth.relevant) if good and truth.split[q] != "Ignored"]
    if not scored:
        raise ValueError("no Public or Private query has a relevant photo; there is nothing to score")
    values: dict[str, list[float]] = {name: [] for name in _retrieval_names(k)}
    for q in scored:
        row, junk = row_of.get(truth.query_ids[q]), set(truth.junk[q])
        answers = [photo for photo, _ in ranking.answers(row) if photo not in junk] if row is not None else []
        measured = _retrieval_values(answers, truth.relevant[q], k=k, full_divisor=full_divisor)
        for name, value in zip(values, measured, strict=True):
            values[name].append(value)
    arrays = {name: np.array(column, np.float64) for name, column in values.items()}
    landmarks = [truth.landmarks[q] or _one(landmark_of, truth.query_ids[q]) for q in scored]
    queries = _Queries.of(truth, scored, truth.split, landmarks, trained_landmarks)
    numbers = tuple(
        _retrieval_number(
            name,
            group,
            arrays[source][mask_Q],
            queries.cluster_Q[mask_Q],
            resamples=resamples,
            seed=seed,
            k=k,
        )
        for group, mask_Q in queries.groups().items()
        for name, source in _reported_names(k).items()
    )
    first_Q = arrays["position of first hit"]
    per_query = queries.table(
        {
            "ap": arrays[f"mAP@{k}"],
            "num_relevant": [len(truth.relevant[q]) for q in scored],
            "first_hit": [int(first) if first <= k else None for first in first_Q],
            "precision_at_10": arrays["P@10"],
        },
        RETRIEVAL_SCHEMA,
    )
    protocol = {
        **_retrieval_protocol(k, full_divisor=full_divisor, has_junk=any(truth.junk)),
        "answers a query": str(ranking.positions_QK.shape[1]),
        "interval": _interval_text(resamples, seed),
    }
    made = {"gallery": ranking.gallery_fingerprint, **(made_by or {})}
    return Evaluated(
        report=Report(title=title, numbers=numbers, protocol=protocol, made_by=made), per_query=per_query
    )


def evaluate_recognition(
    recognition: Recognition,
    truth: Truth,
    *,
    ignore_non_gt: bool = False,
    trained_landmarks: Collection[int] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    title: str = "Recognition",
    made_by: Mapping[str, str] | None = None,
) -> Evaluated:
    """Score *recognition* against *truth*: GAP, and accuracy among the queries that show a landmark.

    A prediction for a query without a landmark counts against GAP, unless *ignore_non_gt*; -1 is no
    prediction. Such queries belong to neither group of *trained_landmarks*.  Raises ``ValueError`` for a
    query the truth does not know, and where no scored query shows a landmark.
    """
    _refuse_strangers(recognition.query_ids, truth)
    scored = [q for q in range(len(truth)) if truth.recognition_split[q] != "Ignored"]
    if not any(truth.landmarks[q] for q in scored):
        raise ValueError("no Public or Private query shows a landmark; there is nothing to score")
    given = {
        query: (int(landmark), float(confidence))
        for query, landmark, confidence in zip(
            recognition.query_ids, recognition.landmark_Q, recognition.confidence_Q, strict=True
        )
        if landmark >= 0
    }
    predictions = [given.get(truth.query_ids[q]) for q in scored]
    right = [
        found is not None and found[0] in truth.landmarks[q]
        for q, found in zip(scored, predictions, strict=True)
    ]
    shown_Q = np.array([bool(truth.landmarks[q]) for q in scored])
    landmarks = [truth.landmarks[q] for q in scored]
    queries = _Queries.of(truth, scored, truth.recognition_split, landmarks, trained_landmarks)
    pool = sort_predictions(
        [
            (truth.query_ids[q], *found)
            for q, found in zip(scored, predictions, strict=True)
            if found is not None
        ]
    )
    numbers: list[Number] = []
    for group, mask_Q in queries.groups().items():
        if (mask_Q & shown_Q).any():
            pool_mask_Q = mask_Q & shown_Q if ignore_non_gt else mask_Q
            numbers += _recognition_numbers(queries, pool, pool_mask_Q, group, resamples=resamples, seed=seed)
    per_query = queries.table(
        {
            "predicted": [found and found[0] for found in predictions],
            "confidence": [found and found[1] for found in predictions],
            "right": right,
        },
        RECOGNITION_SCHEMA,
    )
    protocol = {
        **_recognition_protocol(ignore_non_gt=ignore_non_gt),
        "interval": _interval_text(resamples, seed),
    }
    report = Report(title=title, numbers=tuple(numbers), protocol=protocol, made_by=dict(made_by or {}))
    return Evaluated(report=report, per_query=per_query)


@dataclass(frozen=True, kw_only=True)
class _Queries:
    """The scored queries, in order, and how they are grouped."""

    ids: tuple[str, ...]
    split: tuple[str, ...]
    landmarks: tuple[tuple[int, ...], ...]
    seen: tuple[bool | None, ...]
    cluster_Q: np.ndarray

    @staticmethod
    def of(
        truth: Truth,
        scored: list[int],
        splits: tuple[str, ...],
        landmarks: list[tuple[int, ...]],
        trained_landmarks: Collection[int] | None,
    ) -> _Queries:
        trained = None if trained_landmarks is None else set(trained_landmarks)
        return _Queries(
            ids=tuple(truth.query_ids[q] for q in scored),
            split=tuple(splits[q] for q in scored),
            landmarks=tuple(landmarks),
            seen=tuple(
                None if trained is None or not shown else not trained.isdisjoint(shown) for shown in landmarks
            ),
            cluster_Q=cluster_numbers([next(iter(shown), None) for shown in landmarks]),
        )

    def groups(self) -> dict[str, np.ndarray]:
        """Name -> bool ``[Q]``, in the order they are reported; groups without queries are left out."""
        split_Q = np.array(self.split, dtype=object)
        masks = {
            "Private": split_Q == "Private",
            "Public": split_Q == "Public",
            "Private and Public": np.ones(len(self.ids), np.bool_),
            "landmarks trained on": np.array([seen is True for seen in self.seen]),
            "landmarks not trained on": np.array([seen is False for seen in self.seen]),
        }
        return {name: mask_Q for name, mask_Q in masks.items() if mask_Q.any()}

    def table(self, columns: Mapping[str, object], schema: pa.Schema) -> pa.Table:
        """One row a query: id, split, landmark, seen and *columns*."""
        landmark = [next(iter(shown), None) for shown in self.landmarks]
        known = {"query": self.ids, "split": self.split, "landmark": landmark, "seen": self.seen, **columns}
        return pa.table(
            {field.name: pa.array(known[field.name], field.type) for field in schema}, schema=schema
        )


def _check_ranking(ranking: Ranking, truth: Truth, *, allow_overlap: bool) -> None:
    if len(set(ranking.query_ids)) != len(ranking):
        raise ValueError("a query occurs more than once in the ranking")
    _refuse_strangers(ranking.query_ids, truth)
    if not allow_overlap:
        both = set(ranking.query_ids).intersection(ranking.gallery_ids)
        if both:
            raise ValueError(
                f"{len(both)} queries are in the gallery themselves, {min(both)!r} for one, and would find "
                "themselves; rank against a gallery without them, or allow the overlap"
            )


def _refuse_strangers(query_ids: tuple[str, ...], truth: Truth) -> None:
    known = set(truth.query_ids)
    strange = next((query for query in query_ids if query not in known), None)
    if strange is not None:
        raise ValueError(
            f"query {strange!r} was answered but is not in the truth; is this the truth of another set?"
        )


def _one(landmark_of: Mapping[str, int] | None, query: str) -> tuple[int, ...]:
    return (landmark_of[query],) if landmark_of is not None and query in landmark_of else ()


def _retrieval_names(k: int) -> list[str]:
    cuts = [f"{letter}@{cut}" for letter in "PR" for cut in CUTS]
    return [f"mAP@{k}", *cuts, "position of first hit"]


def _reported_names(k: int) -> dict[str, str]:
    """Number -> the per-query value it sums up."""
    names = {name: name for name in _retrieval_names(k)[:-1]}
    first = "position of first hit"
    return {**names, f"mean {first}": first, f"median {first}": first}


def _retrieval_values(
    answers: list[str], relevant: tuple[str, ...], *, k: int, full_divisor: bool
) -> list[float]:
    """One value for each of ``_retrieval_names``; a position of k + 1 stands for no hit."""
    ranks = np.flatnonzero(new_hits(answers, relevant, k=max(k, *CUTS))) + 1
    average = average_precision_of_hits(ranks, len(relevant), k=k, full_divisor=full_divisor)
    found = [int(np.sum(ranks <= cut)) for cut in CUTS]
    precisions = [num / cut for num, cut in zip(found, CUTS, strict=True)]
    recalls = [num / len(relevant) for num in found]
    return [average, *precisions, *recalls, float(min(ranks[0], k + 1)) if ranks.size else k + 1.0]


def _retrieval_number(
    name: str, group: str, value_Q: np.ndarray, cluster_Q: np.ndarray, *, resamples: int, seed: int, k: int
) -> Number:
    _, cluster_Q = np.unique(cluster_Q, return_inverse=True)
    limits = (1.0, k + 1.0) if name.endswith("first hit") else (0.0, 1.0)
    if name.startswith("median"):
        value = float(np.median(value_Q))
        low, high = median_interval(value_Q, cluster_Q, resamples=resamples, seed=seed, limits=limits)
    else:
        value = float(np.mean(value_Q))
        low, high = mean_interval(value_Q, cluster_Q, resamples=resamples, seed=seed, limits=limits)
    return Number(name=name, value=value, low=low, high=high, num_queries=len(value_Q), group=group)


def _recognition_numbers(
    queries: _Queries,
    pool: list[tuple[str, int, float]],
    mask_Q: np.ndarray,
    group: str,
    *,
    resamples: int,
    seed: int,
) -> list[Number]:
    chosen = np.flatnonzero(mask_Q)
    place = {queries.ids[q]: number for number, q in enumerate(chosen)}
    shown = {query: queries.landmarks[q] for query, q in zip(place, chosen, strict=True)}
    pool = [entry for entry in pool if entry[0] in place]
    query_M = np.array([place[query] for query, _, _ in pool], np.int64)
    right_M = np.array([landmark in shown[query] for query, landmark, _ in pool], np.bool_)
    shown_Q = np.array([bool(landmarks) for landmarks in shown.values()])
    _, cluster_Q = np.unique(queries.cluster_Q[chosen], return_inverse=True)
    gap = global_average_precision(pool, shown)
    low, high = gap_interval(right_M, query_M, shown_Q, cluster_Q, resamples=resamples, seed=seed)
    accuracy_Q = np.bincount(query_M[right_M], minlength=len(chosen)).astype(np.float64)[shown_Q]
    _, cluster_Q = np.unique(cluster_Q[shown_Q], return_inverse=True)
    worst, best = mean_interval(accuracy_Q, cluster_Q, resamples=resamples, seed=seed)
    mean = float(accuracy_Q.mean())
    return [
        Number(name="GAP", value=gap, low=low, high=high, num_queries=len(chosen), group=group),
        Number(name="accuracy", value=mean, low=worst, high=best, num_queries=len(accuracy_Q), group=group),
    ]


def _retrieval_protocol(k: int, *, full_divisor: bool, has_junk: bool) -> dict[str, str]:
    return {
        "protocol": "gldv2 retrieval",
        "metric": f"mAP@{k}",
        "k": str(k),
        "divisor": "m" if full_divisor else f"min(m, {k})",
        "duplicates": "keep their rank and earn nothing",
        "junk": "removed before ranks are counted" if has_junk else "none",
        "missing query": "scores 0",
        "split": "Private and Public apart and together; Ignored and queries without relevant photos dropped",
        "query crop": "none",
    }


def _recognition_protocol(*, ignore_non_gt: bool) -> dict[str, str]:
    return {
        "protocol": "gldv2 recognition",
        "metric": "GAP",
        "ties": "by query id, then landmark",
        "divisor": "queries that show a landmark",
        "queries without a landmark": "left out" if ignore_non_gt else "a prediction for one is wrong",
        "split": "Private and Public apart and together; Ignored dropped",
        "query crop": "none",
    }


def _interval_text(resamples: int, seed: int) -> str:
    return f"95 %, percentile bootstrap over landmarks, {resamples} resamples, seed {seed}"
