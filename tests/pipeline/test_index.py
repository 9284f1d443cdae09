"""A folder of photos becomes an index that grows and is searched."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import landseer.pipeline.indexing.model as room
from landseer.datasets import import_folder
from landseer.models import Ensemble, Member, build_embedder, save_ensemble
from landseer.pipeline import add_to_index, build_index, search_index
from landseer.recipe import DescriptorOptions, ModelOptions
from landseer.search import open_index
from landseer.storage import save_collection


def first(index, *queries, **more):
    return [[answer["id"] for answer in each.answers] for each in search_index(index, queries, **more)]


def test_every_photo_finds_itself_first_and_its_facts(index, photos, tmp_path):
    shutil.copy(photos / "rome/b.png", tmp_path / "copy.png")
    (tmp_path / "recipe.toml").unlink()  # the index has the model
    names = ["d.png", "oslo/c.png", "rome/a.png"]
    found = search_index(index, [*(photos / name for name in names), tmp_path / "copy.png"], k=2)
    assert [each.answers[0]["id"] for each in found] == [*names, "rome/b.png"]
    best = found[-1].answers[0]
    assert best["score"] == pytest.approx(1, abs=1e-5) and best["rank"] == 1
    assert best["path"] == str(photos.resolve() / "rome/b.png")
    assert best["landmark_name"] == "rome"
    assert [len(each.answers) for each in found] == [2] * 4
    assert found[-1].query == str(tmp_path / "copy.png")


def test_an_interrupted_build_goes_on_and_describes_nothing_twice(
    tmp_path, photos, recipe, described, monkeypatch, draw
):
    add, seen = room.LivingIndex.add, []

    def failing(index, rows, *args, **more):
        if len(index) == 3:
            # the process dies here; another one has been able to search all the while
            seen.append(first(index.path, photos / "oslo/c.png", k=1))
            raise KeyboardInterrupt
        return add(index, rows, *args, **more)

    build = {"model": recipe, "workers": 1, "commit_every": 2}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(room.LivingIndex, "add", failing)
        build_index(photos, tmp_path / "INDEX", **build)
    assert seen == [[["oslo/c.png"]]]
    assert (tmp_path / "INDEX" / room.PART).exists()  # what a killed process leaves does not matter
    del described[3:]  # the part that was lost, and the query
    draw(photos, "z.png", seed=4)  # the next part is another one
    done = build_index(photos, tmp_path / "INDEX", **build)
    assert sorted(described) == ["d.png", "e.png", "oslo/c.png", "rome/a.png", "rome/b.png", "z.png"]
    assert (done.added, done.there_already, done.photos) == (3, 3, 6)
    assert not (tmp_path / "INDEX" / room.PART).exists()
    described.clear()
    assert build_index(photos, tmp_path / "INDEX", **build).added == 0
    assert described == []


def test_a_build_that_ended_before_its_model_was_kept_goes_on(index, photos, recipe):
    shutil.rmtree(index / "models")
    with pytest.raises(ValueError, match=r"models/\w+ is missing; run the landseer index build"):
        search_index(index, [photos / "d.png"])
    build_index(photos, index, model=recipe)
    assert first(index, photos / "d.png", k=1) == [["d.png"]]


def test_the_parts_tell_how_far_the_whole_is(tmp_path, photos, recipe):
    told = []
    build_index(
        photos, tmp_path / "INDEX", model=recipe, commit_every=2, progress=lambda *what: told.append(what)
    )
    steps = [(done, total) for what, done, total in told if what == "describing photos"]
    assert steps == [(0, 5), (1, 5), (1, 5), (3, 5), (3, 5), (5, 5)]


def test_add_describes_only_what_is_new_and_keeps_folders_one_landmark(index, photos, described, draw):
    draw(photos, "athens/x.png", "rome/y.png", seed=1)
    done = add_to_index(index, photos)
    assert sorted(described) == ["athens/x.png", "rome/y.png"]
    assert (done.added, done.there_already, done.photos) == (2, 5, 7)
    with open_index(index) as opened:
        known = opened.photos(opened.ids_where())
    # numbers of the moment would make athens 0, which oslo is
    names = {(record["landmark"], record["landmark_name"]) for record in known.values()}
    assert names == {(0, "oslo"), (1, "rome"), (2, "athens"), (None, None)}
    assert known["rome/y.png"]["landmark"] == 1


def test_equal_ids_of_two_folders_need_a_prefix(index, tmp_path, draw):
    draw(tmp_path / "more", "d.png", "new.png", seed=2)
    with pytest.raises(ValueError, match=r"has a photo 'd.png' from .*photos already.* --prefix NAME"):
        add_to_index(index, tmp_path / "more")
    with open_index(index) as opened:
        assert len(opened) == 5
    assert add_to_index(index, tmp_path / "more", prefix="trip").added == 2
    assert add_to_index(index, tmp_path / "more", prefix="trip").added == 0
    found = search_index(index, [tmp_path / "more" / "d.png"], k=1)[0].answers[0]
    assert (found["id"], found["path"]) == ("trip/d.png", str(tmp_path.resolve() / "more" / "d.png"))


def test_a_filter_and_a_removal_hold(index, photos):
    assert first(index, photos / "d.png", where="landmark_name = 'rome'", k=5)[0] != []
    assert set(first(index, photos / "d.png", where="landmark_name = 'rome'", k=5)[0]) == {
        "rome/a.png",
        "rome/b.png",
    }
    with open_index(index, write=True) as opened:
        opened.remove(["d.png"])
    assert "d.png" not in first(index, photos / "d.png", k=5)[0]


def test_photos_that_cannot_be_read_are_named_and_nothing_is_lost(tmp_path, photos, recipe, truncated):
    truncated(photos / "a-broken.png")
    (photos / "worse.jpg").write_bytes(b"no picture")
    done = build_index(
        photos, tmp_path / "INDEX", model=recipe, commit_every=1
    )  # a part of broken photos only
    assert (done.added, done.num_unreadable) == (5, 2)
    assert [line.split(":")[0] for line in done.unreadable] == ["'worse.jpg'", "'a-broken.png'"]
    found = search_index(
        tmp_path / "INDEX", [photos / "a-broken.png", photos / "d.png", tmp_path / "absent.png"]
    )
    assert [each.unreadable for each in found][1:] == [None, "missing"]
    assert found[0].unreadable and found[0].answers == ()
    assert found[1].answers[0]["id"] == "d.png"
    alone = search_index(tmp_path / "INDEX", [tmp_path / "absent.png"])
    assert [each.unreadable for each in alone] == ["missing"]


def test_a_collection_is_indexed_as_it_is(tmp_path, photos, recipe):
    save_collection(import_folder(photos)[0], tmp_path / "C", made_by={})
    build_index(tmp_path / "C", tmp_path / "INDEX", model=recipe)
    found = search_index(tmp_path / "INDEX", [photos / "oslo/c.png"], k=1)[0].answers[0]
    assert (found["path"], found["landmark_name"]) == (str(photos.resolve() / "oslo/c.png"), "oslo")


def test_a_collection_with_other_numbers_is_refused(index, tmp_path, draw):
    draw(tmp_path / "more", "bern/1.png", seed=3)
    save_collection(import_folder(tmp_path / "more")[0], tmp_path / "C", made_by={})
    with pytest.raises(ValueError, match=r"landmark 0 is 'oslo' in .* but 'bern' in .*C"):
        add_to_index(index, tmp_path / "C")


def test_what_does_not_fit_is_refused(index, photos, recipe, tmp_path, write_recipe):
    with pytest.raises(ValueError, match=r"was built from .*photos, not .*rome; add photos"):
        build_index(photos / "rome", index, model=recipe)
    other = tmp_path / "other.toml"
    write_recipe(other, seed=6)
    with pytest.raises(ValueError, match="has another model"):
        build_index(photos, index, model=other)
    write_recipe(other, seed=5, size=96)  # the same weights, but another descriptor
    with pytest.raises(ValueError, match="has another model"):
        build_index(photos, index, model=other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no readable photo"):
        build_index(tmp_path / "empty", tmp_path / "NEW", model=recipe)
    assert not (tmp_path / "NEW").exists()


def test_replace_describes_all_again_and_takes_their_places(index, photos, described, draw, truncated):
    draw(photos, "d.png", "new.png", seed=7)  # d.png is another picture now
    truncated(photos / "e.png")
    assert add_to_index(index, photos).added == 1  # without, what changed is passed over
    assert search_index(index, [photos / "d.png"], k=1)[0].answers[0]["score"] < 0.9999
    described.clear()
    done = add_to_index(index, photos, replace=True)
    assert len(described) == 6
    assert (done.added, done.replaced, done.there_already, done.photos) == (5, 5, 0, 6)
    assert [line.split(":")[0] for line in done.unreadable] == ["'e.png'"]
    best = search_index(index, [photos / "d.png"], k=1)[0].answers[0]
    assert best["id"] == "d.png" and best["score"] == pytest.approx(1, abs=1e-5)
    with open_index(index) as opened:
        assert "e.png" in opened.ids_where(), "what cannot be read leaves what is there"
        assert opened.verify() == [] and opened.info().removed == 0


def test_replace_takes_the_place_of_another_folders_photos(index, tmp_path, draw):
    draw(tmp_path / "more", "d.png", "x.png", seed=2)
    done = add_to_index(index, tmp_path / "more", replace=True)
    assert (done.added, done.replaced, done.photos) == (2, 1, 6)
    found = search_index(index, [tmp_path / "more" / "d.png"], k=1)[0].answers[0]
    assert (found["id"], found["path"]) == ("d.png", str(tmp_path.resolve() / "more" / "d.png"))


def test_the_first_parts_are_small(tmp_path, photos, recipe, draw):
    draw(photos, *(f"{number}.png" for number in range(20)), seed=8)
    told = []
    build_index(
        photos, tmp_path / "INDEX", model=recipe, commit_every=12, progress=lambda *what: told.append(what)
    )
    assert told[0] == ("loading the model", 0, 1)
    assert ("reading photos", 0, 25) in told
    begun = [done for what, done, total in told if what == "describing photos" and total == 25]
    assert sorted(set(begun)) == [0, 1, 3, 7, 15, 25]


@pytest.mark.parametrize(
    ("mistake", "what"),
    [
        ({"where": "colour = 'red'"}, "no column 'colour'"),
        ({"where": "country ="}, "filter: "),
        ({"device": "tpu7"}, "device: 'tpu7'"),
        ({"k": 0}, "k must be at least 1"),
        ({"workers": 0}, "workers: must be at least 1"),
    ],
)
def test_a_mistake_in_a_search_is_told_before_the_model_is_loaded(index, photos, monkeypatch, mistake, what):
    monkeypatch.setattr(room, "load_model", lambda folder: pytest.fail("the model was loaded"))
    with pytest.raises(ValueError, match=what):
        search_index(index, [photos / "d.png"], **mistake)


def test_a_mistake_in_a_build_is_told_before_the_model_is_loaded(index, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "open_model", lambda *_, **__: pytest.fail("the model was loaded"))
    monkeypatch.setattr(room, "load_model", lambda folder: pytest.fail("the model was loaded"))
    for call, what in (
        (lambda: build_index(photos, tmp_path / "NEW", device="tpu7"), "device: 'tpu7'"),
        (lambda: build_index(photos, tmp_path / "NEW", commit_every=0), "commit_every: must be at least 1"),
        (lambda: build_index(tmp_path / "nowhere", tmp_path / "NEW"), "nowhere is no folder of photos"),
        (lambda: build_index(photos / "rome", index), "was built from"),
        (lambda: build_index(photos, photos), "so it is not a landseer index"),
        (lambda: add_to_index(index, tmp_path / "nowhere"), "nowhere is no folder of photos"),
        (lambda: add_to_index(index, photos, device="tpu7"), "device: 'tpu7'"),
    ):
        with pytest.raises(ValueError, match=what):
            call()


@pytest.mark.parametrize("unit", [True, False])
def test_an_ensemble_describes_an_index(photos, tmp_path, unit, draw, truncated):
    save_ensemble(ensemble(unit=unit), tmp_path / "both", made_by={})
    truncated(photos / "broken.png")
    done = build_index(photos, tmp_path / "INDEX", model=tmp_path / "both", commit_every=2)
    shutil.rmtree(tmp_path / "both")
    assert (done.added, done.num_unreadable) == (5, 1)
    draw(photos, "new.png", seed=4)
    told = []
    assert add_to_index(tmp_path / "INDEX", photos, progress=lambda *what: told.append(what)).added == 1
    steps = [(done, total) for what, done, total in told if what == "describing photos"]
    assert (
        steps[-1] == (2, 2) and max(done for done, _ in steps) == 2
    )  # a photo counts once, not once a member
    found = search_index(tmp_path / "INDEX", [photos / "new.png"], k=6)[0].answers
    assert found[0]["id"] == "new.png"
    # the score by the definition: the members' cosines, weighted by the squares of their weights
    assert found[0]["score"] == pytest.approx(1 if unit else 1 + 4, abs=1e-4)
    with open_index(tmp_path / "INDEX") as opened:
        assert (opened.info().normalised, opened.info().dtype) == (unit, "float32")


def ensemble(*, unit):
    options = ModelOptions(backbone="test_resnet", weights="none", pooling="gap")
    members = tuple(
        Member(
            name=name,
            weight=seed + 1.0,
            embedder=build_embedder(options, seed=seed),
            descriptors=DescriptorOptions(size=64 + 32 * seed),
        )
        for seed, name in enumerate("ab")
    )
    return Ensemble(members=members, unit=unit)


def test_a_collection_with_boxes_is_indexed_whole(tmp_path, photos, recipe):
    """An index keeps no lists, and describes its photos again when it is rebuilt: without their boxes."""
    imported, _ = import_folder(photos)
    boxes = pa.array([[0.0, 0.0, 9.0, 9.0]] * len(imported), pa.list_(pa.float64()))
    boxed = replace(imported, photos=imported.photos.append_column("crop", boxes))
    save_collection(imported, tmp_path / "plain", made_by={"import": "folder"})
    save_collection(boxed, tmp_path / "boxed", made_by={"import": "folder"})
    rows = []
    for name in ("plain", "boxed"):
        build_index(tmp_path / name, tmp_path / f"{name}-index", model=recipe, workers=1)
        with open_index(tmp_path / f"{name}-index") as index:
            assert "crop" not in index.columns()
            rows.append(index.descriptors(imported.ids).rows_ND)
    assert np.array_equal(*rows)
