"""Whitening of descriptors: fitted once, kept as an artifact with its origin, applied to any rows of the same model.

Axes: N photos, P pairs, L landmarks, D components of the rows, K components that are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landseer.models.whitening import principal_axes, whitener_of
from landseer.storage import open_artifact, read_array, read_json, verify, writing
from landseer.storage.artifact import fingerprint_of
from landseer.types import Descriptors

_BLOCK_ROWS = 4096
_ROUNDING = 1e-12  # of a sum of squares: what is left of the difference of two equal ones
_FILE = "whitening.json"


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """``row -> map (row - mean)``, made unit: float64 ``mean_D`` and ``map_KD``, strongest axis first."""

    kind: Literal["pca", "learned"]
    mean_D: np.ndarray
    map_KD: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was fitted, for whoever inspects it: ridge, scale, number of photos, digest of their ids."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Role -> fingerprint of what it was fitted on."""

    @property
    def dim(self) -> int:
        """Components of a whitened row."""
        return int(self.map_KD.shape[0])

    @property
    def fingerprint(self) -> str:
        """Identity of what it computes."""
        tables = [np.ascontiguousarray(table, dtype="<f8") for table in (self.mean_D, self.map_KD)]
        digests = [(table.shape, hashlib.sha256(table.tobytes()).hexdigest()) for table in tables]
        return fingerprint_of("whitening", digests)

    def rows(self, rows_ND: np.ndarray) -> np.ndarray:
        """Whitened unit rows, float32 ``[N, dim]``; a row that is the mean itself has no direction and becomes 0.

        Computed in float64 and rounded once.  Raises ``ValueError`` for rows of another width.
        """
        if rows_ND.ndim != 2 or rows_ND.shape[1] != len(self.mean_D):
            raise ValueError(
                f"the whitening is of rows with {len(self.mean_D)} components, not {rows_ND.shape[-1]}; "
                "use the one that was fitted on this model's descriptors"
            )
        whitened = np.empty((len(rows_ND), self.dim), np.float32)
        for block, rows in _blocks(rows_ND):
            turned = (rows - self.mean_D) @ self.map_KD.T
            lengths = np.linalg.norm(turned, axis=1, keepdims=True)
            whitened[block] = turned / np.where(lengths > 0, lengths, 1.0)
        return whitened

    def apply(self, descriptors: Descriptors) -> Descriptors:
        """*descriptors* whitened: unit rows of ``dim`` components, stored as they were, of the same photos.

        Raises ``ValueError`` for rows of another width, and for unit rows where it was fitted on others, or the
        reverse.
        """
        fitted_on_unit = self.facts.get("unit rows", descriptors.normalised)
        if fitted_on_unit != descriptors.normalised:
            words = {True: "unit rows", False: "rows of any length"}
            raise ValueError(
                f"the whitening was fitted on {words[bool(fitted_on_unit)]}, but these are declared "
                f"{words[descriptors.normalised]}; fit one on descriptors made the same way"
            )
        known = descriptors.fingerprint
        return replace(
            descriptors,
            rows_ND=self.rows(descriptors.rows_ND).astype(descriptors.rows_ND.dtype, copy=False),
            metric="cosine",
            normalised=True,
            fingerprint=fingerprint_of("whitened", known, self.fingerprint) if known else "",
        )


