"""Whether a recogniser's confidence means what it says, and how often it names a landmark where there is none.

Axes: Q queries, T thresholds, B bins, M predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.scoring import refuse_strangers
from landseer.types import Recognition, Truth

NUM_BINS = 15
"""Bins of a reliability diagram, as Guo et al. have."""


@dataclass(frozen=True, kw_only=True)
class Confidences:
    """The predictions made for scored queries: how sure, whether right, and whether a landmark was shown."""

    confidence_Q: np.ndarray
    """float64; -inf where no landmark was named, or the query was never answered."""
    right_Q: np.ndarray
    shown_Q: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability diagram: in each bin of confidence, how many predictions, how sure, how often right.

    ``edges`` is float64 ``[B + 1]``; the first bin holds both its edges, the others their upper one.  Where a bin is
    empty, ``confidence_B`` and ``accuracy_B`` are NaN.
    """

    edges: np.ndarray
    count_B: np.ndarray
    confidence_B: np.ndarray
    accuracy_B: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of confidence and accuracy over all predictions, 0 to 1 (Guo et al., ICML 2017)."""
        filled_B = self.count_B > 0
        gap_B = np.abs(self.confidence_B - self.accuracy_B)[filled_B]
        return float(gap_B @ self.count_B[filled_B] / self.count_B.sum())


def confidences_of(recognition: Recognition, truth: Truth) -> Confidences:
    """*recognition* judged by *truth*, one entry a query that is not Ignored, in the order of the truth.

    Raises ``ValueError`` for a query the truth does not know.
    """
    refuse_strangers(recognition.query_ids, truth)
    row_of = {query: row for row, query in enumerate(recognition.query_ids)}
    scored = [q for q, split in enumerate(truth.recognition_split) if split != "Ignored"]
    rows = [row_of.get(truth.query_ids[q]) for q in scored]
    named = [-1 if row is None else int(recognition.landmark_Q[row]) for row in rows]
    return Confidences(
        confidence_Q=np.array(
            [
                float(recognition.confidence_Q[row]) if row is not None and landmark >= 0 else -np.inf
                for row, landmark in zip(rows, named, strict=True)
            ],
            np.float64,
        ),
        right_Q=np.array(
            [landmark in truth.landmarks[q] for q, landmark in zip(scored, named, strict=True)], np.bool_
        ),
        shown_Q=np.array([bool(truth.landmarks[q]) for q in scored], np.bool_),
    )


def confidences_in(per_query: pa.Table) -> Confidences:
    """The same of the table of queries that ``evaluate_recognition`` makes."""
    confidence = per_query["confidence"].combine_chunks().cast(pa.float64()).fill_null(-np.inf)
    return Confidences(
        confidence_Q=confidence.to_numpy(zero_copy_only=False),
        right_Q=per_query["right"].combine_chunks().to_numpy(zero_copy_only=False),
        shown_Q=per_query["landmark"].combine_chunks().is_valid().to_numpy(zero_copy_only=False),
    )


def false_accept_rate(found: Confidences, threshold_T: np.ndarray) -> np.ndarray:
    """The share of queries without a landmark that are given one at each threshold, float64 ``[T]``.

    A prediction counts where its confidence is at least the threshold.  Raises ``ValueError`` where every query
    shows a landmark.
    """
    others_Q = found.confidence_Q[~found.shown_Q]
    if not len(others_Q):
        raise ValueError("every scored query shows a landmark; false accepts need some that show none")
    below_T = np.searchsorted(np.sort(others_Q), threshold_T)
    rate_T: np.ndarray = (len(others_Q) - below_T) / len(others_Q)
    return rate_T


def reliability(found: Confidences, *, num_bins: int = NUM_BINS) -> Reliability:
    """The reliability diagram of all predictions that were made, in *num_bins* equally wide bins from 0 to 1.

    A landmark named for a query that shows none is wrong.  Raises ``ValueError`` for a confidence outside 0 to 1,
    which is no probability, and where nothing was predicted.
    """
    made_Q = found.confidence_Q > -np.inf
    confidence_M, right_M = found.confidence_Q[made_Q], found.right_Q[made_Q]
    if not len(confidence_M):
        raise ValueError("no landmark was named for any query; there is nothing to calibrate")
    edges = np.linspace(0, 1, num_bins + 1)
    bin_M = bins_of(confidence_M, edges)
    count_B = np.bincount(bin_M, minlength=num_bins)
    sums = [np.bincount(bin_M, weights=value_M, minlength=num_bins) for value_M in (confidence_M, right_M)]
    nan_B = np.full(num_bins, np.nan)
    confidence_B, accuracy_B = (
        np.divide(total, count_B, out=nan_B.copy(), where=count_B > 0) for total in sums
    )
    return Reliability(edges=edges, count_B=count_B, confidence_B=confidence_B, accuracy_B=accuracy_B)


def bins_of(confidence_M: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each confidence.  Raises ``ValueError`` for one outside 0 to 1, which is no probability."""
    outside = confidence_M[(confidence_M < 0) | (confidence_M > 1)]
    if len(outside):
        raise ValueError(f"a confidence of {outside[0]:g} is no probability; calibrate confidences to 0 to 1")
    bin_M: np.ndarray = np.maximum(np.searchsorted(edges, confidence_M) - 1, 0)
    return bin_M


def trade_off(found: Confidences) -> tuple[np.ndarray, np.ndarray]:
    """What each threshold would cost: false-accept rate and recall, float64 ``[T]`` each, the strictest first.

    Recall is the share of the queries with a landmark that are given theirs.  The first entry accepts nothing, the
    last every prediction.  Raises ``ValueError`` where no query shows a landmark, or every one does.
    """
    if found.shown_Q.all() or not found.shown_Q.any():
        raise ValueError("false accepts and recall need queries that show a landmark and some that show none")
    made_Q = found.confidence_Q > -np.inf
    order_M = np.argsort(-found.confidence_Q[made_Q], kind="stable")
    confidence_M, shown_M = found.confidence_Q[made_Q][order_M], found.shown_Q[made_Q][order_M]
    right_M = found.right_Q[made_Q][order_M]
    # equal confidences are accepted together
    last_M = np.append(confidence_M[1:] != confidence_M[:-1], np.ones(min(1, len(confidence_M)), np.bool_))
    false_T, right_T = (np.append(0, np.cumsum(value_M)[last_M]) for value_M in (~shown_M, right_M))
    return false_T / np.sum(~found.shown_Q), right_T / np.sum(found.shown_Q)
