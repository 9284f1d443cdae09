"""``submission.csv`` of the Google Landmark challenges of 2019 and 2021, written and read.

Retrieval: header ``id,images``, at most 100 index ids a cell, blanks between, best first.  Recognition: header
``id,landmarks``, a cell ``landmark confidence``, empty where no landmark is named.  Every file is checked before it
appears, by the rules that reading one checks (``landseer.storage.foreign``).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from landseer.storage.foreign.ids import checked_ids, read_ids
from landseer.storage.foreign.submissions import (
    MOST_ANSWERS,
    RECOGNITION_HEADER,
    RETRIEVAL_HEADER,
    read_recognition_submission,
    read_retrieval_submission,
)
from landseer.storage.foreign.writing import write_whole
from landseer.types import Ranking, Recognition

__all__ = [
    "read_recognition_submission",
    "read_retrieval_submission",
    "sample_queries",
    "write_recognition_submission",
    "write_retrieval_submission",
]


def sample_queries(path: Path) -> tuple[str, ...]:
    """The queries a ``sample_submission.csv`` (or ``test.csv``) asks for, in its order: its column ``id``."""
    return read_ids(f"{path}::id")


def write_retrieval_submission(
    ranking: Ranking,
    path: Path,
    *,
    query_ids: Sequence[str] | None = None,
    index_ids: Collection[str] | None = None,
) -> None:
    """Write the best 100 answers of each query, in the order of *query_ids*, those the challenge asks for.

    *index_ids*: the photos of its index.  Raises ``ValueError`` and writes nothing where *path* exists, where a query
    of the challenge was not ranked or another one was, where an answer is not in the index, and for an id that a cell
    cannot hold.
    """
    _refuse_odd(ranking.query_ids, "query")
    _refuse_odd(ranking.gallery_ids, "photo")
    row_of = _rows_of(ranking.query_ids, query_ids)
    index = None if index_ids is None else set(index_ids)
    cells = []
    for query, row in row_of.items():
        answers = [photo for photo, _ in ranking.answers(row)[:MOST_ANSWERS]]
        stranger = None if index is None else next((photo for photo in answers if photo not in index), None)
        if stranger is not None:
            raise ValueError(f"answer {stranger!r} to query {query!r} is not in the index of the challenge")
        cells.append((query, " ".join(answers)))
    _write(path, RETRIEVAL_HEADER, cells)


def write_recognition_submission(
    recognition: Recognition, path: Path, *, query_ids: Sequence[str] | None = None
) -> None:
    """Write the landmark and confidence of each query, in the order of *query_ids*; no landmark, an empty cell.

    Confidences keep all their digits.  Raises ``ValueError`` and writes nothing where *path* exists, where a query of
    the challenge has no row or another one has, and for a confidence that is not finite.
    """
    _refuse_odd(recognition.query_ids, "query")
    row_of = _rows_of(recognition.query_ids, query_ids)
    cells = []
    for query, row in row_of.items():
        landmark, confidence = int(recognition.landmark_Q[row]), recognition.confidence_Q[row]
        if landmark >= 0 and not np.isfinite(confidence):
            raise ValueError(f"the confidence of query {query!r} is {confidence}, not a finite number")
        cells.append((query, f"{landmark} {confidence!s}" if landmark >= 0 else ""))
    _write(path, RECOGNITION_HEADER, cells)


def _rows_of(ranked: Sequence[str], asked: Sequence[str] | None) -> dict[str, int]:
    """Query -> its row, in the order the challenge asks for."""
    row_of = {query: row for row, query in enumerate(checked_ids(list(ranked), None))}
    if asked is None:
        return row_of
    missing = [query for query in asked if query not in row_of]
    if missing:
        raise ValueError(
            f"{len(missing)} queries of the challenge have no answer, the first is {missing[0]!r}"
        )
    unknown = row_of.keys() - set(asked)
    if unknown:
        raise ValueError(f"{len(unknown)} queries are none the challenge asks for, {min(unknown)!r} for one")
    return {query: row_of[query] for query in asked}


def _refuse_odd(ids: Sequence[str], noun: str) -> None:
    odd = next((one for one in ids if not one or re.search(r'[\s,"]', one)), None)
    if odd is not None:
        raise ValueError(
            f"{noun} {odd!r} is empty or has a blank, comma or quote, which no submission can say"
        )


def _write(path: Path, header: tuple[str, ...], cells: Iterable[tuple[str, str]]) -> None:
    with write_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(cells)
