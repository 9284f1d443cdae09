"""One artifact: a folder with a manifest, whole or absent.

``writing`` gives a hidden folder beside the target, hashes what was put there, writes ``manifest.json`` last
and renames.  A process killed at any point leaves either the finished folder or only the hidden one, which
the next ``writing`` of the same target clears away.  A writer holds a lock on its hidden folder, which the
system drops with the process, so nobody clears away the folder of a writer that lives.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.json"
_SEAL = "manifest_sha256"
"""The manifest's own checksum: a key of ``manifest.json`` beside the fields of ``Manifest``."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what made it, and what its files must hash to."""

    kind: str
    fingerprint: str
    """Identity of content and making: equal settings on equal input give an equal string."""
    made_by: Mapping[str, Any]
    parents: Mapping[str, str]
    """Role -> fingerprint of each artifact this one was made from."""
    program: str
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Relative path -> ``{"bytes": int, "sha256": str}``."""


def program_version() -> str:
    """``landseer`` and its version, as manifests record it."""
    try:
        return f"landseer {version('landseer')}"
    except PackageNotFoundError:
        return "landseer (not installed)"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(*parts: Any) -> str:
    """Sixteen hex digits that identify JSON-able *parts*: equal parts, equal string."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remove_leftovers(path: Path) -> None:
    """Delete the hidden folders that killed writers of *path* left beside it; a living writer's stays."""
    prefix = _part_prefix(path)
    beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
    for left in beside:
        if not left.name.startswith(prefix) or left.is_symlink() or not left.is_dir():
            continue
        try:
            handle = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        if _lock(handle) == "ours":  # else its writer lives, or the file system has no locks: nobody can tell
            shutil.rmtree(left, ignore_errors=True)
        os.close(handle)


@contextmanager
def writing(
    path: Path,
    kind: str,
    *,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
    machine_facts: tuple[str, ...] = (),
    replace: bool = False,
) -> Iterator[Path]:
    """Give an empty folder to fill; on success it becomes *path*, on any failure nothing appears.

    *fingerprint* defaults to one over kind, *made_by*, *parents* and the hashes of the files, without those
    of *machine_facts* (files that say where things lie on this machine and so are no part of the identity).
    Of two writers of one *path* the first to finish wins; the other gets a ``ValueError``.  With *replace*
    an artifact that lies there gives way by two renames: a reader sees the old one, for an instant none, then
    the new; a process killed in that instant leaves none.

    Raises ``ValueError`` where *path* exists already and *replace* is not set, where *path* is no artifact
    that could be replaced, where the folder cannot be written, and where the disk is full.
    """
    part, handle = _prepare(path, replace=replace)
    try:
        try:
            yield part
            files = {
                file.relative_to(part).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
                for file in sorted(part.rglob("*"))
                if file.is_file()
            }
            assert MANIFEST not in files, f"{MANIFEST} is written by storage alone"
            parents = dict(parents or {})
            hashes = {name: facts["sha256"] for name, facts in files.items() if name not in machine_facts}
            manifest = Manifest(
                kind=kind,
                fingerprint=fingerprint or fingerprint_of(kind, made_by, parents, hashes),
                made_by=dict(made_by),
                parents=parents,
                program=program_version(),
                files=files,
            )
            _write_manifest(part / MANIFEST, manifest)
            _sync(part)
        except OSError as error:
            # numpy reports a full disk without an error number
            if error.errno in _FULL or "requested and" in str(error):
                raise ValueError(f"no room for {path} ({error}); free some or choose another --out") from None
            raise
        _appear(part, path, replace=replace)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.close(handle)


def _part_prefix(path: Path) -> str:
    return f".{path.name[:40]}.part-"  # cut, so that a name as long as a file system takes still works


def _prepare(path: Path, *, replace: bool) -> tuple[Path, int]:
    """Check the target, clear dead writers' folders and make a locked, hidden one of our own."""
    try:
        _check_target(path, replace=replace)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        while True:
            part = path.parent / f"{_part_prefix(path)}{os.getpid()}-{secrets.token_hex(4)}"
            part.mkdir()
            handle = os.open(part, os.O_RDONLY)
            if _lock(handle) != "another's" and part.is_dir():
                return part, handle
            os.close(handle)  # between mkdir and lock another writer took it for a leftover
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another --out") from None


