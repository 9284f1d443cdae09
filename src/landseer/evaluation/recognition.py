"""The protocol of the Google Landmark challenges for a Recognition: GAP, and beside it how far it can be trusted.

Public and Private queries are scored apart and together, Ignored ones dropped.  Where it is known which
landmarks a model was trained on, the others are reported apart too.  ``docs/evaluation.md`` has the
definitions.

Axes: Q scored queries, M predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.calibration import NUM_BINS, bins_of
from landseer.evaluation.intervals import calibration_error_interval, gap_interval, mean_interval
from landseer.evaluation.metrics import sort_predictions, summed_precision
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
        pa.field("accepted", pa.bool_()),
    ]
)
"""One row a scored query; ``predicted`` and ``confidence`` are null where no landmark was named; ``accepted``: named,
and sure enough."""
PROTOCOL = "gldv2 recognition"
NO_LANDMARK, OTHER_LANDMARKS = "queries of no landmark", "queries of landmarks not known"
"""The two kinds of queries that should be given no landmark."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What makes confidences mean something; nothing of it may come from the queries that are scored."""

    how: str
    """In words, for the report: what was fitted on which photos."""
    accepted_Q: np.ndarray | None = None
    """bool, one a query of the recognition: whether it is sure enough.  None: all that are named."""


def evaluate_recognition(
    recognition: Recognition,
    truth: Truth,
    *,
    ignore_non_gt: bool = False,
    calibrated: Calibrated | None = None,
    not_calibrated: str = "not said",
    trained_landmarks: Collection[int] | None = None,
    landmark_of: Mapping[str, int] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    title: str = "Recognition",
    made_by: Mapping[str, str] | None = None,
) -> Evaluated:
    """Score *recognition* against *truth*: GAP, accuracy among the queries that show a landmark, false accepts.

    A prediction for a query without a landmark counts against GAP, unless *ignore_non_gt*; -1 is no
    prediction. Such queries belong to neither group of *trained_landmarks*; *landmark_of* tells those of landmarks
    that the truth does not name from those of none.  *calibrated* says that confidences are probabilities, and
    adds ECE and the share that is accepted and right; GAP ranks all predictions, accepted or not.  Otherwise
    *not_calibrated* says why not.  Raises ``ValueError`` for a query the truth does not know, where no scored
    query shows a landmark, and for a probability that is none.
    """
    refuse_strangers(recognition.query_ids, truth)
    scored = [q for q in range(len(truth)) if truth.recognition_split[q] != "Ignored"]
    if not any(truth.landmarks[q] for q in scored):
        raise ValueError("no Public or Private query shows a landmark; there is nothing to score")
    landmarks = [truth.landmarks[q] for q in scored]
    queries = Queries.of(truth, scored, truth.recognition_split, landmarks, trained_landmarks)
    accepted_Q = None if calibrated is None else calibrated.accepted_Q
    predictions = _Predictions.of(recognition, queries, accepted_Q)
    shown_Q = np.array([bool(shown) for shown in landmarks])
    groups = {**Gldv2().groups("", np.array(queries.split, dtype=object)), **queries.by_training()}
    numbers: list[Number] = []
    for group, mask_Q in groups.items():
        if (mask_Q & shown_Q).any():
            counted_Q = mask_Q & shown_Q if ignore_non_gt else mask_Q
            scorer = _Scorer(queries, predictions, counted_Q, group=group, resamples=resamples, seed=seed)
            numbers += scorer.numbers(calibrated=calibrated is not None)
    if not ignore_non_gt:
        for group, mask_Q in _strangers(queries, shown_Q, landmark_of).items():
            numbers += _Scorer(
                queries, predictions, mask_Q, group=group, resamples=resamples, seed=seed
            ).false_accepts()
    protocol = {
        **_recognition_protocol(ignore_non_gt=ignore_non_gt),
        **_calibration_facts(calibrated, not_calibrated),
        "interval": interval_text(resamples, seed),
    }
    report = Report(title=title, numbers=tuple(numbers), protocol=protocol, made_by=dict(made_by or {}))
    return Evaluated(report=report, per_query=predictions.table(queries))


