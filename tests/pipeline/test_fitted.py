"""What a run fits at its end: weights of members and a whitening, kept in the model folder and put to work by all."""

import shutil

import numpy as np
import pytest

from landseer.models import Ensemble, fit_whitening, join_descriptors, load_ensemble, load_whitening
from landseer.pipeline import build_index, describe, open_model, run_recipe, search_index
from landseer.pipeline.members import fitted_notes
from landseer.pipeline.weights import fit_weights, load_weights
from landseer.recipe import recipe_from
from landseer.search import open_index, search_exact
from landseer.storage import load_collection, load_descriptors, load_ranking
from landseer.training import hold_out

PLAIN = {"backbone": "test_resnet", "weights": "none", "pooling": "gap", "neck": "none"}
ONE = {
    "title": "one",
    "model": {**PLAIN, "neck": "fc", "dim": 16},
    "stages": [{"name": "clean", "size": 32, "epochs": 1, "batch": 16, "lr": 3e-3}],
    "descriptors": {
        "size": 32,
        "batch": 16,
        "flip": True,
        "whitening": {"kind": "learned", "dim": 8, "ridge": 0.1},
    },
    "evaluation": {"resamples": 100},
}
TWO = {
    **ONE,
    "title": "two",
    "members": [
        {"name": "one", "stages": ["clean"]},
        {"name": "other", "weight": 0.5, "descriptors": {"size": 48}, "model": {"neck": "none"}},
    ],
    "data": {"validation": "share", "validation_share": 0.3},
    "descriptors": {
        **ONE["descriptors"],
        "member_weights": "fitted",
        "renormalise": False,
        "whitening": {"kind": "pca", "dim": 12, "ridge": 0.2},
    },
}


