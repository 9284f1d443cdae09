from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from landseer.cli import cli, main
from landseer.datasets.miniworld import draw_mini_world
from landseer.storage import load_collection


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for path in ("Tower/1.jpg", "[b]Abbey[/b]/2.jpg"):
        (root / path).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / path)
    (root / "t.csv").write_text("file,place,stars\nTower/1.jpg,Tower,5\nTower/9.jpg,Tower,1\n")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["landseer", "import", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_folder_becomes_a_collection(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "c"
    assert run(monkeypatch, "folder", photos, "--out", out, "--split", "train") == 0
    collection = load_collection(out)
    assert collection.ids == ("Tower/1.jpg", "[b]Abbey[/b]/2.jpg") and collection.root == photos
    printed = capsys.readouterr().out
    assert "Imported from folder" in printed and "train 2" in printed and collection.fingerprint in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["splits"]["train"] == 2 and summary["source"] == "folder"


def test_json_is_the_summary_and_nothing_else(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ("--column", "path=file", "--column", "landmark=place", "--out", tmp_path / "c", "--json")
    assert run(monkeypatch, "table", photos / "t.csv", *words) == 0
    printed = json.loads(capsys.readouterr().out)
    saved = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert {key: printed[key] for key in saved} == saved
    assert (
        printed["missing_files"] == 1
        and printed["fingerprint"] == load_collection(tmp_path / "c").fingerprint
    )
    assert "Tower/9.jpg" in printed["problems"][0]["examples"][0]


def test_equal_imports_have_equal_fingerprints(photos: Path, tmp_path: Path, monkeypatch) -> None:
    for out, split in (("a", "index"), ("b", "index"), ("c", "query")):
        assert run(monkeypatch, "folder", photos, "--split", split, "--out", tmp_path / out) == 0
    first, again, other = (load_collection(tmp_path / out).fingerprint for out in "abc")
    assert first == again != other


def test_problems_are_shown_as_they_are_written(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (photos / "[b]Abbey[/b]" / "[i]x.jpg").write_bytes(b"")
    monkeypatch.setenv("COLUMNS", "160")
    assert run(monkeypatch, "folder", photos, "--out", tmp_path / "c") == 0
    assert "[b]Abbey[/b]/[i]x.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("words", [
    ("gldv2", "{photos}"),
    ("gldv1", "{photos}"),
    ("folder", "{photos}/nowhere"),
    ("folder", "{photos}", "--split", "gallery"),
    ("folder", "{photos}", "--labels", "names"),
    ("folder", "{photos}", "--split-by-folder"),
    ("table", "{photos}/t.csv"),
    ("table", "{photos}/t.csv", "--column", "path"),
    ("table", "{photos}/t.csv", "--column", "path=file", "--column", "path=place"),
    ("table", "{photos}/t.csv", "--column", "path=place"),
    ("table", "{photos}/t.csv", "--column", "way=file"),
])  # fmt: skip
def test_a_mistake_is_one_line_exit_2_and_nothing_written(
    photos: Path, tmp_path: Path, monkeypatch, capsys, words: tuple[str, ...]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(monkeypatch, *(word.format(photos=photos) for word in words), "--out", tmp_path / "c") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("landseer: ") and printed.err.count("\n") == 1 and printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_there_is_not_overwritten(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "c").mkdir()
    assert run(monkeypatch, "folder", photos, "--out", tmp_path / "c") == 2
    assert "exists already" in capsys.readouterr().err
    # said before hours of reading: this source could not even be read
    assert run(monkeypatch, "gldv2", photos, "--out", tmp_path / "c") == 2
    assert "exists already" in capsys.readouterr().err and not any((tmp_path / "c").iterdir())


@pytest.mark.parametrize("name", ["gldv1", "gldv2", "folder", "table"])
def test_every_import_is_explained(name: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
    shown = CliRunner().invoke(cli, ["import", name, "--help"])
    assert shown.exit_code == 0 and f"landseer import {name} " in shown.output.split("Example:")[1]
    assert f"## landseer import {name}\n" in guide
    for option in cli.get_command(None, "import").commands[name].params:
        if option.opts[0].startswith("--"):
            assert f"`{option.opts[0]}" in guide, option.opts[0]


def test_photos_of_no_landmark_join_gldv2(tmp_path: Path, monkeypatch, capsys) -> None:
    world = tmp_path / "world"
    draw_mini_world(world, seed=0, num_landmarks=6, num_photos=84, size_px=40, num_strangers=4, workers=1)
    assert run(monkeypatch, "gldv2", world, "--none", world / "none", "--out", tmp_path / "c") == 0
    collection = load_collection(tmp_path / "c")
    rows = [row for row in collection.photos.to_pylist() if row["kind"] == "none" and row["split"] == "train"]
    assert len(rows) == 4 and all(row["path"].startswith("none/") for row in rows)
    assert "4 photos of " in capsys.readouterr().out
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert (summary["photos"], sum(summary["splits"].values())) == (len(collection), len(collection))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run(monkeypatch, "gldv2", world, "--none", elsewhere, "--out", tmp_path / "d") == 2
    assert "does not lie below" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
