from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from landseer.datasets import import_folder


def put(root: Path, path: str, data: bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def rows(collection) -> dict[str, dict]:
    return {row["id"]: row for row in collection.photos.to_pylist()}


def test_folders_are_labels(tmp_path: Path, make) -> None:
    for path in ("b/1.jpg", "a/x/2.jpg", "a/y/3.jpg", "c/x/4.jpg", "5.jpg"):
        put(tmp_path, path, make.jpeg())
    collection, summary = import_folder(tmp_path)
    assert collection.ids == collection.paths == ("5.jpg", "a/x/2.jpg", "a/y/3.jpg", "b/1.jpg", "c/x/4.jpg")
    assert collection.photos["landmark"].to_pylist() == [None, 0, 1, 2, 3]
    assert collection.landmarks["name"].to_pylist() == ["a/x", "y", "b", "c/x"]
    assert rows(collection)["5.jpg"]["kind"] == "unknown" and not rows(collection)["5.jpg"]["clean"]
    assert rows(collection)["b/1.jpg"]["kind"] == "landmark" and rows(collection)["b/1.jpg"]["clean"]
    assert summary.splits["index"] == 5 and "--labels none" in summary.notes[0]


def test_no_labels(tmp_path: Path, make) -> None:
    put(tmp_path, "2021/07/a.jpg", make.jpeg())
    collection, summary = import_folder(tmp_path, labels="none", split="query")
    assert collection.photos["landmark"].null_count == 1 and collection.landmarks.num_rows == 0
    assert summary.splits["query"] == 1 and summary.notes == ()
    put(tmp_path / "flat", "a.jpg", make.jpeg())
    flat, summary = import_folder(tmp_path / "flat")
    assert flat.landmarks.num_rows == 0 and "no subfolder" in summary.notes[0]


def test_date_camera_and_place(tmp_path: Path, make) -> None:
    put(tmp_path, "w.jpg", make.jpeg(exif=make.facts("2021:07:30 18:05:00", -22.5609, 17.0658, "X100")))
    put(tmp_path, "sea.jpg", make.jpeg(exif=make.facts("2021:07:30 18:05:01", 30.0, -40.0, "X100")))
    put(tmp_path, "plain.jpg", make.jpeg())
    found = rows(import_folder(tmp_path)[0])
    assert found["w.jpg"]["taken"] == datetime(2021, 7, 30, 18, 5)
    assert found["w.jpg"]["camera"] == "X100" and found["w.jpg"]["country"] == "NA"
    assert found["w.jpg"]["latitude"] == pytest.approx(-22.5609) and found["w.jpg"]["longitude"] > 0
    assert found["sea.jpg"]["country"] is None and found["sea.jpg"]["longitude"] == pytest.approx(-40)
    assert [found["plain.jpg"][key] for key in ("taken", "camera", "country", "latitude")] == [None] * 4


def test_photos_are_known_by_content(tmp_path: Path, make) -> None:
    put(tmp_path, "no ending", make.jpeg())
    put(tmp_path, "a.txt", make.jpeg())
    put(tmp_path, "notes.txt", b"hello")
    put(tmp_path, "film.mov", b"\0" * 1_000_000)
    put(tmp_path, "empty.jpg", b"")
    put(tmp_path, "text.png", b"hello")
    put(tmp_path, ".hidden.jpg", make.jpeg())
    put(tmp_path, ".trash/x.jpg", make.jpeg())
    put(tmp_path, "empty", b"")
    collection, summary = import_folder(tmp_path)
    assert collection.ids == ("a.txt", "no ending")
    problems = {problem.what: problem for problem in summary.problems}
    assert problems["unreadable photos"].count == problems["unreadable photos"].refused == 2
    assert problems["files that are no photos"].count == 3
    assert problems["files that are no photos"].refused == 0 and summary.rows_refused == 2


def test_a_long_header_is_read_to_its_end(tmp_path: Path, make) -> None:
    photo = make.jpeg(exif=make.facts("2021:07:30 18:05:00", 48.86, 2.29, "X"))
    comment = b"\xff\xfe\xff\xff" + b"x" * 65533
    put(tmp_path, "a.jpg", photo[:2] + comment * 5 + photo[2:])  # 320 kB before the facts
    assert rows(import_folder(tmp_path)[0])["a.jpg"]["country"] == "FR"


def test_hostile_names(tmp_path: Path, make) -> None:
    names = [
        "Café/tour é.jpg",
        "two  spaces/ .jpg",
        "line\nbreak/a\tb.jpg",
        "[red]/x.jpg",
        "'q\"/,.jpg",
        "塔/塔.jpg",
    ]
    for name in names:
        put(tmp_path, name, make.jpeg())
    bad = os.fsencode(tmp_path) + b"/\xff.jpg"
    with open(bad, "wb") as file:
        file.write(make.jpeg())
    collection, summary = import_folder(tmp_path)
    assert collection.ids == tuple(sorted(names))
    assert [problem.what for problem in summary.problems] == ["names that are not UTF-8"]
    assert r"\xff.jpg" in summary.problems[0].examples[0]


def test_links(tmp_path: Path, make) -> None:
    put(tmp_path / "in", "b/1.jpg", make.jpeg())
    put(tmp_path / "out", "2.jpg", make.jpeg())
    (tmp_path / "in" / "a loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b" / "up").symlink_to("..")
    (tmp_path / "in" / "again").symlink_to("b")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "gone.jpg").symlink_to("nowhere.jpg")
    collection, summary = import_folder(tmp_path / "in")
    assert collection.ids == ("b/1.jpg", "linked/2.jpg")
    assert summary.problems[0].examples == ("'gone.jpg': missing",)


def test_splits_by_folder(tmp_path: Path, make) -> None:
    for path in ("train/Tower/1.jpg", "test/Tower/2.jpg", "index/3.jpg"):
        put(tmp_path, path, make.jpeg())
    found = rows(import_folder(tmp_path, split_by_folder=True)[0])
    assert {photo: (row["split"], row["landmark"]) for photo, row in found.items()} == {
        "train/Tower/1.jpg": ("train", 0), "test/Tower/2.jpg": ("query", 0), "index/3.jpg": ("index", None)
    }  # fmt: skip
    put(tmp_path, "other/4.jpg", make.jpeg())
    with pytest.raises(ValueError, match="the folder 'other' is in no split"):
        import_folder(tmp_path, split_by_folder=True)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no readable photo"):
        import_folder(tmp_path)
    with pytest.raises(ValueError, match="unknown split 'test'"):
        import_folder(tmp_path, split="test")
    with pytest.raises(ValueError, match="is not a folder"):
        import_folder(tmp_path / "absent")
