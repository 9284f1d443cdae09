"""CSV and Parquet files as sheets of text, whose every row knows its number in the file.

Cells stay text until a caller says what they mean, so that no reader turns ``NA`` (Namibia) into nothing or
an id of digits into a number.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from landseer.datasets.summary import Findings
from landseer.storage import read_table

REFUSED = "row left out"


@dataclass(frozen=True)
class Sheet:
    """A table of text columns (null: empty cell) read from the file *name*; N rows."""

    name: str
    table: pa.Table
    row_N: np.ndarray
    """Row number in the file; the header of a CSV is row 1, the first row of a Parquet file is row 1."""
    called: Mapping[str, str] = field(default_factory=dict)
    """Column -> what the file calls it, where that is something else."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        return self.table[column]

    def keep(self, mask_N: np.ndarray) -> Sheet:
        """The rows where *mask_N* holds."""
        if mask_N.all():
            return self
        return replace(self, table=self.table.filter(pa.array(mask_N)), row_N=self.row_N[mask_N])

    def with_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> Sheet:
        """The same rows with the column *name* added or replaced."""
        if name in self.table.column_names:
            table = self.table.set_column(self.table.column_names.index(name), name, values)
        else:
            table = self.table.append_column(name, values)
        return replace(self, table=table)

    def where(self, row: int) -> str:
        """How a message names a row: file and number."""
        return f"{self.name} row {self.row_N[row]}"

    def cell(self, row: int, column: str) -> str:
        """How a message names a cell: file, row, column and value."""
        return f"{self.column(row, column)}: {self.table[column][row].as_py()!r}"

    def column(self, row: int, column: str) -> str:
        """How a message names a place: file, row and column."""
        return f"{self.where(row)}, column {self.called.get(column, column)}"

    def refuse(
        self, wrong_N: np.ndarray, what: str, findings: Findings, describe: Callable[[int], str] | None = None
    ) -> Sheet:
        """The rows where *wrong_N* does not hold; the others are noted as refused."""
        findings.mark(what, REFUSED, wrong_N, describe or self.where, refused=True)
        return self.keep(~wrong_N)


def read_csv(
    file: Path, findings: Findings, *, columns: Sequence[str] = (), optional: Sequence[str] = ()
) -> Sheet:
    """Read a CSV file (UTF-8, with or without a byte-order mark, any line ends, quoted cells) as text.

    With *columns* only these are read, all of which must be there, and those of *optional* that are; the
    rest is noted as ignored.  Cells are trimmed; empty ones are null.  Rows with too few or too many cells
    are refused.  Raises ``ValueError`` with the file and what to do.
    """
    header, num_lines = csv_header(file)
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"{file} has no column {missing[0]!r} (it has: {', '.join(header)})")
    wanted = [*columns, *(name for name in optional if name in header)] if columns else header
    ignored = tuple(name for name in header if name not in wanted)
    if ignored:
        findings.ignored_columns[file.name] = ignored
    ragged: list[tuple[int, int]] = []

    def skip(row: Any) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    try:
        table = pacsv.read_csv(
            file,
            read_options=pacsv.ReadOptions(
                use_threads=False,  # only then does a bad row know its number
                column_names=header,
                skip_rows=num_lines,
            ),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{file} cannot be read as CSV ({error}); save it as comma-separated UTF-8"
        ) from None
    row_N = np.arange(2, 2 + table.num_rows + len(ragged), dtype=np.int64)
    row_N = row_N[~np.isin(row_N, [number for number, _ in ragged])]
    findings.add(
        "rows with too few or too many cells",
        REFUSED,
        count=len(ragged),
        examples=(
            f"{file.name} row {number}: {cells} cells, not {len(header)}; quote cells that hold a comma"
            for number, cells in ragged
        ),
        refused=True,
    )
    return Sheet(file.name, _trimmed(table), row_N)


