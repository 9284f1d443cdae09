"""Groups as two tables that a person edits, and what they say after that.

``groups.csv`` has a row a group: its ``name`` may be written, and in ``same_as`` the number of another group that is
the same place.  ``photos.csv`` has a row a photo: its ``group`` may be changed to another number, to one that no group
has (which makes a new group), or to nothing (the photo is of no known place).  All other columns are for reading.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from landseer.cleaning.grouping import Grouping

GROUPS, PHOTOS = "groups.csv", "photos.csv"
_GROUP_COLUMNS = ("group", "name", "same_as", "photos", "confidence", "spread", "proven", "medoid")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Edited:
    """What the edited tables say: every photo that was asked about, and the places there are."""

    place_of: Mapping[str, int | None]
    """Photo -> number of its place, merged groups under one; None: no known place."""
    name_of: Mapping[int, str]
    """Of the places that have a name."""


def write_tables(grouping: Grouping, folder: Path, *, name_of: Mapping[int, str]) -> None:
    """Write both tables into *folder*; *name_of* gives the names that groups have already."""
    with (folder / GROUPS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_GROUP_COLUMNS)
        for group in grouping.groups:
            figures = (f"{value:.3f}" for value in (group.confidence, group.spread, group.proven))
            table.writerow(
                [group.number, name_of.get(group.number, ""), "", len(group), *figures, group.medoid]
            )
    with (folder / PHOTOS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("photo", "group"))
        for group in grouping.groups:
            table.writerows((photo, group.number) for photo in group.members)
        table.writerows((photo, "") for photo in grouping.alone)


def read_tables(folder: Path) -> Edited:
    """What the tables in *folder* say now.

    Raises ``ValueError`` with file and line for what cannot be: a cell that is no number, a group or photo that stands
    there twice, ``same_as`` of a group that is not there or that leads in a circle, and two names for one place.
    """
    named: dict[int, tuple[str, str]] = {}
    same: dict[int, tuple[int, str]] = {}
    listed: set[int] = set()
    for where, row in _rows(folder / GROUPS, ("group", "name", "same_as")):
        number = _number(row["group"], where, "group")
        if number in listed:
            raise ValueError(f"{where}: group {number} stands there twice; leave one row")
        listed.add(number)
        if row["name"].strip():
            named[number] = (row["name"].strip(), where)
        if row["same_as"].strip():
            same[number] = (_number(row["same_as"], where, "same_as"), where)
    place_of: dict[str, int | None] = {}
    for where, row in _rows(folder / PHOTOS, ("photo", "group")):
        photo = row["photo"]
        if photo in place_of:
            raise ValueError(f"{where}: photo {photo!r} stands there twice; leave one row")
        place_of[photo] = _number(row["group"], where, "group") if row["group"].strip() else None
    known = listed | {number for number in place_of.values() if number is not None}
    root_of = {number: _end(number, same, known) for number in known}
    return Edited(
        place_of={photo: None if number is None else root_of[number] for photo, number in place_of.items()},
        name_of=_names(named, root_of),
    )


def _end(number: int, same: Mapping[int, tuple[int, str]], known: set[int]) -> int:
    """The group that *number* is at last said to be the same as."""
    passed = {number}
    while number in same:
        number, where = same[number]
        if number not in known:
            raise ValueError(f"{where}: same_as names group {number}, which is not there")
        if number in passed:
            raise ValueError(
                f"{where}: same_as leads in a circle back to group {number}; leave one of them empty"
            )
        passed.add(number)
    return number


def _names(named: Mapping[int, tuple[str, str]], root_of: Mapping[int, int]) -> dict[int, str]:
    found: dict[int, tuple[str, str]] = {}
    for number, (name, where) in named.items():
        place = root_of[number]
        other, there = found.setdefault(place, (name, where))
        if other != name:
            raise ValueError(
                f"{where}: the place is named {name!r} here and {other!r} at {there}; which is it?"
            )
    return {place: name for place, (name, _) in found.items()}


def _number(text: str, where: str, column: str) -> int:
    cell = text.strip().removesuffix(
        ".0"
    )  # a spreadsheet makes fractions of whole numbers beside empty cells
    if not (cell.isascii() and cell.isdigit() and int(cell) <= _LARGEST):
        raise ValueError(f"{where}: {column} {text!r} is not the number of a group")
    return int(cell)


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of each row that has any."""
    try:
        stream = file.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read ({error.strerror}); name a folder of landseer group"
        ) from None
    with stream:
        table = csv.reader(stream)
        try:
            header = next(table, [])
            for column in columns:
                if header.count(column) != 1:
                    raise ValueError(
                        f"{file} line 1: no column {column!r} (found: {', '.join(header)[:80] or 'nothing'}); "
                        "keep the header, and save with commas"
                    )
            for cells in table:
                if not any(cells):
                    continue
                where = f"{file} line {table.line_num}"
                if len(cells) != len(header):
                    raise ValueError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
                yield where, dict(zip(header, cells, strict=True))
        except UnicodeDecodeError:
            raise ValueError(f"{file} is not UTF-8 text; save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise ValueError(f"{file} line {table.line_num}: not a CSV row ({error})") from None
