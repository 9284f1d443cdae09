"""The nouns that travel between the rooms: Collection, Descriptors, Ranking, Truth, Report.

Each is a frozen value that checks itself.  None knows how it is stored (``landseer.storage``) or made.

Axes in array names: N photos of a gallery, Q queries, K answers a query, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KINDS = ("landmark", "none", "unknown")
SPLITS = ("train", "validation", "index", "query")
SCORED_SPLITS = ("Public", "Private", "Ignored")
PADDING = -1
"""The position that fills a short row of a Ranking; its score is -inf."""

PHOTO_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("landmark", pa.int64()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("clean", pa.bool_(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("country", pa.string()),
        pa.field("taken", pa.timestamp("ms")),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
    ]
)
"""The columns every photo table has, in this order; whatever else the user brought follows them."""

LANDMARK_SCHEMA = pa.schema(
    [
        pa.field("landmark", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("category", pa.string()),
        pa.field("country", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("source_landmark", pa.int64()),
    ]
)
"""The landmark table.  ``source_landmark`` is the id the source's index used where it numbers apart."""


def _repeated(values: pa.ChunkedArray) -> list[Any]:
    counts = pc.value_counts(values)
    return sorted(counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist())


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A table of photos, one row a photo, and the landmarks they show.  A collection is a value.

    ``photos`` starts with the columns of ``PHOTO_SCHEMA``; ``landmarks`` has those of ``LANDMARK_SCHEMA``.
    ``root`` is where ``path`` starts (``shard.tar::member`` inside a tar); it is a fact of this machine and
    not part of the identity.  ``fingerprint`` is the identity of the content, set when it is stored.
    """

    photos: pa.Table
    landmarks: pa.Table
    root: Path
    truth: Truth | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for table, schema, noun in (
            (self.photos, PHOTO_SCHEMA, "photo"),
            (self.landmarks, LANDMARK_SCHEMA, "landmark"),
        ):
            for column in schema:
                if column.name not in table.column_names:
                    raise ValueError(f"the {noun} table has no column {column.name!r}")
                if table.schema.field(column.name).type != column.type:
                    found = table.schema.field(column.name).type
                    raise ValueError(f"{noun} column {column.name!r} is {found}, not {column.type}")
                if not column.nullable and table[column.name].null_count:
                    raise ValueError(f"{noun} column {column.name!r} has empty cells")
        for column_name, known in (("kind", KINDS), ("split", SPLITS)):
            strange = set(pc.unique(self.photos[column_name]).to_pylist()) - set(known)
            if strange:
                raise ValueError(f"unknown {column_name} {sorted(strange)[0]!r} (known: {', '.join(known)})")
        twice = _repeated(self.photos["id"])
        if twice:
            raise ValueError(f"{len(twice)} ids occur more than once, the first is {twice[0]!r}")
        doubled = _repeated(self.landmarks["landmark"])
        if doubled:
            raise ValueError(f"landmark {doubled[0]} occurs more than once in the landmark table")
        unknown = set(pc.unique(self.photos["landmark"].drop_null()).to_pylist()) - set(
            self.landmarks["landmark"].to_pylist()
        )
        if unknown:
            raise ValueError(f"landmark {min(unknown)} of the photo table is not in the landmark table")

    def __len__(self) -> int:
        return int(self.photos.num_rows)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Photo ids in row order."""
        return tuple(self.photos["id"].to_pylist())

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths relative to ``root``, in row order."""
        return tuple(self.photos["path"].to_pylist())

    @cached_property
    def landmark_N(self) -> np.ndarray:
        """Landmark of each photo, int64 ``[N]``, -1 where there is none."""
        return np.asarray(pc.fill_null(self.photos["landmark"], -1).to_numpy(), dtype=np.int64)

    def select(self, mask: pa.ChunkedArray | np.ndarray) -> Collection:
        """The photos where *mask* (bool ``[N]``) holds, in the same order, with the same landmarks."""
        chosen = pa.array(mask) if isinstance(mask, np.ndarray) else mask
        return replace(self, photos=self.photos.filter(chosen))

    def in_split(self, *splits: str) -> Collection:
        """The photos of these splits, in the same order."""
        strange = [split for split in splits if split not in SPLITS]
        if strange:
            raise ValueError(f"unknown split {strange[0]!r} (known: {', '.join(SPLITS)})")
        return self.select(pc.is_in(self.photos["split"], value_set=pa.array(splits, pa.string())))

    def name_of(self, landmark: int) -> str:
        """The landmark's name, or its number where it has none."""
        return self._names.get(landmark) or f"landmark {landmark}"

    @cached_property
    def _names(self) -> dict[int, str | None]:
        return dict(
            zip(self.landmarks["landmark"].to_pylist(), self.landmarks["name"].to_pylist(), strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is right for each query: relevant and junk photo ids, landmarks, and the split it is scored in.

    A query with no relevant id is not scored in retrieval; one with no landmark is not one in recognition,
    but predictions made for it still count against a recogniser.  Only here may a query have several
    landmarks.  ``recognition_split`` differs from ``split`` only where a source says so.  ``hard`` is empty, or
    the truth is graded: it lists those of each query's relevant ids that are hard, the others are easy.
    """

    query_ids: tuple[str, ...]
    relevant: tuple[tuple[str, ...], ...]
    junk: tuple[tuple[str, ...], ...]
    landmarks: tuple[tuple[int, ...], ...]
    split: tuple[str, ...]
    recognition_split: tuple[str, ...]
    hard: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        num = len(self.query_ids)
        if len(set(self.query_ids)) != num:
            raise ValueError("a query id occurs more than once in the truth")
        for name in ("relevant", "junk", "landmarks", "split", "recognition_split"):
            if len(getattr(self, name)) != num:
                raise ValueError(f"truth has {num} queries but {len(getattr(self, name))} entries of {name}")
        strange = (set(self.split) | set(self.recognition_split)) - set(SCORED_SPLITS)
        if strange:
            raise ValueError(f"unknown split {sorted(strange)[0]!r} (known: {', '.join(SCORED_SPLITS)})")
        for query, good, bad in zip(self.query_ids, self.relevant, self.junk, strict=True):
            if len(set(good)) != len(good):
                raise ValueError(f"a relevant id of query {query!r} occurs more than once")
            if bad and not set(good).isdisjoint(bad):
                raise ValueError(f"query {query!r} has an id that is both relevant and junk")
        if self.hard and len(self.hard) != num:
            raise ValueError(f"truth has {num} queries but {len(self.hard)} entries of hard")
        for query, good, hard in zip(self.query_ids, self.relevant, self.hard, strict=False):
            if not set(hard) <= set(good):
                raise ValueError(f"query {query!r} has a hard id that is not among its relevant ones")

    def __len__(self) -> int:
        return len(self.query_ids)


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """One row a photo.

    ``rows_ND`` is float32, or float16 where so declared; it may be a memory map.  ``fingerprint`` is the
    identity of the content and of all that made it (model, weights, preprocessing, scales, runtime,
    precision, batch).
    """

    ids: tuple[str, ...]
    rows_ND: np.ndarray
    metric: Literal["cosine", "euclidean"] = "cosine"
    normalised: bool = True
    fingerprint: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Photos that could not be read: id -> reason.  They have no row."""

    def __post_init__(self) -> None:
        if self.rows_ND.ndim != 2:
            raise ValueError(f"descriptors must be a table [N, D], not {self.rows_ND.shape}")
        if self.rows_ND.dtype not in (np.float32, np.float16):
            raise ValueError(f"descriptors must be float32 or float16, not {self.rows_ND.dtype}")
        if len(self.ids) != self.rows_ND.shape[0]:
            raise ValueError(f"{len(self.ids)} ids but {self.rows_ND.shape[0]} descriptor rows")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("a photo id occurs more than once among the descriptors")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Number of components of a row."""
        return int(self.rows_ND.shape[1])

    def take(self, ids: Sequence[str]) -> Descriptors:
        """The rows of *ids*, in that order.  Raises ``ValueError`` for an id that has none."""
        missing = next((i for i in ids if i not in self._position), None)
        if missing is not None:
            raise ValueError(f"no descriptor of photo {missing!r}")
        rows = self.rows_ND[np.array([self._position[i] for i in ids], dtype=np.int64)]
        return Descriptors(
            ids=tuple(ids),
            rows_ND=rows,
            metric=self.metric,
            normalised=self.normalised,
            fingerprint=self.fingerprint,
        )

    @cached_property
    def _position(self) -> dict[str, int]:
        return {photo: position for position, photo in enumerate(self.ids)}


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Gallery positions for every query, best first.

    ``positions_QK`` int64 points into ``gallery_ids``; no position occurs twice in a row; a short row ends in
    ``PADDING`` with score -inf.  ``scores_QK`` float32 never increases along a row.
    """

    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]
    positions_QK: np.ndarray
    scores_QK: np.ndarray
    score_kind: str = "cosine"
    gallery_fingerprint: str = ""
    reasons: tuple[Mapping[int, str], ...] = ()
    """Where asked for, one mapping a query: position -> why the photo stands where it does."""

    def __post_init__(self) -> None:
        positions, scores = self.positions_QK, self.scores_QK
        if positions.ndim != 2 or positions.shape != scores.shape:
            raise ValueError(f"positions {positions.shape}, scores {scores.shape} must be one table [Q, K]")
        if positions.dtype != np.int64 or scores.dtype != np.float32:
            raise ValueError(
                f"positions must be int64 and scores float32, not {positions.dtype} and {scores.dtype}"
            )
        if len(self.query_ids) != positions.shape[0]:
            raise ValueError(f"{len(self.query_ids)} query ids but {positions.shape[0]} rows")
        if self.reasons and len(self.reasons) != len(self.query_ids):
            raise ValueError(f"{len(self.query_ids)} query ids but reasons of {len(self.reasons)}")
        if positions.size == 0:
            return
        if positions.max() >= len(self.gallery_ids) or positions.min() < PADDING:
            raise ValueError(f"a position lies outside the gallery of {len(self.gallery_ids)}")
        padded = positions == PADDING
        if np.any(padded[:, :-1] & ~padded[:, 1:]):
            raise ValueError("padding may stand only at the end of a row")
        if np.any(scores[padded] != -np.inf) or np.any(np.isnan(scores)):
            raise ValueError("padding must score -inf, and no score may be NaN")
        if np.any(scores[:, 1:] > scores[:, :-1]):
            raise ValueError("scores must not increase along a row; sort before building a Ranking")
        ordered = np.sort(positions, axis=1)
        if np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)):
            raise ValueError("a gallery position occurs twice in a row")

    def __len__(self) -> int:
        return len(self.query_ids)

    def answers(self, row: int) -> list[tuple[str, float]]:
        """(gallery id, score) of query number *row*, best first, without padding."""
        return [
            (self.gallery_ids[position], float(score))
            for position, score in zip(self.positions_QK[row], self.scores_QK[row], strict=True)
            if position != PADDING
        ]


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measured figure: what, on what, how sure.  ``low`` and ``high`` bound the 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    num_queries: int
    group: str
    """Which queries: ``Private``, ``Public``, ``Private and Public``, ``landmarks not trained on`` ..."""

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high and self.num_queries:
            raise ValueError(f"{self.name}: {self.value} lies outside its interval [{self.low}, {self.high}]")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Numbers with intervals, the protocol they were measured under, the fingerprints of what made them."""

    title: str
    numbers: tuple[Number, ...]
    protocol: Mapping[str, str]
    made_by: Mapping[str, str]

    def value(self, name: str, group: str) -> float:
        """The figure called *name* on the queries *group*; ``ValueError`` where it was not measured."""
        for number in self.numbers:
            if (number.name, number.group) == (name, group):
                return number.value
        raise ValueError(f"the report has no {name!r} on {group!r}")


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Which landmark each query shows, and how sure: int64 ``[Q]`` (-1: none I know) and float32 ``[Q]``."""

    query_ids: tuple[str, ...]
    landmark_Q: np.ndarray
    confidence_Q: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.query_ids),)
        if self.landmark_Q.shape != shape or self.confidence_Q.shape != shape:
            raise ValueError(
                f"{shape[0]} queries need one landmark and one confidence each, "
                f"not {self.landmark_Q.shape} and {self.confidence_Q.shape}"
            )
        if self.landmark_Q.dtype != np.int64 or self.confidence_Q.dtype != np.float32:
            raise ValueError("landmarks must be int64 and confidences float32")
        if np.any(np.isnan(self.confidence_Q)):
            raise ValueError("no confidence may be NaN")
