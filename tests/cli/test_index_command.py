"""``landseer index`` and ``landseer search``: what is printed, and the exit codes."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from landseer.cli import cli

RECIPE = """
title = "plain"
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
[descriptors]
size = 64
"""


def draw(folder, *names, seed=0):
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        tiles = np.random.default_rng([seed, number]).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(tiles.repeat(16, axis=0).repeat(16, axis=1)).save(file)


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", "rome/a.png", "oslo/b.png", "c.png")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def index(here):
    result = run("index", "build", "photos", "--out", "INDEX", "--model", "recipe.toml")
    assert result.exit_code == 0, result.output
    assert "3 photos added; INDEX holds 3" in result.output
    return here / "INDEX"


def test_search_prints_a_table_json_or_csv(index, here):
    table = run("search", "INDEX", "photos/rome/a.png", "-k", 2)
    assert table.exit_code == 0, table.output
    assert all(word in table.output for word in ("rank", "score", "landmark", "country", "date"))
    best = next(line.split() for line in table.output.splitlines() if line.strip().startswith("1 "))
    assert best[1:3] == ["1.0000", "rome"]
    assert Path(best[-1]).is_file(), "a path is printed whole"
    queries = ["photos/c.png", "photos/oslo/b.png"]
    found = json.loads(run("search", "INDEX", *queries, "-k", 1, "--json").stdout)
    assert [each["query"] for each in found] == queries
    assert [each["answers"][0]["id"] for each in found] == ["c.png", "oslo/b.png"]
    lines = list(csv.DictReader(io.StringIO(run("search", "INDEX", *queries, "-k", 2, "--csv").stdout)))
    assert [(line["query"], line["rank"]) for line in lines] == [
        (query, rank) for query in queries for rank in ("1", "2")
    ]
    assert lines[2]["id"] == "oslo/b.png" and lines[2]["landmark_name"] == "oslo"
    assert lines[2]["path"] == str(here.resolve() / "photos/oslo/b.png")


def test_search_filters_and_answers_what_it_can(index):
    found = run("search", "INDEX", "photos/c.png", "--filter", "landmark_name = 'oslo'", "--json")
    assert [answer["id"] for answer in json.loads(found.stdout)[0]["answers"]] == ["oslo/b.png"]
    none = run("search", "INDEX", "photos/c.png", "--filter", "country = 'FR'")
    assert none.exit_code == 0 and "no photo of the index meets the filter" in none.stdout
    some = run("search", "INDEX", "absent.jpg", "photos/c.png", "--json")
    assert some.exit_code == 3
    assert some.stderr == "landseer: absent.jpg could not be read: missing\n"
    assert json.loads(some.stdout)[1]["answers"][0]["id"] == "c.png"


def test_add_remove_compact_info(index, here):
    draw(here / "photos", "new.png", seed=1)
    (here / "photos" / "bad.jpg").write_bytes(b"no picture")
    added = run("index", "add", "INDEX", "photos")
    assert added.exit_code == 3
    assert "1 photos added, 3 were there already; INDEX holds 4" in added.stdout
    assert "1 photos could not be read:\n  'bad.jpg': " in added.stdout
    facts = json.loads(run("index", "add", "INDEX", "photos", "--json").stdout)
    assert (facts["added"], facts["there_already"], facts["num_unreadable"]) == (0, 4, 1)
    removed = run("index", "remove", "INDEX", "new.png", "c.png")
    assert removed.stdout.startswith("2 photos removed, 2 left")
    info = json.loads(run("index", "info", "INDEX", "--json").stdout)
    assert (info["photos"], info["removed"]) == (2, 2)
    assert "room of 2 removed photos given back" in run("index", "compact", "INDEX").stdout
    assert json.loads(run("index", "info", "INDEX", "--json").stdout)["removed"] == 0
    shown = run("index", "info", "INDEX").stdout
    assert f"photos       2, first from {here.resolve() / 'photos'}\n" in shown


def test_verify_names_what_is_broken(index):
    assert run("index", "verify", "INDEX").stdout == "INDEX: nothing is broken\n"
    segment = next((index / "segments").glob("*.rows"))
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)
    broken = run("index", "verify", "INDEX")
    assert broken.exit_code == 1
    (line,) = broken.stdout.splitlines()
    assert segment.name in line and "rome/a.png" in line


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("search", "INDEX", "photos/c.png", "--json", "--csv"), "exclude each other"),
        (("search", "INDEX", "photos/c.png", "--filter", "colour = 'red'"), "colour"),
        (("search", "photos", "photos/c.png"), "photos"),
        (("search", "s3://bucket/INDEX", "photos/c.png"), "no index behind s3: yet"),
        (("index", "remove", "INDEX", "c.png", "nobody.png"), "not in INDEX, the first is 'nobody.png'"),
        (("index", "add", "INDEX", "photos/rome"), "--prefix"),
        (("index", "info", "nowhere"), "nowhere"),
        (("index", "rebuild", "INDEX"), "say one of --model"),
        (("index", "rebuild", "INDEX", "--abandon"), "no rebuild of INDEX is under way"),
        (("index", "rebuild", "INDEX", "--abandon", "--model", "recipe.toml"), "say one of --model"),
        (("index", "rebuild", "INDEX", "--abandon", "-k", "5"), "-k belongs to --recall"),
        (("index", "rebuild", "INDEX", "--model", "photos"), "photos"),
        (("index", "copy", "INDEX", "photos"), "photos exists already"),
        (("index", "copy", "nowhere", "COPY"), "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(index, here, words, what):
    draw(here / "photos" / "rome", "c.png", seed=2)
    result = run(*words)
    assert isinstance(result.exception, ValueError), result.output
    assert what in str(result.exception) and "\n" not in str(result.exception)


def test_rebuild_says_what_it_waits_for(index, here):
    (here / "other.toml").write_text(RECIPE.replace("[model]", "seed = 3\n[model]"))
    old = json.loads(run("index", "info", "INDEX", "--json").stdout)["model"]
    (here / "photos" / "c.png").rename(here / "kept.png")
    waiting = run("index", "rebuild", "INDEX", "--model", "other.toml")
    assert waiting.exit_code == 3
    assert (
        "2 photos described; INDEX keeps the old model until all are: bring the others back" in waiting.stdout
    )
    assert "1 photos could not be read:\n  'c.png': missing\n" in waiting.stdout
    assert "2 of 3 photos done" in run("index", "info", "INDEX").stdout
    assert run("search", "INDEX", "kept.png", "-k", 1).exit_code == 0
    (here / "kept.png").rename(here / "photos" / "c.png")
    done = run("index", "rebuild", "INDEX", "--model", "other.toml")
    assert (done.exit_code, done.stdout) == (0, "1 photos described; INDEX has that model now and holds 3\n")
    info = json.loads(run("index", "info", "INDEX", "--json").stdout)
    assert info["model"] != old and info["rebuild"] is None


def test_rebuild_drops_or_is_forgotten(index, here):
    (here / "other.toml").write_text(RECIPE.replace("[model]", "seed = 3\n[model]"))
    (here / "photos" / "c.png").unlink()
    run("index", "rebuild", "INDEX", "--model", "other.toml")
    assert run("index", "rebuild", "INDEX", "--abandon").stdout == (
        "rebuild forgotten, and the 2 photos it had described\n"
    )
    words = ("index", "rebuild", "INDEX", "--model", "other.toml", "--drop-unreadable")
    dropped = run(*words, "--json")
    assert dropped.exit_code == 3
    facts = json.loads(dropped.stdout)
    assert (facts["finished"], facts["dropped"], facts["photos"]) == (True, 1, 2)
    assert "holds 2\n" in run(*words).stdout


def test_copy_is_an_index_of_its_own(index, here):
    assert run("index", "copy", "INDEX", "COPY").stdout == "3 photos copied to COPY\n"
    assert run("index", "verify", "COPY").stdout == "COPY: nothing is broken\n"
    run("index", "remove", "INDEX", "c.png")
    found = json.loads(run("search", "COPY", "photos/c.png", "-k", 1, "--json").stdout)
    assert found[0]["answers"][0]["id"] == "c.png"


def test_add_replaces_what_changed(index, here):
    draw(here / "photos", "c.png", seed=5)
    result = run("index", "add", "INDEX", "photos", "--replace")
    assert result.stdout == "3 photos added, 3 of them in the place of others; INDEX holds 3\n"
    found = json.loads(run("search", "INDEX", "photos/c.png", "-k", 1, "--json").stdout)
    assert found[0]["answers"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_the_search_structure_is_built_on_demand_and_used(index, here):
    built = run("index", "rebuild", "INDEX", "--recall", "0.9", "-k", "3")
    assert built.exit_code == 0, built.output
    assert "recall" in built.stdout and (here / "INDEX" / "structure").is_dir()
    facts = json.loads(run("index", "rebuild", "INDEX", "--recall", "0.9", "--json").stdout)
    assert facts["value"] >= 0.9
    exact, near = (
        run("search", "INDEX", "photos/c.png", "-k", "2", "--json", *more)
        for more in ((), ("--recall", "0.9"))
    )
    assert json.loads(near.stdout) == json.loads(exact.stdout), "so few photos are searched exactly"
    assert near.stderr == exact.stderr, "which is no news to whoever asked for the structure"
