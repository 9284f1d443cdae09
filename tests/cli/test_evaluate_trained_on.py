"""``landseer evaluate --trained-on``: of how many queries the landmark was trained on, in whatever collection."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.storage import save_collection, save_ranking
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Ranking, Truth

QUERIES = {"p": 1, "q": 2, "r": 3}


def save(name, photos, landmarks, truth=None):
    rows = [
        {"id": photo, "path": photo, "landmark": n, "kind": "landmark", "clean": True, "split": split}
        for photo, (split, n) in photos.items()
    ]
    table = [{"landmark": n, "name": title} for n, title in landmarks.items()]
    collection = Collection(
        photos=pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist(table, schema=LANDMARK_SCHEMA),
        root=Path(),
        truth=truth,
    )
    save_collection(collection, Path(name), made_by={"name": name})


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = Truth(
        query_ids=tuple(QUERIES),
        relevant=(("a",), ("b",), ("a",)),
        junk=((), (), ()),
        landmarks=((1,), (2,), (3,)),
        split=("Public",) * 3,
        recognition_split=("Public",) * 3,
    )
    names = {1: "Tower", 2: "Bridge", 3: "Gate"}
    photos = {photo: ("query", n) for photo, n in QUERIES.items()}
    save("asked", {**photos, "a": ("index", 1), "b": ("index", 2), "t": ("train", 1)}, names, truth)
    # numbers its landmarks otherwise: its 1 is the gate, its 7 the bridge
    save("other", {"x": ("train", 1), "y": ("train", 7)}, {1: "gate", 7: "Bridge"})
    save("nameless", {"x": ("train", 2)}, {2: None})
    for name in ("one", "two"):
        ranking = Ranking(
            query_ids=tuple(QUERIES),
            gallery_ids=("a", "b"),
            positions_QK=np.array([[0, 1]] * 3),
            scores_QK=np.float32([[1, 0.5]] * 3),
        )
        save_ranking(ranking, Path(name), made_by={"name": name})


def evaluate(*arguments):
    result = CliRunner().invoke(cli, ["evaluate", *arguments, "--truth", "asked"])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.mark.parametrize(
    ("trained", "seen"),
    [("asked", {"p"}), ("other", {"q", "r"}), ("nameless", {"q"})],
)
def test_the_share_goes_by_names_and_by_ids_where_there_are_none(trained, seen):
    text = evaluate("one", "--trained-on", trained)
    share = f"{len(seen)} of 3 queries ({len(seen) / 3:.1%}) show a landmark trained on"
    assert text.splitlines()[-1] == share
    facts = json.loads(evaluate("one", "--trained-on", trained, "--json"))["one"]
    assert facts["trained_on"] == {"queries": 3, "seen": len(seen), "unknown": 0}


def test_it_is_told_once_for_runs_of_the_same_queries():
    assert evaluate("one", "two", "--trained-on", "other").count("show a landmark trained on") == 1


def test_without_the_option_nothing_is_said_of_training():
    assert "trained" not in evaluate("one")
    assert json.loads(evaluate("one", "--json"))["one"]["trained_on"]["unknown"] == 3
