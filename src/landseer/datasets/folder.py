"""A folder of photos of any depth: one folder a landmark, or no labels at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa

from landseer.datasets.borders import countries_at
from landseer.datasets.sheet import REFUSED
from landseer.datasets.shelf import is_utf8, walk_files
from landseer.datasets.summary import Findings, Progress, Summary
from landseer.datasets.tables import landmark_table, photo_table
from landseer.photos import PhotoFacts, UnreadablePhoto, read_bytes, read_facts, size_of
from landseer.types import SPLITS, Collection

Labels = Literal["auto", "folder", "none"]

_PHOTO_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".tif", ".tiff")
) | frozenset((".gif", ".bmp", ".dib"))
_HEAD_BYTES = 1 << 18
"""A JPEG tells its size, date and place before its pixels, nearly always within this many bytes."""
_SPLIT_OF_FOLDER = {**{split: split for split in SPLITS}, "test": "query"}


@dataclass(frozen=True)
class _Found:
    path: str
    facts: PhotoFacts


def import_folder(
    source: Path,
    *,
    labels: Labels = "auto",
    split: str = "index",
    split_by_folder: bool = False,
    progress: Progress | None = None,
) -> tuple[Collection, Summary]:
    """Read every photo below *source*, known by content; its id is its path below *source*.

    *labels* ``folder``: the folder a photo lies in is its landmark, numbered from 0 in order of the folders'
    paths; photos directly in *source* have none.  ``none``: no photo has one.  ``auto``: ``folder`` where any
    subfolder holds photos.  All photos belong to *split*, or with *split_by_folder* to the one that the
    topmost folder names (train, validation, index, query or test).  Date, camera and position come from
    EXIF or XMP, the country from the position where that is certain.  Hidden files are passed over, links
    are followed once.  Raises ``ValueError`` where there is no photo.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} (known: {', '.join(SPLITS)})")
    findings = Findings()
    found = _read(source, findings, progress)
    if not found:
        raise ValueError(
            f"{source} holds no readable photo (looked in every subfolder); name the folder that does"
        )
    splits = _splits(found, split, split_by_folder=split_by_folder)
    folders = [_folder(photo.path, below=int(split_by_folder)) for photo in found]
    if labels == "auto":
        labels = "folder" if any(folders) else "none"
        findings.notes.append(
            "subfolders hold photos, so each folder is taken for a landmark; --labels none says otherwise"
            if labels == "folder"
            else "no subfolder holds photos, so no photo has a landmark"
        )
    named = sorted(set(filter(None, folders))) if labels == "folder" else []
    number = {name: at for at, name in enumerate(named)}
    landmark = [number.get(name) for name in folders]
    facts = [photo.facts for photo in found]
    collection = Collection(
        photos=photo_table(
            {
                "id": pa.array([photo.path for photo in found], pa.string()),
                "path": pa.array([photo.path for photo in found], pa.string()),
                "landmark": pa.array(landmark, pa.int64()),
                "kind": pa.array(["unknown" if at is None else "landmark" for at in landmark]),
                # whoever sorts photos into folders has looked at each
                "clean": pa.array([at is not None for at in landmark]),
                "split": pa.array(splits),
                "country": pa.array(_countries(facts), pa.string()),
                "taken": pa.array([fact.taken for fact in facts], pa.timestamp("ms")),
                "latitude": pa.array([fact.latitude for fact in facts], pa.float64()),
                "longitude": pa.array([fact.longitude for fact in facts], pa.float64()),
            },
            extra={"camera": pa.array([fact.camera for fact in facts], pa.string())},
        ),
        landmarks=landmark_table(list(number.values()), name=_short_names(named))[0],
        root=source,
    )
    return collection, findings.summarise(collection, source="folder", files_checked=True)


def _read(source: Path, findings: Findings, progress: Progress | None) -> list[_Found]:
    """The photos below *source* in order of their paths; everything else is noted."""
    paths: list[str] = []
    unnamed: list[str] = []
    for path in walk_files(source):
        (paths if is_utf8(path) else unnamed).append(path)
    paths.sort()
    found: list[_Found] = []
    broken: list[str] = []
    others: list[str] = []
    for number, path in enumerate(paths):
        if progress and number % 16 == 0:
            progress("reading photos", number, len(paths))
        try:
            found.append(_Found(path, _facts(source, path)))
        except UnreadablePhoto as error:
            ending = PurePosixPath(path).suffix.lower()
            (broken if ending in _PHOTO_ENDINGS else others).append(f"{path!r}: {error.reason}")
    findings.add("unreadable photos", REFUSED, count=len(broken), examples=broken, refused=True)
    findings.add("files that are no photos", "passed over", count=len(others), examples=others)
    findings.add(
        "names that are not UTF-8",
        "left out; rename the files",
        count=len(unnamed),
        examples=(repr(os.fsencode(path))[1:] for path in unnamed),
        refused=True,
    )
    return found


def _facts(source: Path, path: str) -> PhotoFacts:
    """Raises ``UnreadablePhoto`` where the file is no photo; only its header is decoded."""
    head = _head(source / path)
    if head.startswith(b"\xff\xd8") and len(head) == _HEAD_BYTES:
        try:
            size_of(head)
            return read_facts(head)
        except UnreadablePhoto:
            pass  # a very long header: read it all
    elif head and PurePosixPath(path).suffix.lower() not in _PHOTO_ENDINGS:
        _refuse_by_head(head)
    data = read_bytes(source, path)
    size_of(data)
    return read_facts(data)


def _head(file: Path) -> bytes:
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""  # read_bytes finds the reason again and words it


def _refuse_by_head(head: bytes) -> None:
    """Spare reading the whole of a large file, a film say, whose first bytes are no photo's."""
    try:
        size_of(head)
    except UnreadablePhoto as error:
        if error.reason == "not an image" or error.reason.startswith("unsupported"):
            raise


def _splits(found: Sequence[_Found], split: str, *, split_by_folder: bool) -> list[str]:
    if not split_by_folder:
        return [split] * len(found)
    tops = [photo.path.split("/")[0] if "/" in photo.path else "" for photo in found]
    strange = sorted(set(tops) - set(_SPLIT_OF_FOLDER))
    if strange:
        what = f"the folder {strange[0]!r}" if strange[0] else f"the photo {found[tops.index('')].path!r}"
        raise ValueError(
            f"{what} is in no split; with --split-by-folder all lie in {', '.join(_SPLIT_OF_FOLDER)}"
        )
    return [_SPLIT_OF_FOLDER[top] for top in tops]


def _folder(path: str, *, below: int) -> str:
    """The folder of *path* without its first *below* parts, ``""`` for none."""
    return "/".join(path.split("/")[below:-1])


def _short_names(folders: Sequence[str]) -> dict[int, str]:
    """The last part of each folder's path where no other folder has it, else the whole path."""
    last = [folder.rsplit("/", 1)[-1] for folder in folders]
    times = Counter(last)
    return {
        at: short if times[short] == 1 else folder
        for at, (folder, short) in enumerate(zip(folders, last, strict=True))
    }


def _countries(facts: Sequence[PhotoFacts]) -> list[str | None]:
    nan = float("nan")
    latitude = np.array([nan if fact.latitude is None else fact.latitude for fact in facts])
    longitude = np.array([nan if fact.longitude is None else fact.longitude for fact in facts])
    return countries_at(latitude, longitude)
