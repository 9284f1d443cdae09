"""Which pairs of points agree on one geometry: MAGSAC (Barath et al. 2019, 2020) finds it, a plain rule counts.

OpenCV finds the model; which pairs count is decided here, from the model alone: a pair is an inlier where each of its
points lies within ``residual`` pixels of where the model puts the other (of its epipolar line, for a fundamental
matrix).  No pair counts where the model or the points that agree with it are degenerate:

- fewer pairs agree than a sample plus one (affine 4, homography 5, fundamental 8): what a sample says of itself is
  no evidence;
- the points that agree lie within a pixel of one line in either photo;
- the model is none a camera makes of a wall: a mirror image, enlarged or shrunk more than ``most_scale``, stretched
  more than ``most_stretch`` in one direction, or with its horizon among the points (not asked of a fundamental
  matrix).

Several pairs at one place (within a pixel, in either photo) count as one.

Axes: M pairs, I of them inliers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from landseer.matching.features import LocalFeatures, Pairer
from landseer.recipe.matching_options import MatchingOptions

Kind = Literal["homography", "affine", "fundamental"]
LEAST = {"affine": 4, "homography": 5, "fundamental": 8}
"""Pairs that speak for a model: one more than a sample has."""
_LEAST_SPREAD_PX = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Verified:
    """What two photos have in common.

    ``points_a`` and ``points_b`` float32 ``[inliers, 2]``, row by row the same points of the scene, in pixels of the
    photos as described.  ``model`` maps a to b: ``[3, 3]``, of an affine one ``[2, 3]``; None: nothing in common.
    """

    inliers: int
    model: np.ndarray | None
    points_a: np.ndarray
    points_b: np.ndarray
    kind: Kind

    def turned(self) -> Verified:
        """The same, seen from b."""
        model = None if self.model is None else _inverse(self.model, self.kind)
        return Verified(
            inliers=self.inliers,
            model=model,
            points_a=self.points_b,
            points_b=self.points_a,
            kind=self.kind,
        )


def match_features(a: LocalFeatures, b: LocalFeatures, pairer: Pairer, options: MatchingOptions) -> Verified:
    """Pair the points of two photos and keep those that agree.

    Equal input gives equal output, and exchanged photos give the exchanged output: the work is always done from the
    same side.
    """
    if not a.precedes(b):
        return match_features(b, a, pairer, options).turned()
    pairs_M2 = pairer(a, b)
    return verify(a.keypoints_K2[pairs_M2[:, 0]], b.keypoints_K2[pairs_M2[:, 1]], options)


def verify(points_a: np.ndarray, points_b: np.ndarray, options: MatchingOptions) -> Verified:
    """The pairs of points (``[M, 2]`` each, pixels) that agree on one model of the kind ``options.model``.

    Pairs with a number that is not finite do not count.  Deterministic: OpenCV draws its samples from a generator that
    it seeds anew for each call.  Never fails on degenerate points; these give zero inliers.
    """
    if points_a.shape != points_b.shape or points_a.ndim != 2 or points_a.shape[1] != 2:
        raise ValueError(f"pairs need two tables [M, 2] of points, not {points_a.shape} and {points_b.shape}")
    kind = options.model
    a, b = _distinct(points_a, points_b)
    if not _evidence(a, b, kind):
        return _nothing(kind)
    model = _ESTIMATE[kind](a, b, options)
    if model is None:
        return _nothing(kind)
    agree = _agree(model, a, b, options)
    a, b = a[agree], b[agree]
    if not _evidence(a, b, kind) or not _plausible(model, a, options):
        return _nothing(kind)
    return Verified(inliers=len(a), model=model, points_a=a, points_b=b, kind=kind)


def _nothing(kind: Kind) -> Verified:
    none = np.empty((0, 2), np.float32)
    return Verified(inliers=0, model=None, points_a=none, points_b=none, kind=kind)


def _distinct(points_a: np.ndarray, points_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite pairs, the first of each pixel in a, and of these the first of each pixel in b; order kept."""
    a, b = np.asarray(points_a, np.float32), np.asarray(points_b, np.float32)
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    if not finite.all():
        a, b = a[finite], b[finite]
    for side in (0, 1):
        x, y = np.rint((a, b)[side].T.astype(np.float64))
        _, first = np.unique(x + 1j * y, return_index=True)
        if len(first) < len(a):
            first.sort()
            a, b = a[first], b[first]
    return a, b


def _evidence(a: np.ndarray, b: np.ndarray, kind: Kind) -> bool:
    """Enough pairs, and in neither photo on a line."""
    return len(a) >= LEAST[kind] and _spread(a) >= _LEAST_SPREAD_PX and _spread(b) >= _LEAST_SPREAD_PX


