"""Discriminative whitening: a linear neck in closed form, from labelled features.

Axes: N photos, C feature components, D kept components.
"""

from __future__ import annotations

import numpy as np


def discriminative_whitening(
    features_NC: np.ndarray, landmark_N: np.ndarray, *, dim: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``[D, C]`` and bias ``[D]`` that whiten what differs within landmarks and keep what differs between.

    The within-landmark scatter is whitened and the result rotated to the principal axes of all photos (learned
    whitening, Radenovic et al., TPAMI 2019, section 3.3, with scatter of classes in place of matching pairs).
    *ridge*, a multiple of the scatter's mean eigenvalue, is added to it: few photos know little about C x C
    covariances, and the larger it is the closer the map stays to a rotation.  Outputs have mean length 1.
    Where fewer than *dim* axes exist the rest are zero rows.  Raises ``ValueError`` where no landmark has two photos.
    """
    features = np.asarray(features_NC, dtype=np.float64)
    order = np.argsort(landmark_N, kind="stable")
    _, start, count = np.unique(landmark_N[order], return_index=True, return_counts=True)
    if count.max(initial=0) < 2:
        raise ValueError(
            "no landmark has two training photos, so a whitening cannot be learned; use another neck_start"
        )
    means = np.add.reduceat(features[order], start) / count[:, None]
    within = features[order] - np.repeat(means, count, axis=0)
    scatter = within.T @ within / len(features)
    scatter += ridge * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    centre = features.mean(axis=0)
    whitener = np.linalg.inv(np.linalg.cholesky(scatter))
    whitened = (features - centre) @ whitener.T
    values, axes = np.linalg.eigh(whitened.T @ whitened)
    strongest = axes[:, np.argsort(-values, kind="stable")[:dim]].T
    # the sign of an axis is arbitrary; fixing it makes the result the same on every machine
    strongest *= np.where(strongest[np.arange(len(strongest)), np.abs(strongest).argmax(axis=1)] < 0, -1, 1)[
        :, None
    ]
    weight = np.zeros((dim, features.shape[1]))
    weight[: len(strongest)] = strongest @ whitener
    weight /= np.linalg.norm((features - centre) @ weight.T, axis=1).mean()
    return weight.astype(np.float32), (-weight @ centre).astype(np.float32)