def recognition_in(per_query: pa.Table) -> Recognition:
    """The predictions of a table of queries that ``evaluate_recognition`` made, in its order.

    Raises ``ValueError`` for a table of something else.
    """
    missing = [name for name in ("query", "predicted", "confidence") if name not in per_query.column_names]
    if missing:
        raise ValueError(f"the table of queries has no column {missing[0]!r}; it is of no recognition")
    return Recognition(
        query_ids=tuple(per_query["query"].to_pylist()),
        landmark_Q=per_query["predicted"].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False),
        confidence_Q=per_query["confidence"].combine_chunks().fill_null(0).to_numpy(zero_copy_only=False),
    )


def is_calibrated(report: Report) -> bool:
    """Whether the confidences behind *report* are probabilities."""
    return report.protocol.get("confidence") == _PROBABILITY


_PROBABILITY = "probability that the landmark is right"


@dataclass(frozen=True, kw_only=True)
class _Predictions:
    """What was said of each scored query: landmark (-1: none), confidence (-inf), whether right and sure enough."""

    landmark_Q: np.ndarray
    confidence_Q: np.ndarray
    right_Q: np.ndarray
    accepted_Q: np.ndarray
    order_M: np.ndarray
    """The queries a landmark was named for, in the order in which GAP goes through them."""

    @staticmethod
    def of(recognition: Recognition, queries: Queries, accepted_Q: np.ndarray | None) -> _Predictions:
        row_of = {query: row for row, query in enumerate(recognition.query_ids)}
        landmark_Q = np.full(len(queries.ids), -1, np.int64)
        confidence_Q = np.full(len(queries.ids), -np.inf, np.float32)
        sure_Q = np.zeros(len(queries.ids), np.bool_)
        for q, query in enumerate(queries.ids):
            row = row_of.get(query)
            if row is not None and recognition.landmark_Q[row] >= 0:
                landmark_Q[q], confidence_Q[q] = recognition.landmark_Q[row], recognition.confidence_Q[row]
                sure_Q[q] = accepted_Q is None or accepted_Q[row]
        place = {query: q for q, query in enumerate(queries.ids)}
        pool = [
            (query, int(landmark_Q[q]), float(confidence_Q[q]))
            for query, q in place.items()
            if landmark_Q[q] >= 0
        ]
        return _Predictions(
            landmark_Q=landmark_Q,
            confidence_Q=confidence_Q,
            right_Q=np.array(
                [named in shown for named, shown in zip(landmark_Q.tolist(), queries.landmarks, strict=True)],
                np.bool_,
            ),
            accepted_Q=sure_Q,
            order_M=np.array([place[query] for query, _, _ in sort_predictions(pool)], np.int64),
        )

    def table(self, queries: Queries) -> pa.Table:
        """One row a query."""
        unnamed_Q = self.landmark_Q < 0
        return queries.table(
            {
                "predicted": pa.array(self.landmark_Q, mask=unnamed_Q),
                "confidence": pa.array(self.confidence_Q, mask=unnamed_Q),
                "right": self.right_Q,
                "accepted": self.accepted_Q,
            },
            RECOGNITION_SCHEMA,
        )