def fit_whitening(
    descriptors: Descriptors,
    *,
    kind: Literal["pca", "learned"] = "pca",
    landmark_N: np.ndarray | None = None,
    pairs_P2: np.ndarray | None = None,
    dim: int | None = None,
    ridge: float = 0.0,
    scale: bool = True,
    scored: Iterable[str] = (),
) -> Whitening:
    """Fit a whitening on *descriptors*, which should be of training photos.

    ``pca``: the principal axes of the rows about their mean, each scaled to variance 1 (Jegou and Chum, ECCV 2012),
    or with *scale* off only turned.  ``learned`` (Radenovic et al., TPAMI 2019, section 3.3; Mikolajczyk and Matas,
    ICCV 2007): with ``S`` the mean of ``(x - y)(x - y)'`` over matching pairs, rows are mapped by ``S^-1/2`` and turned
    to the principal axes of what comes out.  Pairs are *pairs_P2*, positions int64 ``[P, 2]``, all alike; or, by
    *landmark_N* (int64 ``[N]``, below 0: none), every photo with each other of its landmark, where every photo
    counts alike and the others of its landmark share its count, so that large landmarks do not decide alone.  The paper
    turns to the axes of pairs that do not match; those of all photos, as here and in its published code, are the
    same where ``S`` is that of all pairs, for the scatter of all pairs is the sum of the two.

    *dim* strongest axes are kept (None: all that the photos span).  *ridge* times the mean variance is added to each
    variance, or to ``S``, before it is inverted: few photos know little about D x D covariances.  The sign of an axis
    is fixed, so equal rows give equal maps.

    Rows are read a few at a time, in float64; memory is that of some D x D tables, whatever N is.  Raises
    ``ValueError`` where a photo is among the ids *scored*, where the photos span fewer than *dim* axes, and for
    ``learned`` where nothing says which photos match or no two that match differ.
    """
    _require_apart(descriptors, scored)
    if not scale and kind == "learned":
        raise ValueError('scale: only kind = "pca" can do without; a learned whitening always scales')
    if ridge < 0 or (dim is not None and dim < 1):
        raise ValueError(f"ridge must not be negative, and dim at least 1, not {ridge} and {dim}")
    if len(descriptors) < 2:
        raise ValueError(f"a whitening needs at least two photos, not {len(descriptors)}")
    rows_ND = descriptors.rows_ND
    mean_D, total_DD = _moments(rows_ND)
    if kind == "pca":
        map_KD, matches = _pca(total_DD, dim, ridge, scale), 0
    else:
        match_DD, matches = _match_scatter(rows_ND, mean_D, landmark_N, pairs_P2)
        if not np.trace(match_DD) > _ROUNDING * np.trace(total_DD):
            raise ValueError("no two matching photos differ, so there is nothing to learn a whitening from")
        whitener_DD = whitener_of(match_DD, ridge, knob="ridge, or fit on more photos")
        map_KD = _strongest(whitener_DD @ total_DD @ whitener_DD.T, dim) @ whitener_DD
    facts = {
        "photos": len(descriptors),
        "ids": hashlib.sha256(json.dumps(descriptors.ids).encode()).hexdigest()[:16],
        "unit rows": descriptors.normalised,
        "ridge": float(ridge),
        **({"scale": scale} if kind == "pca" else {"matches": matches}),
    }
    return Whitening(
        kind=kind,
        mean_D=mean_D,
        map_KD=map_KD,
        facts=facts,
        parents={"descriptors": descriptors.fingerprint} if descriptors.fingerprint else {},
    )


def save_whitening(whitening: Whitening, path: Path, *, made_by: Mapping[str, object]) -> None:
    """Write a whitening folder: ``mean.npy``, ``map.npy`` and ``whitening.json``, which tells how it was fitted."""
    facts = {**made_by, "whitening": whitening.fingerprint}
    with writing(path, "whitening", made_by=facts, parents=whitening.parents) as part:
        np.save(part / "mean.npy", whitening.mean_D, allow_pickle=False)
        np.save(part / "map.npy", whitening.map_KD, allow_pickle=False)
        told = {"kind": whitening.kind, "dim": whitening.dim, "facts": dict(whitening.facts)}
        (part / _FILE).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")


def load_whitening(path: Path) -> Whitening:
    """The whitening of a folder that ``save_whitening`` wrote, every file checked."""
    manifest = open_artifact(path, "whitening")
    verify(path, manifest)
    told = read_json(path / _FILE)
    return Whitening(
        kind=told["kind"],
        mean_D=read_array(path / "mean.npy"),
        map_KD=read_array(path / "map.npy"),
        facts=told["facts"],
        parents=manifest.parents,
    )


def _require_apart(descriptors: Descriptors, scored: Iterable[str]) -> None:
    both = sorted(set(descriptors.ids).intersection(scored))
    if both:
        raise ValueError(
            f"{len(both)} of the photos, {both[0]!r} the first, are among those that are scored, and a whitening "
            "fitted on them would flatter the numbers; fit it on training photos"
        )


