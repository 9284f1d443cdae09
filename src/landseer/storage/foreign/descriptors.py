"""Descriptors that another tool made.

Axes: N photos, D components.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.storage.artifact import fingerprint_of, sha256_of
from landseer.storage.foreign.arrays import LISTINGS, Held, arrays_in, choose
from landseer.storage.foreign.faiss_file import rows_of_index
from landseer.storage.foreign.ids import ID_NAMES, checked_ids, id_column, ids_beside, ids_of, is_text
from landseer.storage.foreign.reading import existing, parquet_table, parsing, plain_text, split_member
from landseer.storage.nouns import load_descriptors
from landseer.types import Descriptors

_log = logging.getLogger(__name__)

UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be for the rows to count as unit rows; float16 rounds by half of it."""
_ROWS_AT_ONCE = 16384
INDEX_SUFFIXES = (".faiss", ".index")

Metric = Literal["cosine", "euclidean"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a file holds before it is checked: numbers ``[N, D]`` or ``[D, N]``, and ids where it has any."""

    rows: np.ndarray
    ids: tuple[str, ...] | None = None
    turnable: bool = True
    """Whether the file could have them as columns."""
    metric: Metric = "cosine"


def read_descriptors(
    path: str | Path,
    ids: Sequence[str] | Path | None = None,
    key: str | None = None,
    *,
    transpose: bool | None = None,
    normalise: bool = False,
) -> Descriptors:
    """Descriptors of a folder of this program, or of a file of any other tool.

    *path*: a descriptors folder; ``.npy``, ``.npz``, ``.mat``, ``.h5``, ``.pt``, ``.safetensors``, ``.pkl``,
    ``.parquet`` or a faiss index (``.faiss``, ``.index``).  ``FILE::KEY`` or *key* names one of several tables.
    *ids*: the ids in row order, or the path of a list (``read_ids``); else those inside the file, else the list
    beside it (``rows.ids.txt``).  A table whose columns are the photos is turned, as the number of ids tells;
    *transpose* settles it where a square one does not tell.

    Rows are float32, or float16 where the file has that.  They are never changed unasked: ``normalised`` is what
    their lengths say, and *normalise* makes unit rows of them.  The fingerprint is that of the file's bytes and of
    what was asked.  What was converted or turned is logged as a warning.

    Raises ``ValueError``, one line, for a file that is damaged or does not fit its ids, and for a NaN.
    """
    file, member = split_member(path)
    if member is not None and key is not None and member != key:
        raise ValueError(f"{path} names table {member!r}, and the key {key!r}; give one")
    existing(file)
    if file.is_dir():
        return _of_folder(file, ids=ids, key=key or member, transpose=transpose, normalise=normalise)
    table = _table_of(file, key or member)
    listed = _listed_ids(file, ids, table)
    rows_ND = _as_rows(file, table, len(listed), transpose)
    rows_ND, normalised = _checked_rows(file, rows_ND, listed, normalise=normalise)
    return Descriptors(
        ids=listed,
        rows_ND=rows_ND,
        metric="cosine" if normalised else table.metric,
        normalised=normalised,
        fingerprint=fingerprint_of(
            "foreign descriptors", sha256_of(file), key or member, listed, transpose, normalise
        ),
    )


def _of_folder(
    folder: Path,
    *,
    ids: Sequence[str] | Path | None,
    key: str | None,
    transpose: bool | None,
    normalise: bool,
) -> Descriptors:
    found = load_descriptors(folder, mmap=True)
    if ids is not None or key is not None or transpose is not None:
        raise ValueError(
            f"{folder} is a descriptors folder and knows its ids and rows; leave out what names them"
        )
    if found.normalised or not normalise:
        return found
    rows_ND, _ = _checked_rows(folder, found.rows_ND, found.ids, normalise=True)
    return replace(
        found, rows_ND=rows_ND, normalised=True, fingerprint=fingerprint_of("unit rows", found.fingerprint)
    )


def _table_of(file: Path, key: str | None) -> Table:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _of_parquet(file, key)
    if suffix in INDEX_SUFFIXES:
        if key is not None:
            raise ValueError(f"{file} is an index and holds no tables by name; leave out {key!r}")
        rows, numbers, metric = rows_of_index(file)
        return Table(rows=rows, ids=numbers, turnable=False, metric=metric)
    if suffix not in LISTINGS:
        known = ", ".join([*LISTINGS, ".parquet", *INDEX_SUFFIXES])
        raise ValueError(f"{file} is of no kind that is read as descriptors; known: {known}, and folders")
    held = arrays_in(file)
    texts = _ids_inside(held)
    if not any(len(one.shape) == 2 for one in held.values()) and key not in held:
        return _of_groups(file, held, key)
    return Table(rows=held[choose(file, held, key)].read(), ids=texts)


def _ids_inside(held: dict[str, Held]) -> tuple[str, ...] | None:
    name = next((name for name in ID_NAMES if name in held and held[name].kind == "text"), None)
    if name is None:
        return None
    return tuple(plain_text(entry).strip() for entry in np.ravel(held[name].read()).tolist())


def _of_groups(file: Path, held: dict[str, Held], key: str | None) -> Table:
    """One vector a photo, as HDF5 files have them that keep a group for each: ``a/b.jpg/global_descriptor``."""
    vectors = {name: one for name, one in held.items() if one.kind == "number" and len(one.shape) == 1}
    grouped = {name: one for name, one in vectors.items() if "/" in name}
    leaves = {name.rsplit("/", 1)[1] for name in grouped}
    leaf = key if key is not None else next(iter(leaves), "")
    if (key is None and len(leaves) != 1) or leaf not in leaves:
        choose(file, held, key)  # says what the file holds instead
    chosen = {name.rsplit("/", 1)[0]: one for name, one in grouped.items() if name.rsplit("/", 1)[1] == leaf}
    dims = {one.shape for one in chosen.values()}
    if len(dims) > 1:
        raise ValueError(
            f"{file}: the vectors {leaf!r} differ in length ({sorted(dims)[0][0]}, {sorted(dims)[1][0]})"
        )
    return Table(rows=np.stack([one.read() for one in chosen.values()]), ids=tuple(chosen), turnable=False)


def _of_parquet(file: Path, key: str | None) -> Table:
    table = parquet_table(file)
    texts = [field.name for field in table.schema if is_text(field.type)]
    named = [name for name in ID_NAMES if name in table.column_names]
    ids_name = id_column(file, table.column_names, texts, None) if named or len(texts) == 1 else None
    ids = None
    if ids_name is not None:
        ids = tuple("" if entry is None else plain_text(entry) for entry in table[ids_name].to_pylist())
    lists = [field.name for field in table.schema if _is_list(field.type) and key in (None, field.name)]
    if len(lists) > 1:
        raise ValueError(
            f"{file} has several columns of vectors ({', '.join(lists)}); name one, as in {file}::{lists[0]}"
        )
    if lists:
        return Table(rows=_list_column(file, table[lists[0]], lists[0]), ids=ids, turnable=False)
    if key is not None:
        raise ValueError(
            f"{file} has no column of vectors called {key!r} (it has {', '.join(table.column_names)})"
        )
    numbers = [
        field.name
        for field in table.schema
        if field.name != ids_name and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
    ]
    if not numbers:
        raise ValueError(f"{file} has neither a column of vectors nor columns of numbers")
    columns = [table[name].to_numpy() for name in numbers]  # a null becomes NaN, which is refused below
    return Table(rows=np.stack(columns, axis=1), ids=ids, turnable=False)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _list_column(file: Path, column: pa.ChunkedArray, name: str) -> np.ndarray:
    if column.null_count:
        raise ValueError(f"{file}: {column.null_count} cells of {name!r} are empty")
    with parsing(file, "a table of vectors"):
        values = np.asarray(column.combine_chunks().flatten().to_numpy(zero_copy_only=False))
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise ValueError(
            f"{file}: the vectors of {name!r} differ in length ({min(lengths)} to {max(lengths)})"
        )
    return values.reshape(len(column), max(lengths, default=0))


def _listed_ids(file: Path, ids: Sequence[str] | Path | None, table: Table) -> tuple[str, ...]:
    fitting = table.rows.shape if table.turnable else table.rows.shape[:1]
    given = ids_of(ids, fitting=fitting)
    if given is None and table.ids is not None:
        return checked_ids(list(table.ids), file)
    if given is None:
        beside = ids_beside(file)
        given = None if beside is None else ids_of(beside, fitting=fitting)
    if given is None:
        raise ValueError(
            f"{file} does not say which photos its rows are; give a list of ids, or lay one beside it as "
            f"{file.stem}.ids.txt"
        )
    return given


def _as_rows(file: Path, table: Table, num_ids: int, transpose: bool | None) -> np.ndarray:
    """The table with a photo a row: as it is, or turned."""
    rows = table.rows
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{file} holds {rows.dtype} of shape {list(rows.shape)}, not a table of numbers")
    height, width = rows.shape
    if transpose is None and num_ids == height == width and table.turnable:
        transpose = _square_turned(file, rows)
    if transpose is None:
        transpose = table.turnable and num_ids == width != height
        if transpose:
            _log.warning(
                "%s is [%d, %d] for %d ids: a photo a column, so it was turned", file, height, width, num_ids
            )
    rows_ND = rows.T if transpose else rows
    if len(rows_ND) != num_ids:
        raise ValueError(
            f"{file} is a table [{height}, {width}], and there are {num_ids} ids; they must be its rows"
        )
    return rows_ND


def _square_turned(file: Path, rows: np.ndarray) -> bool:
    """Whether the photos of a square table are its columns, by which of the two have unit length."""
    by_row, by_column = (_all_unit(_lengths(part)) for part in (rows, rows.T))
    if by_row == by_column:
        raise ValueError(
            f"{file} is square [{len(rows)}, {len(rows)}], so nothing tells rows from columns; say transpose=False "
            "for a photo a row, True for a photo a column"
        )
    return by_column


def _lengths(rows_ND: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        wide: Any = rows_ND.astype(np.float64)
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", wide, wide)))


def _all_unit(length_N: np.ndarray) -> bool:
    return bool(np.all(np.abs(length_N - 1) <= UNIT_TOLERANCE))


def _checked_rows(
    file: Path, rows_ND: np.ndarray, ids: Sequence[str], *, normalise: bool
) -> tuple[np.ndarray, bool]:
    """float32 or float16 rows in the machine's order, and whether they are unit rows.

    What needs no change is given back as it came, a memory map included.
    """
    dtype = (
        np.dtype(np.float16)
        if rows_ND.dtype.itemsize == 2 and rows_ND.dtype.kind == "f"
        else np.dtype(np.float32)
    )
    if rows_ND.dtype.newbyteorder("=") != dtype:
        _log.warning("%s holds %s; its rows were made %s", file, rows_ND.dtype, dtype)
    kept = rows_ND.dtype == dtype and rows_ND.flags.c_contiguous and not normalise
    made_ND = rows_ND if kept else np.empty(rows_ND.shape, dtype)
    normalised = True
    for start, block in _blocks(rows_ND):
        length_B = _lengths(block)
        _refuse_rows(file, length_B, ids, start, normalise=normalise)
        if not kept:
            part = made_ND[start : start + len(block)]
            with np.errstate(over="ignore"):
                part[:] = block.astype(np.float64) / length_B[:, None] if normalise else block
            _refuse_rows(file, _lengths(part), ids, start, normalise=False)
        normalised &= normalise or _all_unit(length_B)
    return made_ND, normalised


def _blocks(rows_ND: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows_ND), _ROWS_AT_ONCE):
        yield start, rows_ND[start : start + _ROWS_AT_ONCE]


def _refuse_rows(
    file: Path, length_B: np.ndarray, ids: Sequence[str], start: int, *, normalise: bool
) -> None:
    bad = np.flatnonzero(~np.isfinite(length_B))
    if bad.size:
        row = start + int(bad[0])
        raise ValueError(
            f"{file}: row {row}, photo {ids[row]!r}, holds a NaN, an infinity or a number too large"
        )
    empty = np.flatnonzero(length_B == 0)
    if normalise and empty.size:
        row = start + int(empty[0])
        raise ValueError(f"{file}: row {row}, photo {ids[row]!r}, is all zeros and cannot be made a unit row")
