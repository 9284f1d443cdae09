from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from landseer.datasets import import_table

COLUMNS = {
    "path": ["a.jpg", "b.jpg", "c.jpg"],
    "id": ["1", "2", "3"],
    "landmark": ["Tower", "Abbey", ""],
    "kind": ["", "landmark", "None"],
    "clean": ["true", "0", ""],
    "split": ["Train", "query", ""],
    "country": ["NA", "fr", ""],
    "taken": ["2021:07:30 18:05:00", "2021-07-30T20:05:00+02:00", "2021-07-30"],
    "latitude": ["-22.56", "48.86", "51.5007"],
    "longitude": ["17.07", "2.29", "-0.1246"],
    "rights": ["NA", "null", ""],
}


def write(folder: Path, columns: dict[str, list[str]], name: str = "t.csv") -> Path:
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    (folder / name).write_text("".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows))
    return folder / name


def photos(folder: Path, make, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(make.jpeg())


@pytest.fixture
def folder(tmp_path: Path, make) -> Path:
    photos(tmp_path, make, "a.jpg", "b.jpg", "c.jpg")
    return tmp_path


def problem(summary, part: str):
    found = [entry for entry in summary.problems if part in entry.what]
    assert len(found) == 1, [entry.what for entry in summary.problems]
    return found[0]


def test_every_column(folder: Path) -> None:
    collection, summary = import_table(write(folder, COLUMNS))
    first, second, third = collection.photos.to_pylist()
    assert first == {
        "id": "1", "path": "a.jpg", "landmark": 1, "kind": "landmark", "clean": True,
        "split": "train", "country": "NA",
        "taken": datetime(2021, 7, 30, 18, 5), "latitude": -22.56, "longitude": 17.07, "rights": "NA",
    }  # fmt: skip
    assert (second["landmark"], second["clean"], second["country"], second["rights"]) == (
        0,
        False,
        "FR",
        "null",
    )
    assert second["taken"] == datetime(2021, 7, 30, 18, 5)  # in UTC
    assert (third["kind"], third["split"], third["country"], third["clean"]) == ("none", "index", "GB", False)
    assert collection.landmarks["name"].to_pylist() == ["Abbey", "Tower"]
    assert summary.problems == () and summary.photos == 3


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_columns_does_not_matter(folder: Path, seed: int) -> None:
    names = list(COLUMNS)
    random.Random(seed).shuffle(names)
    plain = import_table(write(folder, COLUMNS))[0]
    other = import_table(write(folder, {name: COLUMNS[name] for name in names}))[0]
    assert plain.photos.equals(other.photos) and plain.landmarks.equals(other.landmarks)


def test_columns_under_other_names(folder: Path) -> None:
    table = write(
        folder, {"file_name": ["a.jpg", "b.jpg"], "place": ["9", "4"], "path": ["x", "y"], "what": ["N", "M"]}
    )
    mapping = {"path": "file_name", "landmark": "place", "landmark_name": "what"}
    collection, summary = import_table(table, columns=mapping, split="train")
    assert collection.ids == collection.paths == ("a.jpg", "b.jpg")
    assert collection.photos["landmark"].to_pylist() == [9, 4]
    assert collection.landmarks.select(["landmark", "name"]).to_pylist() == [
        {"landmark": 4, "name": "M"}, {"landmark": 9, "name": "N"}]  # fmt: skip
    assert summary.ignored_columns == {"t.csv": ("path",)} and summary.splits["train"] == 2
    with pytest.raises(ValueError, match="no column 'landmrk' in a collection; did you mean 'landmark'"):
        import_table(table, columns={"landmrk": "place"})
    with pytest.raises(ValueError, match="has no column 'plase'; did you mean 'place'"):
        import_table(table, columns={"landmark": "plase"})
    with pytest.raises(ValueError, match="--column path=NAME"):
        import_table(write(folder, {"file": ["a.jpg"]}))


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        (
            "country",
            "UK",
            "'UK' is no ISO 3166-1 alpha-2 country code (two letters, as FR or NA); did you mean 'GB'?",
        ),
        ("latitude", "98", "latitude 98 lies outside -90..90; are the two columns swapped?"),
        ("longitude", "2,29", "'2,29' is no longitude; write decimal degrees such as 48.8584"),
        ("longitude", "nan", "longitude nan lies outside"),
        ("taken", "30.7.2021", "'30.7.2021' is no date; write 2021-07-30 or 2021-07-30T18:05:00"),
        ("split", "quary", "did you mean 'query'?"),
        ("clean", "maybe", "'maybe' is neither true nor false"),
        ("kind", "castle", "'castle' is not one of landmark, none, unknown"),
    ],
)
def test_a_bad_cell_refuses_its_row(folder: Path, column: str, cell: str, reason: str) -> None:
    columns = {**COLUMNS, column: [COLUMNS[column][0], cell, COLUMNS[column][2]]}
    collection, summary = import_table(write(folder, columns))
    assert collection.ids == ("1", "3") and summary.rows_refused == 1
    (example,) = problem(summary, f"bad {column}").examples
    assert example.startswith(f"t.csv row 3, column {column}: ") and reason in example