@pytest.fixture(scope="module")
def one(collection_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "run"
    return run_recipe(recipe_from(ONE), load_collection(collection_folder), out, workers=2)


@pytest.fixture(scope="module")
def two(collection_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "run"
    return run_recipe(recipe_from(TWO), load_collection(collection_folder), out, workers=2)


def labels_of(collection, ids):
    return np.array([dict(zip(collection.ids, collection.landmark_N, strict=True))[photo] for photo in ids])


# -- one model


def test_the_whitening_is_that_of_the_clean_training_photos(one, collection):
    bank = load_descriptors(one.out / "plain" / "bank")
    assert set(bank.ids) <= set(collection.in_split("train").ids)
    again = fit_whitening(
        join_descriptors([bank], [1.0], ids=bank.ids),
        kind="learned",
        landmark_N=labels_of(collection, bank.ids),
        dim=8,
        ridge=0.1,
    )
    found = load_whitening(one.out / "fitted" / "whitening")
    assert found.map_KD == pytest.approx(again.map_KD, rel=1e-6, abs=1e-6)
    assert found.fingerprint == load_whitening(one.out / "trained" / "model" / "whitening").fingerprint
    assert found.facts["photos"] == len(bank)
    assert not (one.out / "fitted" / ".joined").exists()


@pytest.mark.parametrize("part", ["index", "query", "bank"])
def test_rows_are_those_of_the_plain_model_whitened(one, part):
    plain, rows = (load_descriptors(one.out / folder / part) for folder in ("plain", "trained"))
    whitening = load_whitening(one.out / "fitted" / "whitening")
    assert (plain.dim, rows.dim) == (16, 8)
    assert rows.rows_ND == pytest.approx(whitening.rows(plain.rows_ND), abs=1e-5)


def test_before_and_after_are_both_measured(one):
    parts = {"model", "index", "query", "bank", "ranking", "retrieval", "recognition"}
    for folder in ("untrained", "plain", "trained"):
        assert {entry.name for entry in (one.out / folder).iterdir()} >= parts, folder
    rankings = [load_ranking(one.out / folder / "ranking") for folder in ("plain", "trained")]
    assert not np.array_equal(rankings[0].positions_QK, rankings[1].positions_QK)
    found = search_exact(
        *(load_descriptors(one.out / "trained" / name) for name in ("query", "index")), k=100
    )
    assert np.array_equal(found.positions_QK, rankings[1].positions_QK)


def test_the_model_folder_needs_no_further_word(one, collection, world, tmp_path):
    opened = open_model(one.out / "trained" / "model")
    assert isinstance(opened[0], Ensemble) and opened[0].whitening is not None
    assert opened[0].members[0].descriptors.flip
    photos = collection.in_split("query")
    rows = describe(opened, photos, tmp_path / "d")
    assert np.array_equal(rows.rows_ND, load_descriptors(one.out / "trained" / "query").rows_ND)
    build_index(world / "index", tmp_path / "index", model=one.out / "trained" / "model")
    with open_index(tmp_path / "index") as index:
        assert index.info().dim == 8
    photo = world / "index" / photos_below(world / "index")[0]
    (answers,) = search_index(tmp_path / "index", [photo], k=3)
    assert answers.answers[0]["score"] == pytest.approx(1.0, abs=1e-5)


def photos_below(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.jpg"))


def test_what_was_fitted_is_told(one, two):
    (told,) = fitted_notes(one.out)
    assert told.startswith("The rows are whitened (learned, 16 to 8 components, ridge 0.1), fitted on ")
    weights, whitened = fitted_notes(two.out)
    assert weights.startswith("The members' weights were fitted on ") and "one " in weights
    assert "pca" in whitened


# -- an ensemble


def test_weights_are_fitted_on_photos_that_are_held_out(two, collection):
    held = hold_out(collection, recipe_from(TWO).data, seed=0).in_split("validation")
    parts = [
        load_descriptors(two.out / "members" / name / "trained" / "validation") for name in ("one", "other")
    ]
    assert set(parts[0].ids) <= set(held.ids)
    assert not set(parts[0].ids) & set(load_descriptors(two.out / "trained" / "bank").ids)
    again = fit_weights(parts, labels_of(held, parts[0].ids), start=(1.0, 0.5), names=("one", "other"))
    assert load_weights(two.out / "fitted" / "weights") == again
    ensemble = load_ensemble(two.out / "trained" / "model")
    assert tuple(member.weight for member in ensemble.members) == again.weights
    assert again.mean_average_precision >= again.before


def test_an_ensemble_is_whitened_after_its_rows_are_joined(two):
    weights = load_weights(two.out / "fitted" / "weights").weights
    parts = [load_descriptors(two.out / "members" / name / "trained" / "bank") for name in ("one", "other")]
    joined = join_descriptors(parts, weights)
    again = fit_whitening(joined, dim=12, ridge=0.2)
    rows = load_descriptors(two.out / "trained" / "bank")
    assert rows.normalised and rows.dim == 12
    assert rows.rows_ND == pytest.approx(again.apply(joined.take(rows.ids)).rows_ND, abs=1e-4)


class Stopped(Exception):
    pass


def test_a_run_that_is_stopped_while_it_fits_ends_the_same(two, collection, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(two.out, out)
    for gone in ("trained", "fitted", "members/other/trained/validation"):
        shutil.rmtree(out / gone)
    for at in (
        "describing validation photos, member other",
        "fitting the members' weights",
        "fitting the whitening",
    ):

        def stop(what: str, *_: object, at=at) -> None:
            if what == at:
                raise Stopped

        with pytest.raises(Stopped):
            run_recipe(recipe_from(TWO), collection, out, workers=2, watch=stop)
    assert (out / "fitted" / "weights").exists()
    seen = []
    again = run_recipe(recipe_from(TWO), collection, out, workers=2, watch=lambda *told: seen.append(told[0]))
    assert set(seen) == {"fitting the whitening", "searching, trained", "writing the report"}
    assert np.array_equal(again.final.ranking.positions_QK, two.final.ranking.positions_QK)
    assert again.final.ranking.scores_QK == pytest.approx(two.final.ranking.scores_QK, abs=1e-5)


# -- recipes


def test_a_recipe_alone_has_nothing_fitted(tmp_path):
    text = 'title = "x"\n[model]\nbackbone = "test_resnet"\nweights = "none"\npooling = "gap"\n'
    (tmp_path / "r.toml").write_text(text + '[descriptors.whitening]\nkind = "pca"\n')
    with pytest.raises(ValueError, match="has a whitening or weights of members that only a run fits"):
        open_model(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {}}, r'descriptors.member_weights: "fitted" needs .* say \[data\] validation = "share"'),
        ({"data": {"validation": "one-each"}}, r"descriptors.member_weights: "),
        ({"members": TWO["members"][:1]}, r"at least two \[\[members\]\]"),
        (
            {"members": [*TWO["members"], {"name": "c", "descriptors": {"whitening": {"kind": "learned"}}}]},
            r"members.c.descriptors.whitening: is of the ensemble",
        ),
        (
            {"members": [{"name": name, "stages": ["clean"], "model": {"dim": 5}} for name in "ab"]},
            r"descriptors.whitening.dim: the rows have only 10 components, not 12",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_its_key(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        recipe_from({**TWO, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("whitening", "said"),
    [({"dim": -1}, "dim: "), ({"ridge": -0.1}, "ridge: "), ({"kind": "learned", "scale": False}, "scale: ")],
)
def test_an_impossible_whitening_is_refused_by_its_key(whitening, said):
    with pytest.raises(ValueError, match=rf"^descriptors.whitening.{said}"):
        recipe_from({"title": "t", "descriptors": {"whitening": whitening}})


def test_members_do_not_carry_what_is_done_with_the_rows_of_all():
    recipe = recipe_from(TWO)
    assert recipe.members[0].descriptors.whitening.kind == "pca", "taken over"
    assert {part.descriptors.whitening.kind for part in recipe.parts} == {"none"}
    assert {part.descriptors.member_weights for part in recipe.parts} == {"given"}
    assert all(part.descriptors.flip for part in recipe.parts)
    assert recipe.descriptors.fitted and not recipe.parts[0].descriptors.fitted
