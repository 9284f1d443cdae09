"""Ensembles: embedders whose weighted unit rows stand side by side as one descriptor, whitened or not.

Axes: N photos, D descriptor components of a member or of the whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from landseer.models.embedder import Embedder, load_embedder, preset_of, save_embedder
from landseer.models.whitened import Whitening, load_whitening, save_whitening
from landseer.recipe import DescriptorOptions
from landseer.storage import (
    load_descriptors,
    open_artifact,
    read_json,
    verify,
    writing,
    writing_descriptors,
)
from landseer.storage.artifact import MANIFEST, fingerprint_of
from landseer.types import Descriptors

_BLOCK_ROWS = 16384
_WHITENING = "whitening"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One embedder of an ensemble: how much it weighs and how it wants to see photos."""

    name: str
    """Of its folder: letters, digits, ``.``, ``_`` and ``-``."""
    weight: float
    embedder: Embedder
    descriptors: DescriptorOptions

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(
                f"an ensemble's member cannot be called {self.name!r}, which names a folder, too; "
                "use letters, digits, '.', '_' and '-', and no '.' or '-' first"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"the weight of member {self.name} must be above 0, not {self.weight}")


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members whose weighted unit rows are concatenated, in this order.

    With ``unit`` the concatenated rows are made unit again (the 2019 winners); without, they all have the length
    ``sqrt(sum of squared weights)`` (the 2020 winners).  Either way two photos are ranked alike.  A ``whitening``
    is applied to the concatenated unit rows; a single model that is whitened is an ensemble of one.
    """

    members: tuple[Member, ...]
    unit: bool = True
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("an ensemble needs at least one member")
        names = [member.name for member in self.members]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two members of the ensemble are called {twice}; give each a name of its own")
        joined = sum(member.embedder.dim for member in self.members)
        if self.whitening is not None and not self.unit:
            raise ValueError("whitened rows are unit rows; leave unit as it is where there is a whitening")
        if self.whitening is not None and len(self.whitening.mean_D) != joined:
            raise ValueError(
                f"the whitening is of rows with {len(self.whitening.mean_D)} components, but those of the members "
                f"have {joined} together; fit one on their descriptors"
            )

    @property
    def dim(self) -> int:
        """Components of a descriptor: those of all members, or those that the whitening leaves."""
        if self.whitening is not None:
            return self.whitening.dim
        return sum(member.embedder.dim for member in self.members)

    def join(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The ensemble's rows, float32 ``[N, dim]``, from its members' ``rows``, each ``[N, D]``."""
        weights = [member.weight for member in self.members]
        joined = concatenate_rows(rows, weights, unit=self.unit)
        return joined if self.whitening is None else self.whitening.rows(joined)

    @property
    def fingerprint(self) -> str:
        """Identity of what the ensemble computes; the members' names are no part of it, their order is."""
        members = [
            (float(member.weight), member.embedder.fingerprint, asdict(member.descriptors))
            for member in self.members
        ]
        whitened = () if self.whitening is None else (self.whitening.fingerprint,)
        return fingerprint_of("ensemble", self.unit, members, *whitened)


