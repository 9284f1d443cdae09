import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.recipe import ExpansionOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.expansion import expand
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors, Ranking

ROOT_HALF = float(np.sqrt(0.5))


def descriptors(prefix, rows, dtype=np.float32):
    rows = np.asarray(rows, dtype)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


def world(seed, num=14, num_queries=3, dim=4, dtype=np.float32):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((num + num_queries, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return descriptors("q", rows[:num_queries], dtype), descriptors("g", rows[num_queries:], dtype)


def expanded(queries, gallery, *, k, **options):
    ranking = search_exact(queries, gallery, k=k)
    return expand(ranking, Context(queries=queries, gallery=gallery), ExpansionOptions(**options))


def slow_expansion(queries, gallery, *, query_neighbours, gallery_neighbours, alpha):
    """Cosines of all pairs, by loops over the formula."""

    def unit(row):
        return row / np.linalg.norm(row)

    def nearest(row, rows, num, own=None):
        others = [n for n in range(len(rows)) if n != own]
        return sorted(others, key=lambda n: (-float(np.float32(row @ rows[n])), n))[:num]

    def mix(row, rows, near):
        return unit(row + sum((max(row @ rows[n], 0) ** alpha * rows[n] for n in near), np.zeros(len(row))))

    rows, asked = gallery.rows_ND.astype(np.float64), queries.rows_ND.astype(np.float64)
    if gallery_neighbours:
        near = [nearest(row, rows, gallery_neighbours, own=n) for n, row in enumerate(rows)]
        rows = np.array([mix(row, rows, near[n]) for n, row in enumerate(rows)])
    if query_neighbours:
        asked = np.array([mix(row, rows, nearest(row, rows, query_neighbours)) for row in asked])
    return asked @ rows.T


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    st.sampled_from([np.float32, np.float16]),
)
def test_it_is_the_formula(seed, query_neighbours, gallery_neighbours, alpha, dtype):
    if not query_neighbours + gallery_neighbours:
        query_neighbours = 1
    options = {
        "query_neighbours": query_neighbours,
        "gallery_neighbours": gallery_neighbours,
        "alpha": alpha,
    }
    queries, gallery = world(seed, dtype=dtype)
    found = expanded(queries, gallery, k=6, **options)
    truth = slow_expansion(queries, gallery, **options)
    assert np.take_along_axis(truth, found.positions_QK, axis=1) == pytest.approx(found.scores_QK, abs=2e-6)
    assert found.scores_QK == pytest.approx(-np.sort(-truth, axis=1)[:, :6], abs=2e-6)
    assert found.score_kind == "cosine"


def test_a_mixture_worked_by_hand():
    """q = (1, 0) with its one answer at 45 degrees, cosine .7071: cubed .3536, so q' ~ (1.25, .25)."""
    queries = descriptors("q", [[1, 0]])
    gallery = descriptors("g", [[0, -1], [ROOT_HALF, ROOT_HALF], [0, 1]])
    found = expanded(queries, gallery, k=3, query_neighbours=1, alpha=3)
    assert list(found.positions_QK[0]) == [1, 2, 0]
    long = np.hypot(1.25, 0.25)
    assert list(found.scores_QK[0]) == pytest.approx([1.5 * ROOT_HALF / long, 0.25 / long, -0.25 / long])


def test_unlike_neighbours_do_not_count():
    queries, gallery = descriptors("q", [[1, 0]]), descriptors("g", [[-0.6, 0.8], [-1, 0]])
    found = expanded(queries, gallery, k=2, query_neighbours=2, alpha=0.5)
    assert list(found.scores_QK[0]) == pytest.approx([-0.6, -1])


def test_the_answers_of_the_ranking_join_not_those_of_the_search():
    """A re-ranked order is what expands the query; beyond its width the search goes on, nobody counted twice."""
    queries, gallery = world(1)
    plain = search_exact(queries, gallery, k=14)
    turned = Ranking(
        query_ids=plain.query_ids,
        gallery_ids=plain.gallery_ids,
        positions_QK=plain.positions_QK[:, 2:7:2].copy(),
        scores_QK=np.array([[3, 2, 1]] * 3, np.float32),
    )
    turned.positions_QK[1, 2], turned.scores_QK[1, 2] = PADDING, -np.inf
    context = Context(queries=queries, gallery=gallery)
    for num in (2, 5):
        found = expand(turned, context, ExpansionOptions(query_neighbours=num, alpha=1))
        for row, query in enumerate(queries.rows_ND):
            near = [n for n in turned.positions_QK[row] if n != PADDING]
            own = near if row == 1 else list(range(14))  # a padded row stays within its answers
            if num > 3 and row != 1:
                near = (near + [n for n in plain.positions_QK[row] if n not in near])[:num]
            near = near[:num]
            mixed = query + sum(max(query @ gallery.rows_ND[n], 0) * gallery.rows_ND[n] for n in near)
            truth = gallery.rows_ND @ (mixed / np.linalg.norm(mixed))
            best = sorted(own, key=lambda n, truth=truth: -truth[n])[:3]
            assert [n for n in found.positions_QK[row] if n != PADDING] == best
            assert truth[best] == pytest.approx(found.scores_QK[row][: len(best)], abs=1e-6)


def test_equal_photos_do_not_make_a_photo_its_own_neighbour():
    """Four times the same photo, three neighbours asked: each has the three others, whoever comes first."""
    gallery = descriptors("g", [[1, 0]] * 4 + [[0, 1]])
    queries = descriptors("q", [[0.6, 0.8]])
    found = expanded(queries, gallery, k=5, query_neighbours=0, gallery_neighbours=3)
    assert list(found.positions_QK[0]) == [4, 0, 1, 2, 3]
    assert list(found.scores_QK[0]) == pytest.approx([0.8, 0.6, 0.6, 0.6, 0.6])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_the_order_of_the_gallery_does_not_matter(seed, gallery_neighbours):
    queries, gallery = world(seed)
    order = np.random.default_rng(seed).permutation(len(gallery))
    moved = descriptors("g", gallery.rows_ND[order])
    options = {"query_neighbours": 3, "gallery_neighbours": gallery_neighbours}
    one, other = (expanded(queries, rows, k=8, **options) for rows in (gallery, moved))
    assert np.array_equal(one.positions_QK, order[other.positions_QK])
    assert np.array_equal(one.scores_QK, other.scores_QK)


def test_parts_and_memory_maps_make_no_difference(monkeypatch, tmp_path):
    queries, gallery = world(5, num=40, num_queries=30)
    np.save(tmp_path / "rows.npy", gallery.rows_ND)
    mapped = Descriptors(ids=gallery.ids, rows_ND=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    options = {"query_neighbours": 4, "gallery_neighbours": 3}
    whole = expanded(queries, gallery, k=9, **options)
    monkeypatch.setattr("landseer.reranking.neighbours.expansion._CELLS_AT_ONCE", 70)
    parts = expanded(queries, mapped, k=9, **options)
    assert np.array_equal(whole.positions_QK, parts.positions_QK)
    assert np.array_equal(whole.scores_QK, parts.scores_QK)


def test_a_query_without_answers_stays_without_and_short_rows_end_in_padding():
    queries, gallery = world(2, num=3)
    ranking = search_exact(queries, gallery, k=5)
    ranking.positions_QK[1], ranking.scores_QK[1] = PADDING, -np.inf
    found = expand(ranking, Context(queries=queries, gallery=gallery), ExpansionOptions(gallery_neighbours=2))
    assert np.all(found.positions_QK[1] == PADDING)
    assert np.array_equal(np.sort(found.positions_QK[0]), [-1, -1, 0, 1, 2])


def test_reasons_name_the_photos_that_joined():
    queries = descriptors("q", [[1, 0, 0]])
    gallery = descriptors("g", [[0.8, 0.6, 0], [0.7, 0, -0.714142842], [0.65, 0.75993421, 0]])
    context = Context(queries=queries, gallery=gallery)
    ranking = search_exact(queries, gallery, k=3)
    found = expand(ranking, context, ExpansionOptions(query_neighbours=1, alpha=1), explain=True)
    assert list(found.positions_QK[0]) == [0, 2, 1]
    assert found.reasons[0] == {
        2: "3 -> 2: the query mixed with g0 has cosine 0.84 to this photo; the two alone 0.65",
        1: "2 -> 3: the query mixed with g0 has cosine 0.67 to this photo; the two alone 0.70",
    }


def test_what_is_missing_is_said():
    queries, gallery = world(0)
    ranking = search_exact(queries, gallery, k=2)
    with pytest.raises(ValueError, match="expansion needs descriptors of the gallery"):
        expand(ranking, Context(queries=queries), ExpansionOptions())
    long = Descriptors(ids=gallery.ids, rows_ND=gallery.rows_ND, normalised=False)
    with pytest.raises(ValueError, match="expansion needs descriptors of unit length; normalise them"):
        expand(ranking, Context(queries=queries, gallery=long), ExpansionOptions())