def csv_header(file: Path) -> tuple[list[str], int]:
    """The column names of a CSV file, and how many lines they take with the blank ones before them.

    Raises ``ValueError`` where there are none or one occurs twice.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            header = [name.strip() for name in next((row for row in reader if row), [])]
            num_lines = reader.line_num
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{file} cannot be read as CSV ({error}); save it as comma-separated UTF-8"
        ) from None
    if not any(header):
        raise ValueError(f"{file} is empty; its first row must name the columns")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{file} names the column {twice!r} twice; rename one of them")
    return header, num_lines


def read_parquet(file: Path) -> Sheet:
    """Read a Parquet file; columns keep their types."""
    table = read_table(file)
    return Sheet(file.name, table, np.arange(1, 1 + table.num_rows, dtype=np.int64))


def parse_cells(
    sheet: Sheet, column: str, parse: Callable[[str], Any], type_: pa.DataType, findings: Findings
) -> Sheet:
    """Replace a text column by what *parse* makes of each distinct cell; refuse rows where it raises
    ``ValueError``.

    Empty cells stay empty.
    """
    encoded = sheet[column].combine_chunks().dictionary_encode()
    values, reasons = [], {}
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            values.append(parse(text))
        except ValueError as error:
            values.append(None)
            reasons[number] = str(error)
    code_N = np.asarray(pc.fill_null(encoded.indices, -1))
    if reasons:
        wrong_N = np.isin(code_N, list(reasons))
        sheet = sheet.refuse(
            wrong_N,
            f"bad {column}",
            findings,
            lambda row: f"{sheet.column(row, column)}: {reasons[int(code_N[row])]}",
        )
        code_N = code_N[~wrong_N]
    parsed = pa.array(values, type_).take(pa.array(code_N, mask=code_N < 0))
    return sheet.with_column(column, parsed)


def whole_numbers(sheet: Sheet, column: str, findings: Findings) -> Sheet:
    """Turn a text column of landmark numbers into int64, refusing rows whose cell is no number from 0 on.

    Works on columns, so that millions of rows take seconds.  Empty cells stay empty.
    """
    is_number = pc.match_substring_regex(sheet[column], r"^\d{1,18}$")
    wrong_N = np.asarray(pc.fill_null(pc.invert(is_number), False))
    sheet = sheet.refuse(
        wrong_N,
        f"{column} that is no whole number from 0 on",
        findings,
        lambda row: f"{sheet.cell(row, column)} is no landmark number",
    )
    return sheet.with_column(column, sheet[column].cast(pa.int64()))


def filled(sheet: Sheet, column: str, findings: Findings) -> Sheet:
    """Refuse rows whose cell in *column* is empty."""
    empty_N = np.asarray(sheet[column].is_null())
    return sheet.refuse(empty_N, f"empty {column}", findings)


def first_of_each(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Bool ``[N]``: true where a value occurs for the first time."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    code_N = np.asarray(values.dictionary_encode().indices)
    first_N = np.zeros(len(code_N), dtype=bool)
    first_N[np.unique(code_N, return_index=True)[1]] = True
    return first_N


def unique_ids(sheet: Sheet, findings: Findings, *, column: str = "id") -> Sheet:
    """Refuse rows whose id stood in an earlier row."""
    again_N = ~first_of_each(sheet[column])
    findings.duplicate_ids += int(again_N.sum())
    return sheet.refuse(again_N, "duplicate ids", findings, lambda row: sheet.cell(row, column))


def distinct_ids(parts: Mapping[str, Sheet], findings: Findings) -> dict[str, Sheet]:
    """The sheets of several splits without rows whose id an earlier split has."""
    kept: dict[str, Sheet] = {}
    for split, sheet in parts.items():
        again_N = np.zeros(len(sheet), dtype=bool)
        for earlier in kept.values():
            again_N |= np.asarray(pc.is_in(sheet["id"], value_set=earlier["id"].combine_chunks()))
        findings.duplicate_ids += int(again_N.sum())
        describe = partial(sheet.cell, column="id")
        kept[split] = sheet.refuse(again_N, "ids that another split has, too", findings, describe)
    return kept


def _trimmed(table: pa.Table) -> pa.Table:
    for at, name in enumerate(table.column_names):
        text = pc.utf8_trim_whitespace(table[name])
        table = table.set_column(at, name, pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text))
    return table