def test_rows_that_contradict_themselves(folder: Path) -> None:
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg", "tower.jpg"], "latitude": ["1", "", "", ""],
               "longitude": ["", "", "", "1"], "kind": ["", "none", "landmark", ""],
               "landmark": ["3", "3", "", ""]}  # fmt: skip
    collection, summary = import_table(write(folder, columns))
    assert collection.ids == ("c.jpg",) and summary.rows_refused == 3
    assert problem(summary, "only one of").count == 2 and problem(summary, "kind 'none'").count == 1
    assert problem(summary, "that name none").refused == 0


def test_files_that_are_missing_outside_or_twice(folder: Path, make) -> None:
    make.put_tar(folder / "s.tar", {"x/1.jpg": make.jpeg()})
    paths = [
        "a.jpg",
        "gone.jpg",
        "../up.jpg",
        "/etc/hosts",
        "s.tar::x/1.jpg",
        "s.tar::x/2.jpg",
        "t.tar::1.jpg",
        "",
        "a.jpg",
    ]
    table = write(folder, {"path": paths, "n": list("123456789")})
    collection, summary = import_table(table)
    assert collection.ids == ("a.jpg", "s.tar::x/1.jpg")
    assert (summary.missing_files, summary.duplicate_ids, summary.rows_refused) == (3, 1, 7)
    assert problem(summary, "leave the root").count == 2
    kept, summary = import_table(table, keep_missing=True)
    assert len(kept) == 5 and summary.missing_files == 3
    assert len(import_table(table, check_files=False)[0]) == 7


def test_numbers_with_names(folder: Path) -> None:
    columns = {
        "path": ["a.jpg", "b.jpg", "c.jpg"],
        "landmark": ["7", "7", "8"],
        "landmark_name": ["A", "B", ""],
    }
    collection, summary = import_table(write(folder, columns))
    assert collection.landmarks["name"].to_pylist() == ["A", None]
    assert problem(summary, "second name").examples == ("landmark 7: 'A' and 'B'",)


def test_parquet_keeps_the_types_of_other_columns(folder: Path) -> None:
    table = pa.table({
        "path": ["a.jpg", "b.jpg", "c.jpg"],
        "landmark": pa.array([3.0, float("nan"), 12.0]),
        "taken": pa.array([datetime(2020, 1, 2, 3, 4, 5), None, None], pa.timestamp("us")),
        "clean": [True, False, None],
        "country": pa.array(["NA", "FR", None]).dictionary_encode(),
        "tags": [["x"], [], None],
    })  # fmt: skip
    pq.write_table(table, folder / "t.parquet")
    collection, _ = import_table(folder / "t.parquet")
    assert collection.photos["landmark"].to_pylist() == [3, None, 12]
    assert collection.photos["taken"].to_pylist() == [datetime(2020, 1, 2, 3, 4, 5), None, None]
    assert collection.photos["clean"].to_pylist() == [True, False, True]
    assert collection.photos["country"].to_pylist() == ["NA", "FR", None]
    assert collection.photos["tags"].to_pylist() == [["x"], [], None]
    pq.write_table(pa.table({"path": [["a.jpg"]]}), folder / "u.parquet")
    with pytest.raises(ValueError, match="column 'path' holds list"):
        import_table(folder / "u.parquet")


def test_nothing_to_take_over(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"none of 1 rows can be taken over; t\.csv row 2.*'gone\.jpg'"):
        import_table(write(folder, {"path": ["gone.jpg"]}))
    with pytest.raises(ValueError, match="it has no rows"):
        import_table(write(folder, {"path": []}))
    (folder / "t.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"must end in \.csv or \.parquet"):
        import_table(folder / "t.xlsx")
    with pytest.raises(ValueError, match="unknown split 'gallery'"):
        import_table(write(folder, COLUMNS), split="gallery")
