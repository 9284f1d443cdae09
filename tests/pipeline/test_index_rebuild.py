"""An index changes its model while the old one answers."""

import multiprocessing
import os
import random
import runpy
import shutil
import signal
from pathlib import Path

import pytest

import landseer.pipeline.indexing.search as searching
from landseer.models import Ensemble, Member, build_embedder, save_ensemble
from landseer.pipeline import abandon_rebuild, add_to_index, build_index, rebuild_index, search_index
from landseer.recipe import DescriptorOptions, ModelOptions
from landseer.search import LivingIndex, open_index


@pytest.fixture
def other(tmp_path, write_recipe):
    return write_recipe(tmp_path / "other.toml", seed=6)


def models(index):
    return sorted(os.listdir(index / "models"))


def found(index, photo, k=5):
    (answers,) = search_index(index, [photo], k=k)
    return [(answer["id"], answer["score"]) for answer in answers.answers]


def facts(index):
    with open_index(index) as opened:
        assert opened.verify() == []
        return opened.info()


def test_a_rebuilt_index_is_the_one_the_new_model_would_have_built(index, photos, recipe, other, tmp_path):
    before = facts(index)
    done = rebuild_index(index, model=other, workers=1)
    assert (done.described, done.finished, done.dropped, done.unreadable, done.photos) == (5, True, 0, (), 5)
    build_index(photos, tmp_path / "FRESH", model=other, workers=1)
    after = facts(index)
    assert after.model == facts(tmp_path / "FRESH").model != before.model
    assert after.rebuild is None and after.segments == 1
    assert models(index) == [after.model], "the old model is gone"
    for name in ("d.png", "rome/a.png"):
        # photos of other parts went through the model, which touches the last bits
        ours, theirs = found(index, photos / name), found(tmp_path / "FRESH", photos / name)
        assert [photo for photo, _ in ours] == [photo for photo, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-5)
    # what else was known of the photos is known still, and the index grows with its new model
    with open_index(index) as opened:
        assert opened.photos(["rome/a.png"])["rome/a.png"]["landmark_name"] == "rome"
        assert opened.settings["photos"] == str(photos.resolve())
    assert add_to_index(index, photos).there_already == 5
    assert rebuild_index(index, model=other).described == 0, "nothing to do"
    with pytest.raises(ValueError, match="has another model"):
        build_index(photos, index, model=recipe)


def test_an_interrupted_rebuild_goes_on_while_the_old_model_answers(
    index, photos, other, described, monkeypatch, draw
):
    stage, before = LivingIndex.stage, found(index, photos / "d.png")

    def failing(opened, rows, **more):
        if opened.info().staged == 3:
            raise KeyboardInterrupt
        return stage(opened, rows, **more)

    old = facts(index).model
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LivingIndex, "stage", failing)
        rebuild_index(index, model=other, commit_every=2)
    half = facts(index)
    assert (half.model, half.staged, len(models(index))) == (old, 3, 2)
    assert found(index, photos / "d.png") == before
    draw(photos, "new.png", seed=4)
    assert add_to_index(index, photos).added == 1  # by the old model
    with open_index(index, write=True) as opened:
        opened.remove(["e.png"])
    described.clear()
    told = []
    done = rebuild_index(index, model=other, commit_every=2, progress=lambda *what: told.append(what))
    assert described == ["rome/a.png", "rome/b.png", "new.png"], "what was kept is not described again"
    assert [what[1:] for what in told if what[0] == "describing photos"] == [(2, 5), (3, 5), (3, 5), (5, 5)]
    assert (done.described, done.finished, done.photos) == (3, True, 5)
    assert found(index, photos / "new.png", k=1)[0][0] == "new.png"
    assert len(models(index)) == 1


def test_photos_that_cannot_be_read_keep_the_old_model_until_they_are_dropped(
    index, photos, other, truncated, described, tmp_path
):
    old = facts(index).model
    (photos / "rome" / "a.png").rename(tmp_path / "kept.png")
    truncated(photos / "d.png")
    done = rebuild_index(index, model=other, commit_every=2)
    assert (done.described, done.finished, done.dropped, done.photos) == (3, False, 0, 5)
    assert sorted(line.split(":")[0] for line in done.unreadable) == ["'d.png'", "'rome/a.png'"]
    assert "'rome/a.png': missing" in done.unreadable
    assert facts(index).model == old and len(models(index)) == 2
    (tmp_path / "kept.png").rename(photos / "rome" / "a.png")
    described.clear()
    again = rebuild_index(index, model=other, commit_every=2)
    assert sorted(described) == ["d.png", "rome/a.png"]
    assert (again.described, again.finished) == (1, False)
    last = rebuild_index(index, model=other, drop_unreadable=True)
    assert (last.described, last.finished, last.dropped, last.photos) == (0, True, 1, 4)
    assert last.unreadable[0].startswith("'d.png': ")
    assert facts(index).model != old and facts(index).removed == 0
    with open_index(index) as opened:
        assert sorted(opened.ids_where()) == ["e.png", "oslo/c.png", "rome/a.png", "rome/b.png"]


