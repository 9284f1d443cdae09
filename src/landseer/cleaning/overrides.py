"""``overrides.csv``: a person's word on single photos, which stands above the machine's."""

from __future__ import annotations

import csv
from pathlib import Path

HEADER = ("id", "decision")
DECISIONS = {"keep": 1, "drop": -1}


def read_overrides(path: Path) -> dict[str, int]:
    """Photo id -> 1 (keep) or -1 (drop), from a CSV file with the columns ``id`` and ``decision``.

    Raises ``ValueError``, which names the row, for anything else, and for a photo with two words on it.
    """
    found: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = tuple(cell.strip() for cell in next(rows, []))
            if header != HEADER:
                raise ValueError(f"{path} must begin with the line id,decision, not {','.join(header)!r}")
            for row in rows:
                if row:
                    _take(row, found, f"{path} line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from None
    return found


def _take(row: list[str], found: dict[str, int], where: str) -> None:
    if len(row) != len(HEADER):
        raise ValueError(f"{where} has {len(row)} cells, not an id and a decision")
    photo, word = (cell.strip() for cell in row)
    if word not in DECISIONS:
        raise ValueError(f"{where}: {word!r} is no decision; say keep or drop")
    if found.setdefault(photo, DECISIONS[word]) != DECISIONS[word]:
        raise ValueError(f"{where}: photo {photo!r} is both kept and dropped; leave one line")
