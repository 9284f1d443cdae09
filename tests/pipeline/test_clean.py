"""Noisy labels end to end: what is written, what plays no part, what is refused, and kills that change nothing."""

from __future__ import annotations

import csv
import importlib.util
import json
import multiprocessing
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landseer.matching import MatchingSetup
from landseer.pipeline.clean import CleaningOutputs, clean_collection
from landseer.recipe.cleaning_options import CleaningOptions
from landseer.storage import load_collection, open_artifact, save_collection, save_descriptors
from landseer.types import Descriptors

SCRIPT = Path(__file__).with_name("clean_world.py")
_spec = importlib.util.spec_from_file_location("clean_world", SCRIPT)
clean_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(clean_world)

RIGHT = {f"s{n}v{v}" for n in range(clean_world.SCENES) for v in range(clean_world.VIEWS)} - set(
    clean_world.WRONG
)
GEOMETRY = CleaningOptions(mode="geometry")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return clean_world.noisy_world(tmp_path_factory.mktemp("world"))


def cleaned(world, out: Path, **more):
    return clean_collection(*world, CleaningOutputs(collection=out), workers=1, **more)


def kept(path: Path) -> set[str]:
    photos = load_collection(path).photos
    return {row["id"] for row in photos.to_pylist() if row["clean"] and row["split"] == "train"}


@pytest.mark.parametrize("mode", ["geometry", "descriptors", "both"])
def test_wrong_labels_are_dropped_and_right_ones_kept(world, tmp_path, mode):
    found = cleaned(world, tmp_path / "out", options=CleaningOptions(mode=mode))
    assert kept(tmp_path / "out") == RIGHT
    assert (found.photos, found.kept_photos, found.landmarks, found.kept_landmarks) == (20, 16, 4, 3)
    assert sum(found.reasons.values()) == found.photos
    assert bool(found.pairs["possible"]) == (mode != "descriptors")


def test_the_new_version_names_its_parents_and_says_why(world, tmp_path):
    cleaned(world, tmp_path / "out", options=GEOMETRY)
    manifest = open_artifact(tmp_path / "out", "collection")
    assert manifest.parents == {
        "collection": open_artifact(world[0], "collection").fingerprint,
        "descriptors": open_artifact(world[1], "descriptors").fingerprint,
    }
    before, after = load_collection(world[0]), load_collection(tmp_path / "out")
    assert after.ids == before.ids
    assert after.root == before.root
    assert after.photos.drop_columns(
        ["clean", "clean_score", "clean_reason", "clean_margin", "clean_inliers"]
    ).equals(before.photos.drop_columns(["clean"]))
    row = {row["id"]: row for row in after.photos.to_pylist()}
    assert row["s0v0"]["clean_reason"] == "same points in enough photos of its label"
    assert row["s0v0"]["clean_score"] >= 0.5
    assert row["s0v0"]["clean_inliers"] >= 6
    assert row["s0v5"]["clean_reason"] == "too little evidence"
    assert row["s0v5"]["clean_score"] < 0.5
    assert row["gone"]["clean_reason"] == "no descriptor"
    assert row["gone"]["clean_score"] is None
    assert not row["gone"]["clean"]
    for photo in ("cat", "lost", "old"):
        assert row[photo]["clean_score"] is None
        assert row[photo]["clean_reason"] is None
        assert row[photo]["clean"] == (photo == "old"), "what is not judged is not clean, other splits stay"


def test_what_clean_said_before_plays_no_part(world, tmp_path):
    before = load_collection(world[0])
    photos = before.photos
    turned = photos.set_column(
        photos.schema.get_field_index("clean"),
        photos.schema.field("clean"),
        [[not c for c in photos["clean"].to_pylist()]],
    )
    save_collection(replace(before, photos=turned), tmp_path / "turned", made_by={})
    cleaned((tmp_path / "turned", world[1]), tmp_path / "out", options=GEOMETRY)
    assert kept(tmp_path / "out") == RIGHT


def test_a_cleaned_collection_can_be_cleaned_again(world, tmp_path):
    cleaned(world, tmp_path / "once", options=GEOMETRY)
    cleaned((tmp_path / "once", world[1]), tmp_path / "twice", options=GEOMETRY)
    once, twice = (load_collection(tmp_path / name).photos for name in ("once", "twice"))
    assert twice.equals(once)


