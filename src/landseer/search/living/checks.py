"""Reading a whole index to name what is broken in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landseer.search.living.catalogue import FILE, Catalogue
from landseer.search.living.segments import FOLDER, Segment, SegmentFacts
from landseer.search.living.state import Snapshot
from landseer.storage import Manifest, open_artifact

KIND = "index"
FORMAT = 1


@dataclass(frozen=True)
class Problem:
    """Something broken: where, what, and which photos it concerns."""

    file: str
    what: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.ids:
            return f"{self.file}: {self.what}"
        more = f" and {len(self.ids) - 3} more" if len(self.ids) > 3 else ""
        return f"{self.file}: {self.what} (photos {', '.join(self.ids[:3])}{more})"


def open_manifest(path: Path) -> Manifest:
    """The manifest of an index; ``ValueError`` where there is none, or of a format this version cannot read."""
    manifest = open_artifact(path, KIND)
    if manifest.made_by.get("format") != FORMAT:
        found = manifest.made_by.get("format")
        raise ValueError(f"{path} is an index of format {found}, this version reads {FORMAT}; build it anew")
    return manifest


def problems_of(path: Path) -> list[Problem]:
    """All that is broken in the index at *path*; nothing is changed."""
    try:
        open_manifest(path)
        catalogue = Catalogue(path, write=False)
    except ValueError as error:
        return [Problem(str(path), str(error))]
    problems = []
    try:
        problems += [Problem(str(path / FILE), what) for what in catalogue.problems()]
        snapshot = catalogue.snapshot()
        problems += _rows(path, snapshot)
        for facts in snapshot.segments:
            # a segment that a compaction took away meanwhile is no loss
            problems += [
                problem
                for problem in _segment(path, facts)
                if Path(problem.file).exists() or facts in catalogue.snapshot().segments
            ]
    except ValueError as error:
        problems.append(Problem(str(path / FILE), str(error)))
    finally:
        catalogue.close()
    return problems


def _segment(path: Path, facts: SegmentFacts) -> Iterator[Problem]:
    try:
        segment = Segment(path / FOLDER, facts)
    except FileNotFoundError:
        yield Problem(
            str(path / FOLDER / facts.name), f"is missing, and with it {facts.num_rows} descriptors"
        )
        return
    except ValueError as error:
        yield Problem(str(path / FOLDER / facts.name), str(error).partition("; ")[0])
        return
    ids = segment.ids()
    for block in segment.damaged_blocks():
        yield Problem(str(segment.path), f"block {block} changed", tuple(ids[segment.places_in(block)]))


def _rows(path: Path, snapshot: Snapshot) -> Iterator[Problem]:
    """Every live photo has one descriptor of the current model."""
    state = snapshot.state
    rows = [np.empty(0, np.int64)]
    for facts in snapshot.segments:
        if facts.epoch == state.epoch:
            with suppress(ValueError, FileNotFoundError):  # told elsewhere
                rows.append(Segment(path / FOLDER, facts).row_N)
    row_N = np.concatenate(rows)
    num_listed = sum(facts.num_rows for facts in snapshot.segments if facts.epoch == state.epoch)
    num_live = int((~np.isin(row_N, snapshot.removed_R)).sum())
    if len(row_N) == num_listed and (num_live != state.num_photos or len(np.unique(row_N)) != len(row_N)):
        yield Problem(str(path / FILE), f"{state.num_photos} photos but {num_live} descriptors")
