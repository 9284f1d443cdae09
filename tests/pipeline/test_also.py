"""Stages that learn from other collections than the run's own."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from landseer.pipeline import result_facts, result_table, run_recipe, train_recipe, write_run_page
from landseer.pipeline.setting import trains
from landseer.recipe import recipe_from
from landseer.training import load_stage_head
from landseer.types import Collection

OFFSET = 100_000
STAGE = {"size": 32, "epochs": 1, "batch": 16}
RECIPE = {
    "title": "two collections",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gap", "neck": "fc", "dim": 16},
    "stages": [
        {"name": "first", "collection": "old", **STAGE},
        {"name": "second", "subset": "full", **STAGE},
    ],
    "descriptors": {"size": 32, "batch": 16},
    "evaluation": {"resamples": 100},
}


def column(photos: pa.Table, name: str, values: list) -> pa.Table:
    place = photos.schema.get_field_index(name)
    return photos.set_column(
        place, photos.schema.field(name), pa.array(values, photos.schema.field(name).type)
    )


def other(collection: Collection, *, split: str, prefix: str = "", offset: int = OFFSET) -> Collection:
    """The photos of one *split* as training photos of landmarks with other ids."""
    photos = collection.in_split(split).photos
    photos = photos.filter(pc.is_valid(photos["landmark"]))
    photos = column(photos, "landmark", [offset + one for one in photos["landmark"].to_pylist()])
    photos = column(photos, "split", ["train"] * len(photos))
    photos = column(photos, "clean", [True] * len(photos))
    photos = column(photos, "id", [prefix + photo for photo in photos["id"].to_pylist()])
    landmarks = collection.landmarks
    numbers = [offset + one for one in landmarks["landmark"].to_pylist()]
    landmarks = landmarks.set_column(0, landmarks.schema.field("landmark"), pa.array(numbers, pa.int64()))
    return replace(collection, photos=photos, landmarks=landmarks, truth=None, fingerprint="another")


@pytest.fixture
def old(collection) -> Collection:
    return other(collection, split="train", prefix="old-")


def test_each_stage_has_the_label_space_of_its_collection(collection, old, tmp_path):
    recipe = recipe_from(RECIPE)
    result = run_recipe(recipe, collection, tmp_path / "run", also={"old": old}, workers=2)
    first, second = (load_stage_head(tmp_path / "run" / "stages" / name) for name in ("1-first", "2-second"))
    assert min(first.landmark_C) >= OFFSET
    assert max(second.landmark_C) < OFFSET
    made_by = result.final.report.made_by
    assert made_by["collection old"] == "another"
    assert made_by["photos trained on that are scored"] == "0"
    assert "note:" not in result_table(result)
    # seen are the landmarks of the stage on the run's own photos, noisy ones too, and no others
    known = set(second.landmark_C.tolist())
    for row in result.final.retrieval.per_query.to_pylist():
        assert row["landmark"] is None or row["seen"] == (row["landmark"] in known)
    with pytest.raises(ValueError, match="belongs to a run of another recipe, collection"):
        run_recipe(recipe, collection, tmp_path / "run", also={"old": replace(old, fingerprint="changed")})
    again = run_recipe(recipe, collection, tmp_path / "run", also={"old": old})
    assert again.did_nothing
    assert write_run_page(tmp_path / "run", collection).exists()


def test_what_only_other_collections_taught_is_not_seen(collection, tmp_path):
    old = other(collection, split="train", prefix="old-", offset=0)  # equal ids are not equal landmarks
    recipe = recipe_from({**RECIPE, "stages": RECIPE["stages"][:1]})
    assert trains(recipe)
    result = run_recipe(recipe, collection, tmp_path / "run", also={"old": old}, workers=2)
    groups = {number.group for number in result.final.report.numbers}
    assert "landmarks not trained on" in groups
    assert "landmarks trained on" not in groups


def test_scored_photos_in_another_collection_are_counted_and_shown(collection, tmp_path):
    overlapping = other(collection, split="index")
    recipe = recipe_from({**RECIPE, "stages": RECIPE["stages"][:1]})
    result = run_recipe(recipe, collection, tmp_path / "run", also={"old": overlapping}, workers=2)
    head = load_stage_head(tmp_path / "run" / "stages" / "1-first").landmark_C
    both = sum(landmark in set(head) for landmark in overlapping.landmark_N.tolist())
    assert both > 0
    assert result.final.report.made_by["photos trained on that are scored"] == str(both)
    note = f"{both} of the photos that are scored were trained on: the numbers flatter the model."
    assert f"note: {note}" in result_table(result)
    assert note in result_facts(result)["notes"]
    assert note in result.page.read_text()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), r"stages\.first\.collection: which collection 'old' is was not said; add --also old=COLLECTION"),
        (("old", "new"), "--also new: no stage learns from a collection of that name; they name: old"),
        (("odl",), "--also odl: no stage learns from a collection of that name; did you mean 'old'?"),
    ],
)
@pytest.mark.parametrize("do", [run_recipe, train_recipe])
def test_a_collection_too_few_or_too_many_is_refused(do, names, said, collection, old, tmp_path):
    with pytest.raises(ValueError, match=said):
        do(recipe_from(RECIPE), collection, tmp_path / "run", also=dict.fromkeys(names, old))
    assert not (tmp_path / "run").exists()


def test_a_head_does_not_go_on_to_another_collection(collection, old, tmp_path):
    stages = [RECIPE["stages"][0], {**RECIPE["stages"][1], "keep": "all"}]
    with pytest.raises(
        ValueError, match=r"stages\.second\.keep: .* stage 'first' before it learned from another"
    ):
        train_recipe(
            recipe_from({**RECIPE, "stages": stages}), collection, tmp_path / "run", also={"old": old}
        )
    assert not (tmp_path / "run").exists()


def test_only_the_own_collection_has_photos_held_out(collection, old, tmp_path):
    recipe = recipe_from({**RECIPE, "data": {"validation": "share", "validation_share": 0.5}})
    result = train_recipe(recipe, collection, tmp_path / "run", also={"old": old}, workers=2)
    assert [bool(found.validation) for found in result.stages] == [False, True]
    assert "validation_loss" in result.stages[1].validation
    patient = [{**RECIPE["stages"][0], "patience": 1}, RECIPE["stages"][1]]
    with pytest.raises(ValueError, match=r"stages\.first: patience and judge need photos to validate on"):
        train_recipe(
            recipe_from({**RECIPE, "data": {"validation": "share"}, "stages": patient}),
            collection,
            tmp_path / "patient",
            also={"old": old},
        )
    assert not (tmp_path / "patient").exists()
    # photos that the other collection itself keeps apart do
    splits = np.array(old.photos["split"].to_pylist(), dtype=object)
    splits[::2] = "validation"
    kept_apart = replace(old, photos=column(old.photos, "split", list(splits)))
    result = train_recipe(recipe, collection, tmp_path / "apart", also={"old": kept_apart}, workers=2)
    assert [bool(found.validation) for found in result.stages] == [True, True]