def test_photos_of_several_folders_are_found_again(index, photos, other, tmp_path, draw):
    draw(tmp_path / "more", "x.png", seed=3)
    add_to_index(index, tmp_path / "more", prefix="more")
    with open_index(index, write=True) as opened:  # from another program, which names whole paths or none
        rows = opened.descriptors(["d.png"])
        for photo, path in (("whole", str(photos.resolve() / "d.png")), ("lost", None), ("half", "d.png")):
            opened.add(
                type(rows)(ids=(photo,), rows_ND=rows.rows_ND),
                [{"id": photo, "path": path}],
                model=opened.model,
            )
    done = rebuild_index(index, model=other, drop_unreadable=True)
    assert sorted(line.split(":")[0] for line in done.unreadable) == ["'half'", "'lost'"]
    assert found(index, tmp_path / "more" / "x.png", k=1)[0][0] == "more/x.png"
    assert {photo for photo, _ in found(index, photos / "d.png", k=2)} == {"d.png", "whole"}


def test_a_rebuild_is_forgotten(index, photos, other, write_recipe, tmp_path):
    (photos / "d.png").unlink()
    rebuild_index(index, model=other)
    third = write_recipe(tmp_path / "third.toml", seed=7)
    with pytest.raises(
        ValueError, match=r"is being rebuilt with model .* forget it \(landseer index rebuild INDEX --abandon"
    ):
        rebuild_index(index, model=third)
    assert abandon_rebuild(index) == 4
    assert facts(index).rebuild is None and models(index) == [facts(index).model]
    with pytest.raises(ValueError, match=r"no rebuild of .* is under way"):
        abandon_rebuild(index)


def test_a_search_that_began_before_the_swap_answers_by_the_new_model(index, photos, other, monkeypatch):
    model_of, loaded = searching.model_of, []

    def swapping(opened):
        loaded.append(opened.model)
        if len(loaded) == 1:
            model = model_of(opened)
            rebuild_index(index, model=other)  # the search has the old model in hand, the index the new one
            return model
        return model_of(opened)

    monkeypatch.setattr(searching, "model_of", swapping)
    assert found(index, photos / "d.png", k=1)[0][0] == "d.png"
    assert loaded[1] != loaded[0]


def test_a_search_that_finds_its_model_gone_takes_the_new_one(index, photos, other, monkeypatch):
    model_of, times = searching.model_of, []

    def late(opened):
        times.append(opened.settings["model"])
        if len(times) == 1:
            rebuild_index(index, model=other)
            folder = index / times[0]
            raise ValueError(
                f"{folder} is missing"
            )  # as it is told to a reader that knew the name from before
        return model_of(opened)

    monkeypatch.setattr(searching, "model_of", late)
    assert found(index, photos / "d.png", k=1)[0][0] == "d.png"
    monkeypatch.undo()
    shutil.rmtree(index / "models")
    with pytest.raises(ValueError, match=r"models/\w+ is missing"):
        found(index, photos / "d.png")


def test_a_rebuild_to_an_ensemble_and_back(index, photos, recipe, tmp_path):
    options = ModelOptions(backbone="test_resnet", weights="none", pooling="gap")
    members = tuple(
        Member(
            name=name,
            weight=1.0,
            embedder=build_embedder(options, seed=seed),
            descriptors=DescriptorOptions(size=64),
        )
        for seed, name in enumerate("ab")
    )
    save_ensemble(Ensemble(members=members, unit=False), tmp_path / "both", made_by={})
    before, dim = found(index, photos / "d.png"), facts(index).dim
    rebuild_index(index, model=tmp_path / "both")
    assert (facts(index).dim, facts(index).normalised) == (2 * dim, False)
    assert found(index, photos / "d.png", k=1)[0][0] == "d.png"
    rebuild_index(index, model=recipe)
    after = found(index, photos / "d.png")
    assert (facts(index).dim, facts(index).normalised) == (dim, True)
    assert [photo for photo, _ in after] == [photo for photo, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=1e-5)


@pytest.mark.slow
def test_a_rebuild_killed_again_and_again_ends_as_if_it_had_not_been(index, photos, other, draw):
    draw(photos, *(f"more/{number}.png" for number in range(20)), seed=5)
    add_to_index(index, photos)
    old, before = facts(index).model, found(index, photos / "d.png", k=25)
    script = str(Path(__file__).with_name("index_rebuild_target.py"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    values = {"INDEX": index, "MODEL": other, "PIPE": theirs}
    mother = context.Process(target=runpy.run_path, args=(script, values, "__rebuild_target__"))
    mother.start()
    rng, num_kills, ended = random.Random(4), 0, False
    while not ended:
        ours.send(rng.randrange(1, 120) if num_kills < 8 else 0)
        while not ours.poll(0.1):
            assert mother.is_alive()
        code = ours.recv()
        assert code in (0, -signal.SIGKILL)
        ended = code == 0
        num_kills += not ended
        if facts(index).model == old:
            assert not ended and found(index, photos / "d.png", k=25) == before
        else:
            assert found(index, photos / "d.png", k=1)[0][0] == "d.png"
    ours.send(None)
    mother.join()
    assert num_kills >= 4 and facts(index).model != old
    assert (facts(index).rebuild, facts(index).photos, len(models(index))) == (None, 25, 1)
    assert [name for name in os.listdir(index) if name.startswith(".")] == []