@dataclass(frozen=True)
class _Scorer:
    """The numbers of one group of queries."""

    queries: Queries
    predictions: _Predictions
    mask_Q: np.ndarray
    group: str
    resamples: int
    seed: int

    @property
    def _shown_Q(self) -> np.ndarray:
        return np.array([bool(shown) for shown in self.queries.landmarks])

    def numbers(self, *, calibrated: bool) -> list[Number]:
        """All of a group with queries that show a landmark."""
        shown_Q = self.mask_Q & self._shown_Q
        right_Q = self.predictions.right_Q
        found = [self._gap(), self._mean("accuracy", right_Q, shown_Q)]
        if calibrated:
            found.append(self._mean("right accepts", right_Q & self.predictions.accepted_Q, shown_Q))
        found += self.false_accepts()
        return [*found, *(self._calibration_error() if calibrated else ())]

    def false_accepts(self) -> Iterator[Number]:
        """The share of the queries without a landmark that are given one; nothing where there is no such query."""
        others_Q = self.mask_Q & ~self._shown_Q
        if others_Q.any():
            yield self._mean("false accepts", self.predictions.accepted_Q, others_Q)

    def _gap(self) -> Number:
        chosen = np.flatnonzero(self.mask_Q)
        order_M = self.predictions.order_M[self.mask_Q[self.predictions.order_M]]
        right_M, shown_Q = self.predictions.right_Q[order_M], self._shown_Q[chosen]
        low, high = gap_interval(
            right_M,
            np.searchsorted(chosen, order_M),
            shown_Q,
            self._clusters(self.mask_Q),
            resamples=self.resamples,
            seed=self.seed,
        )
        return self._number("GAP", summed_precision(right_M) / int(shown_Q.sum()), low, high, len(chosen))

    def _mean(self, name: str, value_Q: np.ndarray, mask_Q: np.ndarray) -> Number:
        values = value_Q[mask_Q].astype(np.float64)
        low, high = mean_interval(values, self._clusters(mask_Q), resamples=self.resamples, seed=self.seed)
        return self._number(name, float(values.mean()), low, high, len(values))

    def _calibration_error(self) -> Iterator[Number]:
        """Of the queries a landmark was named for; nothing where there is none."""
        named_Q = self.mask_Q & (self.predictions.landmark_Q >= 0)
        if not named_Q.any():
            return
        confidence_M = self.predictions.confidence_Q[named_Q].astype(np.float64)
        bin_M = bins_of(confidence_M, np.linspace(0, 1, NUM_BINS + 1))
        miss_M = confidence_M - self.predictions.right_Q[named_Q]
        cluster_M = self._clusters(named_Q)
        low, high = calibration_error_interval(
            miss_M, bin_M, cluster_M, int(cluster_M.max()) + 1, resamples=self.resamples, seed=self.seed
        )
        error = float(np.abs(np.bincount(bin_M, weights=miss_M)).sum() / len(miss_M))
        # both are sums of the same terms, in another order
        yield self._number("ECE", error, min(low, error), max(high, error), len(miss_M))

    def _clusters(self, mask_Q: np.ndarray) -> np.ndarray:
        _, cluster_Q = np.unique(self.queries.cluster_Q[mask_Q], return_inverse=True)
        return cluster_Q

    def _number(self, name: str, value: float, low: float, high: float, num: int) -> Number:
        return Number(name=name, value=value, low=low, high=high, num_queries=num, group=self.group)


def _strangers(
    queries: Queries, shown_Q: np.ndarray, landmark_of: Mapping[str, int] | None
) -> dict[str, np.ndarray]:
    """Name -> bool ``[Q]``: the queries of no landmark and of a landmark that the truth does not name, if known."""
    if landmark_of is None:
        return {}
    other_Q = np.array([query in landmark_of for query in queries.ids], np.bool_) & ~shown_Q
    return {NO_LANDMARK: ~shown_Q & ~other_Q, OTHER_LANDMARKS: other_Q}


def _calibration_facts(calibrated: Calibrated | None, why_not: str) -> dict[str, str]:
    if calibrated is None:
        return {"confidence": "votes, not calibrated", "calibration": f"none: {why_not}"}
    return {
        "confidence": _PROBABILITY,
        "calibration": calibrated.how,
        "ECE": f"{NUM_BINS} equally wide bins, of all queries a landmark is named for, accepted or not",
    }


def _recognition_protocol(*, ignore_non_gt: bool) -> dict[str, str]:
    return {
        "protocol": PROTOCOL,
        "metric": "GAP",
        "ties": "by query id, then landmark",
        "divisor": "queries that show a landmark",
        "queries without a landmark": "left out" if ignore_non_gt else "a prediction for one is wrong",
        "false accepts": "left out"
        if ignore_non_gt
        else "the share of these queries that are given one, sure enough or where nothing is calibrated at all",
        "split": "Private and Public apart and together; Ignored dropped",
        "query crop": "none",
    }
