import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.recipe import TraversalOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.traversal import traverse
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors


def descriptors(prefix, rows):
    rows = np.asarray(rows, np.float32)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


def world(seed, num=20, num_queries=4, dim=5, clusters=4):
    rng = np.random.default_rng(seed)
    total = num + num_queries
    rows = 2 * rng.standard_normal((clusters, dim))[rng.integers(clusters, size=total)]
    rows += rng.standard_normal((total, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return descriptors("q", rows[:num_queries]), descriptors("g", rows[num_queries:])


def traversed(queries, gallery, *, k, explain=False, **options):
    ranking = search_exact(queries, gallery, k=k)
    context = Context(queries=queries, gallery=gallery)
    return traverse(ranking, context, TraversalOptions(**options), explain=explain)


def slow_walk(query, gallery, *, k, neighbours, threshold):
    """One heap, one query, as the method is told."""
    cosine = np.float32(gallery.rows_ND.astype(np.float64) @ gallery.rows_ND.astype(np.float64).T)
    start = np.float32(gallery.rows_ND.astype(np.float64) @ query.astype(np.float64))

    def best(weights, own):
        others = [n for n in range(len(weights)) if n != own]
        return sorted(others, key=lambda n: (-weights[n], n))

    ranked = best(start, None)[:k]
    heap = [(-start[n], n) for n in ranked[:neighbours]]
    heapq.heapify(heap)
    accepted, fresh = [], []
    while len(accepted) < k:
        while heap and heap[0][1] in accepted:
            heapq.heappop(heap)
        if heap and -heap[0][0] >= threshold:
            fresh.append(heapq.heappop(heap)[1])
            accepted.append(fresh[-1])
        elif fresh:
            for photo in fresh:
                for n in best(cosine[photo], photo)[:neighbours]:
                    heapq.heappush(heap, (-cosine[photo, n], n))
            fresh = []
        elif heap:
            fresh.append(heapq.heappop(heap)[1])
            accepted.append(fresh[-1])
        else:
            break
    return (accepted + [n for n in ranked if n not in accepted])[:k]


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 25),
    st.integers(1, 25),
    st.sampled_from([None, -2.0, 0.3, 0.6, 0.9]),
)
def test_it_is_the_walk_with_one_heap(seed, k, neighbours, threshold):
    queries, gallery = world(seed)
    found = traversed(queries, gallery, k=k, neighbours=neighbours, threshold=threshold)
    for row, query in enumerate(queries.rows_ND):
        want = slow_walk(
            query, gallery, k=k, neighbours=neighbours, threshold=np.inf if threshold is None else threshold
        )
        assert [n for n in found.positions_QK[row] if n != PADDING] == want
    assert found.score_kind == "order"
    assert np.all(np.diff(found.scores_QK[:, : min(k, 20)], axis=1) == -1)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.6]))
def test_the_order_of_the_gallery_does_not_matter(seed, threshold):
    queries, gallery = world(seed)
    order = np.random.default_rng(seed).permutation(len(gallery))
    one, other = (
        traversed(queries, rows, k=8, neighbours=3, threshold=threshold)
        for rows in (gallery, descriptors("g", gallery.rows_ND[order]))
    )
    assert np.array_equal(one.positions_QK, order[other.positions_QK])


def test_it_follows_the_chain_and_says_so():
    angle = np.radians([20, 35, 50, 65, -30])
    gallery = descriptors("g", np.stack([np.cos(angle), np.sin(angle)], axis=1))
    found = traversed(descriptors("q", [[1, 0]]), gallery, k=4, neighbours=2, explain=True)
    assert list(search_exact(descriptors("q", [[1, 0]]), gallery, k=4).positions_QK[0]) == [0, 4, 1, 2]
    assert list(found.positions_QK[0]) == [0, 1, 2, 3]
    assert found.reasons[0] == {
        1: "3 -> 2: reached from g0 along an edge of cosine 0.97",
        2: "4 -> 3: reached from g1 along an edge of cosine 0.97",
        3: "new -> 4: reached from g2 along an edge of cosine 0.97",
    }


def test_a_threshold_accepts_before_it_explores():
    """At 30 degrees and -31: both edges of the query are good enough, so its second answer stays second."""
    angle = np.radians([30, 40, -31])
    gallery = descriptors("g", np.stack([np.cos(angle), np.sin(angle)], axis=1))
    queries = descriptors("q", [[1, 0]])
    for threshold, want in ((0.8, [0, 2, 1]), (0.86, [0, 1, 2]), (None, [0, 1, 2])):
        found = traversed(queries, gallery, k=3, neighbours=3, threshold=threshold)
        assert list(found.positions_QK[0]) == want


def test_equal_candidates_go_by_position():
    gallery = descriptors("g", [[0.6, 0.8], [0.6, 0.8], [0.6, 0.8]])
    assert list(traversed(descriptors("q", [[1, 0]]), gallery, k=3).positions_QK[0]) == [0, 1, 2]


def test_parts_make_no_difference(monkeypatch):
    queries, gallery = world(3, num=60, num_queries=30)
    whole = traversed(queries, gallery, k=12, neighbours=6)
    monkeypatch.setattr("landseer.reranking.neighbours.traversal._CELLS_AT_ONCE", 300)
    parts = traversed(queries, gallery, k=12, neighbours=6)
    assert np.array_equal(whole.positions_QK, parts.positions_QK)


def test_a_walk_that_ends_early_is_followed_by_the_answers_it_did_not_reach():
    """Two islands and one edge a photo: the query's only edge leads to one island."""
    gallery = descriptors("g", [[0.96, 0.28], [0.936, 0.352], [0.28, -0.96], [0.352, -0.936]])
    found = traversed(descriptors("q", [[1, 0]]), gallery, k=4, neighbours=1, explain=True)
    assert list(found.positions_QK[0]) == [0, 1, 3, 2]
    assert found.reasons[0] == {}


def test_a_query_without_answers_stays_without():
    queries, gallery = world(2, num=3)
    ranking = search_exact(queries, gallery, k=5)
    ranking.positions_QK[1], ranking.scores_QK[1] = PADDING, -np.inf
    found = traverse(ranking, Context(queries=queries, gallery=gallery), TraversalOptions())
    assert np.all(found.positions_QK[1] == PADDING)
    assert np.array_equal(np.sort(found.positions_QK[0]), [-1, -1, 0, 1, 2])
    assert np.all(found.scores_QK[0, 3:] == -np.inf)


def test_rows_that_are_no_unit_rows_are_refused():
    queries, gallery = world(0)
    long = Descriptors(ids=gallery.ids, rows_ND=gallery.rows_ND, normalised=False)
    ranking = search_exact(queries, gallery, k=2)
    with pytest.raises(ValueError, match="traversal needs descriptors of unit length; normalise them"):
        traverse(ranking, Context(queries=queries, gallery=long), TraversalOptions())
