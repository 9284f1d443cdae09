"""``landseer check``: what it prints, its exit codes, and the mistakes of its users."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image

from landseer.cli import cli
from landseer.storage import save_collection, save_descriptors
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors

SPLITS = {"a.png": "train", "b.png": "train", "a-again.png": "query", "c.png": "index"}


def save(name, photos):
    rows = [
        {"id": photo, "path": photo, "landmark": 1, "kind": "landmark", "clean": True, "split": split}
        for photo, split in photos.items()
    ]
    collection = Collection(
        photos=pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist([{"landmark": 1, "name": "Tower"}], schema=LANDMARK_SCHEMA),
        root=Path("photos"),
    )
    save_collection(collection, Path(name), made_by={"name": name})


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """A collection with a query that was trained on, and one without anything wrong."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number, name in enumerate("abc"):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(f"photos/{name}.png")
        if name == "a":
            picture.save("photos/a-again.png", compress_level=1)
    save("leaky", SPLITS)
    save("fine", {"b.png": "train", "c.png": "index"})


def check(*arguments):
    return CliRunner().invoke(cli, ["check", *arguments, "--workers", "1"])


def test_what_was_found_is_printed_and_lies_in_a_folder_of_that_name():
    result = check("leaky")
    assert result.exit_code == 0, result.exception
    assert "4 photos, 0 of them unreadable" in result.output
    assert "0 clusters of equal files (0 photos), 1 clusters of the same picture (2 photos)" in result.output
    assert "photos that leak: 1 (train -> query 1)" in result.output
    assert "queries of leaky whose landmark was trained on: 1 of 1 (100.0%)" in result.output
    assert "crops and scenes were not looked for; they need --descriptors" in result.output
    assert Path("check-leaky/report.html").is_file()


def test_json_is_the_summary():
    result = check("leaky", "--json", "--out", "found")
    facts = json.loads(result.stdout)
    assert facts.pop("out") == "found"
    assert facts == json.loads(Path("found/check.json").read_text())


def test_with_fail_the_exit_code_tells_what_was_found():
    assert check("leaky", "--fail").exit_code == 1
    assert check("fine", "--fail").exit_code == 0
    assert check("leaky", "--out", "check-leaky").exit_code == 0, "an earlier check is replaced"


def test_against_another_collection():
    save("queries", {"a-again.png": "query"})
    save("training", {"a.png": "train", "b.png": "train"})
    result = check("training", "--against", "queries", "--json")
    facts = json.loads(result.stdout)
    assert facts["photo_leaks"]["from_to"] == {"train -> query of queries": 1}
    assert facts["landmarks_trained_on"]["queries"]["how"] == {"name": 1}


def test_with_descriptors_scenes_are_told_of():
    rows = np.eye(4, dtype=np.float32)
    save_descriptors(Descriptors(ids=tuple(SPLITS), rows_ND=rows), Path("near"), made_by={}, parents={})
    result = check("leaky", "--descriptors", "near", "--neighbours", "2")
    assert result.exit_code == 0, result.exception
    assert "scenes: 0 clusters of the same scene" in result.output
    assert "they need --descriptors" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaky", "--radius", "20"), "radius: must lie in 0 to 8 bits, not 20"),
        (("leaky", "--scene-inliers", "2"), "scene_inliers: must be at least 8"),
        (("leaky", "--out", "photos"), "photos exists and is no earlier check"),
        (("photos",), "photos holds no manifest.json"),
        (("leaky", "--against", "photos"), "photos holds no manifest.json"),
        (("leaky", "--descriptors", "fine"), "fine is a landseer collection, not a descriptors"),
        (("leaky", "--extractor", "xfeat"), "xfeat needs its weights"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = check(*arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