def _spread(points: np.ndarray) -> float:
    """Standard deviation in the direction in which it is least, in pixels."""
    x, y = (points - points.mean(axis=0, dtype=np.float64)).T
    xx, yy, xy = x @ x, y @ y, x @ y
    least = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    return float(np.sqrt(max(least, 0.0) / len(points)))


def _homography(a: np.ndarray, b: np.ndarray, options: MatchingOptions) -> np.ndarray | None:
    return _found(
        lambda: cv2.findHomography(
            a,
            b,
            cv2.USAC_MAGSAC,
            options.residual,
            maxIters=options.trials,
            confidence=options.confidence,
        )[0]
    )


def _affine(a: np.ndarray, b: np.ndarray, options: MatchingOptions) -> np.ndarray | None:
    return _found(
        lambda: cv2.estimateAffine2D(
            a,
            b,
            method=cv2.USAC_MAGSAC,
            ransacReprojThreshold=options.residual,
            maxIters=options.trials,
            confidence=options.confidence,
        )[0]
    )


def _fundamental(a: np.ndarray, b: np.ndarray, options: MatchingOptions) -> np.ndarray | None:
    return _found(
        lambda: cv2.findFundamentalMat(
            a, b, cv2.USAC_MAGSAC, options.residual, options.confidence, options.trials
        )[0]
    )


_ESTIMATE: dict[str, Callable[[np.ndarray, np.ndarray, MatchingOptions], np.ndarray | None]] = {
    "homography": _homography,
    "affine": _affine,
    "fundamental": _fundamental,
}


def _found(estimate: Callable[[], np.ndarray | None]) -> np.ndarray | None:
    """The model, or None where there is none."""
    try:
        model = estimate()
    except cv2.error as error:
        # where no sample gave a model OpenCV goes on with an empty one, and stumbles over it
        if "!model.empty()" in str(error):
            return None
        raise
    if model is None or model.shape not in ((3, 3), (2, 3)) or not np.isfinite(model).all():
        return None
    return np.asarray(model, np.float64)


def _agree(model: np.ndarray, a: np.ndarray, b: np.ndarray, options: MatchingOptions) -> np.ndarray:
    """Which pairs lie within the residual, seen from both photos: bool ``[M]``."""
    back = _inverse(model, options.model)
    if back is None:
        return np.zeros(len(a), bool)
    off = _off_line if options.model == "fundamental" else _off_point
    with np.errstate(all="ignore"):  # points on a horizon go to infinity: not within any residual
        return (off(model, a, b) <= options.residual) & (off(back, b, a) <= options.residual)


def _off_point(model: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels from each point of b to where the model puts that of a."""
    mapped = _homogeneous(a) @ model.T
    if len(model) == 3:
        mapped = mapped[:, :2] / mapped[:, 2:]
    off: np.ndarray = np.hypot(*(mapped - b).T)
    return off


def _off_line(model: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels from each point of b to the epipolar line of that of a."""
    lines = _homogeneous(a) @ model.T
    off: np.ndarray = np.abs((lines * _homogeneous(b)).sum(axis=1)) / np.hypot(lines[:, 0], lines[:, 1])
    return off


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1, dtype=np.float64)


def _inverse(model: np.ndarray, kind: Kind) -> np.ndarray | None:
    """The model from b to a; None where it cannot be turned round."""
    if kind == "fundamental":
        return model.T
    square = np.concatenate([model, [[0.0, 0.0, 1.0]]])[:3]
    if not np.linalg.cond(square) < 1 / np.finfo(np.float64).eps:
        return None
    back = np.linalg.inv(square)
    return back[: len(model)]


def _plausible(model: np.ndarray, a: np.ndarray, options: MatchingOptions) -> bool:
    """Whether a camera could have made b of a wall seen in a, at the points *a* (see the top of this file)."""
    if options.model == "fundamental":
        return True
    jacobian = model[:2, :2]
    if len(model) == 3:
        depths = _homogeneous(a) @ model[2]
        if depths.min() <= 0 <= depths.max():
            return False
        centre = np.append(a.mean(axis=0, dtype=np.float64), 1.0)
        depth = centre @ model[2]
        x, y = (model[:2] @ centre) / depth
        jacobian = (model[:2, :2] - np.outer([x, y], model[2, :2])) / depth
    if np.linalg.det(jacobian) <= 0:
        return False
    longest, shortest = np.linalg.svd(jacobian, compute_uv=False)
    scale = np.sqrt(longest * shortest)
    return bool(
        1 / options.most_scale <= scale <= options.most_scale and longest <= options.most_stretch * shortest
    )
