"""Re-ranking in a run and of a folder: what votes, what is given to the methods, what is kept."""

import numpy as np
import pytest

from landseer.evaluation import evaluate_retrieval
from landseer.pipeline import rerank_folder, result_facts, result_table, run_recipe
from landseer.pipeline.rerank import bank_of, bank_photos, context_of
from landseer.recipe import BankOptions, recipe_from
from landseer.reranking import rerank
from landseer.search import search_exact
from landseer.search.living import LivingIndex
from landseer.storage import load_collection, load_descriptors, load_ranking, load_steps, save_ranking

CHAIN = [
    {"method": "expansion", "query_neighbours": 2},
    {"method": "two-stage", "threshold": None},
]
RERANKED = {
    "title": "reranked",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gem"},
    "descriptors": {"size": 64, "batch": 16},
    "bank": {"subset": "full"},
    "reranking": CHAIN,
    "evaluation": {"resamples": 100},
}


@pytest.fixture(scope="module")
def recipe():
    return recipe_from(RERANKED)


@pytest.fixture(scope="module")
def done(collection_folder, tmp_path_factory, recipe):
    out = tmp_path_factory.mktemp("reranked") / "run"
    return run_recipe(recipe, load_collection(collection_folder), out, workers=2)


def same(one, other):
    return np.array_equal(one.positions_QK, other.positions_QK) and np.array_equal(
        one.scores_QK, other.scores_QK
    )


def test_the_run_is_scored_after_its_chain_and_keeps_the_search_beside(done, recipe, collection):
    folder = done.out / "untrained"
    searched = load_ranking(folder / "ranking")
    rows = {part: load_descriptors(folder / part) for part in ("query", "index", "bank")}
    context = context_of((rows["query"], rows["index"], rows["bank"]), collection)
    want = rerank(searched, recipe.reranking, context)
    found = load_ranking(folder / "reranked")
    assert same(found, want.ranking) and not same(found, searched)
    assert same(done.untrained.ranking, found)
    for ranking, report in ((found, done.untrained.report), (searched, done.untrained.searched)):
        again = evaluate_retrieval(ranking, collection.truth, resamples=100)
        assert report.value("mAP@100", "Private") == again.report.value("mAP@100", "Private")
    assert any(found.reasons), "a run keeps why answers moved"


def test_what_each_method_cost_is_kept_beside_the_ranking(done):
    steps = load_steps(done.out / "untrained" / "reranked")
    assert [step["method"] for step in steps] == ["expansion", "two-stage"]
    for step in steps:
        assert step["seconds"] > 0 and step["moved"] > 0
    assert load_steps(done.out / "untrained" / "ranking") == []


def test_the_table_and_the_facts_show_both(done):
    text = result_table(done)
    search = done.untrained.searched.value("mAP@100", "Private and Public")
    chain = done.untrained.report.value("mAP@100", "Private and Public")
    line = next(line for line in text.splitlines() if "expansion, two-stage" in line)
    assert f"{search:.4f}" in text and f"{chain:.4f}" in line
    facts = result_facts(done)
    assert {number["name"] for number in facts["searched"]} >= {"mAP@100"}


def test_the_votes_of_the_full_bank_and_of_the_clean_one(collection, done):
    full = bank_photos(collection, BankOptions(subset="full"))
    clean = bank_photos(collection, BankOptions(subset="clean"))
    train = collection.in_split("train")
    assert set(full.ids) == {i for i, n in zip(train.ids, train.landmark_N, strict=True) if n >= 0}
    assert set(clean.ids) < set(full.ids) and all(clean.photos["clean"].to_pylist())
    rows = load_descriptors(done.out / "untrained" / "bank")
    assert set(rows.ids) == set(full.ids)
    bank = bank_of(collection, rows, BankOptions(subset="clean"))
    assert set(bank.ids) == set(clean.ids) and bank.descriptors.ids == bank.ids
    landmark_of = dict(zip(collection.ids, collection.landmark_N.tolist(), strict=True))
    assert [landmark_of[photo] for photo in bank.ids] == bank.landmark_N.tolist()
    country_of = dict(
        zip(
            collection.landmarks["landmark"].to_pylist(),
            collection.landmarks["country"].to_pylist(),
            strict=True,
        )
    )
    named = [bank.countries[code] if code >= 0 else None for code in bank.country_N.tolist()]
    assert named == [country_of[number] for number in bank.landmark_N.tolist()]


def write(folder, *chain, bank="full"):
    file = folder / "chain.toml"
    steps = "".join(
        "[[reranking]]\n" + "".join(f"{key} = {value}\n" for key, value in step.items()) for step in chain
    )
    file.write_text(f'title = "chain"\n[bank]\nsubset = "{bank}"\n{steps}')
    return file


