"""Recognition of a run: what it may be calibrated on, that no query has a part in it, what the page tells."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from landseer.evaluation import compare, confidences_in, evaluate_recognition, reliability
from landseer.pipeline import result_table, run_recipe, write_run_page
from landseer.pipeline.prepare import prepare
from landseer.pipeline.recognise import recognise_folder
from landseer.pipeline.recognise_run import calibration_photos, names_landmarks, read_named
from landseer.pipeline.setting import Machine
from landseer.recipe import recipe_from
from landseer.storage import load_collection, save_collection

PLAIN = {
    "title": "as it is",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gap"},
    "data": {"validation": "share", "validation_share": 0.3},
    "descriptors": {"size": 64},
    "recognition": {"false_accepts": 0.25, "penalty": 0.1},
    "evaluation": {"resamples": 100},
}


def changed(collection, name, values):
    at = collection.photos.schema.get_field_index(name)
    field = collection.photos.schema.field(at)
    return replace(
        collection, photos=collection.photos.set_column(at, field, pa.array(list(values), field.type))
    )


def with_none(collection, num=12):
    """The collection, *num* of its noisy training photos known to show no landmark."""
    photos = collection.photos.to_pylist()
    noisy = [row for row, photo in enumerate(photos) if photo["split"] == "train" and not photo["clean"]]
    chosen = set(noisy[:num])
    assert len(chosen) == num
    collection = changed(
        collection, "landmark", (None if r in chosen else p["landmark"] for r, p in enumerate(photos))
    )
    return changed(collection, "kind", ("none" if r in chosen else p["kind"] for r, p in enumerate(photos)))


@pytest.fixture(scope="module")
def known(collection_folder, tmp_path_factory):
    """A collection with photos of none, in a folder of its own."""
    folder = tmp_path_factory.mktemp("known") / "C"
    save_collection(with_none(load_collection(collection_folder), 8), folder, made_by={"test": "none"})
    return folder


@pytest.fixture(scope="module")
def done(known, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "run"
    return run_recipe(recipe_from(PLAIN), load_collection(known), out, workers=2)


def setting_of(collection, out, **changes):
    machine = Machine(workers=1, device="cpu", watch=lambda *_: None, checkpoint_every=0, callbacks=())
    recipe = recipe_from({**PLAIN, **changes})
    return prepare(recipe, collection, out, also={}, weights=None, machine=machine, scored=True)


def test_calibrated_on_photos_that_serve_nothing_else(known, tmp_path):
    setting = setting_of(load_collection(known), tmp_path / "run")
    found = calibration_photos(setting)
    held, none = found["held-out"], found["none"]
    assert len(held) > 5 and len(none) == 8
    assert set(held.photos["split"].to_pylist()) == {"validation"} and np.all(held.landmark_N >= 0)
    assert set(none.photos["kind"].to_pylist()) == {"none"}
    used = {*setting.subset.ids, *setting.collection.in_split("query", "index").ids}
    assert used.isdisjoint(held.ids) and used.isdisjoint(none.ids)


def test_a_photo_that_a_stage_learns_from_is_left_out(known, tmp_path):
    setting = setting_of(load_collection(known), tmp_path / "run")
    before = calibration_photos(setting)["held-out"].ids
    learned = replace(setting.subset, ids=before[:2])
    after = calibration_photos(replace(setting, subset_of={"other collection": learned}))["held-out"].ids
    assert after == before[2:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {}}, "holds no photos out of training ([data] validation)"),
        ({"recognition": {"most_queries": 5}}, "most_queries makes a confidence depend"),
    ],
)
def test_what_a_recipe_lacks_is_told(known, tmp_path, changes, reason):
    found = calibration_photos(setting_of(load_collection(known), tmp_path / "run", **changes))
    assert isinstance(found, str) and reason in found


def test_what_a_collection_lacks_is_told(collection, known, tmp_path):
    setting = setting_of(collection, tmp_path / "run", recognition={})
    assert "no training photo known to show no landmark" in calibration_photos(setting)
    setting = setting_of(load_collection(known), tmp_path / "other")
    landmarks = setting.collection.landmarks["landmark"].to_pylist()
    bank_of_one = {"train": landmarks[0], "validation": landmarks[1]}
    splits = setting.collection.photos["split"].to_pylist()
    only = changed(setting.collection, "landmark", map(bank_of_one.get, splits))
    assert "that the vote bank knows" in calibration_photos(replace(setting, collection=only))


def test_a_run_finds_the_same_threshold_as_the_command(done, known, tmp_path):
    """What ``landseer recognise --calibrate`` fits on the same descriptors, its answers and the table agree."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('title = "r"\n[recognition]\nfalse_accepts = 0.25\npenalty = 0.1\n')
    folder = done.out / "untrained"
    told = recognise_folder(
        str(folder / "query"),
        bank=str(folder / "bank"),
        data=known,
        recipe=recipe,
        calibration=str(folder / "held-out"),
        non_landmarks=str(folder / "none"),
    )
    rows = {row["query"]: row for row in done.final.recognition.per_query.to_pylist()}
    answers = zip(
        told.recognition.query_ids,
        told.recognition.landmark_Q.tolist(),
        told.recognition.confidence_Q.tolist(),
        strict=True,
    )
    scored = {query: (landmark, sure) for query, landmark, sure in answers if query in rows}
    assert len(scored) == len(rows) > 10
    for query, (landmark, sure) in scored.items():
        assert rows[query]["accepted"] == (landmark >= 0)
        assert rows[query]["confidence"] == pytest.approx(sure, abs=1e-6)
        assert landmark in (-1, rows[query]["predicted"])
    assert 0 < sum(row["accepted"] for row in rows.values()) < len(rows)
    threshold = f"votes of {told.threshold.confidence:.4f} or more"
    assert threshold in done.final.recognition.report.protocol["calibration"]


