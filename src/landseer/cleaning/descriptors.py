"""How much nearer a photo lies to the centre of its own label than to that of any other.

Sub-centres as in Deng et al. (Sub-center ArcFace, ECCV 2020, section 3.4), of finished descriptors: the photos of a
label are parted by spherical k-means, the greatest part stands for the label, and photos far from its centre are noise.

Axes: N photos, C labels, P photos of one label, G groups, D components.
"""

from __future__ import annotations

import numpy as np

from landseer.cleaning.neighbours import class_sizes
from landseer.search import prepare, search_exact
from landseer.types import Descriptors

_ROUNDS = 25
"""k-means stops here at the latest."""
_BLOCK = 65536


def centre_margin(
    rows_ND: np.ndarray, label_N: np.ndarray, *, centres: int = 1, device: str = "cpu"
) -> np.ndarray:
    """Cosine to the centre of the own label, made without the photo itself, minus that to the nearest other label's.

    Float32 ``[N]``; NaN where a photo has no label, or is alone with it.  *rows_ND* are unit rows.  With several
    *centres* that of the greatest group of the label counts.  Raises ``ValueError`` where there is but one label.
    """
    labels = np.unique(label_N[label_N >= 0])
    if len(labels) < 2:
        raise ValueError(
            "descriptors tell labels apart, and the training photos have fewer than two; clean by geometry"
        )
    order = np.argsort(label_N, kind="stable")
    starts = np.searchsorted(label_N[order], labels)
    stops = np.searchsorted(label_N[order], labels, side="right")
    centre_CD = np.empty((len(labels), rows_ND.shape[1]), np.float32)
    own_N = np.full(len(label_N), np.nan)
    for place, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        members_P = order[start:stop]
        rows_PD = np.asarray(rows_ND[members_P], np.float64)
        group_P = groups_of(rows_PD, centres)
        chief_P = group_P == np.bincount(group_P).argmax()
        total_D = rows_PD[chief_P].sum(axis=0)
        centre_CD[place] = _unit(total_D[None])[0]
        own_N[members_P] = (rows_PD * _unit(total_D - rows_PD * chief_P[:, None])).sum(axis=1)
    other_N = _nearest_other(rows_ND, label_N, labels, centre_CD, device)
    own_N[class_sizes(label_N) < 2] = np.nan
    margin_N: np.ndarray = (own_N - other_N).astype(np.float32)
    return margin_N


def groups_of(rows_PD: np.ndarray, groups: int) -> np.ndarray:
    """Group of each row by spherical k-means, int64 ``[P]``; at most *groups*.

    Begins with the row nearest to the mean and goes on with the row farthest from all chosen, so chance plays no part.
    Equal ones: the first.
    """
    num = min(groups, len(rows_PD))
    if num == 1:
        return np.zeros(len(rows_PD), np.int64)
    chosen = [int(np.argmax(rows_PD @ rows_PD.mean(axis=0)))]
    while len(chosen) < num:
        chosen.append(int(np.argmin((rows_PD @ rows_PD[chosen].T).max(axis=1))))
    centre_GD = rows_PD[chosen]
    group_P = np.full(len(rows_PD), -1)
    for _ in range(_ROUNDS):
        before, group_P = group_P, (rows_PD @ centre_GD.T).argmax(axis=1)
        if np.array_equal(before, group_P):
            break
        for group in np.unique(group_P):
            centre_GD[group] = _unit(rows_PD[group_P == group].sum(axis=0)[None])[0]
    return group_P


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one."""
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _nearest_other(
    rows_ND: np.ndarray, label_N: np.ndarray, labels: np.ndarray, centre_CD: np.ndarray, device: str
) -> np.ndarray:
    """Cosine of each photo to the nearest centre that is not its own label's, float64 ``[N]``."""
    gallery = prepare(Descriptors(ids=tuple(map(str, labels.tolist())), rows_ND=centre_CD), device=device)
    other_N = np.empty(len(label_N))
    for start in range(0, len(label_N), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = np.asarray(rows_ND[part])
        names = tuple(map(str, range(start, start + len(rows))))
        found = search_exact(Descriptors(ids=names, rows_ND=rows), gallery, k=2, device=device)
        own = labels[found.positions_QK[:, 0]] == label_N[part]
        other_N[part] = np.where(own, found.scores_QK[:, 1], found.scores_QK[:, 0])
    return other_N
