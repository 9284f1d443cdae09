"""What holds for every re-ranker that needs descriptors alone."""

from dataclasses import replace

import numpy as np
import pytest

from landseer.recipe import DiffusionOptions, ExpansionOptions, ReciprocalOptions, TraversalOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.diffusion import diffuse
from landseer.reranking.neighbours.expansion import expand
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal
from landseer.reranking.neighbours.traversal import traverse
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors

METHODS = {
    "expansion": (expand, ExpansionOptions(query_neighbours=3)),
    "augmentation": (expand, ExpansionOptions(query_neighbours=2, gallery_neighbours=2)),
    "global": (rerank_reciprocal, ReciprocalOptions(k1=4, k2=2)),
    "local": (rerank_reciprocal, ReciprocalOptions(k1=4, k2=2, form="local")),
    "diffusion": (diffuse, DiffusionOptions(neighbours=4, truncation=9, query_neighbours=2)),
    "traversal": (traverse, TraversalOptions(neighbours=4)),
}


@pytest.fixture(params=METHODS)
def method(request):
    call, options = METHODS[request.param]
    return lambda ranking, context, **more: call(ranking, context, options, **more)


def descriptors(prefix, num, dim=6):
    rows = np.random.default_rng(len(prefix) + num).standard_normal((num, dim))
    rows = np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(num)), rows_ND=rows, fingerprint=f"{prefix}!")


@pytest.mark.parametrize(
    ("num_queries", "num_photos", "k"), [(0, 9, 4), (3, 0, 4), (3, 1, 4), (3, 9, 4), (1, 3, 7)]
)
def test_collections_of_any_size(method, num_queries, num_photos, k):
    queries, gallery = descriptors("q", num_queries), descriptors("ga", num_photos)
    found = method(search_exact(queries, gallery, k=k), Context(queries=queries, gallery=gallery))
    assert found.positions_QK.shape == (num_queries, k)
    assert np.all((found.positions_QK >= 0).sum(axis=1) == min(k, num_photos))
    assert (found.query_ids, found.gallery_ids) == (queries.ids, gallery.ids)
    assert found.gallery_fingerprint == "ga!"


def test_the_same_input_gives_the_same_output_with_reasons_or_without(method):
    queries, gallery = descriptors("q", 5), descriptors("ga", 40)
    ranking = search_exact(queries, gallery, k=8)
    kept = ranking.positions_QK.copy(), ranking.scores_QK.copy()
    context = Context(queries=queries, gallery=gallery)
    first, again = method(ranking, context), method(ranking, context)
    told = method(ranking, Context(queries=queries, gallery=gallery), explain=True)
    for other in (again, told):
        assert np.array_equal(first.positions_QK, other.positions_QK)
        assert np.array_equal(first.scores_QK, other.scores_QK)
    assert np.array_equal(kept[0], ranking.positions_QK)  # what was given is left alone
    assert np.array_equal(kept[1], ranking.scores_QK)
    assert first.reasons == ()
    for row, reasons in enumerate(told.reasons):
        moved = set(told.positions_QK[row][told.positions_QK[row] != ranking.positions_QK[row]].tolist())
        assert set(reasons) == moved


def test_descriptors_of_other_photos_are_refused(method):
    queries, gallery = descriptors("q", 2), descriptors("ga", 5)
    ranking = search_exact(queries, gallery, k=3)
    with pytest.raises(
        ValueError, match="the descriptors given for the gallery are not those of the ranking"
    ):
        method(ranking, Context(queries=queries, gallery=descriptors("xx", 5)))
    with pytest.raises(ValueError, match="needs descriptors of the queries"):
        method(ranking, Context(gallery=gallery))


def filtered(ranking, row, allowed):
    """*ranking* whose *row* was searched among the photos *allowed* alone."""
    positions_QK, scores_QK = ranking.positions_QK.copy(), ranking.scores_QK.copy()
    kept = np.isin(positions_QK[row], allowed)
    num = int(kept.sum())
    positions_QK[row, :num], scores_QK[row, :num] = positions_QK[row][kept], scores_QK[row][kept]
    positions_QK[row, num:], scores_QK[row, num:] = PADDING, -np.inf
    return replace(ranking, positions_QK=positions_QK, scores_QK=scores_QK)


def test_a_filtered_query_stays_within_its_answers_and_loses_none(method, monkeypatch):
    queries, gallery = descriptors("q", 4), descriptors("ga", 40)
    context = Context(queries=queries, gallery=gallery)
    whole = search_exact(queries, gallery, k=40)
    allowed = np.arange(0, 40, 4)
    short = filtered(whole, 2, allowed)
    cut = replace(short, positions_QK=short.positions_QK[:, :15], scores_QK=short.scores_QK[:, :15])
    found = method(cut, context)
    row = found.positions_QK[2]
    assert sorted(row[row != PADDING].tolist()) == allowed.tolist() and (row == PADDING).sum() == 5
    plain = method(
        replace(cut, positions_QK=whole.positions_QK[:, :15], scores_QK=whole.scores_QK[:, :15]), context
    )
    others = [0, 1, 3]
    assert np.array_equal(found.positions_QK[others], plain.positions_QK[others])
    assert np.array_equal(found.scores_QK[others], plain.scores_QK[others])
    told = method(cut, context, explain=True)
    assert np.array_equal(told.positions_QK, found.positions_QK)
    for name in ("graph.CELLS_AT_ONCE", "jaccard._COMPARED_AT_ONCE", "traversal._CELLS_AT_ONCE"):
        monkeypatch.setattr(f"landseer.reranking.neighbours.{name}", 1)  # a query at a time
    one_by_one = method(cut, context)
    assert np.array_equal(one_by_one.positions_QK, found.positions_QK)


@pytest.mark.parametrize("name", ["expansion", "global", "diffusion"])
def test_a_filtered_row_is_the_whole_order_without_the_others(name):
    """These give every photo of the gallery a score: with the same first answers, the filter only leaves photos out."""
    call, options = METHODS[name]
    queries, gallery = descriptors("q", 3), descriptors("ga", 40)
    context = Context(queries=queries, gallery=gallery)
    whole = search_exact(queries, gallery, k=40)
    allowed = np.union1d(whole.positions_QK[1, :3], np.arange(1, 40, 5))
    short = filtered(whole, 1, allowed)
    found, full = call(short, context, options), call(whole, context, options)
    there = found.positions_QK[1] != PADDING
    kept = np.isin(full.positions_QK[1], allowed)
    assert found.positions_QK[1][there].tolist() == full.positions_QK[1][kept].tolist()
    assert found.scores_QK[1][there] == pytest.approx(full.scores_QK[1][kept], abs=1e-6)


def test_a_filtered_walk_goes_from_answer_to_answer():
    """From 0 the way to 2 leads over 1, which is not allowed: 2 comes after 3, which the query itself leads to."""
    turn = np.radians([0, 20, 40, 35, 120])
    rows = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    rows[3] = (np.cos(turn[3]), -np.sin(turn[3]))
    gallery = Descriptors(ids=tuple("01234"), rows_ND=rows)
    queries = Descriptors(ids=("q",), rows_ND=rows[:1])
    context = Context(queries=queries, gallery=gallery)
    options = TraversalOptions(neighbours=4)
    whole = search_exact(queries, gallery, k=5)
    assert traverse(whole, context, options).positions_QK[0].tolist() == [0, 1, 2, 3, 4]
    short = filtered(whole, 0, [0, 2, 3, 4])
    assert traverse(short, context, options).positions_QK[0].tolist() == [0, 3, 2, 4, PADDING]