def save_ensemble(ensemble: Ensemble, path: Path, *, made_by: Mapping[str, object]) -> None:
    """Write an ensemble folder: a model folder for each member at ``members/NAME``, and ``ensemble.json``.

    Where there is a whitening, it is the artifact ``whitening`` in it.
    """
    with writing(path, "ensemble", made_by={**made_by, "ensemble": ensemble.fingerprint}) as part:
        for member in ensemble.members:
            save_embedder(
                member.embedder,
                part / "members" / member.name,
                made_by=made_by,
                descriptors=member.descriptors,
            )
        members = [{"name": member.name, "weight": float(member.weight)} for member in ensemble.members]
        facts = {"members": members, "unit": ensemble.unit}
        (part / "ensemble.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        if ensemble.whitening is not None:
            save_whitening(ensemble.whitening, part / _WHITENING, made_by=made_by)


def load_ensemble(path: Path) -> Ensemble:
    """The ensemble of a folder that ``save_ensemble`` wrote, every file checked."""
    manifest = open_artifact(path, "ensemble")
    verify(path, manifest)
    facts = read_json(path / "ensemble.json")
    members = tuple(
        Member(
            name=found["name"],
            weight=found["weight"],
            embedder=load_embedder(path / "members" / found["name"]),
            descriptors=preset_of(path / "members" / found["name"]),
        )
        for found in facts["members"]
    )
    whitened = f"{_WHITENING}/{MANIFEST}" in manifest.files
    whitening = load_whitening(path / _WHITENING) if whitened else None
    return Ensemble(members=members, unit=facts["unit"], whitening=whitening)


def concatenate_rows(rows: Sequence[np.ndarray], weights: Sequence[float], *, unit: bool) -> np.ndarray:
    """The rows of an ensemble, float32 ``[N, sum of D]``, from its members' ``rows``, each ``[N, D]``.

    Each member's rows are made unit, multiplied by its weight and concatenated; with *unit* the result is made
    unit again.  The cosine of two photos is then the mean of the members' cosines weighted by the squares of
    *weights*.  A row of zeros, which has no direction, stays one.  Computed in float64 and rounded once.
    Raises ``ValueError`` where members differ in photos or in number from the weights.
    """
    if not rows or len(rows) != len(weights):
        raise ValueError(
            f"an ensemble needs a weight for each part: {len(rows)} parts, {len(weights)} weights"
        )
    shapes = [part.shape for part in rows]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"the parts of an ensemble must be rows of the same photos, not {shapes}")
    joined = np.empty((shapes[0][0], sum(shape[1] for shape in shapes)), dtype=np.float32)
    # in blocks, so that float64 copies of a large table are never whole in memory
    for start in range(0, len(joined), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        parts = [weight * _unit(part[block]) for part, weight in zip(rows, weights, strict=True)]
        whole = np.concatenate(parts, axis=1)
        joined[block] = _unit(whole) if unit else whole
    return joined


def join_descriptors(
    parts: Sequence[Descriptors],
    weights: Sequence[float],
    *,
    unit: bool = True,
    ids: Sequence[str] | None = None,
    out: Path | None = None,
) -> Descriptors:
    """Descriptors of several models as those of one: what ``concatenate_rows`` makes of their rows, float32.

    The photos are those of all parts, which then must have the same ids in the same order, or *ids*, which every
    part must have.  With *out* the rows are written to that descriptors folder a few at a time and come back as a
    memory map.  Raises ``ValueError`` where photos, weights and parts do not fit together.
    """
    if not parts or len(parts) != len(weights):
        raise ValueError(f"each model needs a weight: {len(parts)} models, {len(weights)} weights")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"weights must be above 0, not {list(weights)}")
    if ids is None and any(part.ids != parts[0].ids for part in parts):
        raise ValueError(
            "the models describe other photos, or in another order; extract the same collection, or say which ids"
        )
    chosen = parts[0].ids if ids is None else tuple(ids)
    row_N_of = [_rows_of(chosen, part) for part in parts]
    blocks = (
        concatenate_rows(
            [
                part.rows_ND[row_N[start : start + _BLOCK_ROWS]]
                for part, row_N in zip(parts, row_N_of, strict=True)
            ],
            weights,
            unit=unit,
        )
        for start in range(0, len(chosen), _BLOCK_ROWS)
    )
    dim, unreadable = sum(part.dim for part in parts), _unreadable(parts, chosen)
    identity = _identity_of_joined(parts, weights, unit, ids)
    if out is None:
        rows_ND = np.empty((len(chosen), dim), np.float32)
        for number, block in enumerate(blocks):
            rows_ND[number * _BLOCK_ROWS :][: len(block)] = block
        return Descriptors(
            ids=chosen, rows_ND=rows_ND, normalised=unit, fingerprint=identity, unreadable=unreadable
        )
    with writing_descriptors(
        out,
        ids=chosen,
        dim=dim,
        dtype=np.dtype(np.float32),
        made_by={"weights": [float(weight) for weight in weights], "unit": unit},
        parents={f"part {number}": part.fingerprint for number, part in enumerate(parts)},
        fingerprint=identity or None,
        unreadable=unreadable,
        normalised=unit,
    ) as append:
        for block in blocks:
            append(block)
    return load_descriptors(out, mmap=True, check=False)


def _rows_of(ids: Sequence[str], part: Descriptors) -> np.ndarray:
    if ids is part.ids or tuple(ids) == part.ids:
        return np.arange(len(part))
    row_of = {photo: row for row, photo in enumerate(part.ids)}
    missing = next((photo for photo in ids if photo not in row_of), None)
    if missing is not None:
        raise ValueError(f"no descriptor of photo {missing!r} among those of every model")
    return np.array([row_of[photo] for photo in ids], dtype=np.int64)


def _unreadable(parts: Sequence[Descriptors], ids: Sequence[str]) -> dict[str, str]:
    """Id -> reason of what any part could not read and no row is of; the first part's reason stands."""
    there = set(ids)
    found: dict[str, str] = {}
    for part in reversed(parts):
        found.update((photo, why) for photo, why in part.unreadable.items() if photo not in there)
    return found


def _identity_of_joined(
    parts: Sequence[Descriptors], weights: Sequence[float], unit: bool, ids: Sequence[str] | None
) -> str:
    """Empty where a part has none: what is not known must not look like something else that is not known."""
    fingerprints = [part.fingerprint for part in parts]
    if not all(fingerprints):
        return ""
    chosen = () if ids is None else (fingerprint_of(*ids),)
    return fingerprint_of("joined", unit, [float(weight) for weight in weights], fingerprints, *chosen)


def _unit(rows_ND: np.ndarray) -> np.ndarray:
    precise = np.asarray(rows_ND, dtype=np.float64)
    lengths = np.linalg.norm(precise, axis=1, keepdims=True)
    return precise / np.where(lengths > 0, lengths, 1.0)
