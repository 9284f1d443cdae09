"""Photos that come as bytes and stay: decoded, written anew without what they say of themselves, and added.

They lie in the index's own folder ``uploads`` under names made of their pixels, whatever they were called before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from landseer.photos import PhotoFacts, decode, read_facts
from landseer.pipeline.indexing.photos import ROOT_COLUMN
from landseer.pipeline.online.seeing import Eye
from landseer.search import LivingIndex
from landseer.types import Descriptors

UPLOADS = "uploads"
_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A photo ready to be added."""

    id: str
    path: str
    """Below the folder of uploads."""
    jpeg: bytes
    facts: PhotoFacts


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of photos that were sent."""

    added: tuple[str, ...]
    """Ids of those that are new."""
    there_already: tuple[str, ...]
    unreadable: Mapping[int, str]
    """Place among those sent -> why it cannot be kept."""


def uploaded(data: bytes) -> Upload:
    """The photo in *data*, written anew.  Raises ``UnreadablePhoto``."""
    pixels = decode(data)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    digest = hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest()[:20]
    path = f"{digest[:2]}/{digest}.jpg"
    return Upload(id=f"{UPLOADS}/{digest}", path=path, jpeg=stream.getvalue(), facts=read_facts(data))


def record_of(upload: Upload, known: Mapping[str, Any], *, position: bool) -> dict[str, Any]:
    """What an index keeps of an upload: when it was taken, where only if *position*, and what is *known* besides."""
    facts = upload.facts
    where = {"latitude": facts.latitude, "longitude": facts.longitude} if position else {}
    taken: datetime | None = facts.taken
    return {
        "id": upload.id,
        "path": upload.path,
        ROOT_COLUMN: UPLOADS,
        "taken": taken,
        **where,
        **{column: value for column, value in known.items() if value is not None},
    }


def add_uploads(
    index: LivingIndex, eye: Eye, uploads: Sequence[Upload], records: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the files of *uploads* that *index*, open for writing, lacks, and add them; ids added, and there already.

    A file is there before the index names it; killed in between, it waits for the same photo to come again.
    """
    distinct = {upload.id: (upload, record) for upload, record in zip(uploads, records, strict=True)}
    there = dict(zip(distinct, index.holds(list(distinct)), strict=True))
    new = {photo: both for photo, both in distinct.items() if not there[photo]}
    if new:
        seen = [eye.look(upload.jpeg) for upload, _ in new.values()]
        rows_ND = np.concatenate([eye.describe(seen[n : n + 16])[0] for n in range(0, len(seen), 16)])
        for upload, _ in new.values():
            _write(index.path / UPLOADS / upload.path, upload.jpeg)
        rows = Descriptors(ids=tuple(new), rows_ND=rows_ND, normalised=eye.model.normalised)
        index.add(rows, [record for _, record in new.values()], model=eye.model.fingerprint)
    return tuple(new), tuple(photo for photo in distinct if there[photo])


def forget_uploads(index: LivingIndex, records: Iterable[Mapping[str, Any]]) -> None:
    """Delete the files of uploads whose photos were removed."""
    for record in records:
        if record.get(ROOT_COLUMN) == UPLOADS:
            (index.path / UPLOADS / record["path"]).unlink(missing_ok=True)


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all, and synced; what is there of that name has these pixels already."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(file)
    for folder in (file.parent, file.parent.parent, file.parent.parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
