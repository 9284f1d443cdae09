"""The tables that a person edits: what the edits mean, and each mistake in one line with its place."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.cleaning.group_tables import GROUPS, PHOTOS, read_tables, write_tables
from landseer.cleaning.grouping import Group, Grouping
from landseer.cleaning.links import Strangers


def group(number, *members):
    return Group(number=number, members=members, spread=0.1, confidence=0.9, proven=0.5)


GROUPING = Grouping(
    groups=(group(4, "a", "b", "c"), group(5, "d", 'e, "quoted"'), group(6, "f", "g")),
    alone=("h",),
    strangers=Strangers(cosine=0.1, spread=0.1),
)


@pytest.fixture
def folder(tmp_path):
    write_tables(GROUPING, tmp_path, name_of={5: "Zwinger, Dresden"})
    return tmp_path


def edit(file, **cells):
    """Change cells: ``row.column`` of the first column's value, say ``4.name``."""
    rows = list(csv.DictReader(file.open(newline="")))
    for where, value in cells.items():
        key, column = where.rsplit(".", 1)
        row = next(row for row in rows if row[next(iter(row))] == key)
        row[column] = value
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


def test_untouched_tables_say_what_was_found(folder):
    said = read_tables(folder)
    assert said.place_of == {
        "a": 4, "b": 4, "c": 4, "d": 5, 'e, "quoted"': 5, "f": 6, "g": 6, "h": None,
    }  # fmt: skip
    assert said.name_of == {5: "Zwinger, Dresden"}


def test_naming_merging_splitting_and_leaving_out(folder):
    edit(folder / GROUPS, **{"4.name": " Semperoper ", "6.same_as": "4"})
    edit(folder / PHOTOS, **{"b.group": "99", "d.group": "", "h.group": "5"})
    said = read_tables(folder)
    assert said.place_of == {
        "a": 4, "b": 99, "c": 4, "d": None, 'e, "quoted"': 5, "f": 4, "g": 4, "h": 5,
    }  # fmt: skip
    assert said.name_of == {4: "Semperoper", 5: "Zwinger, Dresden"}


def test_merging_goes_through_several_groups_and_takes_the_name_along(folder):
    edit(folder / GROUPS, **{"5.same_as": "6", "6.same_as": "4"})
    said = read_tables(folder)
    assert {said.place_of[photo] for photo in "acdfg"} == {4}
    assert said.name_of == {4: "Zwinger, Dresden"}


def test_what_a_spreadsheet_does_is_understood(folder):
    """A byte order mark, carriage returns, numbers as fractions, empty lines at the end."""
    edit(folder / PHOTOS, **{"a.group": "5.0"})
    text = (folder / PHOTOS).read_text().replace("\n", "\r\n")
    (folder / PHOTOS).write_bytes(b"\xef\xbb\xbf" + text.encode() + b",\r\n\r\n")
    assert read_tables(folder).place_of["a"] == 5


@pytest.mark.parametrize(
    ("file", "cells", "message"),
    [
        (GROUPS, {"4.same_as": "77"}, r"groups.csv line 2: same_as names group 77, which is not there"),
        (GROUPS, {"4.same_as": "5", "5.same_as": "4"}, r"groups.csv line \d: same_as leads in a circle"),
        (GROUPS, {"4.same_as": "4"}, r"groups.csv line 2: same_as leads in a circle back to group 4"),
        (GROUPS, {"4.name": "Opera", "4.same_as": "5"}, "named 'Zwinger, Dresden' here and 'Opera' at .* which is it"),
        (GROUPS, {"4.group": "5"}, "groups.csv line 3: group 5 stands there twice"),
        (GROUPS, {"4.group": "four"}, "groups.csv line 2: group 'four' is not the number of a group"),
        (PHOTOS, {"b.group": "-3"}, "photos.csv line 3: group '-3' is not the number of a group"),
        (PHOTOS, {"b.group": "1.5"}, "photos.csv line 3: group '1.5' is not the number"),
        (PHOTOS, {"b.group": "9" * 30}, "photos.csv line 3: group '9+' is not the number"),
        (PHOTOS, {"b.group": "٣"}, "photos.csv line 3: group '٣' is not the number"),
        (PHOTOS, {"b.photo": "a"}, "photos.csv line 3: photo 'a' stands there twice"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place(folder, file, cells, message):
    edit(folder / file, **cells)
    with pytest.raises(ValueError, match=message) as error:
        read_tables(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "photos.csv line 1: no column 'photo' .found: nothing"),
        (b"photo;group\na;4\n", "no column 'photo' .*save with commas"),
        (b"photo,group,group\na,4,4\n", "no column 'group'"),
        (b"photo,group\na\n", "photos.csv line 2: 1 cells, but the header has 2"),
        (b"photo,group\n\xff,4\n", "photos.csv is not UTF-8 text"),
        (b'photo,group\n"a,4\n' + b"x" * 200_000, "photos.csv line .*not a CSV row"),
    ],
)
def test_files_that_are_no_such_table_are_refused(folder, content, message):
    (folder / PHOTOS).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tables(folder)
    (folder / PHOTOS).unlink()
    with pytest.raises(ValueError, match=r"photos.csv cannot be read .* name a folder of landseer group"):
        read_tables(folder)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1),
        unique=True,
        min_size=2,
    )
)
def test_any_id_survives(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    write_tables(
        Grouping(groups=(group(1, *ids[:-1]),), alone=(ids[-1],), strangers=GROUPING.strangers),
        folder,
        name_of={},
    )
    assert read_tables(folder).place_of == {**dict.fromkeys(ids[:-1], 1), ids[-1]: None}