TWO_STEPS = ({"method": '"expansion"', "query_neighbours": 2}, {"method": '"two-stage"', "threshold": 0.3})


def test_a_folder_is_re_ranked_as_the_run_does_it(done, collection_folder, tmp_path):
    file = write(tmp_path, TWO_STEPS[0])
    folder = done.out / "untrained"
    given = {"queries": [folder / "query"], "gallery": [folder / "index"]}
    (step,) = rerank_folder(folder / "ranking", file, tmp_path / "out", **given)
    assert step.method == "expansion"
    first = load_ranking(tmp_path / "out")
    (again,) = rerank_folder(
        tmp_path / "out",
        write(tmp_path, {"method": '"two-stage"'}),
        tmp_path / "again",
        **given,
        bank=[folder / "bank"],
        data=collection_folder,
        explain=True,
    )
    assert again.method == "two-stage"
    assert first.reasons == () and load_ranking(tmp_path / "again").reasons


def test_models_are_taken_together_and_one_by_one(done, collection_folder, tmp_path):
    """Twice the same model, before-merge: twice each similarity and bonus, so the order is that of one."""
    file = write(tmp_path, {"method": '"landmark-country"', "voting": '"cosine"'})
    folder = done.out / "untrained"
    parts = {"queries": folder / "query", "gallery": folder / "index", "bank": folder / "bank"}
    for times in (1, 2):
        rerank_folder(
            folder / "ranking",
            file,
            tmp_path / str(times),
            **{name: [place] * times for name, place in parts.items()},
            data=collection_folder,
        )
    one, two = (load_ranking(tmp_path / str(times)) for times in (1, 2))
    assert np.array_equal(one.positions_QK, two.positions_QK)
    assert np.allclose(2 * one.scores_QK, two.scores_QK, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("queries", "gallery"), "needs a vote bank"),
        (("bank",), "needs its labels"),
        (("bank", "data"), "needs descriptors of the queries"),
        ((), "needs"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(done, collection_folder, tmp_path, given, expected):
    folder = done.out / "untrained"
    known = {
        "queries": [folder / "query"],
        "gallery": [folder / "index"],
        "bank": [folder / "bank"],
        "data": collection_folder,
    }
    with pytest.raises(ValueError, match=expected) as found:
        rerank_folder(
            folder / "ranking",
            write(tmp_path, {"method": '"two-stage"'}),
            tmp_path / "out",
            **{name: known[name] for name in given},
        )
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()


def test_descriptors_of_other_photos_are_refused(done, tmp_path):
    folder = done.out / "untrained"
    with pytest.raises(ValueError, match="not those of the ranking"):
        rerank_folder(
            folder / "ranking",
            write(tmp_path, TWO_STEPS[0]),
            tmp_path / "out",
            queries=[folder / "index"],
            gallery=[folder / "index"],
        )


def test_a_recipe_without_re_ranking_and_uneven_models_are_refused(done, tmp_path):
    folder = done.out / "untrained"
    (tmp_path / "none.toml").write_text('title = "none"\n')
    with pytest.raises(ValueError, match=r"no \[\[reranking\]\]"):
        rerank_folder(folder / "ranking", tmp_path / "none.toml", tmp_path / "out")
    with pytest.raises(ValueError, match="--gallery was given 1 times, but 2 models"):
        rerank_folder(
            folder / "ranking",
            write(tmp_path, TWO_STEPS[0]),
            tmp_path / "out",
            queries=[folder / "query"] * 2,
            gallery=[folder / "index"],
        )


def test_a_ranking_of_a_living_index_is_re_ranked_by_what_went_into_it(done, collection_folder, tmp_path):
    """Photos were removed since: the descriptors still have them, the answers do not."""
    folder = done.out / "untrained"
    photos, queries = load_descriptors(folder / "index"), load_descriptors(folder / "query")
    with LivingIndex.create(tmp_path / "I", model="m", dim=photos.dim) as index:
        index.add(photos, [{"id": photo} for photo in photos.ids], model="m")
        index.remove(photos.ids[::3])
        save_ranking(index.search(queries, k=9), tmp_path / "living", made_by={})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('title = "r"\n[[reranking]]\nmethod = "expansion"\nquery_neighbours = 2\n')
    given = {"queries": [folder / "query"], "gallery": [folder / "index"]}
    rerank_folder(tmp_path / "living", recipe, tmp_path / "out", **given)
    found = load_ranking(tmp_path / "out")
    left = photos.take([photo for photo in photos.ids if photo not in photos.ids[::3]])
    want = rerank(
        search_exact(queries, left, k=9),
        recipe_from({**RERANKED, "reranking": CHAIN[:1]}).reranking,
        context_of((queries, left, None), None),
    )
    assert found.gallery_ids == left.ids and same(found, want.ranking)
