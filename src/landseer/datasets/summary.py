"""What an import found: how much, of what, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.types import SCORED_SPLITS, SPLITS, Collection

NUM_EXAMPLES = 5
"""How many cases of each problem a summary spells out."""

Progress = Callable[[str, int, int | None], None]
"""Called now and then with what is being done, how much is done, and how much there is (None: not known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One kind of defect: what, how often, what became of it, and the first cases."""

    what: str
    count: int
    outcome: str
    examples: tuple[str, ...]
    refused: int = 0
    """How many rows were left out because of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What an import took in and what it did not."""

    source: str
    photos: int
    splits: Mapping[str, int]
    labelled: int
    train_labelled: int
    train_clean: int
    train_landmarks: int
    clean_landmarks: int
    """Landmarks with a clean training photo."""
    landmarks: int
    landmarks_without_name: int
    countries: int
    queries_with_answers: Mapping[str, int]
    """Scored split -> queries that have a relevant photo; empty without a truth."""
    files_checked: bool
    missing_files: int
    duplicate_ids: int
    rows_refused: int
    problems: tuple[Problem, ...]
    ignored_columns: Mapping[str, tuple[str, ...]]
    """File -> columns that were not taken over."""
    notes: tuple[str, ...]
    """What the importer decided by itself."""

    @property
    def clean_share(self) -> float:
        """Clean photos among the labelled training photos, 0 to 1."""
        return self.train_clean / self.train_labelled if self.train_labelled else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {**asdict(self), "clean_share": self.clean_share}


@dataclass
class Findings:
    """Collects problems while an import runs."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignored_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing_files: int = 0
    duplicate_ids: int = 0

    def add(
        self, what: str, outcome: str, *, count: int, examples: Iterable[str], refused: bool = False
    ) -> None:
        """Note *count* cases of *what*; nothing is noted where there are none."""
        if count:
            first = tuple(text for text, _ in zip(examples, range(NUM_EXAMPLES), strict=False))
            self.problems.append(
                Problem(
                    what=what, count=count, outcome=outcome, examples=first, refused=count if refused else 0
                )
            )

    def mark(
        self,
        what: str,
        outcome: str,
        wrong_N: np.ndarray,
        describe: Callable[[int], str],
        *,
        refused: bool = False,
    ) -> None:
        """Note the rows where *wrong_N* (bool ``[N]``) holds; *describe* words one of them."""
        rows = np.flatnonzero(wrong_N)
        self.add(
            what, outcome, count=len(rows), examples=(describe(int(row)) for row in rows), refused=refused
        )

    def summarise(self, collection: Collection, *, source: str, files_checked: bool) -> Summary:
        """The summary of a finished import."""
        photos, landmarks = collection.photos, collection.landmarks
        train = photos.filter(pc.and_(pc.equal(photos["split"], "train"), photos["landmark"].is_valid()))
        clean = train.filter(train["clean"])
        truth = collection.truth
        answered: Sequence[str] = (
            []
            if truth is None
            else [split for split, good in zip(truth.split, truth.relevant, strict=True) if good]
        )
        return Summary(
            source=source,
            photos=len(collection),
            splits={split: _count(photos["split"], split) for split in SPLITS},
            labelled=photos.num_rows - photos["landmark"].null_count,
            train_labelled=train.num_rows,
            train_clean=clean.num_rows,
            train_landmarks=len(pc.unique(train["landmark"])),
            clean_landmarks=len(pc.unique(clean["landmark"])),
            landmarks=landmarks.num_rows,
            landmarks_without_name=landmarks["name"].null_count,
            countries=len(pc.unique(photos["country"].drop_null())),
            queries_with_answers={}
            if truth is None
            else {split: answered.count(split) for split in SCORED_SPLITS},
            files_checked=files_checked,
            missing_files=self.missing_files,
            duplicate_ids=self.duplicate_ids,
            rows_refused=sum(problem.refused for problem in self.problems),
            problems=tuple(self.problems),
            ignored_columns=dict(self.ignored_columns),
            notes=tuple(self.notes),
        )


def _count(column: pa.ChunkedArray, value: str) -> int:
    return int(pc.sum(pc.equal(column, value)).as_py() or 0)
