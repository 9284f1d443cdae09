"""A table of photos, CSV or Parquet, with columns of any names in any order."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.borders import countries_at
from landseer.datasets.cells import parse_flag, parse_latitude, parse_longitude, parse_time, parse_word
from landseer.datasets.geography import parse_country
from landseer.datasets.sheet import REFUSED, Sheet, filled, parse_cells, read_csv, read_parquet, unique_ids
from landseer.datasets.summary import Findings, Progress, Summary
from landseer.datasets.tables import landmark_table, photo_table
from landseer.photos import list_members
from landseer.types import KINDS, PHOTO_SCHEMA, SPLITS, Collection

COLUMNS = (*PHOTO_SCHEMA.names, "landmark_name")
"""What a column of the table may be taken for."""

_PARSERS: dict[str, Callable[[str], Any]] = {
    "kind": lambda text: parse_word(text, KINDS),
    "clean": parse_flag,
    "split": lambda text: parse_word(text, SPLITS),
    "country": parse_country,
    "taken": parse_time,
    "latitude": parse_latitude,
    "longitude": parse_longitude,
}


def import_table(
    source: Path,
    *,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
    split: str = "index",
    check_files: bool = True,
    keep_missing: bool = False,
    progress: Progress | None = None,
) -> tuple[Collection, Summary]:
    """Read a CSV or Parquet table (by its ending) with one row a photo.

    *columns* says which column of the table stands for which of ``COLUMNS``; one that is not named there is
    looked for under its own name.  Only ``path`` must be there: relative to *root* (the table's folder), or
    ``shard.tar::member``.  ``id`` defaults to the path, ``split`` to *split*, ``kind`` to ``landmark``
    where the row has one and ``unknown`` elsewhere, ``clean`` to whether it has one, ``country`` to the one
    at the position where that is certain.  Landmarks are numbers, or else names, which are numbered from 0
    in sorted order.  Rows with a cell that means nothing are refused.  Other columns are kept as they are.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} (known: {', '.join(SPLITS)})")
    root = source.parent if root is None else root
    findings = Findings()
    sheet = _renamed(_read(source, findings), source, dict(columns or {}), findings)
    num_read = len(sheet)
    sheet = filled(sheet, "path", findings)
    sheet = unique_ids(filled(sheet.with_column("id", _or(sheet, "id", "path")), "id", findings), findings)
    for column, parse in _PARSERS.items():
        sheet = parse_cells(sheet, column, parse, PHOTO_SCHEMA.field(column).type, findings)
    sheet = _consistent(sheet, findings)
    if check_files:
        sheet = _present(sheet, root, findings, keep_missing=keep_missing, progress=progress)
    if not len(sheet):
        first = next(
            (example for problem in findings.problems for example in problem.examples), "it has no rows"
        )
        raise ValueError(f"{source}: none of {num_read} rows can be taken over; {first}")
    sheet, landmarks = _with_landmarks(sheet, findings)
    collection = Collection(photos=_photos(sheet, split, findings), landmarks=landmarks, root=root)
    return collection, findings.summarise(collection, source="table", files_checked=check_files)


def _read(source: Path, findings: Findings) -> Sheet:
    ending = source.suffix.lower()
    if ending == ".csv":
        return read_csv(source, findings)
    if ending in (".parquet", ".pq"):
        return read_parquet(source)
    raise ValueError(f"{source}: the table must end in .csv or .parquet")


