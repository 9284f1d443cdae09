"""``landseer clean``: what it prints, writes and refuses."""

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from landseer.cli.clean_command import command
from landseer.storage import load_collection

_spec = importlib.util.spec_from_file_location(
    "clean_world", Path(__file__).parents[1] / "pipeline" / "clean_world.py"
)
clean_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(clean_world)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return clean_world.noisy_world(tmp_path_factory.mktemp("world"))


def clean(world, *arguments, **more):
    words = [str(world[0]), "--descriptors", str(world[1]), "--workers", "1", *map(str, arguments)]
    return CliRunner().invoke(command, words, **more)


def test_everything_is_written_and_told(world, tmp_path):
    out, pages, table = tmp_path / "out", tmp_path / "pages", tmp_path / "train_clean.csv"
    result = clean(world, "--mode", "geometry", "--sweep", "--out", out, "--report", pages, "--csv", table)
    assert result.exit_code == 0, result.output
    told = result.stdout
    assert "same points in enough photos of its label" in told
    assert "kept 16 of 20 photos, 3 of 4 landmarks" in told
    assert "geometry alone would keep" in told
    assert told.endswith(f"{out}\n{table}\n{pages}/index.html\n")
    assert len(load_collection(out)) == 23
    assert table.read_text().startswith("landmark_id,images\n100,s0v0")
    assert (pages / "landmark-100.html").is_file()


def test_json_is_for_programs_and_a_second_time_matches_nothing(world, tmp_path):
    first = clean(world, "--out", tmp_path / "a", "--evidence", tmp_path / "e", "--json")
    again = clean(world, "--out", tmp_path / "b", "--evidence", tmp_path / "e", "--json")
    one, two = json.loads(first.stdout), json.loads(again.stdout)
    assert one["pairs"]["verified"] == two["pairs"]["known"] > 0
    assert two["pairs"]["verified"] == 0
    assert one["fingerprint"] == two["fingerprint"]
    assert 0 < one["saved"] < 1
    assert one["out"] == str(tmp_path / "a")


def test_descriptors_alone_match_nothing(world, tmp_path):
    result = clean(world, "--out", tmp_path / "a", "--mode", "descriptors")
    assert "kept 16 of 20 photos" in result.stdout
    assert "pairs" not in result.stdout
    assert not list(tmp_path.glob("a.evidence/features*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--neighbours", "0"), "neighbours: must be at least 1, not 0"),
        (("--least-neighbours", "101"), "least_neighbours: must be at most same_label, 100, not 101"),
        (("--extractor", "xfeat"), "xfeat needs its weights"),
    ],
)
def test_mistakes_are_told_in_one_line(world, tmp_path, words, said):
    result = clean(world, "--out", tmp_path / "out", *words)
    assert isinstance(result.exception, ValueError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_what_lies_there_is_not_overwritten(world, tmp_path):
    (tmp_path / "out").mkdir()
    result = clean(world, "--out", tmp_path / "out")
    assert str(result.exception) == f"{tmp_path / 'out'} exists already; remove it or choose another name"