def test_the_order_of_photos_plays_no_part(world, tmp_path):
    turned = clean_world.noisy_world(tmp_path / "turned", reverse=True)
    for number, each in enumerate((world, turned)):
        cleaned(each, tmp_path / f"out{number}")
    one, two = (
        {row["id"]: row for row in load_collection(tmp_path / f"out{number}").photos.to_pylist()}
        for number in (0, 1)
    )
    assert one == two


def test_overrides_win_and_enter_the_fingerprint(world, tmp_path):
    (tmp_path / "o.csv").write_text("id,decision\ns0v5,keep\ns2v0,drop\ngone,keep\nalone,keep\n")
    cleaned(world, tmp_path / "plain", options=GEOMETRY)
    cleaned(world, tmp_path / "out", options=GEOMETRY, overrides=tmp_path / "o.csv")
    assert kept(tmp_path / "out") == RIGHT - {"s2v0"} | {"s0v5", "gone", "alone"}
    row = {row["id"]: row for row in load_collection(tmp_path / "out").photos.to_pylist()}
    assert row["s0v5"]["clean_reason"] == row["gone"]["clean_reason"] == "kept by hand"
    assert row["s2v0"]["clean_reason"] == "dropped by hand"
    assert row["s0v5"]["clean_score"] < 0.5, "the machine's score stays to be seen"
    prints = {open_artifact(tmp_path / name, "collection").fingerprint for name in ("plain", "out")}
    assert len(prints) == 2


