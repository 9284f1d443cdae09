"""``submission.csv`` of the Google Landmark challenges of 2019 and 2021, read and checked row by row.

Retrieval: header ``id,images``, at most 100 index ids a cell, blanks between, best first.  Recognition: header
``id,landmarks``, a cell ``landmark confidence`` or empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from landseer.storage.foreign.ids import read_text
from landseer.storage.foreign.lists import Listed, ranking_of_list
from landseer.types import Ranking, Recognition

RETRIEVAL_HEADER = ("id", "images")
RECOGNITION_HEADER = ("id", "landmarks")
RECOGNITION_TABLE = ("query", "landmark", "confidence")
MOST_ANSWERS = 100
"""More answers than this a query are not scored, and a file with more is refused."""


def read_retrieval_submission(
    path: Path, *, query_ids: Sequence[str] | None = None, gallery_ids: Sequence[str] | None = None
) -> Ranking:
    """A retrieval submission as a ranking whose scores say the order only.

    *query_ids*: the queries the challenge asks for, all of which must be there and no other.  *gallery_ids*: its
    index, to which every answer must belong; else the gallery is what the file names.  Raises ``ValueError`` that
    names the row (the header is row 1).
    """
    rows = _rows(path, RETRIEVAL_HEADER, query_ids)
    row_of_answer: list[int] = []
    queries: list[str] = []
    photos: list[str] = []
    for number, query, (cell,) in rows:
        answers = cell.split()
        if len(answers) > MOST_ANSWERS:
            raise ValueError(
                f"{path}, row {number}: query {query!r} has {len(answers)} answers, more than {MOST_ANSWERS}"
            )
        row_of_answer += [number] * len(answers)
        queries += [query] * len(answers)
        photos += answers
    listed = Listed(
        path=path,
        queries=pa.array(queries, pa.string()),
        photos=pa.array(photos, pa.string()),
        score_M=None,
        where=lambda m: f"row {row_of_answer[m]}",
        all_queries=tuple(query for _, query, _ in rows),
    )
    return ranking_of_list(
        listed,
        query_ids=None if query_ids is None else tuple(query_ids),
        gallery_ids=None if gallery_ids is None else tuple(gallery_ids),
    )


def read_recognition_submission(
    path: Path, *, query_ids: Sequence[str] | None = None, landmarks: Collection[int] | None = None
) -> Recognition:
    """A recognition submission; an empty cell is landmark -1 with confidence 0.

    *query_ids*: the queries the challenge asks for, all of which must be there and no other, and the order of the
    result.  *landmarks*: those that exist.  Raises ``ValueError`` that names the row (the header is row 1).
    """
    rows = _rows(path, RECOGNITION_HEADER, query_ids)
    found = {query: _landmark(path, number, cell) for number, query, (cell,) in rows}
    for number, query, _ in rows:
        landmark = found[query][0]
        if landmarks is not None and landmark >= 0 and landmark not in landmarks:
            raise ValueError(f"{path}, row {number}: there is no landmark {landmark}")
    return _recognition(tuple(found) if query_ids is None else tuple(query_ids), found)


def _recognition(ids: tuple[str, ...], found: Mapping[str, tuple[int, float]]) -> Recognition:
    return Recognition(
        query_ids=ids,
        landmark_Q=np.array([found[query][0] for query in ids], np.int64),
        confidence_Q=np.array([found[query][1] for query in ids], np.float32),
    )


def is_recognition(path: str | Path) -> bool:
    """Whether a file names landmarks rather than photos, by its header."""
    file = Path(path)
    return (
        file.is_file()
        and file.suffix.lower() == ".csv"
        and header_of(file) in (RECOGNITION_HEADER, RECOGNITION_TABLE)
    )


def read_recognition(path: str | Path) -> Recognition:
    """A recognition submission, or a table ``query,landmark,confidence`` with empty cells where no landmark is named.

    Raises ``ValueError`` that names the row.
    """
    file = Path(path)
    if header_of(file) == RECOGNITION_HEADER:
        return read_recognition_submission(file)
    found = {
        query: _landmark(file, number, " ".join(cells))
        for number, query, cells in _rows(file, RECOGNITION_TABLE, None)
    }
    return _recognition(tuple(found), found)


def header_of(path: Path) -> tuple[str, ...]:
    """The cells of a file's first row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(cell.strip() for cell in next(csv.reader(file), ()))
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is not a CSV table in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def _landmark(path: Path, number: int, cell: str) -> tuple[int, float]:
    parts = cell.split()
    if not parts:
        return -1, 0.0
    if len(parts) != 2:
        raise ValueError(f"{path}, row {number}: {cell!r} is not one landmark and its score, nor empty")
    if not parts[0].isascii() or not parts[0].isdigit() or int(parts[0]) >= 2**63:
        raise ValueError(f"{path}, row {number}: {parts[0]!r} is not the number of a landmark")
    try:
        score = float(parts[1])
    except ValueError:
        score = math.nan
    with np.errstate(
        over="ignore"
    ):  # rounded first: the shortest spelling of the largest float32 lies above it
        finite = np.isfinite(np.float32(score))
    if not finite:
        raise ValueError(f"{path}, row {number}: score {parts[1]!r} is not a number")
    return int(parts[0]), score


def _rows(
    path: Path, header: tuple[str, ...], query_ids: Sequence[str] | None
) -> list[tuple[int, str, list[str]]]:
    """(row number, query, its other cells) of every row, after the checks both kinds share."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not a row of a CSV table ({error})") from None
    shown = ",".join(header)
    if not rows or tuple(cell.strip() for cell in rows[0][1]) != header:
        first = ",".join(rows[0][1])[:80] if rows else ""
        raise ValueError(f"{path}, row 1: the header is {first!r}, not {shown!r}")
    seen: dict[str, int] = {}
    wanted = None if query_ids is None else set(query_ids)
    found = []
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{path}, row {number}: {len(row)} cells, not the {len(header)} of {shown!r}")
        query = row[0].strip()
        if not query:
            raise ValueError(f"{path}, row {number}: the query's id is empty")
        if query in seen:
            raise ValueError(f"{path}, row {number}: query {query!r} is there already, in row {seen[query]}")
        if wanted is not None and query not in wanted:
            raise ValueError(f"{path}, row {number}: query {query!r} is none the challenge asks for")
        seen[query] = number
        found.append((number, query, row[1:]))
    missing = [query for query in query_ids or () if query not in seen]
    if missing:
        raise ValueError(f"{path}: {len(missing)} queries have no row, the first is {missing[0]!r}")
    return found
