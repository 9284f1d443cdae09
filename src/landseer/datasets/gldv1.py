"""Google Landmarks v1: ``train.csv`` with ``id,url,landmark_id``, and photos named after their ids."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.sheet import Sheet, distinct_ids, filled, read_csv, unique_ids, whole_numbers
from landseer.datasets.shelf import attach_paths, find_photos
from landseer.datasets.summary import Findings, Progress, Summary
from landseer.datasets.tables import landmark_table, photo_table
from landseer.types import Collection

_FILES = {"train": "train.csv", "index": "index.csv", "query": "test.csv"}
_NO_LABEL = "None"
"""How copies of the train file spell photos that show no landmark."""


def import_gldv1(
    source: Path, *, check_files: bool = True, keep_missing: bool = False, progress: Progress | None = None
) -> tuple[Collection, Summary]:
    """Read a copy of Google Landmarks v1 below *source*: ``train.csv`` and, where there, ``index.csv`` and
    ``test.csv``.

    Photos are called ``{id}.jpg`` and may lie anywhere below *source*, loose or in tar shards.  Landmarks
    keep their numbers; v1 names none of them and marks no photo clean.  Without *check_files* nobody looks
    for photos; those whose file is missing are left out unless *keep_missing*.  Raises ``ValueError``
    without train.csv.
    """
    findings = Findings()
    if not (source / "train.csv").is_file():
        raise ValueError(
            f"{source} holds no train.csv; name the folder with id,url,landmark_id of Google Landmarks v1"
        )
    parts = {
        split: unique_ids(_read(source / name, split, findings), findings)
        for split, name in _FILES.items()
        if (source / name).is_file()
    }
    parts = distinct_ids(parts, findings)
    found = find_photos(source, ".", progress=progress) if check_files else None
    for split, sheet in parts.items():
        plain = pc.binary_join_element_wise(sheet["id"], ".jpg", "")
        if found is None:
            parts[split] = sheet.with_column("path", plain)
        else:
            parts[split] = attach_paths(sheet, found, findings, keep_missing=keep_missing, otherwise=plain)
    if not any(map(len, parts.values())):
        raise ValueError(
            f"not one of {findings.missing_files} photos lies below {source}; name the folder that holds "
            "them, or import the rows alone with --no-file-check"
        )
    findings.notes.append("Google Landmarks v1 has no clean list: no training photo is marked clean")
    photos = pa.concat_tables([_photos(split, sheet) for split, sheet in parts.items()])
    landmarks, _ = landmark_table(pc.unique(photos["landmark"].drop_null()).to_pylist())
    collection = Collection(photos=photos, landmarks=landmarks, root=source)
    return collection, findings.summarise(collection, source="gldv1", files_checked=check_files)


def _read(file: Path, split: str, findings: Findings) -> Sheet:
    """Rows with ``id``, ``landmark_id`` (int64) and ``kind``."""
    if split == "train":
        sheet = read_csv(file, findings, columns=("id", "landmark_id"))
    else:
        sheet = read_csv(file, findings, columns=("id",), optional=("landmark_id",))
    sheet = filled(sheet, "id", findings)
    if "landmark_id" not in sheet.table.column_names:
        sheet = sheet.with_column("landmark_id", pa.nulls(len(sheet), pa.string()))
    shows_none = pc.fill_null(pc.equal(sheet["landmark_id"], _NO_LABEL), False)
    label = pc.if_else(shows_none, pa.scalar(None, pa.string()), sheet["landmark_id"])
    sheet = sheet.with_column("kind", pc.if_else(shows_none, "none", "unknown"))
    sheet = whole_numbers(sheet.with_column("landmark_id", label), "landmark_id", findings)
    kind = pc.if_else(sheet["landmark_id"].is_valid(), "landmark", sheet["kind"])
    return sheet.with_column("kind", kind)


def _photos(split: str, sheet: Sheet) -> pa.Table:
    return photo_table(
        {
            "id": sheet["id"],
            "path": sheet["path"],
            "landmark": sheet["landmark_id"],
            "kind": sheet["kind"],
            "clean": False,
            "split": split,
        }
    )
