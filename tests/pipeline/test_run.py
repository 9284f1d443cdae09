"""The whole run: what it writes, how it goes on where it stopped, that it never learns from what it is scored on."""

import json
import re
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from landseer.models import load_embedder
from landseer.pipeline import result_facts, result_table, run_recipe, train_recipe, write_run_page
from landseer.pipeline.trained import stage_folders
from landseer.recipe import recipe_from
from landseer.storage import load_descriptors, load_ranking
from landseer.training import hold_out, load_losses, load_stage_model, load_validation, training_subset
from landseer.types import Collection


@pytest.fixture(scope="module")
def done(world, collection_folder, tmp_path_factory):
    """One finished run, for the tests that only look at it."""
    from landseer.storage import load_collection

    from .conftest import TINY

    out = tmp_path_factory.mktemp("done") / "run"
    return run_recipe(recipe_from(TINY), load_collection(collection_folder), out, workers=2)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        file.relative_to(folder).as_posix(): (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_run_writes_what_it_says(done):
    parts = {"model", "index", "query", "bank", "ranking", "retrieval", "recognition"}
    assert {entry.name for entry in (done.out / "untrained").iterdir()} == parts
    assert {entry.name for entry in (done.out / "trained").iterdir()} == parts
    assert (done.out / "stages" / "1-first" / "manifest.json").exists()
    assert done.page.read_text().startswith("<!DOCTYPE html>")
    assert not done.did_nothing


def test_training_changed_the_model_and_the_numbers(done):
    before, after = (load_embedder(done.out / name / "model") for name in ("untrained", "trained"))
    assert before.dim != after.dim == 32
    assert before.fingerprint != after.fingerprint
    assert not np.array_equal(done.untrained.ranking.positions_QK, done.trained.ranking.positions_QK)


def test_every_number_is_tied_to_what_made_it(done, collection):
    made_by = done.trained.report.made_by
    assert made_by["collection"] == collection.fingerprint
    assert made_by["photos trained on that are scored"] == "0"
    assert made_by["gallery"] == load_descriptors(done.out / "trained" / "index").fingerprint
    assert load_ranking(done.out / "trained" / "ranking").gallery_fingerprint == made_by["gallery"]


def test_a_second_call_does_nothing_and_says_the_same(done, tiny, collection):
    before = contents(done.out)
    seen = []
    again = run_recipe(tiny, collection, done.out, workers=2, watch=lambda *told: seen.append(told))
    assert again.did_nothing
    assert contents(done.out) == before
    assert seen == []
    assert result_table(again) == result_table(done)


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "at", ["describing query photos, untrained", "training, stage first", "searching, trained"]
)
def test_a_stopped_run_goes_on_and_ends_the_same(at, done, tiny, collection, tmp_path):
    def stop(what: str, *_: object) -> None:
        if what == at:
            raise Stopped

    with pytest.raises(Stopped):
        run_recipe(tiny, collection, tmp_path / "run", workers=2, watch=stop)
    resumed = run_recipe(tiny, collection, tmp_path / "run", workers=2)
    assert not resumed.did_nothing
    assert result_table(resumed) == result_table(done)
    assert np.array_equal(resumed.final.ranking.scores_QK, done.final.ranking.scores_QK)


def test_the_trained_model_does_not_depend_on_anything_that_is_scored(done, tiny, collection, tmp_path):
    """Index and query labels are shuffled and the truth with them: the weights must not move by a bit."""
    photos = collection.photos
    rng = np.random.default_rng(0)
    scored = np.isin(np.array(photos["split"].to_pylist()), ["index", "query"])
    landmark = np.array(photos["landmark"].to_pylist(), dtype=object)
    landmark[scored] = rng.permutation(landmark[scored])
    column = photos.schema.get_field_index("landmark")
    shuffled = Collection(
        photos=photos.set_column(column, photos.schema.field(column), pa.array(list(landmark), pa.int64())),
        landmarks=collection.landmarks,
        root=collection.root,
        truth=collection.truth,
        fingerprint="another",
    )
    result = run_recipe(tiny, shuffled, tmp_path / "run", workers=2)
    trained = load_embedder(result.out / "trained" / "model")
    assert trained.fingerprint == load_embedder(done.out / "trained" / "model").fingerprint