def _renamed(sheet: Sheet, source: Path, mapping: dict[str, str], findings: Findings) -> Sheet:
    """The sheet with all of ``COLUMNS`` as text (null where the table has none) and its other ones."""
    have = sheet.table.column_names
    for target, name in mapping.items():
        if target not in COLUMNS:
            near = difflib.get_close_matches(target, COLUMNS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no column {target!r} in a collection{hint} (known: {', '.join(COLUMNS)})")
        if name not in have:
            near = difflib.get_close_matches(name, have, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{source} has no column {name!r}{hint} (it has: {', '.join(have)})")
    chosen = {target: mapping.get(target, target if target in have else None) for target in COLUMNS}
    if chosen["path"] is None:
        raise ValueError(
            f"{source} has no column 'path' (it has: {', '.join(have)}); "
            "say which one names the photo's file: --column path=NAME"
        )
    made = {
        target: pa.nulls(len(sheet), pa.string()) if name is None else _as_text(sheet, name)
        for target, name in chosen.items()
    }
    taken = set(chosen.values())
    shadowed = tuple(name for name in have if name in COLUMNS and name not in taken)
    if shadowed:
        findings.ignored_columns[sheet.name] = shadowed
    extra = {name: sheet[name] for name in have if name not in taken and name not in shadowed}
    called = {target: name for target, name in chosen.items() if name is not None}
    return Sheet(sheet.name, pa.table({**made, **extra}), sheet.row_N, called)


def _as_text(sheet: Sheet, name: str) -> pa.ChunkedArray:
    column = sheet[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        # not a number is how some libraries write an empty cell
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
        if whole and name not in ("latitude", "longitude"):
            column = column.cast(pa.int64(), safe=False)
    try:
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ValueError(
            f"{sheet.name}: column {name!r} holds {column.type}, which is no text or number"
        ) from None
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _or(sheet: Sheet, column: str, default: str) -> pa.ChunkedArray:
    return pc.coalesce(sheet[column], sheet[default])


def _consistent(sheet: Sheet, findings: Findings) -> Sheet:
    """Refuse half positions, and landmarks on photos said to show none."""
    half = np.asarray(pc.xor(sheet["latitude"].is_valid(), sheet["longitude"].is_valid()))
    sheet = sheet.refuse(half, "positions with only one of latitude and longitude", findings)
    none = pc.fill_null(pc.equal(sheet["kind"], "none"), False)
    torn = np.asarray(pc.and_(none, sheet["landmark"].is_valid()))
    sheet = sheet.refuse(torn, "photos of kind 'none' that have a landmark", findings, _landmark_of(sheet))
    shown = pc.fill_null(pc.equal(sheet["kind"], "landmark"), False)
    bare = np.asarray(pc.and_(shown, sheet["landmark"].is_null()))
    findings.mark("photos of kind 'landmark' that name none", "kept", bare, sheet.where)
    return sheet


def _landmark_of(sheet: Sheet) -> Callable[[int], str]:
    return lambda row: sheet.cell(row, "landmark")


def _present(
    sheet: Sheet, root: Path, findings: Findings, *, keep_missing: bool, progress: Progress | None
) -> Sheet:
    """Refuse paths that leave *root*, and, unless *keep_missing*, those where no file lies."""
    members: dict[str, frozenset[str]] = {}
    outside_N, missing_N = np.zeros(len(sheet), dtype=bool), np.zeros(len(sheet), dtype=bool)
    for row, path in enumerate(sheet["path"].to_pylist()):
        if progress and row % 4096 == 0:
            progress("looking for photos", row, len(sheet))
        shard, inside, member = path.partition(".tar::")
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            outside_N[row] = True
        elif not inside:
            missing_N[row] = not (root / path).is_file()
        else:
            tar = f"{shard}.tar"
            if tar not in members:
                members[tar] = frozenset(list_members(root / tar)) if (root / tar).is_file() else frozenset()
            missing_N[row] = member not in members[tar]
    findings.missing_files += int(missing_N.sum())
    findings.mark(
        "paths that leave the root",
        REFUSED,
        outside_N,
        lambda row: f"{sheet.cell(row, 'path')}; give paths relative to --root, here {root}",
        refused=True,
    )
    findings.mark(
        "photos without a file",
        "kept, to be read later" if keep_missing else REFUSED,
        missing_N,
        lambda row: f"{sheet.cell(row, 'path')}: no such file below {root}",
        refused=not keep_missing,
    )
    return sheet.keep(~outside_N if keep_missing else ~(outside_N | missing_N))


def _with_landmarks(sheet: Sheet, findings: Findings) -> tuple[Sheet, pa.Table]:
    """Replace the text of ``landmark`` by numbers; the landmark table that goes with them."""
    texts = pc.unique(sheet["landmark"].drop_null()).to_pylist()
    numeric = all(text.isascii() and text.isdigit() and len(text) <= 18 for text in texts)
    if numeric:
        number = {text: int(text) for text in texts}
        name: dict[int, str] = {}
    else:
        number = {text: at for at, text in enumerate(sorted(texts))}
        name = {at: text for text, at in number.items()}
        findings.notes.append("landmarks are named, so they are numbered from 0 in the order of their names")
    sheet = parse_cells(sheet, "landmark", number.__getitem__, pa.int64(), findings)
    pairs = sheet.table.select(["landmark", "landmark_name"]).drop_null()
    pairs = pairs.group_by(["landmark", "landmark_name"], use_threads=False).aggregate([])
    second = []
    for landmark, given in zip(
        pairs["landmark"].to_pylist(), pairs["landmark_name"].to_pylist(), strict=True
    ):
        if landmark in name and name[landmark] != given and numeric:
            second.append(f"landmark {landmark}: {name[landmark]!r} and {given!r}")
        elif numeric or landmark not in name:
            name[landmark] = given
    findings.add("landmarks with a second name", "the first is kept", count=len(second), examples=second)
    return sheet, landmark_table(sorted(set(number.values())), name=name)[0]


def _photos(sheet: Sheet, split: str, findings: Findings) -> pa.Table:
    labelled = sheet["landmark"].is_valid()
    country = _filled_countries(sheet, findings)
    columns = {
        **{name: sheet[name] for name in PHOTO_SCHEMA.names},
        "kind": pc.coalesce(sheet["kind"], pc.if_else(labelled, "landmark", "unknown")),
        "clean": pc.coalesce(sheet["clean"], labelled),
        "split": pc.fill_null(sheet["split"], split),
        "country": country,
    }
    if sheet["clean"].null_count == len(sheet):
        findings.notes.append("no column says which labels are clean, so all are taken to be")
    extra = {name: sheet[name] for name in sheet.table.column_names if name not in COLUMNS}
    return photo_table(columns, extra)


def _filled_countries(sheet: Sheet, findings: Findings) -> pa.Array:
    country = sheet["country"].to_pylist()
    latitude, longitude = sheet["latitude"].to_pylist(), sheet["longitude"].to_pylist()
    rows = [row for row, code in enumerate(country) if code is None and latitude[row] is not None]
    at = countries_at(np.array([latitude[row] for row in rows]), np.array([longitude[row] for row in rows]))
    for row, code in zip(rows, at, strict=True):
        country[row] = code
    found = sum(code is not None for code in at)
    if found:
        findings.notes.append(f"{found} photos without a country got the one at their position")
    return pa.array(country, pa.string())
