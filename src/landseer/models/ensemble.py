"""Ensembles: several embedders whose weighted unit rows stand side by side as one descriptor.

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
from landseer.recipe import DescriptorOptions
from landseer.storage import open_artifact, read_json, verify, writing
from landseer.storage.artifact import fingerprint_of

_BLOCK_ROWS = 16384


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
    ``sqrt(sum of squared weights)`` (the 2020 winners).  Either way two photos are ranked alike.
    """

    members: tuple[Member, ...]
    unit: bool = True

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("an ensemble needs at least one member")
        names = [member.name for member in self.members]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two members of the ensemble are called {twice}; give each a name of its own")

    @property
    def dim(self) -> int:
        """Components of a descriptor: those of all members."""
        return sum(member.embedder.dim for member in self.members)

    @property
    def fingerprint(self) -> str:
        """Identity of what the ensemble computes; the members' names are no part of it, their order is."""
        members = [
            (float(member.weight), member.embedder.fingerprint, asdict(member.descriptors))
            for member in self.members
        ]
        return fingerprint_of("ensemble", self.unit, members)


def save_ensemble(ensemble: Ensemble, path: Path, *, made_by: Mapping[str, object]) -> None:
    """Write an ensemble folder: a model folder for each member at ``members/NAME``, and ``ensemble.json``."""
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


def load_ensemble(path: Path) -> Ensemble:
    """The ensemble of a folder that ``save_ensemble`` wrote, every file checked."""
    verify(path, open_artifact(path, "ensemble"))
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
    return Ensemble(members=members, unit=facts["unit"])


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


def _unit(rows_ND: np.ndarray) -> np.ndarray:
    precise = np.asarray(rows_ND, dtype=np.float64)
    lengths = np.linalg.norm(precise, axis=1, keepdims=True)
    return precise / np.where(lengths > 0, lengths, 1.0)
