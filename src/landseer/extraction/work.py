"""The work folder of an unfinished extraction: finished blocks of rows, each whole and checked, or absent.

``.NAME.work`` stands beside the artifact to be.  It holds ``plan.json`` and one file for every finished
block: the sha256 of the rest, a line of JSON, the rows.  A file is written under another name, synced and
renamed, so a process killed at any moment leaves whole blocks only; a block damaged later fails its sha256
and is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from landseer.extraction.plan import Plan, difference
from landseer.storage import load_descriptors, open_artifact
from landseer.storage.artifact import fingerprint_of
from landseer.types import Descriptors

PLAN = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of consecutive photos, and the photos among them that could not be read (id -> reason)."""

    rows_BD: np.ndarray
    unreadable: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """An unfinished extraction on disk; block number *i* covers photos ``[i, i + 1) * block_photos``."""

    path: Path
    block_photos: int
    plan: str
    """Identity of plan and block size.  Every block names it, so one left by another plan is no block."""

    def write(self, number: int, block: Block) -> None:
        """Keep a block; once this returns it survives a kill."""
        facts = {
            "plan": self.plan,
            "shape": block.rows_BD.shape,
            "dtype": block.rows_BD.dtype.name,
            "unreadable": dict(block.unreadable),
        }
        body = json.dumps(facts).encode() + b"\n" + block.rows_BD.tobytes()
        _write_atomically(self._file(number), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def read(self, number: int) -> Block | None:
        """A block as it was written; ``None`` where it is absent, damaged or of another plan."""
        try:
            content = self._file(number).read_bytes()
        except FileNotFoundError:
            return None
        digest, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        header, _, rows = body.partition(b"\n")
        facts = json.loads(header)
        if facts["plan"] != self.plan:
            return None
        return Block(
            rows_BD=np.frombuffer(rows, dtype=facts["dtype"]).reshape(facts["shape"]),
            unreadable=facts["unreadable"],
        )

    def remove(self) -> None:
        """Delete the folder and all blocks in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:08d}.block"


def work_path(out: Path) -> Path:
    """Where the unfinished extraction of *out* lies."""
    return out.parent / f".{out.name}.work"


@contextmanager
def opened(out: Path, plan: Plan, *, block_photos: int) -> Iterator[WorkFolder]:
    """The work folder of *out*, new or continued, held by this process alone.

    A continued folder keeps the block size it was begun with.  Raises ``ValueError`` where it was begun with
    another plan, or where another process holds it.
    """
    path = work_path(out)
    with held(path, out):
        kept = _block_photos(path, plan, block_photos)
        yield WorkFolder(path=path, block_photos=kept, plan=fingerprint_of(asdict(plan), kept))


@contextmanager
def held(path: Path, out: Path) -> Iterator[None]:
    """The folder *path*, made where it is absent, for this process alone.

    Raises ``ValueError`` where another process holds it: it is making *out*.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY)  # a lock on it ends with the process, however that ends
    try:
        _lock(handle, path, out)
        yield
    finally:
        os.close(handle)


def existing(out: Path, plan: Plan) -> Descriptors:
    """The descriptors that are there already; ``ValueError`` where they are of another plan."""
    theirs = open_artifact(out, "descriptors").made_by.get("settings", {})
    other = difference(theirs, plan.settings)
    if other:
        raise ValueError(f"{out} holds descriptors of other settings ({other}); choose another --out")
    found = load_descriptors(out, mmap=True)
    shutil.rmtree(work_path(out), ignore_errors=True)  # there if a kill fell between the two last steps
    return found


def _lock(handle: int, path: Path, out: Path) -> None:
    busy = ValueError(f"another process is extracting to {out}; wait for it or choose another --out")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    if not path.exists():  # the other one finished, and removed the folder, between our two calls
        raise busy


def _block_photos(path: Path, plan: Plan, block_photos: int) -> int:
    file = path / PLAN
    begun = {**asdict(plan), "block_photos": block_photos}
    if not file.exists() or not any(path.glob("*.block")):  # nothing is lost by beginning anew
        _write_atomically(file, (json.dumps(begun, indent=2, sort_keys=True) + "\n").encode())
        return block_photos
    try:
        found = json.loads(file.read_text())
        theirs, kept = {**found["settings"], **found["machine"]}, int(found["block_photos"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); remove {path} to start anew") from None
    other = difference(theirs, {**plan.settings, **plan.machine})
    if other:
        raise ValueError(
            f"{path} holds an unfinished extraction that cannot be continued here ({other}); "
            "choose another --out, or remove that folder to start anew"
        )
    return kept


def _write_atomically(file: Path, content: bytes) -> None:
    part = file.with_name(f".{file.name}.part")  # one writer holds the folder, so one such name is enough
    with part.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    part.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