def test_no_query_has_a_part_in_the_calibration(done, known, tmp_path):
    """Other labels, kinds and truth of the queries: the same threshold and probabilities."""
    collection = load_collection(known)
    rng = np.random.default_rng(0)
    query = np.array(collection.photos["split"].to_pylist()) == "query"
    landmark = np.array(collection.photos["landmark"].to_pylist(), dtype=object)
    landmark[query] = rng.permutation(landmark[query])
    truth = collection.truth
    order = rng.permutation(len(truth))
    other = replace(
        changed(collection, "landmark", landmark),
        truth=replace(truth, landmarks=tuple(truth.landmarks[q] for q in order)),
        fingerprint="another",
    )
    again = run_recipe(recipe_from(PLAIN), other, tmp_path / "run", workers=2)
    old, new = (run.final.recognition for run in (done, again))
    assert old.report.protocol["calibration"] == new.report.protocol["calibration"]
    confidence = {row["query"]: (row["confidence"], row["accepted"]) for row in old.per_query.to_pylist()}
    shared = [row for row in new.per_query.to_pylist() if row["query"] in confidence]
    assert len(shared) > 10
    assert all(confidence[row["query"]] == (row["confidence"], row["accepted"]) for row in shared)
    assert old.per_query["landmark"] != new.per_query["landmark"]


def test_report_page_and_table_have_the_numbers(done):
    report = done.final.report
    found = confidences_in(done.final.recognition.per_query)
    error = report.value("ECE", "Private and Public")
    assert error == pytest.approx(reliability(found).expected_calibration_error)
    page = done.page.read_text()
    assert f"Reliability diagram of {int((found.confidence_Q > -np.inf).sum())} predictions" in page
    assert f"ECE {error:.3f}" in page
    assert done.final.recognition.report.protocol["calibration"] in page
    lines = {line.split("  ")[0]: line for line in result_table(done).splitlines() if line}
    assert f"{error:.4f}" in lines["ECE"]
    false = report.value("false accepts", "Private and Public")
    assert f"{false:.4f}" in lines["false accepts"]
    assert report.protocol["GAP: confidence"] == "probability that the landmark is right"


def test_a_run_that_is_not_calibrated_says_why(known, tmp_path):
    plain = {**PLAIN, "data": {}, "recognition": {}}
    collection = load_collection(known)
    done = run_recipe(recipe_from(plain), collection, tmp_path / "run", workers=2)
    assert not (tmp_path / "run" / "untrained" / "held-out").exists()
    page = done.page.read_text()
    assert "nothing was calibrated. The recipe holds no photos out of training ([data] validation)." in page
    assert "Reliability diagram" not in page and "What sureness costs" in page
    assert done.final.report.value("false accepts", "Private and Public") == 1.0
    # an older run has no word on what was accepted, and a page all the same
    assert write_run_page(tmp_path / "run", collection).read_text() == page


def test_a_recognition_is_read_again_and_compared(done, known, tmp_path):
    place = done.out / "untrained" / "recognition"
    assert names_landmarks(place) and not names_landmarks(done.out / "untrained" / "ranking")
    assert not names_landmarks(done.out / "untrained" / "retrieval")
    found = read_named(place)
    truth = load_collection(known).truth
    again = evaluate_recognition(found.recognition, truth, calibrated=found.calibrated, resamples=100)
    before = done.final.recognition
    assert again.per_query.drop_columns(["seen"]) == before.per_query.drop_columns(["seen"])
    assert again.report.value("ECE", "Private") == before.report.value("ECE", "Private")
    assert compare({"a": before, "b": again}, resamples=50)[0].test.p == 1.0