def test_train_clean_csv_is_that_of_gldv2(world, tmp_path):
    out = CleaningOutputs(collection=tmp_path / "out", csv=tmp_path / "train_clean.csv")
    clean_collection(*world, out, options=GEOMETRY, workers=1)
    with (tmp_path / "train_clean.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["landmark_id", "images"]
    assert [row[0] for row in rows[1:]] == ["100", "101", "102"]
    assert rows[1][1] == "s0v0 s0v1 s0v2 s0v3 s0v4"
    assert {photo for row in rows[1:] for photo in row[1].split(" ")} == RIGHT


def test_both_compares_points_only_where_descriptors_do_not_decide(world, tmp_path):
    geometry = cleaned(world, tmp_path / "g", options=GEOMETRY)
    both = cleaned(world, tmp_path / "b")
    assert 0 < both.pairs["verified"] < geometry.pairs["verified"] < geometry.pairs["possible"]
    assert both.pairs["possible"] == geometry.pairs["possible"]


def test_other_thresholds_need_no_matching(world, tmp_path):
    evidence = tmp_path / "evidence"
    every = replace(GEOMETRY, every_pair=True)
    out = [CleaningOutputs(collection=tmp_path / f"out{n}", evidence=evidence) for n in range(2)]
    first = clean_collection(*world, out[0], options=every, workers=1)
    assert first.saved == 0
    by_thresholds = {(row.least_neighbours, row.inliers): row.photos for row in first.sweep}
    strict = CleaningOptions(mode="geometry", least_neighbours=4, inliers=20)
    second = clean_collection(*world, out[1], options=strict, workers=1)
    assert second.pairs["verified"] == 0 < second.pairs["known"]
    assert second.kept_photos == by_thresholds[4, 20]
    assert len(by_thresholds) == 40


def test_a_page_shows_the_photos_that_proved_it(world, tmp_path):
    out = CleaningOutputs(collection=tmp_path / "out", report=tmp_path / "pages", pages=2)
    found = clean_collection(*world, out, options=GEOMETRY, workers=1)
    assert found.pages == len(list((tmp_path / "pages").glob("landmark-*.html"))) == 2
    # of the landmarks with most dropped photos the lower ones: 100 (one of them cannot be read) and 101
    text = (tmp_path / "pages" / "landmark-101.html").read_text()
    cards = text.split("<article")[1:]
    assert len(cards) == 6
    for card in cards:
        kept = 'class="judged kept"' in card
        assert (card.count('class="proof"') >= 3) == kept
        assert ("s0v5,keep" in card) or kept, "the photo of the other scene is the one that was dropped"
    index = (tmp_path / "pages" / "index.html").read_text()
    assert "16 of 20 training photos" in index


@pytest.mark.slow
def test_processes_find_what_threads_find(world, tmp_path):
    one = cleaned(world, tmp_path / "one", options=GEOMETRY)
    many = clean_collection(
        *world, CleaningOutputs(collection=tmp_path / "many"), options=GEOMETRY, workers=5
    )
    assert many.fingerprint == one.fingerprint
    assert many.pairs == one.pairs


def test_a_photo_that_cannot_be_read_proves_nothing_and_is_tried_again(tmp_path):
    collection, descriptors = clean_world.noisy_world(tmp_path / "w")
    photo = tmp_path / "w" / "photos" / "s0v1.png"
    whole = photo.read_bytes()
    photo.write_bytes(b"no picture")
    evidence = tmp_path / "evidence"
    first = clean_collection(
        collection,
        descriptors,
        CleaningOutputs(collection=tmp_path / "a", evidence=evidence),
        options=GEOMETRY,
        workers=1,
    )
    assert list(first.unreadable) == ["s0v1"]
    assert kept(tmp_path / "a") == RIGHT - {"s0v1"}
    photo.write_bytes(whole)
    clean_collection(
        collection,
        descriptors,
        CleaningOutputs(collection=tmp_path / "b", evidence=evidence),
        options=GEOMETRY,
        workers=1,
    )
    assert kept(tmp_path / "b") == RIGHT


def test_what_cannot_be_done_is_said_in_one_line(world, tmp_path):
    def refused(said: str, *, where=world, **more):
        with pytest.raises(ValueError, match=said) as found:
            cleaned(where, tmp_path / "out", **more)
        assert "\n" not in str(found.value)
        assert not (tmp_path / "out").exists()

    few = Descriptors(ids=("s0v0",), rows_ND=np.eye(1, 8, dtype=np.float32))
    save_descriptors(few, tmp_path / "few", made_by={})
    refused(
        r"19 of 20 labelled training photos have no descriptor \(the first: 's0v1'\)",
        where=(world[0], tmp_path / "few"),
    )
    whole = load_collection(world[0])
    save_collection(whole.in_split("index"), tmp_path / "index", made_by={})
    refused(
        "no training photo with a landmark, so there is nothing to clean",
        where=(tmp_path / "index", world[1]),
    )
    for line, said in (
        ("who,keep", "'who', which is not in the coll"),
        ("cat,keep", "'cat', which is no labelled"),
    ):
        (tmp_path / "o.csv").write_text(f"id,decision\n{line}\n")
        refused(said, overrides=tmp_path / "o.csv")
    xfeat = MatchingSetup(
        options=replace(
            MatchingSetup().options, features=replace(MatchingSetup().options.features, extractor="xfeat")
        )
    )
    refused("xfeat needs its weights", matching=xfeat)
    (tmp_path / "there.csv").touch()
    with pytest.raises(ValueError, match=r"there.csv exists already"):
        clean_collection(*world, CleaningOutputs(collection=tmp_path / "out", csv=tmp_path / "there.csv"))


def test_the_summary_is_json(world, tmp_path):
    found = cleaned(world, tmp_path / "out", options=replace(GEOMETRY, every_pair=True))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["kept_photos"] == 16
    assert told["saved"] == 0
    assert {"least_neighbours": 3, "inliers": 30}.items() <= told["sweep"][30].items()


def launch(world, out: Path, steps: Path, die_at: int) -> int:
    values = {"COLLECTION": world[0], "DESCRIPTORS": world[1], "OUT": out, "DIE_AT": die_at, "STEPS": steps}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landseer.pipeline.clean"])
    process = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__clean_target__"))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_a_cleaning_that_was_killed_goes_on_to_the_same_bytes(world, tmp_path):
    assert launch(world, tmp_path / "whole", tmp_path / "steps", 0) == 0
    want = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    steps = int((tmp_path / "steps").read_text())
    assert steps > 30
    for die_at in np.random.default_rng(0).choice(np.arange(1, steps + 1), 4, replace=False).tolist():
        out = tmp_path / f"killed{die_at}"
        assert launch(world, out, tmp_path / "steps", die_at) == -9
        assert not out.exists() or die_at > steps - 3
        if not out.exists():
            assert launch(world, out, tmp_path / "steps", 0) == 0
        assert {file.name: file.read_bytes() for file in out.iterdir()} == want
