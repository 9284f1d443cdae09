"""The protocol of the Google Landmark challenges for a Recognition: GAP, and accuracy beside it.

Public and Private queries are scored apart and together, Ignored ones dropped.  Where it is known which
landmarks a model was trained on, the others are reported apart too.  ``docs/evaluation.md`` has the
definitions.

Axes: Q scored queries, M predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa

from landseer.evaluation.intervals import gap_interval, mean_interval
from landseer.evaluation.metrics import global_average_precision, sort_predictions
from landseer.evaluation.protocol import QUERY_FIELDS
from landseer.evaluation.protocols import Gldv2
from landseer.evaluation.scoring import Evaluated, Queries, interval_text, refuse_strangers
from landseer.types import Number, Recognition, Report, Truth

RECOGNITION_SCHEMA = pa.schema(
    [
        *QUERY_FIELDS,
        pa.field("predicted", pa.int64()),
        pa.field("confidence", pa.float32()),
        pa.field("right", pa.bool_()),
    ]
)
"""One row a scored query; ``predicted`` and ``confidence`` are null where no landmark was named."""


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
    refuse_strangers(recognition.query_ids, truth)
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
    queries = Queries.of(truth, scored, truth.recognition_split, landmarks, trained_landmarks)
    pool = sort_predictions(
        [
            (truth.query_ids[q], *found)
            for q, found in zip(scored, predictions, strict=True)
            if found is not None
        ]
    )
    groups = {**Gldv2().groups("", np.array(queries.split, dtype=object)), **queries.by_training()}
    numbers: list[Number] = []
    for group, mask_Q in groups.items():
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
        "interval": interval_text(resamples, seed),
    }
    report = Report(title=title, numbers=tuple(numbers), protocol=protocol, made_by=dict(made_by or {}))
    return Evaluated(report=report, per_query=per_query)


def _recognition_numbers(
    queries: Queries,
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
