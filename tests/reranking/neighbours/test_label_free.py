"""What holds for every re-ranker that needs descriptors alone."""

import numpy as np
import pytest

from landseer.recipe import DiffusionOptions, ExpansionOptions, ReciprocalOptions, TraversalOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.diffusion import diffuse
from landseer.reranking.neighbours.expansion import expand
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal
from landseer.reranking.neighbours.traversal import traverse
from landseer.search import search_exact
from landseer.types import Descriptors

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
