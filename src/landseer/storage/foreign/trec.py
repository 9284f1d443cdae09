"""Runs and qrels as TREC and its tools write them."""

from __future__ import annotations

import io
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from landseer.storage.foreign.lists import Listed, ranking_of_list
from landseer.storage.foreign.writing import write_whole
from landseer.types import PADDING, Ranking, Truth

_log = logging.getLogger(__name__)

RUN_COLUMNS = ("qid", "Q0", "docid", "rank", "score", "tag")
QREL_COLUMNS = ("qid", "iteration", "docid", "relevance")


def read_trec_run(
    path: Path, *, query_ids: tuple[str, ...] | None = None, gallery_ids: tuple[str, ...] | None = None
) -> Ranking:
    """A run, ``qid Q0 docid rank score tag`` a line, blanks between.

    The score decides, as in trec_eval; equal scores by rank.  Where ranks and scores contradict each other a
    warning says so.  Raises ``ValueError`` that names the line.
    """
    table = _columns(path, RUN_COLUMNS, "a TREC run")
    if query_ids is None:  # in the order of the lines, not of the ranks
        query_ids = tuple(pc.unique(table["qid"]).to_pylist())
    score_M, order_M = (
        _numbers(path, table, "score"),
        np.argsort(_numbers(path, table, "rank"), kind="stable"),
    )
    table = table.take(pa.array(order_M))
    listed = Listed(
        path=path,
        queries=table["qid"].combine_chunks(),
        photos=table["docid"].combine_chunks(),
        score_M=score_M[order_M],
        where=lambda m: _line_of(path, int(order_M[m])),
    )
    ranking = ranking_of_list(listed, query_ids=query_ids, gallery_ids=gallery_ids)
    _warn_of_contradiction(listed)
    return ranking


def _warn_of_contradiction(listed: Listed) -> None:
    """*listed* stands by rank; its scores should fall."""
    assert listed.score_M is not None
    query_M = pc.dictionary_encode(listed.queries).indices.to_numpy()
    order_M = np.argsort(query_M, kind="stable")
    rises = (np.diff(query_M[order_M]) == 0) & (np.diff(listed.score_M[order_M]) > 0)
    if rises.any():
        first = listed.queries[int(order_M[np.flatnonzero(rises)[0]])].as_py()
        _log.warning(
            "%s: ranks and scores contradict each other, for query %r first; scores count", listed.path, first
        )


def write_trec_run(ranking: Ranking, path: Path, *, tag: str = "landseer") -> None:
    """Write *ranking* as a run; scores with all their digits, so that it reads back the same.

    trec_eval breaks equal scores by document id, not by rank.  Raises ``ValueError`` where *path* exists, and for
    an id with a blank in it.
    """
    for ids, noun in ((ranking.query_ids, "query"), (ranking.gallery_ids, "photo"), ((tag,), "tag")):
        odd = next((one for one in ids if not one or re.search(r"\s", one)), None)
        if odd is not None:
            raise ValueError(f"{noun} {odd!r} has a blank or is empty, which a TREC run cannot say")
    row_M, column_M = np.nonzero(ranking.positions_QK != PADDING)
    scores = pa.array(ranking.scores_QK[row_M, column_M], pa.float32())
    queries, gallery = pa.array(ranking.query_ids, pa.string()), pa.array(ranking.gallery_ids, pa.string())
    columns = {
        "qid": queries.take(pa.array(row_M)),
        "Q0": pa.repeat("Q0", len(row_M)),
        "docid": gallery.take(pa.array(ranking.positions_QK[row_M, column_M])),
        "rank": pa.array(column_M + 1).cast(pa.string()),
        "score": scores.cast(pa.string()),
        "tag": pa.repeat(tag, len(row_M)),
    }
    options = pacsv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    with write_whole(path) as part:
        pacsv.write_csv(pa.table(columns), part, write_options=options)


def read_qrels(path: Path, *, split: str = "Private") -> Truth:
    """Judgements, ``qid iteration docid relevance`` a line -> the truth.

    Relevance above 0 is relevant, below 0 junk, 0 neither.  All queries are scored in *split*; no landmark is
    known.  Raises ``ValueError`` that names the line.
    """
    table = _columns(path, QREL_COLUMNS, "TREC qrels")
    grade_M = _numbers(path, table, "relevance")
    listed = Listed(
        path=path,
        queries=table["qid"].combine_chunks(),
        photos=table["docid"].combine_chunks(),
        score_M=None,
        where=lambda m: _line_of(path, m),
    )
    ranking_of_list(listed, query_ids=None, gallery_ids=None)  # refuses a photo judged twice
    relevant: dict[str, list[str]] = {query: [] for query in pc.unique(listed.queries).to_pylist()}
    junk: dict[str, list[str]] = {query: [] for query in relevant}
    for query, photo, grade in zip(
        listed.queries.to_pylist(), listed.photos.to_pylist(), grade_M, strict=True
    ):
        if grade:
            (relevant if grade > 0 else junk)[query].append(photo)
    return Truth(
        query_ids=tuple(relevant),
        relevant=tuple(tuple(ids) for ids in relevant.values()),
        junk=tuple(tuple(ids) for ids in junk.values()),
        landmarks=((),) * len(relevant),
        split=(split,) * len(relevant),
        recognition_split=(split,) * len(relevant),
    )


def _columns(path: Path, columns: tuple[str, ...], what: str) -> pa.Table:
    """The columns as text, one row a line that is not empty."""
    text = pa.string()
    try:
        table = pacsv.read_csv(
            io.BytesIO(_with_single_blanks(_content(path))),
            read_options=pacsv.ReadOptions(column_names=list(columns)),
            parse_options=pacsv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, text), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        _refuse_width(path, columns, what)
        raise ValueError(f"{path} cannot be read as {what}: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        _refuse_width(path, columns, what)
    return table


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def _with_single_blanks(content: bytes) -> bytes:
    """The lines with one blank between columns and none around; most files need no change."""
    if b"\t" in content or b"  " in content:
        content = re.sub(rb"[ \t]+", b" ", content)
    if any(mark in content for mark in (b"\r", b" \n", b"\n ")):
        content = re.sub(rb" ?\r?\n ?", b"\n", content)
    return content.strip(b" ")


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(number, columns) of the lines that are not empty: slow, for messages only."""
    for number, line in enumerate(_content(path).split(b"\n"), 1):
        if line.strip():
            yield number, line.split()


def _refuse_width(path: Path, columns: tuple[str, ...], what: str) -> None:
    for number, cells in _lines(path):
        if len(cells) != len(columns):
            raise ValueError(
                f"{path}, line {number}: {len(cells)} columns, not the {len(columns)} of {what} ({' '.join(columns)})"
            )
    if not any(True for _ in _lines(path)):
        raise ValueError(f"{path} is empty; {what} has {len(columns)} columns a line: {' '.join(columns)}")


def _line_of(path: Path, row: int) -> str:
    number, _ = next(itertools.islice(_lines(path), row, None))
    return f"line {number}"


def _numbers(path: Path, table: pa.Table, name: str) -> np.ndarray:
    try:
        return np.asarray(table[name].cast(pa.float64()).to_numpy())
    except pa.ArrowInvalid:
        for row, cell in enumerate(table[name].to_pylist()):
            if not _is_number(cell):
                raise ValueError(f"{path}, {_line_of(path, row)}: {name} {cell!r} is not a number") from None
        return np.array([float(cell) for cell in table[name].to_pylist()])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
