import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.storage import load_ranking, load_report, open_artifact, save_collection, save_descriptors
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors, Truth

ROWS = {"a": [1, 0], "b": [0, 1], "c": [0.6, 0.8], "p": [1, 0], "q": [0, 1], "t": [1, 0]}
SPLIT = {"a": "index", "b": "index", "c": "index", "p": "query", "q": "query", "t": "train"}
LANDMARK = {"a": 1, "b": 2, "c": 1, "p": 1, "q": 2, "t": 1}


def unit_rows(*ids):
    return Descriptors(ids=ids, rows_ND=np.array([ROWS[photo] for photo in ids], np.float32))


def collection(truth):
    photos = {
        "id": list(ROWS),
        "path": [f"{photo}.jpg" for photo in ROWS],
        "landmark": list(LANDMARK.values()),
        "kind": ["landmark"] * len(ROWS),
        "clean": [True] * len(ROWS),
        "split": list(SPLIT.values()),
    }
    landmarks = {"landmark": [1, 2]}
    return Collection(
        photos=pa.table(
            {f.name: pa.array(photos.get(f.name, [None] * len(ROWS)), f.type) for f in PHOTO_SCHEMA}
        ),
        landmarks=pa.table(
            {f.name: pa.array(landmarks.get(f.name, [None] * 2), f.type) for f in LANDMARK_SCHEMA}
        ),
        root=Path(),
        truth=truth,
    )


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Descriptors of two queries and three photos, and a collection that knows the answers."""
    monkeypatch.chdir(tmp_path)
    save_descriptors(unit_rows("p", "q"), Path("query"), made_by={"model": "m"})
    save_descriptors(unit_rows("a", "b", "c"), Path("index"), made_by={"model": "m"})
    truth = Truth(
        query_ids=("p", "q"),
        relevant=(("a", "c"), ("b",)),
        junk=((), ()),
        landmarks=((1,), ()),
        split=("Private", "Public"),
        recognition_split=("Private", "Public"),
    )
    save_collection(collection(truth), Path("data"), made_by={"source": "test"})
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(cli, list(arguments))


def rank(out="ranking", k="2"):
    return invoke("rank", "--queries", "query", "--gallery", "index", "-k", k, "--out", out)


def test_rank_writes_a_ranking_that_names_its_parents(made):
    result = rank(k="5")
    assert result.exit_code == 0, result.output
    assert result.output == "2 queries ranked against 3 photos, 5 answers each: ranking\n"
    found = load_ranking(Path("ranking"))
    assert [found.answers(row) for row in range(2)] == [
        [("a", 1.0), ("c", pytest.approx(0.6)), ("b", 0.0)],
        [("b", 1.0), ("c", pytest.approx(0.8)), ("a", 0.0)],
    ]
    manifest = open_artifact(Path("ranking"), "ranking")
    parents = {role: open_artifact(Path(role), "descriptors").fingerprint for role in ("query", "index")}
    assert manifest.parents == {"queries": parents["query"], "gallery": parents["index"]}
    assert found.gallery_fingerprint == parents["index"]


def test_rank_refuses_an_existing_folder_and_descriptors_that_do_not_fit(made):
    rank()
    before = Path("ranking/manifest.json").read_bytes()
    result = rank()
    assert isinstance(result.exception, ValueError) and "exists already" in str(result.exception)
    assert Path("ranking/manifest.json").read_bytes() == before
    save_descriptors(
        Descriptors(ids=("z",), rows_ND=np.ones((1, 3), np.float32)), Path("other"), made_by={"model": "m"}
    )
    result = invoke("rank", "--queries", "other", "--gallery", "index", "--out", "out")
    assert "queries have 3 components and the gallery 2" in str(result.exception)
    assert not Path("out").exists()


def test_evaluate_prints_one_table_for_several_rankings(made):
    rank("one", "1"), rank("three", "3")
    result = invoke("evaluate", "one", "three", "--truth", "data", "--trained-on", "data")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["run", "queries", "mAP@100", "95", "%", "P@1", "P@10"]
    lines = lines[: lines.index([])]  # the paired test follows
    figures = {(line[0], " ".join(line[1:-5])): line[-4] for line in lines[1:]}
    assert figures == {
        ("one", "Private"): "0.5000",
        ("one", "Public"): "1.0000",
        ("one", "Private and Public"): "0.7500",
        ("one", "landmarks trained on"): "0.5000",
        ("one", "landmarks not trained on"): "1.0000",  # the query's own landmark, as the truth names none
        ("three", "Private"): "1.0000",
        ("three", "Public"): "1.0000",
        ("three", "Private and Public"): "1.0000",
        ("three", "landmarks trained on"): "1.0000",
        ("three", "landmarks not trained on"): "1.0000",
    }


def test_evaluate_writes_json_csv_and_a_report(made):
    rank()
    result = invoke(
        "evaluate", "ranking", "--truth", "data", "--json", "--per-query", "q.csv", "--out", "report"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)["ranking"]
    report = load_report(Path("report"))
    assert printed["protocol"] == report.protocol and printed["title"] == report.title == "ranking"
    assert report.value("mAP@100", "Private and Public") == 1
    assert report.made_by["ranking"] == open_artifact(Path("ranking"), "ranking").fingerprint
    assert open_artifact(Path("report"), "report").parents["truth"] == report.made_by["truth"]
    assert pq.read_table("report/per_query.parquet")["query"].to_pylist() == ["p", "q"]
    with open("q.csv") as file:
        assert [(row["query"], row["ap"], row["landmark"]) for row in csv.DictReader(file)] == [
            ("p", "1.0", "1"),
            ("q", "1.0", "2"),
        ]


def test_evaluate_full_divisor_changes_only_deep_truths(made):
    rank()
    result = invoke("evaluate", "ranking", "--truth", "data", "--full-divisor", "--json")
    assert json.loads(result.output)["ranking"]["protocol"]["divisor"] == "m"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ranking", "other", "--out", "report"], "--out writes the report of one ranking, not of 2"),
        (["ranking", "ranking"], "named twice"),
        (["ranking", "--per-query", "nowhere/q.csv"], "nowhere is not a folder"),
        (["ranking", "--out", "data"], "data exists already"),
        (["query"], "query is a landseer descriptors, not a ranking"),
    ],
)
def test_evaluate_refuses_what_cannot_be_and_writes_nothing(made, arguments, message):
    rank(), rank("other")
    before = sorted(made.iterdir())
    result = invoke("evaluate", *arguments, "--truth", "data")
    assert isinstance(result.exception, ValueError) and message in str(result.exception)
    assert sorted(made.iterdir()) == before


def test_evaluate_needs_a_truth_and_queries_outside_the_gallery(made):
    rank()
    save_collection(collection(None), Path("blind"), made_by={"source": "test"})
    result = invoke("evaluate", "ranking", "--truth", "blind")
    assert "holds no truth" in str(result.exception)
    invoke("rank", "--queries", "query", "--gallery", "query", "--out", "own")
    assert "in the gallery themselves" in str(invoke("evaluate", "own", "--truth", "data").exception)
    assert invoke("evaluate", "own", "--truth", "data", "--allow-overlap").exit_code == 0


@pytest.mark.parametrize("name", ["rank", "evaluate"])
def test_help_has_an_example(name):
    assert f"  Example:\n      landseer {name} " in invoke(name, "--help").output
