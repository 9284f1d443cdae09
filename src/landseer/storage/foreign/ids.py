"""Lists of photo ids, from wherever another tool keeps them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landseer.storage.artifact import read_json
from landseer.storage.foreign.arrays import arrays_in
from landseer.storage.foreign.pickles import load_plain_pickle
from landseer.storage.foreign.reading import existing, parquet_table, parsing, plain_text, split_member

ID_SUFFIXES = (".txt", ".csv", ".parquet", ".json", ".npy")
"""What a list of ids beside its rows may be: ``rows.npy`` has ``rows.ids.txt``."""
ID_NAMES = ("ids", "id", "image_ids", "names", "filenames", "imlist")
"""What tools call the ids inside a file of arrays, and their column in a table."""
QUERY_LIST, GALLERY_LIST = "qimlist", "imlist"
"""The two lists of a ``gnd_*.pkl`` of Revisited Oxford and Paris."""


def read_ids(source: str | Path, *, name: str | None = None, fitting: Sequence[int] = ()) -> tuple[str, ...]:
    """The ids of a text, CSV, Parquet, JSON or ``.npy`` list, of a descriptors folder, or of a ``gnd_*.pkl``.

    One id a line of a text file.  A table gives its column ``id`` (or a name like it, or its only one of text);
    ``FILE::COLUMN`` names another.  Of a ``gnd_*.pkl`` (or the same as JSON) it is ``imlist`` or ``qimlist``:
    *name* says which, else the one whose length is among *fitting*.

    Raises ``ValueError``, one line, where the list cannot be read or holds an id twice or an empty one.
    """
    path, member = split_member(source)
    existing(path)
    kind = ".artifact" if path.is_dir() else path.suffix.lower()
    if kind not in _READERS:
        known = ", ".join(list(_READERS)[:-1])
        raise ValueError(f"{path} is no list of ids that is read (known: {known}, or a descriptors folder)")
    found = _READERS[kind](path, member)
    if isinstance(found, Mapping):
        found = _one_list(path, found, member or name, fitting)
    return checked_ids([plain_text(entry) for entry in found], path)


def ids_of(
    given: Sequence[str] | Path | None, *, name: str | None = None, fitting: Sequence[int] = ()
) -> tuple[str, ...] | None:
    """Ids that came as a list, or as the path of one (``Path`` or ``str``)."""
    if given is None:
        return None
    if isinstance(given, str | Path):
        return read_ids(given, name=name, fitting=fitting)
    return checked_ids([str(entry) for entry in given], None)


def ids_beside(path: Path) -> Path | None:
    """The list that lies beside *path* under the name ``STEM.ids.SUFFIX``; None where none does.

    Raises ``ValueError`` where there are several.
    """
    lists = [path.with_name(f"{path.stem}.ids{suffix}") for suffix in ID_SUFFIXES]
    there = [file for file in lists if file.exists()]
    if len(there) > 1:
        raise ValueError(
            f"{there[0]} and {there[1].name} both list the ids of {path.name}; name one with --ids"
        )
    return there[0] if there else None


def checked_ids(ids: list[str], path: Path | None) -> tuple[str, ...]:
    """The ids, if none is empty or stands twice; else ``ValueError`` that names the first such."""
    where = f"{path}: " if path else ""
    if "" in ids:
        raise ValueError(f"{where}id number {ids.index('') + 1} is empty")
    if len(set(ids)) != len(ids):
        twice = next(one for one, count in Counter(ids).items() if count > 1)
        first = ids.index(twice)
        second = ids.index(twice, first + 1)
        raise ValueError(f"{where}id {twice!r} occurs twice, as number {first + 1} and number {second + 1}")
    return tuple(ids)


def read_text(path: Path) -> str:
    """The text of a file; ``ValueError`` where it is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def id_column(path: Path, names: Sequence[str], texts: Sequence[str], member: str | None) -> str:
    """Which column of a table holds the ids: *member*, or one of ``ID_NAMES``, or the only one of text."""
    if member is not None:
        if member not in names:
            raise ValueError(f"{path} has no column {member!r} (it has {', '.join(names)})")
        return member
    usual = [name for name in ID_NAMES if name in names]
    if usual:
        return usual[0]
    if len(texts) == 1:
        return texts[0]
    raise ValueError(
        f"{path} has no column 'id' (it has {', '.join(names) or 'none'}); name the one with the ids, as in "
        f"{path}::{names[0] if names else 'COLUMN'}"
    )


def _text(path: Path, _member: str | None) -> list[str]:
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def _csv(path: Path, member: str | None) -> list[str]:
    with parsing(path, "a CSV table", also=(csv.Error,)):
        rows = [row for row in csv.reader(io.StringIO(read_text(path), newline="")) if row]
    header = rows[0] if rows else []
    # a single column may or may not have a header, and nobody can tell an id from one
    column = header.index(id_column(path, header, (), member))
    short = next((number for number, row in enumerate(rows, 1) if len(row) <= column), None)
    if short is not None:
        raise ValueError(f"{path}, row {short}: no cell in column {header[column]!r}")
    return [row[column] for row in rows[1:]]


def _parquet(path: Path, member: str | None) -> list[Any]:
    table = parquet_table(path)
    texts = [field.name for field in table.schema if is_text(field.type)]
    column = table[id_column(path, table.column_names, texts, member)]
    if column.null_count:
        raise ValueError(f"{path} has {column.null_count} empty ids")
    return list(column.to_pylist())


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow column holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _json(path: Path, _member: str | None) -> list[Any] | Mapping[str, list[Any]]:
    with parsing(path, "JSON", also=(RecursionError, json.JSONDecodeError)):
        found = read_json(path)
    return _list_or_lists(path, found)


def _pickle(path: Path, _member: str | None) -> list[Any] | Mapping[str, list[Any]]:
    return _list_or_lists(path, load_plain_pickle(path))


def _list_or_lists(path: Path, found: Any) -> list[Any] | Mapping[str, list[Any]]:
    if isinstance(found, np.ndarray):
        found = found.tolist()
    if isinstance(found, dict):
        return {str(name): list(value) for name, value in found.items() if _is_list_of_ids(value)}
    if not _is_list_of_ids(found):
        raise ValueError(f"{path} holds no list of ids")
    return list(found)


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(entry, str | int) for entry in value)


def _one_list(
    path: Path, lists: Mapping[str, list[Any]], name: str | None, fitting: Sequence[int]
) -> list[Any]:
    fits = [key for key, value in lists.items() if len(value) in fitting]
    chosen = name if name in lists else fits[0] if len(fits) == 1 else None
    if chosen is None:
        shown = ", ".join(f"{key} of {len(value)}" for key, value in lists.items())
        raise ValueError(
            f"{path} holds {shown or 'no list of ids'}; name one, as in {path}::{next(iter(lists), GALLERY_LIST)}"
        )
    return lists[chosen]


def _npy(path: Path, _member: str | None) -> list[Any]:
    found = arrays_in(path)[""].read()
    if found.ndim != 1 or found.dtype.kind not in "USiu":
        raise ValueError(f"{path} is not a list of ids but {found.dtype} of shape {list(found.shape)}")
    return list(found.tolist())


def _descriptor_ids(path: Path, _member: str | None) -> list[Any]:
    file = path / "ids.parquet"
    if not file.is_file():
        raise ValueError(f"{path} is a folder without ids.parquet, so it is no descriptors folder")
    return _parquet(file, "id")


_READERS = {
    ".txt": _text,
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
    ".npy": _npy,
    ".pkl": _pickle,
    ".artifact": _descriptor_ids,
}
