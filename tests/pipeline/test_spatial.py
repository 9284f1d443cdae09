"""Matching photos in a run and of a folder: what is matched, with what, and what is missing is said first."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import rerank_command
from landseer.matching import MatchingSetup
from landseer.pipeline import rerank_folder, run_recipe
from landseer.recipe import MatchingOptions, SpatialOptions, recipe_from
from landseer.storage import load_collection, load_ranking, open_artifact, save_collection

SPATIAL = {
    "title": "spatial",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gem"},
    "descriptors": {"size": 64, "batch": 16},
    "reranking": [{"method": "spatial", "first": 5, "weight": 0.5, "most_inliers": 20}],
    "matching": {"residual": 4.0, "features": {"keypoints": 200}},
    "evaluation": {"resamples": 100},
}


@pytest.fixture(scope="module")
def done(collection_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("spatial") / "run"
    return run_recipe(recipe_from(SPATIAL), load_collection(collection_folder), out, workers=2)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    file = tmp_path / "chain.toml"
    file.write_text(
        'title = "chain"\n[[reranking]]\nmethod = "spatial"\nfirst = 5\nweight = 0.5\nmost_inliers = 20\n'
        "[matching]\nresidual = 4.0\n[matching.features]\nkeypoints = 200\n"
    )
    return file


def same(one, other):
    return np.array_equal(one.positions_QK, other.positions_QK) and np.array_equal(
        one.scores_QK, other.scores_QK
    )


def test_a_run_counts_the_points_that_its_recipe_asks_for(done, collection):
    folder = done.out / "untrained"
    before, after = load_ranking(folder / "ranking"), load_ranking(folder / "reranked")
    options = recipe_from(SPATIAL).matching
    assert options == MatchingOptions(residual=4.0, features=options.features)
    assert options.features.keypoints == 200
    matcher = MatchingSetup(options=options).matcher(collection)
    more = 0
    for row, query in enumerate(before.query_ids):
        head = before.answers(row)[:5]
        counts = {photo: matcher.match(query, [photo])[0] for photo, _ in head}
        want = {photo: score + 0.5 * min(counts[photo], 20) / 20 for photo, score in head}
        found = dict(after.answers(row)[:5])
        assert found == pytest.approx(want)
        more += sum(count > 0 for count in counts.values())
    assert more, "some photos must have points in common, or nothing was tested"


def test_a_folder_is_matched_as_the_run_does_it(done, collection_folder, chain, tmp_path):
    steps = rerank_folder(
        done.out / "untrained" / "ranking",
        chain,
        tmp_path / "out",
        data=collection_folder,
        matching=MatchingSetup(features=tmp_path / "points"),
    )
    assert [step.method for step in steps] == ["spatial"]
    found = load_ranking(tmp_path / "out")
    assert same(found, load_ranking(done.out / "untrained" / "reranked"))
    # only what is matched was described: the queries, and the first 5 answers of each
    head = {photo for row in range(len(found)) for photo, _ in found.answers(row)[:5]}
    shelf = (
        MatchingSetup(options=recipe_from(SPATIAL).matching, features=tmp_path / "points")
        .matcher(load_collection(collection_folder))
        .shelf
    )
    assert len(shelf) == len(head | set(found.query_ids)) < len(load_collection(collection_folder))


def test_progress_goes_to_the_last_query(done, collection_folder, chain, tmp_path):
    told = []
    rerank_folder(
        done.out / "untrained" / "ranking",
        chain,
        tmp_path / "out",
        data=collection_folder,
        matching=MatchingSetup(features=tmp_path / "points"),
        watch=lambda what, done, total, facts: told.append((what, done, total)),
    )
    queries = len(done.untrained.ranking)
    assert [entry for entry in told if entry[0] == "matching photos"] == [
        ("matching photos", n, queries) for n in range(1, queries + 1)
    ]
    assert any(what == "describing points of photos" and done == total for what, done, total in told)


def test_what_is_missing_is_said_before_anything_is_matched(done, collection_folder, chain, tmp_path):
    ranking, out = done.out / "untrained" / "ranking", tmp_path / "out"
    with pytest.raises(ValueError, match=r"spatial matches photos: give the collection .*\(--data\)"):
        rerank_folder(ranking, chain, out)
    with pytest.raises(ValueError, match=r"none of \d+ photos .* can be read .*missing.* still lie in"):
        rerank_folder(ranking, chain, out, data=collection_folder, root=tmp_path)
    few = load_collection(collection_folder).in_split("query")
    save_collection(few, tmp_path / "few", made_by={"test": "few"})
    with pytest.raises(ValueError, match=r"no photo '.*' in the collection that is matched"):
        rerank_folder(ranking, chain, out, data=tmp_path / "few")
    xfeat = chain.with_name("xfeat.toml")
    xfeat.write_text(chain.read_text() + 'extractor = "xfeat"\n')
    with pytest.raises(ValueError, match=r"xfeat needs its weights.*\(--extractor-weights\)"):
        rerank_folder(ranking, xfeat, out, data=collection_folder)
    assert not out.exists()


def test_files_that_nothing_uses_are_refused(done, collection_folder, chain, tmp_path):
    ranking, weights = done.out / "untrained" / "ranking", tmp_path / "xfeat.onnx"
    weights.write_bytes(b"network")
    plain = tmp_path / "plain.toml"
    plain.write_text('title = "plain"\n[[reranking]]\nmethod = "k-reciprocal"\n')
    for given, flag in (
        (MatchingSetup(extractor_weights=weights), "--extractor-weights"),
        (MatchingSetup(pairer_weights=weights), "--pairer-weights"),
        (MatchingSetup(features=tmp_path / "points"), "--features"),
    ):
        with pytest.raises(ValueError, match=f'{flag}: nothing uses .* no .* method = "spatial"'):
            rerank_folder(ranking, plain, tmp_path / "out", matching=given)
    with pytest.raises(ValueError, match="rootsift takes no weights"):
        rerank_folder(
            ranking,
            chain,
            tmp_path / "out",
            data=collection_folder,
            matching=MatchingSetup(extractor_weights=weights),
        )


def test_a_photo_that_cannot_be_read_matches_nothing_and_is_told(
    done, collection_folder, chain, tmp_path, caplog
):
    collection = load_collection(collection_folder)
    gone = done.untrained.ranking.query_ids[0]
    paths = ["gone.jpg" if i == gone else p for i, p in zip(collection.ids, collection.paths, strict=True)]
    place = collection.photos.schema.get_field_index("path")
    field = collection.photos.schema.field(place)
    photos = collection.photos.set_column(place, field, pa.array(paths, pa.string()))
    save_collection(
        dataclasses.replace(collection, photos=photos), tmp_path / "gone", made_by={"test": "gone"}
    )
    before = load_ranking(done.out / "untrained" / "ranking")
    rerank_folder(done.out / "untrained" / "ranking", chain, tmp_path / "out", data=tmp_path / "gone")
    after = load_ranking(tmp_path / "out")
    row = before.query_ids.index(gone)
    assert after.answers(row) == before.answers(row)
    assert f"1 photos could not be read and match nothing, the first '{gone}': missing" in caplog.text


def test_a_run_that_was_matched_with_other_weights_is_not_gone_on_with(done, collection_folder, monkeypatch):
    """The digests stand in the manifest, so that other weights are another run."""
    assert open_artifact(done.out / "untrained" / "reranked", "ranking").made_by.keys() >= {"run", "recipe"}
    monkeypatch.setattr(MatchingSetup, "digests", lambda self: {"extractor weights": "0" * 64})
    with pytest.raises(ValueError, match="reranked was matched with other weights than these"):
        run_recipe(recipe_from(SPATIAL), load_collection(collection_folder), done.out)


def test_the_command(done, collection_folder, chain, tmp_path):
    arguments = [done.out / "untrained" / "ranking", "--recipe", chain, "--data", collection_folder, "--json"]
    result = CliRunner().invoke(
        rerank_command.command, [*map(str, arguments), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    (step,) = json.loads(result.stdout)
    assert step["method"] == "spatial" and step["moved"] > 0
    assert same(load_ranking(tmp_path / "out"), load_ranking(done.out / "untrained" / "reranked"))


def test_the_defaults_of_the_method_are_those_published():
    assert SpatialOptions() == SpatialOptions(first=100, most_inliers=70, weight=1.0)
