"""Discriminative whitening: a linear neck in closed form, from labelled features.

Axes: N photos, C feature components, D components asked for, K components that exist.
"""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-24  # of a sum of squares: what is left of a mean of equal numbers


def discriminative_whitening(
    features_NC: np.ndarray, landmark_N: np.ndarray, *, dim: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``[D, C]`` and bias ``[D]`` that whiten what differs within landmarks, and keep what differs between.

    The within-landmark scatter is whitened and the result rotated to the principal axes of all photos (learned
    whitening, Radenovic et al., TPAMI 2019, section 3.3, with scatter of classes in place of matching pairs).
    *ridge*, a multiple of the scatter's mean eigenvalue, is added to it: few photos know little about C x C
    covariances, and the larger it is the closer the map stays to a rotation.  Outputs have mean length 1.
    Where the photos span fewer than *dim* axes the rest are zero rows.  Computed in float64, returned as float32.

    Raises ``ValueError`` where no landmark has two photos that differ, and for features that are not finite.
    """
    features = np.asarray(features_NC, dtype=np.float64)
    if not np.isfinite(features).all():
        raise ValueError("the backbone's features are not finite, so a whitening cannot be learned from them")
    centred = features - features.mean(axis=0)
    within = _within(centred, np.asarray(landmark_N))
    if not np.square(within).sum() > _ROUNDING * np.square(centred).sum():
        raise ValueError(
            "no landmark has two training photos that differ, so a whitening cannot be learned; "
            "use another model.neck_start"
        )
    whitener = _whitener(within, ridge)
    strongest_KC = _principal_axes(centred @ whitener.T, dim)
    weight = np.zeros((dim, features.shape[1]))
    weight[: len(strongest_KC)] = strongest_KC @ whitener
    weight /= np.linalg.norm(centred @ weight.T, axis=1).mean()
    return weight.astype(np.float32), (-weight @ features.mean(axis=0)).astype(np.float32)


def _within(features_NC: np.ndarray, landmark_N: np.ndarray) -> np.ndarray:
    """Each photo's features less the mean of its landmark's."""
    _, row_N, count = np.unique(landmark_N, return_inverse=True, return_counts=True)
    order = np.argsort(row_N, kind="stable")
    sums = np.add.reduceat(features_NC[order], np.cumsum(count) - count)
    return features_NC - (sums / count[:, None])[row_N]


def _whitener(within_NC: np.ndarray, ridge: float) -> np.ndarray:
    """``W [C, C]`` with ``W S W' = 1`` for the scatter ``S`` of *within_NC*, ridge included."""
    scatter = within_NC.T @ within_NC / len(within_NC)
    scatter.flat[:: len(scatter) + 1] += ridge * np.trace(scatter) / len(scatter)
    try:
        return np.linalg.inv(np.linalg.cholesky(scatter))
    except np.linalg.LinAlgError:
        raise ValueError(
            "a whitening cannot be learned: the photos span too few directions; raise model.neck_ridge"
        ) from None


def _principal_axes(centred_NC: np.ndarray, most: int) -> np.ndarray:
    """The strongest principal axes, unit rows ``[K, C]``, at most *most* and none beyond the rank."""
    values, axes = np.linalg.eigh(centred_NC.T @ centred_NC)
    strongest = axes[:, ::-1].T[:most]
    # beyond the rank any direction is as good as any other: rounding would choose, and new photos would see it
    strongest = strongest[values[::-1][:most] > values[-1] * len(values) * np.finfo(np.float64).eps]
    # the sign of an axis is arbitrary; fixing it makes the result the same on every machine
    largest = np.abs(strongest).argmax(axis=1)
    return strongest * np.where(np.take_along_axis(strongest, largest[:, None], axis=1) < 0, -1.0, 1.0)
