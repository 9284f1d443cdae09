"""What the catalogue says of an index as a whole, and the checksums that hold it together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from landseer.search.living.filters import Kind
from landseer.search.living.segments import SegmentFacts

FIXED: Mapping[str, Kind] = {
    "id": "text",
    "path": "text",
    "landmark": "number",
    "kind": "text",
    "country": "text",
    "taken": "time",
    "latitude": "number",
    "longitude": "number",
}
"""The columns every photo has; the user's own lie in one JSON object beside them."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What made the rows, and how they are compared and stored."""

    model: str
    dim: int
    metric: str = "cosine"
    normalised: bool = True
    dtype: str = "float32"
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("an index needs the fingerprint of the model that makes its descriptors")
        if self.dim < 1:
            raise ValueError(f"descriptors have at least 1 component, not {self.dim}")
        if self.metric not in ("cosine", "euclidean"):
            raise ValueError(f"unknown metric {self.metric!r} (known: cosine, euclidean)")
        if self.metric == "euclidean" and not self.normalised:
            raise ValueError("search ranks by dot product, which is Euclidean order for unit rows only")
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"unknown dtype {self.dtype!r} (known: float32, float16)")


@dataclass(frozen=True, kw_only=True)
class State:
    """The few facts that change with every step."""

    generation: int = 0
    next_row: int = 0
    next_segment: int = 0
    num_photos: int = 0
    epoch: int = 0
    model: ModelFacts
    rebuild: ModelFacts | None = None
    num_removed: int = 0
    removed_hash: int = 0
    columns: tuple[str, ...] = ()
    """The user's own columns."""


@dataclass(frozen=True)
class Snapshot:
    """One committed state of the index."""

    state: State
    segments: tuple[SegmentFacts, ...]
    """Of all epochs, by number."""
    removed_R: np.ndarray
    """Row numbers of removed photos, ascending."""


def text_of(state: State) -> str:
    """The state as the catalogue keeps it."""
    return json.dumps(asdict(state), sort_keys=True)


def state_of(text: str) -> State:
    """The state that ``text_of`` wrote down."""
    facts = json.loads(text)
    rebuild = facts.pop("rebuild")
    return State(
        **{
            **facts,
            "model": ModelFacts(**facts["model"]),
            "rebuild": rebuild and ModelFacts(**rebuild),
            "columns": tuple(facts["columns"]),
        }
    )


def seal_of(state: str, listed: Sequence[tuple[Any, ...]]) -> str:
    """Checksum of the state's text and the list of segments."""
    return hashlib.sha256(repr((state, listed)).encode()).hexdigest()


def hash_of_rows(row_M: np.ndarray) -> int:
    """A hash of a set of row numbers, whatever their order: the xor of a mix of each (splitmix64)."""
    mixed = row_M.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.bitwise_xor.reduce(mixed ^ (mixed >> np.uint64(31)))) if len(mixed) else 0