def _blocks(rows_ND: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows a few at a time, with their place, in float64."""
    for start in range(0, len(rows_ND), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        yield block, np.asarray(rows_ND[block], dtype=np.float64)


def _moments(rows_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[D]`` and scatter about it ``[D, D]``, a mean over photos."""
    # taken from near the mean, so that squares do not swallow differences
    origin_D = np.asarray(rows_ND[:_BLOCK_ROWS], dtype=np.float64).mean(axis=0)
    sum_D, square_DD = np.zeros_like(origin_D), np.zeros((len(origin_D),) * 2)
    for _, rows in _blocks(rows_ND):
        if not np.isfinite(rows).all():
            raise ValueError("a row is not finite, so a whitening cannot be fitted; extract the photos again")
        rows -= origin_D
        sum_D += rows.sum(axis=0)
        square_DD += rows.T @ rows
    offset_D = sum_D / len(rows_ND)
    return origin_D + offset_D, square_DD / len(rows_ND) - np.outer(offset_D, offset_D)


def _pca(total_DD: np.ndarray, dim: int | None, ridge: float, scale: bool) -> np.ndarray:
    axes_KD = _strongest(total_DD, dim)
    if not scale:
        return axes_KD
    variance_K = np.einsum("kd,de,ke->k", axes_KD, total_DD, axes_KD, optimize=True)
    return axes_KD / np.sqrt(variance_K + ridge * np.trace(total_DD) / len(total_DD))[:, None]


def _strongest(scatter_DD: np.ndarray, dim: int | None) -> np.ndarray:
    """The *dim* strongest principal axes, unit rows; ``ValueError`` where there are not so many."""
    axes_KD = principal_axes(scatter_DD, len(scatter_DD) if dim is None else dim)
    if len(axes_KD) < (dim or 1):
        raise ValueError(
            f"the photos span only {len(axes_KD)} axes, and {dim or 1} are asked for (dim); "
            "ask for fewer, or fit on more photos"
        )
    return axes_KD


def _match_scatter(
    rows_ND: np.ndarray, mean_D: np.ndarray, landmark_N: np.ndarray | None, pairs_P2: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Mean outer product of the difference of matching photos, and how many pairs or photos with a match."""
    if (landmark_N is None) == (pairs_P2 is None):
        raise ValueError(
            "a learned whitening needs landmark_N or pairs_P2, one of the two: which photos match?"
        )
    if pairs_P2 is not None:
        return _scatter_of_pairs(rows_ND, pairs_P2)
    assert landmark_N is not None, "one of the two is there"
    if landmark_N.shape != (len(rows_ND),):
        raise ValueError(f"{len(rows_ND)} rows need as many landmarks, not {landmark_N.shape}")
    return _scatter_of_landmarks(rows_ND, mean_D, landmark_N)


def _scatter_of_pairs(rows_ND: np.ndarray, pairs_P2: np.ndarray) -> tuple[np.ndarray, int]:
    shape, num = pairs_P2.shape, len(rows_ND)
    if len(shape) != 2 or shape[1] != 2 or not len(pairs_P2):
        raise ValueError(f"pairs_P2 must be positions of two photos each [P, 2], not {shape}")
    if pairs_P2.dtype.kind not in "iu" or pairs_P2.min() < 0 or pairs_P2.max() >= num:
        raise ValueError(f"pairs_P2 must be whole numbers from 0 to {num - 1}, the rows' positions")
    scatter_DD = np.zeros((rows_ND.shape[1],) * 2)
    for start in range(0, len(pairs_P2), _BLOCK_ROWS):
        one_B, other_B = pairs_P2[start : start + _BLOCK_ROWS].T
        apart = np.asarray(rows_ND[one_B], dtype=np.float64) - np.asarray(rows_ND[other_B], dtype=np.float64)
        scatter_DD += apart.T @ apart
    return scatter_DD / len(pairs_P2), len(pairs_P2)


def _scatter_of_landmarks(
    rows_ND: np.ndarray, mean_D: np.ndarray, landmark_N: np.ndarray
) -> tuple[np.ndarray, int]:
    """Of every photo with each other of its landmark: ``sum_L 2 / (n - 1) (n sum x x' - sum x sum x')``.

    Photos are read landmark by landmark, so that the sums of no more landmarks than a block has are in memory.
    """
    _, label_N, count_L = np.unique(landmark_N, return_inverse=True, return_counts=True)
    matched = np.flatnonzero((landmark_N >= 0) & (count_L[label_N] > 1))
    matched = matched[np.argsort(label_N[matched], kind="stable")]
    scatter_DD = np.zeros((len(mean_D),) * 2)
    label, sum_D = -1, np.zeros(len(mean_D))  # of the landmark that the block before ended in
    for start in range(0, len(matched), _BLOCK_ROWS):
        photos = matched[start : start + _BLOCK_ROWS]
        rows = np.asarray(rows_ND[photos], dtype=np.float64) - mean_D
        count_B = count_L[label_N[photos]]
        scatter_DD += (rows * (2 * count_B / (count_B - 1))[:, None]).T @ rows
        label_S, first_S = np.unique(label_N[photos], return_index=True)
        sum_SD = np.add.reduceat(rows, first_S, axis=0)
        if label_S[0] == label:
            sum_SD[0] += sum_D
        else:
            label_S, sum_SD = np.append(label, label_S), np.vstack([sum_D, sum_SD])
        _take_means_away(scatter_DD, sum_SD[:-1], count_L[label_S[:-1]])
        label, sum_D = label_S[-1], sum_SD[-1]
    if len(matched):
        _take_means_away(scatter_DD, sum_D[None], count_L[[label]])
    return scatter_DD / max(1, len(matched)), len(matched)


def _take_means_away(scatter_DD: np.ndarray, sum_SD: np.ndarray, count_S: np.ndarray) -> None:
    scaled = sum_SD * np.sqrt(2 / np.maximum(count_S - 1, 1))[:, None]
    scatter_DD -= scaled.T @ scaled
