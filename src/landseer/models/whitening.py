"""Discriminative whitening: a linear neck in closed form, from labelled features.

Axes: N photos, C feature components, L landmarks, D components asked for, K components that exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-12  # of a sum of squares: what is left of the difference of two equal ones


class FeatureSums:
    """What a whitening needs to know of labelled features, added up batch by batch, in float64.

    Memory is L x C and C x C, whatever the number of photos.  Sums of several processes, over parts of the photos
    and with the same *origin*, add up to those of all.
    """

    def __init__(self, num_landmarks: int, origin_C: np.ndarray) -> None:
        self.origin_C = np.asarray(origin_C, dtype=np.float64)
        """Features are taken from here; near their mean, so that squares do not swallow differences."""
        channels = len(self.origin_C)
        self.count_L = np.zeros(num_landmarks)
        self.sum_LC = np.zeros((num_landmarks, channels))
        self.square_CC = np.zeros((channels, channels))

    def add(self, features_NC: np.ndarray, row_N: np.ndarray) -> None:
        """Add photos with the landmarks *row_N*, each 0..L-1.  Raises ``ValueError`` for features not finite."""
        features = np.asarray(features_NC, dtype=np.float64) - self.origin_C
        if not np.isfinite(features).all():
            raise ValueError(
                "the backbone's features are not finite, so a whitening cannot be learned from them"
            )
        np.add.at(self.count_L, row_N, 1)
        np.add.at(self.sum_LC, row_N, features)
        self.square_CC += features.T @ features

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """What adds up over processes."""
        return self.count_L, self.sum_LC, self.square_CC

    @property
    def num(self) -> float:
        """N."""
        return float(self.count_L.sum())

    @property
    def mean_C(self) -> np.ndarray:
        """Mean feature."""
        return self.origin_C + self._mean_from_origin

    @property
    def _mean_from_origin(self) -> np.ndarray:
        return self.sum_LC.sum(axis=0) / self.num

    @property
    def total_CC(self) -> np.ndarray:
        """Scatter of all photos about their mean, a mean over photos."""
        return self.square_CC / self.num - np.outer(self._mean_from_origin, self._mean_from_origin)

    @property
    def within_CC(self) -> np.ndarray:
        """Scatter of the photos about the mean of their landmark, a mean over photos."""
        here = self.count_L > 0
        scaled = self.sum_LC[here] / np.sqrt(self.count_L[here, None])
        return (self.square_CC - scaled.T @ scaled) / self.num


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """A linear map: float32 weight ``[D, C]`` and bias ``[D]``, and the variance ``[D]`` of what it gives."""

    weight_DC: np.ndarray
    bias_D: np.ndarray
    variance_D: np.ndarray


def discriminative_whitening(sums: FeatureSums, *, dim: int, ridge: float) -> LinearMap:
    """The map that whitens what differs within landmarks, and keeps what differs between.

    The within-landmark scatter is whitened and the result rotated to the principal axes of all photos (learned
    whitening, Radenovic et al., TPAMI 2019, section 3.3, with scatter of classes in place of matching pairs).
    *ridge*, a multiple of the scatter's mean eigenvalue, is added to it: few photos know little about C x C
    covariances, and the larger it is the closer the map stays to a rotation.  Outputs have mean 0 and a root mean
    square length of 1.  Where the photos span fewer than *dim* axes the rest are zero rows.

    Raises ``ValueError`` where no landmark has two photos that differ.
    """
    total, within = sums.total_CC, sums.within_CC
    if not np.trace(within) > _ROUNDING * np.trace(sums.square_CC) / sums.num:
        raise ValueError(
            "no landmark has two training photos that differ, so a whitening cannot be learned; "
            "use another model.neck_start"
        )
    whitener = whitener_of(within, ridge, knob="model.neck_ridge")
    strongest_KC = principal_axes(whitener @ total @ whitener.T, dim)
    weight = np.zeros((dim, len(total)))
    weight[: len(strongest_KC)] = strongest_KC @ whitener
    variance = np.einsum("dc,ce,de->d", weight, total, weight)
    length = np.sqrt(variance.sum())
    weight, variance = weight / length, variance / length**2
    return LinearMap(
        weight_DC=weight.astype(np.float32),
        bias_D=(-weight @ sums.mean_C).astype(np.float32),
        variance_D=variance.astype(np.float32),
    )


def whitener_of(within_CC: np.ndarray, ridge: float, *, knob: str) -> np.ndarray:
    """``W [C, C]`` with ``W S W' = 1`` for the scatter ``S``, to which *ridge* times its mean eigenvalue is added.

    Raises ``ValueError`` that names *knob*, which sets the ridge, where it is not enough.
    """
    scatter = within_CC.copy()
    scatter.flat[:: len(scatter) + 1] += ridge * np.trace(scatter) / len(scatter)
    # asked of the eigenvalues, since rounding lets many a singular scatter through Cholesky's method
    values = np.linalg.eigvalsh(scatter)
    if not values[0] > values[-1] * _ROUNDING:
        raise ValueError(f"a whitening cannot be learned: the photos span too few directions; raise {knob}")
    return np.linalg.inv(np.linalg.cholesky(scatter))


def principal_axes(scatter_CC: np.ndarray, most: int) -> np.ndarray:
    """The strongest principal axes, unit rows ``[K, C]``, at most *most* and none beyond the rank."""
    values, axes = np.linalg.eigh(scatter_CC)
    strongest = axes[:, ::-1].T[:most]
    # beyond the rank any direction is as good as any other: rounding would choose, and new photos would see it
    strongest = strongest[values[::-1][:most] > values[-1] * _ROUNDING]
    # the sign of an axis is arbitrary; fixing it makes the result the same on every machine
    largest = np.abs(strongest).argmax(axis=1)
    return strongest * np.where(np.take_along_axis(strongest, largest[:, None], axis=1) < 0, -1.0, 1.0)