def test_without_stages_and_neck_nothing_is_trained(collection, tmp_path):
    recipe = recipe_from(
        {
            "title": "as it is",
            "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gap"},
            "descriptors": {"size": 64},
            "evaluation": {"resamples": 100},
        }
    )
    result = run_recipe(recipe, collection, tmp_path / "run")
    assert result.trained is None
    assert not (tmp_path / "run" / "trained").exists()
    assert "trained" not in result_table(result).replace("untrained", "")


def test_a_whitening_neck_alone_is_a_model(collection, tmp_path, tiny):
    model = replace(tiny.model, neck_start="whitening", dim=16)
    result = run_recipe(replace(tiny, model=model, stages=()), collection, tmp_path / "run")
    assert result.trained is not None
    assert load_embedder(tmp_path / "run" / "trained" / "model").dim == 16


def test_the_table_shows_the_numbers_of_the_reports(done):
    table = result_table(done)
    for number in done.trained.report.numbers:
        if number.name == "mAP@100":
            before = done.untrained.report.value("mAP@100", number.group)
            line = next(
                line
                for line in table.splitlines()
                if line.startswith("mAP@100")
                and f" {number.group} " in line
                and str(number.num_queries) in line
            )
            assert f"{before:.4f}" in line
            assert f"{number.value:.4f}" in line
            assert f"{number.low:.4f}-{number.high:.4f}" in line
    facts = json.loads(json.dumps(result_facts(done)))
    assert len(facts["trained"]) == len(done.trained.report.numbers)


def test_a_folder_of_another_run_is_refused(done, tiny, collection):
    before = contents(done.out)
    with pytest.raises(ValueError, match="belongs to a run of another recipe"):
        run_recipe(replace(tiny, seed=1), collection, done.out)
    assert contents(done.out) == before


