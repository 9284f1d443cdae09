"""An ensemble in a run: members trained and scored apart, their rows side by side, however often it was stopped."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file

from landseer.models import Embedder, Ensemble, build_embedder, load_embedder, load_ensemble
from landseer.pipeline import open_model, result_facts, result_table, run_recipe, train_recipe
from landseer.pipeline.model import untrained_model
from landseer.pipeline.trained import stage_folders
from landseer.recipe import ModelOptions, recipe_from
from landseer.storage import load_collection, load_descriptors
from landseer.training import load_losses, load_stage_model

PLAIN = {"backbone": "test_resnet", "weights": "none", "pooling": "gap", "neck": "none"}
TWO = {
    "title": "two",
    "model": {**PLAIN, "neck": "fc", "dim": 16},
    "stages": [
        {"name": "clean", "size": 32, "epochs": 1, "batch": 16, "lr": 3e-3},
        {"name": "full", "like": "clean", "subset": "full"},
    ],
    "members": [
        {"name": "one", "stages": ["clean", "full"], "model": {"substitute_for": "a much larger one"}},
        {"name": "other", "weight": 0.5, "stages": ["clean"], "descriptors": {"size": 48}},
    ],
    "descriptors": {"size": 32, "batch": 16},
    "evaluation": {"resamples": 100, "every_stage": True},
}


@pytest.fixture(scope="module")
def done(collection_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("members") / "run"
    return run_recipe(recipe_from(TWO), load_collection(collection_folder), out, workers=2)


def test_every_member_has_its_own_folder(done):
    parts = {"model", "index", "query", "bank", "ranking", "retrieval", "recognition"}
    measured = [
        "untrained",
        "trained",
        "members/one/trained",
        "members/one/after/1-clean",
        "members/other/trained",
    ]
    for folder in measured:
        assert {entry.name for entry in (done.out / folder).iterdir()} == parts, folder
    assert not (done.out / "stages").exists()
    assert not (done.out / "members" / "other" / "after").exists()
    stages = [[folder.name for folder in stage_folders(done.out / "members" / m)] for m in ("one", "other")]
    assert stages == [["1-clean", "2-full"], ["1-clean"]]


@pytest.mark.parametrize("part", ["index", "query", "bank"])
def test_the_rows_are_those_of_the_members_side_by_side(done, part):
    joined, one, other = (
        load_descriptors(done.out / folder / part)
        for folder in ("trained", "members/one/trained", "members/other/trained")
    )
    assert joined.ids == one.ids == other.ids
    for row, first, second in zip(joined.rows_ND, one.rows_ND, other.rows_ND, strict=True):
        slow = [1.0 * value for value in first.tolist()] + [0.5 * value for value in second.tolist()]
        length = math.sqrt(sum(value * value for value in slow))
        assert row == pytest.approx([value / length for value in slow], abs=1e-6)


def test_the_ensemble_folder_holds_what_the_members_ended_with(done):
    ensemble, options = open_model(done.out / "trained" / "model")
    assert isinstance(ensemble, Ensemble)
    assert options is None
    assert [(member.name, member.weight, member.descriptors.size) for member in ensemble.members] == [
        ("one", 1.0, 32),
        ("other", 0.5, 48),
    ]
    for member in ensemble.members:
        home = done.out / "members" / member.name
        last = load_stage_model(stage_folders(home)[-1])
        assert member.embedder.fingerprint == last.fingerprint
        opened, preset = open_model(home / "trained" / "model")
        assert (opened.fingerprint, preset) == (last.fingerprint, member.descriptors)


def test_members_that_start_at_random_start_apart(done):
    members = load_ensemble(done.out / "untrained" / "model").members
    assert members[0].embedder.fingerprint != members[1].embedder.fingerprint
    assert {member.embedder.options.neck for member in members} == {"none"}
    rows = [
        load_stage_model(done.out / "members" / m / "stages" / "1-clean").neck[0].weight
        for m in ("one", "other")
    ]
    assert not np.allclose(*(row.detach().numpy() for row in rows))


def test_a_member_does_not_depend_on_the_others(done, collection, tmp_path):
    recipe = recipe_from({**TWO, "members": TWO["members"][1:], "stages": TWO["stages"][:1]})
    train_recipe(recipe, collection, tmp_path / "run", workers=2)
    alone, among = (
        load_stage_model(out / "members" / "other" / "stages" / "1-clean")
        for out in (tmp_path / "run", done.out)
    )
    assert alone.fingerprint == among.fingerprint


def test_every_member_and_stage_is_shown(done):
    assert [(found.member, found.stage) for found in done.stages] == [
        ("one", "clean"),
        ("one", "full"),
        ("other", "clean"),
    ]
    table = result_table(done)
    stands_in = "test_resnet (member one) stands in for a much larger one: this is not a reproduction of it."
    assert table.splitlines()[-1] == f"note: {stands_in}"
    title, _, *lines = table.split("\n\n")[1].splitlines()
    assert title == "mAP@100 after each stage"
    assert [line.split()[:2] for line in lines] == [["one", "clean"], ["one", "full"], ["other", "clean"]]
    for line, found in zip(lines, done.stages, strict=True):
        assert line.split()[2] == f"{found.report.value('mAP@100', 'Private'):.4f}"
    facts = result_facts(done)
    assert [(entry["member"], entry["stage"]) for entry in facts["stages"]] == [
        ("one", "clean"),
        ("one", "full"),
        ("other", "clean"),
    ]
    assert stands_in in facts["notes"]
    page = done.page.read_text()
    assert stands_in in page
    assert "one/clean, one/full, other/clean" in page  # the loss curve's stages
    for found in done.stages:
        assert f">{found.report.value('mAP@100', 'Public'):.3f}</span>" in page


class Stopped(Exception):
    pass


def test_a_run_that_is_stopped_again_and_again_ends_the_same(done, collection, tmp_path):
    recipe, out = recipe_from(TWO), tmp_path / "run"
    for at, times in (
        ("describing query photos, member one after stage clean", 2),
        ("training of one, stage full", 3),
        ("training of other, stage clean", 1),
        ("searching, trained", 1),
    ):
        told = []

        def stop(what: str, *_: object, at=at, times=times, told=told) -> None:
            told.append(what)
            if told.count(at) == times:
                raise Stopped

        with pytest.raises(Stopped):
            run_recipe(recipe, collection, out, workers=2, checkpoint_every=1, watch=stop)
    seen = []
    resumed = run_recipe(recipe, collection, out, workers=1, watch=lambda *told: seen.append(told[0]))
    assert seen == ["searching, trained", "writing the report"]
    assert result_table(resumed) == result_table(done)
    assert np.array_equal(resumed.final.ranking.scores_QK, done.final.ranking.scores_QK)
    assert [entry.name for entry in (out / "trained").iterdir() if entry.name.startswith(".")] == []
    seen = []
    assert run_recipe(recipe, collection, out, watch=lambda *told: seen.append(told)).did_nothing
    assert seen == []


def test_what_the_members_described_is_not_described_again(done, collection, tmp_path):
    seen, out = [], tmp_path / "run"
    shutil.copytree(done.out, out)
    shutil.rmtree(out / "trained")
    again = run_recipe(recipe_from(TWO), collection, out, watch=lambda *told: seen.append(told[0]))
    assert seen == ["searching, trained", "writing the report"]
    assert result_table(again) == result_table(done)
    assert not any(entry.name.startswith(".") for entry in (out / "trained").iterdir())
    rows = load_descriptors(out / "members" / "one" / "trained" / "index")  # lent, not given away
    assert np.array_equal(rows.rows_ND, load_descriptors(done.out / "members/one/trained/index").rows_ND)


def test_callbacks_are_told_whose_stage_it_is(done, collection, tmp_path):
    seen = []
    recipe = recipe_from({**TWO, "members": TWO["members"][1:], "stages": TWO["stages"][:1]})
    train_recipe(recipe, collection, tmp_path / "run", callbacks=(seen.append,))
    assert {entry["stage"] for entry in seen} == {"other/clean"}
    assert {entry["stage"] for entry in load_losses(done.out / "members/other/stages/1-clean")} == {"clean"}


def test_members_with_equal_settings_train_apart(collection, weights, tmp_path):
    stage = {**TWO["stages"][0], "augmentation": {"flip": 0.5, "crop": 0.8}}
    members = [{"name": name, "stages": ["clean"]} for name in ("one", "other")]
    recipe = recipe_from(
        {"title": "t", "model": {**PLAIN, "weights": "file"}, "stages": [stage], "members": members}
    )
    result = train_recipe(recipe, collection, tmp_path / "run", weights=weights, workers=2)
    one, other = (load_stage_model(found.folder).fingerprint for found in result.stages)
    assert one != other


@pytest.fixture
def weights(tmp_path):
    made = build_embedder(ModelOptions(**PLAIN), seed=1)
    state = {key: value.contiguous() for key, value in made.backbone.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_members_that_start_from_the_same_weights_are_one_untrained_model(weights):
    named = [{"name": name, "weight": weight} for name, weight in (("a", 3.0), ("b", 4.0))]
    same = recipe_from({"title": "t", "model": {**PLAIN, "weights": "file"}, "members": named})
    model, options = untrained_model(same, weights=weights)
    assert isinstance(model, Embedder)
    assert options == same.descriptors
    random = recipe_from({"title": "t", "model": PLAIN, "members": named})
    model, _ = untrained_model(random, weights=None)
    assert [(member.name, member.weight) for member in model.members] == [("a", 3.0), ("b", 4.0)]
    larger = {"name": "c", "descriptors": {"size": 96}}
    apart = recipe_from({"title": "t", "model": {**PLAIN, "weights": "file"}, "members": [*named, larger]})
    model, _ = untrained_model(apart, weights=weights)
    # two copies with weights 3 and 4 weigh in a cosine as one with weight 5: 9 + 16 = 25
    assert [(member.name, member.weight) for member in model.members] == [("a", 5.0), ("c", 1.0)]


def test_weights_go_to_the_members_that_take_a_file(weights):
    members = [{"name": "file", "model": {"weights": "file"}}, {"name": "none"}]
    recipe = recipe_from({"title": "t", "model": PLAIN, "members": members})
    model, _ = untrained_model(recipe, weights=weights)
    first, second = (member.embedder for member in model.members)
    assert first.source.startswith("file sha256")
    assert second.source != first.source
    with pytest.raises(ValueError, match="add --weights FILE"):
        untrained_model(recipe, weights=None)
    without = replace(recipe, members=recipe.members[1:])
    with pytest.raises(ValueError, match='only "file" takes a file'):
        untrained_model(without, weights=weights)


def test_an_ensemble_of_models_as_they_are_is_scored_beside_its_members(collection, tmp_path):
    members = [{"name": "small"}, {"name": "large", "descriptors": {"size": 64}}]
    recipe = recipe_from(
        {
            "title": "as they are",
            "model": PLAIN,
            "members": members,
            "descriptors": {"size": 32},
            "evaluation": {"resamples": 100},
        }
    )
    result = run_recipe(recipe, collection, tmp_path / "run", workers=2)
    assert result.trained is None
    assert not (tmp_path / "run" / "trained").exists()
    assert [(found.member, found.stage) for found in result.stages] == [("small", None), ("large", None)]
    first = load_ensemble(tmp_path / "run" / "untrained" / "model").members[0].embedder
    assert load_embedder(result.stages[0].folder / "model").fingerprint == first.fingerprint
    assert "mAP@100 of each member" in result_table(result)
    assert "as it is" in result_table(result)