def _lock(handle: int) -> Literal["ours", "another's", "none here"]:
    """Lock an open folder until *handle* is closed, by us or by our end."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another's"
    except OSError:  # a network file system that cannot lock folders
        return "none here"
    return "ours"


def _check_target(path: Path, *, replace: bool) -> None:
    if not path.exists():
        return
    if not replace:
        raise ValueError(f"{path} exists already; remove it or choose another --out")
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path} is no landseer artifact and is not replaced; choose another --out")


def _appear(part: Path, path: Path, *, replace: bool) -> None:
    """Rename *part* to *path*, the one moment at which the artifact comes into being."""
    try:
        _check_target(path, replace=replace)
        if path.exists():
            old = part.with_name(f"{part.name}-old")
            path.rename(old)
            try:
                part.rename(path)
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); another process may have written it meanwhile"
        ) from None


def _write_manifest(file: Path, manifest: Manifest) -> None:
    fields = json.loads(json.dumps(asdict(manifest)))  # as a reader will find them
    sealed = {**fields, _SEAL: _seal_of(fields)}
    file.write_text(json.dumps(sealed, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _seal_of(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync(folder: Path) -> None:
    for entry in folder.rglob("*"):
        _sync_folder(entry)  # a file's handle is opened and synced alike
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_artifact(path: Path, kind: str, *, made_by: str | None = None) -> Manifest:
    """Read and check the manifest of *path*: its kind, its files' presence and sizes.

    *made_by* is the fingerprint the caller needs; an artifact of another is refused, never reused.
    Raises ``ValueError`` with what is wrong and what to do.
    """
    manifest = _read_manifest(path, kind)
    if manifest.kind != kind:
        raise ValueError(f"{path} is a landseer {manifest.kind}, not a {kind}")
    if made_by is not None and manifest.fingerprint != made_by:
        raise ValueError(
            f"{path} was made by other settings ({manifest.fingerprint}, not {made_by}); make it again"
        )
    for name, facts in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{file} is missing; make the {kind} again")
        if file.stat().st_size != facts["bytes"]:
            raise ValueError(
                f"{file} has {file.stat().st_size} bytes, not {facts['bytes']}; make the {kind} again"
            )
    return manifest


def _read_manifest(path: Path, kind: str) -> Manifest:
    file = path / MANIFEST
    try:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder; expected a landseer {kind}")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} holds no {MANIFEST}, so it is not a landseer {kind}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is damaged (not text); make the {kind} again") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from None
    try:
        found = json.loads(text)
        seal = found.pop(_SEAL)
        manifest = Manifest(**found)
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); make the {kind} again") from None
    if seal != _seal_of(found):
        raise ValueError(f"{file} is damaged (its sha256 changed); make the {kind} again")
    return manifest


def verify(path: Path, manifest: Manifest, *names: str) -> None:
    """Compare the sha256 of files (all, or *names*) with the manifest; ``ValueError`` on a difference."""
    for name in names or manifest.files:
        if name not in manifest.files:
            raise ValueError(f"{path / name} is not a file of this {manifest.kind}; make it again")
        try:
            digest = sha256_of(path / name)
        except OSError as error:
            raise ValueError(f"{path / name} cannot be read ({error.strerror})") from None
        if digest != manifest.files[name]["sha256"]:
            raise ValueError(f"{path / name} is damaged (its sha256 changed); make the {manifest.kind} again")


# numpy reads the header of an array with Python's own parser
_UNREADABLE_ARRAY = (
    ValueError,
    EOFError,
    OSError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def read_array(file: Path, *, mmap: bool = False) -> np.ndarray:
    """An array from a ``.npy`` file; pickled content is refused."""
    try:
        found = np.load(file, mmap_mode="r" if mmap else None, allow_pickle=False)
    except _UNREADABLE_ARRAY as error:
        raise ValueError(f"{file} cannot be read as an array: {_one_line(error)}") from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{file} cannot be read as an array: it is an archive of arrays")
    return found


def read_table(file: Path) -> pa.Table:
    """A table from a Parquet file."""
    try:
        # without partitioning, a folder named a=b is no column
        return pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as a Parquet table: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def read_json(file: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from None
