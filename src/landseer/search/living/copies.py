"""A copy of a living index, of one committed state, while another process may write to it.

The catalogue is copied by SQLite's backup.  Segments never change, so within a file system they are linked:
what either index deletes is a name, and the bytes stay for the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from landseer.search.living.catalogue import FILE, GENERATION, Catalogue
from landseer.search.living.segments import FOLDER, Segment
from landseer.search.living.state import Snapshot
from landseer.search.living.structure import FOLDER as STRUCTURE
from landseer.search.living.writer import LOCK
from landseer.storage.artifact import MANIFEST

Progress = Callable[[str, int, int | None], None]

_ATTEMPTS = 20
_OWN = (MANIFEST, FILE, f"{FILE}-wal", f"{FILE}-shm", GENERATION, LOCK, FOLDER, STRUCTURE)
"""What an index is made of; all else in its folder somebody else put there.  A structure is of one index only."""


def copy_into(folder: Path, catalogue: Catalogue, target: Path, *, progress: Progress | None = None) -> None:
    """Put what is committed at *folder*, whose *catalogue* is open, into *target*: an index without a catalogue.

    Other files of the folder are copied, hidden ones left out.  Raises ``ValueError`` where the index is
    damaged, as far as it is read, and where it changes too fast.
    """
    missing = -1
    for _ in range(_ATTEMPTS):
        copied = catalogue.copy_to(target)
        try:
            # all are opened before any is copied: what is open stays readable when a compaction deletes it
            segments = [Segment(folder / FOLDER, facts) for facts in copied.segments]
        except FileNotFoundError as error:
            # compacted away since the catalogue was copied, unless the catalogue goes on naming it
            if copied.state.generation == missing:
                raise ValueError(f"{error.filename} is missing; restore it or build the index anew") from None
            missing = copied.state.generation
            continue
        for number, segment in enumerate(segments):
            if progress is not None:
                progress("copying segments", number, len(segments))
            _link(segment, target / FOLDER)
        for name in _others(folder):
            _copy(folder / name, target / name)
        if _same_models(copied, catalogue.snapshot()):
            return
        _empty(target)
    raise ValueError(f"{folder} changes faster than it can be copied; try again")


def _link(segment: Segment, folder: Path) -> None:
    try:
        os.link(segment.path, folder / segment.path.name)
    except OSError:  # on another file system, on one without links, or compacted away by now
        segment.copy_to(folder)


def _others(folder: Path) -> Iterator[Path]:
    """Files that are no part of the index, a model say, relative to *folder*; those under a hidden name are not."""
    for entry in folder.iterdir():
        for file in (entry, *entry.rglob("*")) if entry.name not in _OWN else ():
            name = file.relative_to(folder)
            if file.is_file() and not any(part.startswith(".") for part in name.parts):
                yield name


def _copy(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # whoever put it there took it away
        shutil.copyfile(file, copy)


def _same_models(one: Snapshot, other: Snapshot) -> bool:
    """Where a rebuild began or ended in between, the models copied may be those of another state."""
    return (one.state.epoch, one.state.rebuild) == (other.state.epoch, other.state.rebuild)


def _empty(target: Path) -> None:
    for entry in target.iterdir():
        if entry.name == FOLDER:
            for file in entry.iterdir():
                file.unlink()
        elif entry.name != MANIFEST:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
