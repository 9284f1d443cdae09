"""Which photo files there are: loose in folders of any depth, or members of tar shards read in place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.sheet import REFUSED, Sheet
from landseer.datasets.summary import Findings, Progress
from landseer.photos import list_members

_FLUSH = 100_000


def find_photos(root: Path, folder: str, *, progress: Progress | None = None) -> pa.Table:
    """Every file below *root*/*folder*: ``stem`` (name without its last extension) and ``path`` below *root*.

    Members of ``*.tar`` files count as files (``shard.tar::member``).  Of several files with one stem the
    first is taken: loose files before shards, each in order of their paths.
    """
    stems: list[str] = []
    paths: list[str] = []
    chunks: list[pa.Table] = []

    def put(found: Iterable[tuple[str, str]]) -> None:
        for name, path in found:
            stems.append(PurePosixPath(name).stem)
            paths.append(path)
        if len(stems) >= _FLUSH:
            flush()

    def flush() -> None:
        chunks.append(pa.table({"stem": pa.array(stems, pa.string()), "path": pa.array(paths, pa.string())}))
        stems.clear()
        paths.clear()

    shards: list[str] = []
    files = walk_files(root / folder) if (root / folder).is_dir() else iter(())
    prefix = "" if folder == "." else f"{folder}/"
    for names in _in_batches(filter(is_utf8, files), 4096):
        shards += [f"{prefix}{name}" for name in names if name.endswith(".tar")]
        put((name, f"{prefix}{name}") for name in names if not name.endswith(".tar"))
        if progress:
            progress(f"looking for photos in {folder}", sum(map(len, chunks)) + len(stems), None)
    for number, shard in enumerate(shards, start=1):
        put((member, f"{shard}::{member}") for member in list_members(root / shard))
        if progress:
            progress(f"listing tar shards of {folder}", number, len(shards))
    flush()
    return pa.concat_tables(chunks).combine_chunks()


def attach_paths(
    sheet: Sheet, found: pa.Table, findings: Findings, *, keep_missing: bool, otherwise: pa.ChunkedArray
) -> Sheet:
    """Add the ``path`` of each id's photo among *found* files.

    Rows without a photo are noted as missing and left out; with *keep_missing* they stay, with the path that
    *otherwise* has for them.
    """
    at = pc.index_in(sheet["id"], value_set=found["stem"].combine_chunks()).combine_chunks()
    path = found["path"].combine_chunks().take(at)
    missing_N = np.asarray(at.is_null())
    findings.missing_files += int(missing_N.sum())
    findings.mark(
        "photos without a file",
        "kept, to be read later" if keep_missing else REFUSED,
        missing_N,
        lambda row: f"{sheet.where(row)}: no file for id {sheet['id'][row].as_py()!r}",
        refused=not keep_missing,
    )
    sheet = sheet.with_column("path", pc.coalesce(path, otherwise.combine_chunks()))
    return sheet if keep_missing else sheet.keep(~missing_N)


def layered_paths(ids: pa.ChunkedArray, folder: str) -> pa.ChunkedArray:
    """``folder/a/b/c/abc....jpg``, where Google Landmarks puts the photo of each id."""
    letters = [pc.utf8_slice_codeunits(ids, at, at + 1) for at in range(3)]
    name = pc.binary_join_element_wise(ids, ".jpg", "")
    return pc.binary_join_element_wise(folder, *letters, name, "/")


def walk_files(source: Path) -> Iterator[str]:
    """Paths below *source*, in POSIX form, of all files that are not hidden; folder by folder, names in
    order.

    Links to folders are followed after all real folders, and no folder is visited twice, so a loop of links
    ends and a photo is found under its real path where it has one.  Raises ``ValueError`` where *source* is
    no folder.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder")
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        linked: list[str] = []
        for start in sorted(waiting):
            yield from _walk(source, start, seen, linked)
        waiting = linked


def _walk(source: Path, start: str, seen: set[tuple[int, int]], linked: list[str]) -> Iterator[str]:
    stack = [start]
    while stack:
        below = stack.pop()
        folder = source / below
        info = folder.stat()
        if (info.st_dev, info.st_ino) in seen:
            continue
        seen.add((info.st_dev, info.st_ino))
        prefix = f"{below}/" if below else ""
        inner: list[str] = []
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    (linked if entry.is_symlink() else inner).append(f"{prefix}{entry.name}")
                else:
                    yield f"{prefix}{entry.name}"
        stack += reversed(inner)


def is_utf8(path: str) -> bool:
    """Whether a file's name can stand in a table: a byte that is no UTF-8 arrives as a lone surrogate."""
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def _in_batches(names: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(names, size)):
        yield batch
