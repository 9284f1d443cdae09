"""GLDv2's solution files -> the truth: relevant photos and landmarks of each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.sheet import filled, parse_cells, read_csv, unique_ids
from landseer.datasets.summary import Findings
from landseer.types import SCORED_SPLITS, Truth

_NOTHING = "None"
"""How the retrieval solution spells a query without an answer; the recognition solution leaves the cell
empty."""


@dataclass(frozen=True)
class Answers:
    """One solution file: query -> answers, and query -> the split it is scored in."""

    of: Mapping[str, tuple[str, ...]]
    usage: Mapping[str, str]


def read_answers(file: Path, column: str, findings: Findings) -> Answers:
    """Read a solution file: ``id``, ``Usage``, and *column* (answers, space-separated, or ``None``)."""
    sheet = filled(read_csv(file, findings, columns=("id", column, "Usage")), "id", findings)
    sheet = parse_cells(filled(sheet, "Usage", findings), "Usage", _parse_usage, pa.string(), findings)
    sheet = unique_ids(sheet, findings)
    if column == "landmarks":
        numbers_only = pc.match_substring_regex(sheet[column], r"^\d{1,18}(\s+\d{1,18})*$")
        wrong = np.asarray(pc.fill_null(pc.invert(numbers_only), False))
        sheet = sheet.refuse(wrong, "bad landmarks", findings, lambda row: sheet.cell(row, column))
    queries = sheet["id"].to_pylist()
    answers: dict[str, tuple[str, ...]] = {}
    twice = []
    for query, cell in zip(queries, sheet[column].to_pylist(), strict=True):
        listed = [] if cell in (None, _NOTHING) else cell.split()
        answers[query] = tuple(dict.fromkeys(listed))
        if len(answers[query]) < len(listed):
            twice.append(query)
    findings.add(
        f"queries that list one of their {column} twice",
        "counted once",
        count=len(twice),
        examples=(f"{file.name}: query {query!r}" for query in twice),
    )
    return Answers(answers, dict(zip(queries, sheet["Usage"].to_pylist(), strict=True)))


def truth_of(
    retrieval: Answers | None,
    recognition: Answers | None,
    queries: Sequence[str] | None,
    findings: Findings,
) -> Truth | None:
    """The truth of both solution files (either may be absent), in the order of *queries*; None without any.

    A query of a solution that is not among *queries* follows at the end: it is scored, as the challenge does.
    Without *queries* the order is that of the files.
    """
    if retrieval is None and recognition is None:
        return None
    nothing = Answers({}, {})
    retrieval, recognition = retrieval or nothing, recognition or nothing
    solved = {**retrieval.usage, **recognition.usage}
    queries = list(solved) if queries is None else queries
    listed = set(queries)
    strangers = [query for query in solved if query not in listed]
    findings.add(
        "queries of a solution file that test.csv does not list",
        "kept in the truth, where they score 0",
        count=len(strangers),
        examples=strangers,
    )
    ids = tuple(query for query in queries if query in solved) + tuple(strangers)
    return Truth(
        query_ids=ids,
        relevant=tuple(retrieval.of.get(query, ()) for query in ids),
        junk=((),) * len(ids),
        landmarks=tuple(tuple(int(cell) for cell in recognition.of.get(query, ())) for query in ids),
        split=tuple(retrieval.usage.get(query) or recognition.usage[query] for query in ids),
        recognition_split=tuple(recognition.usage.get(query) or retrieval.usage[query] for query in ids),
    )


def _parse_usage(text: str) -> str:
    usage = text.capitalize()
    if usage not in SCORED_SPLITS:
        raise ValueError(f"{text!r} is no split (known: {', '.join(SCORED_SPLITS)})")
    return usage
