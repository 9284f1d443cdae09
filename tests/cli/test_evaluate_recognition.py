"""``landseer evaluate`` of recognitions: what is found to be one, what is printed, what has no meaning for one."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.evaluation import Calibrated, evaluate_recognition
from landseer.storage import load_report, save_collection, save_report
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Recognition, Truth

NUM = 12


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A collection of queries, most of landmark 1 or 2; two tables of recognition and a run's folder."""
    monkeypatch.chdir(tmp_path)
    ids = tuple(f"q{q}" for q in range(NUM))
    landmark = [None if q % 4 == 3 else 1 + q % 2 for q in range(NUM)]
    columns = {
        "id": ids,
        "path": ids,
        "landmark": landmark,
        "kind": ["none" if of is None else "landmark" for of in landmark],
        "clean": [False] * NUM,
        "split": ["query"] * NUM,
    }
    photos = pa.table({f.name: pa.array(columns.get(f.name, [None] * NUM), f.type) for f in PHOTO_SCHEMA})
    named = pa.table(
        {f.name: pa.array([1, 2] if f.name == "landmark" else [None] * 2, f.type) for f in LANDMARK_SCHEMA}
    )
    truth = Truth(
        query_ids=ids,
        relevant=((),) * NUM,
        junk=((),) * NUM,
        landmarks=tuple(() if of is None else (of,) for of in landmark),
        split=("Public",) * NUM,
        recognition_split=("Public",) * NUM,
    )
    collection = Collection(photos=photos, landmarks=named, root=tmp_path, truth=truth)
    save_collection(collection, tmp_path / "C", made_by={})
    rng = np.random.default_rng(0)
    sure = rng.random(NUM).astype(np.float32)
    found = {
        "good": np.array([of or 2 for of in landmark], np.int64),
        "bad": np.array([1] * NUM, np.int64),
    }
    for name, landmarks in found.items():
        rows = zip(ids, landmarks, sure, strict=True)
        (tmp_path / f"{name}.csv").write_text(
            "query,landmark,confidence\n" + "".join(f"{q},{of},{c}\n" for q, of, c in rows)
        )
    run = evaluate_recognition(
        Recognition(query_ids=ids, landmark_Q=found["good"], confidence_Q=sure),
        truth,
        calibrated=Calibrated(how="on photos", accepted_Q=sure > 0.5),
    )
    save_report(run.report, tmp_path / "run", tables={"per_query": run.per_query})
    return run


def evaluated(*args):
    done = CliRunner().invoke(cli, ["evaluate", *args, "--truth", "C"])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*args):
    done = CliRunner().invoke(cli, ["evaluate", *args, "--truth", "C"])
    assert isinstance(done.exception, ValueError), done.output
    return str(done.exception)


def test_two_tables_are_scored_and_compared(here):
    lines = evaluated("bad.csv", "good.csv").splitlines()
    assert lines[0].split() == ["run", "queries", "GAP", "95", "%", "accuracy", "false", "accepts"]
    of_all = next(line for line in lines if line.startswith("good.csv  Private and Public"))
    cells = of_all.split()
    assert cells[-2:] == ["1.0000", "1.0000"]  # all named rightly, and all that should not be named
    assert cells[5] == f"{here.report.value('GAP', 'Private and Public'):.4f}"
    assert any("swaps of the predictions, landmark by landmark, Holm over 2" in line for line in lines)


def test_a_run_says_itself_that_its_confidences_are_probabilities(here):
    facts = json.loads(evaluated("run", "good.csv", "--probabilities", "--json"))
    numbers = {
        place: {(n["name"], n["group"]): n["value"] for n in facts[place]["numbers"]} for place in facts
    }
    key = ("ECE", "Private and Public")
    assert numbers["run"][key] == numbers["good.csv"][key] == here.report.value(*key)
    assert numbers["run"]["false accepts", key[1]] == here.report.value("false accepts", key[1])
    assert facts["run"]["protocol"]["calibration"] == "on photos"
    assert facts["good.csv"]["differences"][0]["value"] == 0
    assert "ECE" not in evaluated("good.csv")


def test_the_report_is_written(here):
    evaluated("run", "--out", "out")
    assert load_report(Path("out")).value("GAP", "Public") == here.report.value("GAP", "Public")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("good.csv", "--protocol", "knn"), "--protocol has no meaning for a recognition"),
        (("good.csv", "--mistakes"), "--mistakes has no meaning for a recognition"),
        (("good.csv", "--full-divisor"), "--full-divisor has no meaning"),
        (("good.csv", "--rectangular-ap"), "--rectangular-ap has no meaning"),
        (("good.csv", "--gallery-ids", "x"), "--gallery-ids has no meaning"),
        (("good.csv", "ranks.npy"), "good.csv names landmarks, and others here rank photos"),
        (("ranks.npy", "--probabilities"), "--probabilities is of recognitions"),
    ],
)
def test_what_has_no_meaning_is_refused(here, args, message):
    np.save("ranks.npy", np.zeros((1, NUM), np.int64))
    assert message in refused(*args)
