"""How sure is sure: a threshold for "not a landmark I know", and confidences that are probabilities.

Both are fitted on photos that are asked for nothing else: some whose landmark is known (validation) and some known to
show none (kind none).

Axes: Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from landseer.reranking.voting.votes import NO_LABEL
from landseer.types import Recognition

_MOST_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What ``calibrate`` found.  Two recognitions may share it only where made by the same options and bank."""

    confidence: float
    """A landmark named with less is not one I know; -inf: all are accepted."""
    slope: float
    """The probability that the named landmark is right is 1 / (1 + exp(-(slope * confidence + offset)))."""
    offset: float
    recall: float
    """Share of the photos of a known landmark that are given theirs, and are accepted."""
    false_accept_rate: float
    """Share of the photos of no known landmark that are given one."""
    num_known: int
    num_unknown: int

    def probability(self, confidence_Q: np.ndarray) -> np.ndarray:
        """The probability that a landmark named with this confidence is right: float32 ``[Q]``, in the same order."""
        return _logistic(self.slope * confidence_Q.astype(np.float64) + self.offset).astype(np.float32)

    def accepts(self, found: Recognition) -> np.ndarray:
        """Which queries are named a landmark with enough confidence: bool ``[Q]``."""
        accepted_Q: np.ndarray = (found.landmark_Q != NO_LABEL) & (
            found.confidence_Q >= np.float32(self.confidence)
        )
        return accepted_Q

    def probabilities(self, found: Recognition) -> Recognition:
        """The same landmarks, with probabilities in place of confidences; 0 where no landmark is named."""
        probability_Q = np.where(
            found.landmark_Q != NO_LABEL, self.probability(found.confidence_Q), np.float32(0)
        )
        return replace(found, confidence_Q=probability_Q)

    def apply(self, found: Recognition) -> Recognition:
        """Landmark -1 where the confidence is too low, and probabilities in place of confidences.

        A rejected query keeps the probability of the landmark it would have been given; one that no landmark
        was named for has 0.
        """
        return replace(
            self.probabilities(found),
            landmark_Q=np.where(self.accepts(found), found.landmark_Q, NO_LABEL),
        )


def calibrate(found: Recognition, landmark_Q: np.ndarray, *, false_accepts: float) -> Threshold:
    """Fit both on *found*, given the landmark each photo truly shows (int64 ``[Q]``, -1: none that the bank knows).

    The threshold is the lowest at which at most the share *false_accepts* of the photos without a landmark
    is given one; a lower threshold never lowers recall, so this is the highest recall at that rate.  The probability is
    Platt's (1999): a logistic curve of most likelihood, its targets (n + 1) / (n + 2) and 1 / (n + 2) rather than 1 and
    0, its slope not below 0, so that the order of confidences stays.

    Raises ``ValueError`` where the truth does not fit, or there is no photo with or none without a landmark.
    """
    if landmark_Q.shape != found.landmark_Q.shape:
        raise ValueError(f"{len(found.landmark_Q)} photos were recognised but {landmark_Q.shape} are known")
    known_Q = landmark_Q != NO_LABEL
    if known_Q.all() or not known_Q.any():
        raise ValueError(
            f"calibration needs photos of known landmarks and photos of none, not {known_Q.sum()} and "
            f"{np.sum(~known_Q)}"
        )
    named_Q = found.landmark_Q != NO_LABEL
    confidence = _lowest(found.confidence_Q[~known_Q & named_Q], int(np.sum(~known_Q)), false_accepts)
    accepted_Q = named_Q & (found.confidence_Q >= confidence)
    right_Q = named_Q & (found.landmark_Q == landmark_Q)
    slope, offset = _curve(found.confidence_Q[named_Q].astype(np.float64), right_Q[named_Q])
    return Threshold(
        confidence=float(confidence),
        slope=slope,
        offset=offset,
        recall=float(np.mean(accepted_Q[known_Q] & right_Q[known_Q])),
        false_accept_rate=float(np.mean(accepted_Q[~known_Q])),
        num_known=int(known_Q.sum()),
        num_unknown=int(np.sum(~known_Q)),
    )


def _lowest(confidences: np.ndarray, num_unknown: int, false_accepts: float) -> np.float32:
    """The lowest threshold at or above which no more than the allowed share of *num_unknown* photos lies."""
    allowed = int(false_accepts * num_unknown) + 1
    while allowed / num_unknown > false_accepts:
        allowed -= 1
    if allowed >= len(confidences):
        return np.float32(-np.inf)
    return np.float32(np.nextafter(np.sort(confidences)[::-1][allowed], np.float32(np.inf)))


def _curve(confidence_Q: np.ndarray, right_Q: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic curve, by Newton's method with halved steps."""
    if not len(confidence_Q):
        return 0.0, 0.0
    num_right = int(right_Q.sum())
    num_wrong = len(right_Q) - num_right
    target_Q = np.where(right_Q, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    mean, spread = float(confidence_Q.mean()), float(confidence_Q.std())
    flat = float(np.log(target_Q.mean() / (1 - target_Q.mean())))
    if not spread > 1e-12 * max(1.0, abs(mean)):
        return 0.0, flat
    input_2Q = np.stack([(confidence_Q - mean) / spread, np.ones(len(confidence_Q))])
    curve = np.array([0.0, flat])
    for _ in range(_MOST_STEPS):
        probability_Q = _logistic(curve @ input_2Q)
        gradient = input_2Q @ (probability_Q - target_Q)
        if np.abs(gradient).max() < 1e-9 * len(confidence_Q):
            break
        hessian = (input_2Q * (probability_Q * (1 - probability_Q))) @ input_2Q.T
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        while _loss(curve - step, input_2Q, target_Q) > _loss(curve, input_2Q, target_Q) and step.any():
            step = step / 2
        curve = curve - step
    if curve[0] <= 0:
        return 0.0, flat
    return float(curve[0] / spread), float(curve[1] - curve[0] * mean / spread)


def _loss(curve: np.ndarray, input_2Q: np.ndarray, target_Q: np.ndarray) -> float:
    logit_Q = curve @ input_2Q
    return float(np.sum(np.logaddexp(0, logit_Q) - target_Q * logit_Q))


def _logistic(logit_Q: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -logit_Q)))