def test_a_folder_that_is_no_run_is_refused(tiny, collection, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match="is not a run folder"):
        run_recipe(tiny, collection, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("split", ["index", "query", "train"])
def test_a_collection_that_lacks_a_split_is_refused(split, tiny, collection, tmp_path):
    rest = [name for name in ("train", "index", "query") if name != split]
    with pytest.raises(ValueError, match=f"no photos of split '{split}'"):
        run_recipe(tiny, collection.in_split(*rest), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_collection_without_truth_is_refused(tiny, collection, tmp_path):
    with pytest.raises(ValueError, match="no queries with known answers"):
        run_recipe(tiny, replace(collection, truth=None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_exist_are_refused_before_anything_is_written(tiny, collection, tmp_path):
    recipe = replace(tiny, model=replace(tiny.model, weights="file"))
    with pytest.raises(ValueError, match=r"nowhere\.pth do not exist"):
        run_recipe(recipe, collection, tmp_path / "run", weights=tmp_path / "nowhere.pth")
    assert not (tmp_path / "run").exists()


def test_unreadable_photos_are_skipped_and_listed(tiny, collection, world, tmp_path):
    import shutil

    photos = tmp_path / "photos"
    shutil.copytree(world, photos)
    moved = replace(collection, root=photos)
    broken = [moved.in_split(split) for split in ("index", "train")]
    for part in broken:
        (photos / part.paths[0]).write_bytes(b"not a photo")
    result = run_recipe(tiny, moved, tmp_path / "run")
    assert broken[0].ids[0] in result.final.unreadable
    assert "not an image" in result.page.read_text()


def test_the_page_can_be_written_anew_from_the_run_alone(done, collection):
    first = done.page.read_bytes()
    done.page.unlink()
    assert write_run_page(done.out, collection).read_bytes() == first


def test_the_page_refuses_another_collection_and_another_folder(done, collection, tmp_path):
    with pytest.raises(ValueError, match="another collection"):
        write_run_page(done.out, replace(collection, fingerprint="0123"))
    with pytest.raises(ValueError, match="is not a run folder"):
        write_run_page(tmp_path, collection)


STAGED = {
    "title": "staged",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gap", "neck": "fc", "dim": 16},
    "data": {"validation": "one-each"},
    "stages": [
        {"name": "small", "size": 32, "epochs": 2, "batch": 16, "subset": "clean"},
        {
            "name": "grown",
            "size": 32,
            "epochs": 1,
            "batch": 16,
            "subset": "full",
            "keep": "all",
            "pooling": "gem",
        },
        {"name": "anew", "size": 32, "epochs": 1, "batch": 16, "keep": "backbone", "patience": 1},
    ],
    "descriptors": {"size": 64, "batch": 16},
    "evaluation": {"resamples": 100, "every_stage": True},
}


@pytest.fixture(scope="module")
def staged(collection_folder, tmp_path_factory):
    """A finished run of three stages, with the entries its callbacks were told."""
    from landseer.storage import load_collection

    told = []
    out = tmp_path_factory.mktemp("staged") / "run"
    recipe, collection = recipe_from(STAGED), load_collection(collection_folder)
    return run_recipe(recipe, collection, out, workers=2, callbacks=(told.append,)), told


def test_stages_follow_one_another(staged):
    result, told = staged
    folders = stage_folders(result.out)
    assert [folder.name for folder in folders] == ["1-small", "2-grown", "3-anew"]
    small, grown, anew = (load_stage_model(folder) for folder in folders)
    assert [model.options.pooling for model in (small, grown, anew)] == ["gap", "gem", "gem"]
    assert result.trained is not None
    # told once, and all of it
    losses = [entry for folder in folders for entry in load_losses(folder)]
    assert [entry for entry in told if "loss" in entry] == losses
    for folder in folders:
        log = (result.out / "training" / folder.name / "log.jsonl").read_text().splitlines()
        kept = [entry for entry in map(json.loads, log) if "loss" in entry]
        assert kept == load_losses(folder)
        assert len(load_validation(folder)) >= 1
        assert [entry.name for entry in (result.out / "training" / folder.name).iterdir()] == ["log.jsonl"]


def test_every_stage_is_scored(staged):
    result, _ = staged
    assert [(found.member, found.stage) for found in result.stages] == [
        (None, "small"),
        (None, "grown"),
        (None, "anew"),
    ]
    assert [found.folder for found in result.stages] == [
        result.out / "after" / "1-small",
        result.out / "after" / "2-grown",
        result.out / "trained",
    ]
    for found, folder in zip(result.stages, stage_folders(result.out), strict=True):
        assert load_embedder(found.folder / "model").fingerprint == load_stage_model(folder).fingerprint
    title, heads, *lines = result_table(result).split("\n\n")[1].splitlines()
    assert title == "mAP@100 after each stage"
    assert [line.split()[0] for line in lines] == ["untrained", "small", "grown", "anew"]
    both = 1 + re.split(r"  +", heads)[1:].index("Private and Public")
    for line, report in zip(
        lines, [result.untrained.report, *(found.report for found in result.stages)], strict=True
    ):
        assert line.split()[both] == f"{report.value('mAP@100', 'Private and Public'):.4f}"
    facts = result_facts(result)["stages"]
    assert [entry["stage"] for entry in facts] == ["small", "grown", "anew"]
    value = {(number["name"], number["group"]): number["value"] for number in facts[0]["numbers"]}
    assert value["mAP@100", "Private"] == result.stages[0].report.value("mAP@100", "Private")
    page = result.page.read_text()
    for found in result.stages:
        assert f">{found.report.value('mAP@100', 'Private and Public'):.3f}</span>" in page


def test_one_stage_needs_no_second_table(done):
    assert "after" not in result_table(done)
    assert len(result_facts(done)["stages"]) == 1


def test_the_time_left_is_that_of_the_work_left(collection, tmp_path, tiny):
    first, seen = replace(tiny.stages[0], epochs=1), []
    second = replace(first, name="second", size=32, epochs=3)
    recipe = replace(tiny, stages=(first, second), evaluation=replace(tiny.evaluation, every_stage=False))
    train_recipe(recipe, collection, tmp_path / "run", watch=lambda *told: seen.append(told))
    photos = len(training_subset(collection, subset="clean", min_photos=2))
    told = {what: list(entries) for what, entries in groupby(seen, key=itemgetter(0))}
    _, done, total, facts = told["training, stage first"][-1]
    assert done == total
    # pixels of the second stage, at the pixels a second that the first stage ran at
    assert facts["all_training_left_s"] == pytest.approx(photos * 3 * 32 * 32 / (facts["images/s"] * 64 * 64))
    _, done, total, facts = told["training, stage second"][0]
    assert facts["all_training_left_s"] == pytest.approx((total - 1) * 16 / facts["images/s"])


def test_a_run_under_torchrun_is_refused(tiny, collection, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="under torchrun say landseer train, then landseer run"):
        run_recipe(tiny, collection, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trained_first_the_run_only_measures(done, tiny, collection, tmp_path):
    seen = []
    trained = train_recipe(tiny, collection, tmp_path / "run", workers=2)
    assert not trained.did_nothing
    assert [(found.stage, found.model) for found in trained.stages] == [
        ("first", tmp_path / "run" / "stages" / "1-first" / "model")
    ]
    losses = load_losses(done.out / "stages" / "1-first")
    assert (trained.stages[0].loss, trained.stages[0].steps) == (losses[-1]["loss"], len(losses))
    before = contents(tmp_path / "run")
    result = run_recipe(tiny, collection, tmp_path / "run", watch=lambda *told: seen.append(told))
    assert not any(told[0].startswith("training") for told in seen)
    assert result_table(result) == result_table(done)
    after = contents(tmp_path / "run")
    assert {name: after[name] for name in before} == before
    assert train_recipe(tiny, collection, tmp_path / "run").did_nothing
    assert contents(tmp_path / "run") == after


def test_training_needs_no_queries_but_stages(tiny, collection, tmp_path):
    unscored = replace(collection.in_split("train"), truth=None)
    assert train_recipe(tiny, unscored, tmp_path / "run").stages
    with pytest.raises(ValueError, match="nothing to train"):
        train_recipe(replace(tiny, stages=()), collection, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_held_out_photos_train_nothing_and_name_nothing(staged, collection):
    result, _ = staged
    held = hold_out(collection, recipe_from(STAGED).data, seed=0).in_split("validation")
    assert len(held) > 0
    assert not set(held.ids) & set(load_descriptors(result.out / "trained" / "bank").ids)


@pytest.mark.parametrize("stage", ["small", "grown", "anew"])
def test_a_run_stopped_in_a_stage_goes_on_from_its_checkpoint(staged, collection, tmp_path, stage):
    result, _ = staged
    seen = []

    def stop(entry) -> None:
        if entry["stage"] == stage and entry.get("step") == 2:
            raise Stopped

    recipe, out = recipe_from(STAGED), tmp_path / "run"
    with pytest.raises(Stopped):
        train_recipe(recipe, collection, out, workers=2, checkpoint_every=1, callbacks=(stop,))
    again = train_recipe(recipe, collection, out, workers=1, checkpoint_every=1, callbacks=(seen.append,))
    assert next(entry["step"] for entry in seen if entry["stage"] == stage) == 2
    assert not again.did_nothing
    for one, other in zip(stage_folders(again.out), stage_folders(result.out), strict=True):
        assert load_stage_model(one).fingerprint == load_stage_model(other).fingerprint
        assert load_losses(one) == load_losses(other)


def test_training_on_all_is_counted_where_it_is_scored(tiny, collection, tmp_path):
    recipe = recipe_from(
        {
            **STAGED,
            "title": "all",
            "stages": [{"name": "all", "size": 32, "epochs": 1, "batch": 32, "subset": "all"}],
            "evaluation": {"resamples": 100, "scored": "elsewhere"},
        }
    )
    result = run_recipe(recipe, collection, tmp_path / "run", workers=2)
    assert int(result.trained.report.made_by["photos trained on that are scored"]) > 0
