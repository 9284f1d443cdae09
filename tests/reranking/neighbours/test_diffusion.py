from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.recipe import DiffusionOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.diffusion import (
    diffuse,
    keep_diffusion,
    load_diffusion,
    prepare_diffusion,
    save_diffusion,
)
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors


def descriptors(prefix, rows):
    rows = np.asarray(rows, np.float32)
    return Descriptors(
        ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows, fingerprint=f"{prefix}!"
    )


def world(seed, num=20, num_queries=3, dim=5, clusters=4):
    rng = np.random.default_rng(seed)
    total = num + num_queries
    rows = 2 * rng.standard_normal((clusters, dim))[rng.integers(clusters, size=total)]
    rows += rng.standard_normal((total, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return descriptors("q", rows[:num_queries]), descriptors("g", rows[num_queries:])


def diffused(queries, gallery, *, k, explain=False, **options):
    ranking = search_exact(queries, gallery, k=k)
    context = Context(queries=queries, gallery=gallery)
    return diffuse(ranking, context, DiffusionOptions(**options), explain=explain)


def slow_laplacian(gallery, neighbours, gamma, alpha):
    """L by loops, and who is nearest to whom."""
    rows = gallery.rows_ND.astype(np.float64)
    cosine = np.float32(rows @ rows.T).astype(np.float64)
    num = len(rows)
    near = [
        sorted((j for j in range(num) if j != i), key=lambda j, i=i: (-cosine[i, j], j)) for i in range(num)
    ]
    affinity = np.zeros((num, num))
    for i in range(num):
        for j in near[i][:neighbours]:
            if i in near[j][:neighbours]:
                affinity[i, j] = max(cosine[i, j], 0) ** gamma
    degree = affinity.sum(axis=1)
    root = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return np.eye(num) - alpha * root[:, None] * affinity * root[None, :], near


def slow_gradients(table, iterations, tolerance):
    """Textbook conjugate gradients for one right side, the first unit vector."""
    x = np.zeros(len(table))
    residual = np.eye(len(table))[0]
    direction = residual.copy()
    for _ in range(iterations):
        if np.linalg.norm(residual) <= tolerance:
            break
        step = residual @ residual / (direction @ table @ direction)
        x = x + step * direction
        after = residual - step * table @ direction
        direction = after + after @ after / (residual @ residual) * direction
        residual = after
    return x


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 25),
    st.integers(1, 30),
    st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=30)
def test_the_offline_part_is_conjugate_gradients_in_each_photos_surroundings(
    seed, neighbours, truncation, iterations, gamma
):
    _, gallery = world(seed)
    options = DiffusionOptions(
        neighbours=neighbours, truncation=truncation, iterations=iterations, gamma=gamma
    )
    found = prepare_diffusion(gallery, options, search_exact)
    laplacian, near = slow_laplacian(gallery, neighbours, gamma, 0.99)
    for photo in range(len(gallery)):
        chosen = [photo, *near[photo]][:truncation]
        want = np.zeros(len(gallery))
        want[chosen] = np.maximum(slow_gradients(laplacian[np.ix_(chosen, chosen)], iterations, 1e-6), 0)
        have = np.zeros(len(gallery))
        cells = slice(found.rows.start_R[photo], found.rows.start_R[photo + 1])
        have[found.rows.column_M[cells]] = found.rows.value_M[cells]
        assert have == pytest.approx(want, rel=1e-4, abs=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_untruncated_it_is_the_closed_form(seed, query_neighbours):
    """With all photos in every system and enough steps, f = L^-1 y."""
    queries, gallery = world(seed)
    found = diffused(
        queries,
        gallery,
        k=20,
        neighbours=6,
        query_neighbours=query_neighbours,
        iterations=200,
        tolerance=1e-12,
    )
    inverse = np.linalg.inv(slow_laplacian(gallery, 6, 3.0, 0.99)[0])
    cosine = queries.rows_ND.astype(np.float64) @ gallery.rows_ND.astype(np.float64).T
    for row in range(len(queries)):
        start = np.zeros(len(gallery))
        first = np.argsort(-cosine[row], kind="stable")[:query_neighbours]
        start[first] = np.maximum(cosine[row, first], 0) ** 3
        share = inverse @ start
        truth = np.where(share > 1e-9, share, cosine[row] - 2)
        assert truth[found.positions_QK[row]] == pytest.approx(found.scores_QK[row], rel=1e-4, abs=1e-5)
        assert found.scores_QK[row] == pytest.approx(-np.sort(-truth), rel=1e-4, abs=1e-5)
    assert found.score_kind == "diffusion"


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_gallery_does_not_matter(seed):
    queries, gallery = world(seed)
    order = np.random.default_rng(seed).permutation(len(gallery))
    options = {"neighbours": 5, "truncation": 9, "query_neighbours": 3}
    one, other = (
        diffused(queries, rows, k=8, **options)
        for rows in (gallery, descriptors("g", gallery.rows_ND[order]))
    )
    apart = np.diff(one.scores_QK, axis=1) < -1e-5 * np.abs(one.scores_QK[:, 1:])
    clear = np.pad(apart, ((0, 0), (1, 0)), constant_values=True) & np.pad(apart, ((0, 0), (0, 1)))
    assert one.scores_QK == pytest.approx(other.scores_QK, rel=1e-5)
    assert np.array_equal(one.positions_QK[clear], order[other.positions_QK][clear])


def test_it_follows_the_chain():
    """Photos 15 degrees apart lead away from the query; those on the other side have only each other."""
    angle = np.radians([10, 25, 40, 55, -44, -46])
    gallery = descriptors("g", np.stack([np.cos(angle), np.sin(angle)], axis=1))
    queries = descriptors("q", [[1, 0]])
    assert list(search_exact(queries, gallery, k=6).positions_QK[0]) == [0, 1, 2, 4, 5, 3]
    found = diffused(queries, gallery, k=6, neighbours=2, query_neighbours=1)
    assert set(found.positions_QK[0][:4]) == {0, 1, 2, 3}
    assert list(found.positions_QK[0][4:]) == [4, 5]  # not reached: by their cosine
    assert list(found.scores_QK[0][4:]) == pytest.approx(np.cos(angle[4:]) - 2)


def test_equal_photos_solve_their_own_systems():
    """More equal photos than a system holds: each is in its own, though the search does not find it."""
    gallery = descriptors("g", [[1, 0]] * 6 + [[0, 1]])
    found = prepare_diffusion(gallery, DiffusionOptions(neighbours=2, truncation=3), search_exact)
    for photo in range(7):
        cells = slice(found.rows.start_R[photo], found.rows.start_R[photo + 1])
        assert photo in found.rows.column_M[cells]


def test_parts_make_no_difference(monkeypatch):
    queries, gallery = world(3, num=60, num_queries=30)
    whole = diffused(queries, gallery, k=12, neighbours=6, truncation=20)
    monkeypatch.setattr("landseer.reranking.neighbours.graph.CELLS_AT_ONCE", 300)
    monkeypatch.setattr("landseer.reranking.neighbours.diffusion.CELLS_AT_ONCE", 300)
    monkeypatch.setattr("landseer.reranking.neighbours.diffusion._SEARCHED_AT_ONCE", 200)
    parts = diffused(queries, gallery, k=12, neighbours=6, truncation=20)
    assert np.array_equal(whole.positions_QK, parts.positions_QK)
    assert np.array_equal(whole.scores_QK, parts.scores_QK)


def test_a_saved_offline_part_is_used_as_it_is(tmp_path):
    queries, gallery = world(6)
    options = DiffusionOptions(neighbours=5, truncation=12)
    made = prepare_diffusion(gallery, options, search_exact)
    save_diffusion(made, tmp_path / "offline")
    loaded = load_diffusion(
        tmp_path / "offline", gallery, DiffusionOptions(neighbours=5, truncation=12, query_neighbours=2)
    )
    for name in ("start_R", "column_M", "value_M"):
        assert np.array_equal(getattr(loaded.rows, name), getattr(made.rows, name))

    def no_search(queries, gallery, *, k):
        raise AssertionError("the offline part is there")

    context = Context(queries=queries, gallery=gallery, search=no_search)
    keep_diffusion(context, loaded)
    ranking = search_exact(queries, gallery, k=7)
    again = diffuse(ranking, context, options)
    assert np.array_equal(
        again.scores_QK, diffused(queries, gallery, k=7, neighbours=5, truncation=12).scores_QK
    )


@pytest.mark.parametrize("fingerprint", ["g!", ""])
def test_an_offline_part_of_other_making_is_refused(tmp_path, fingerprint):
    _, gallery = world(6)
    gallery = replace(gallery, fingerprint=fingerprint)
    options = DiffusionOptions(neighbours=5, truncation=12)
    made = prepare_diffusion(gallery, options, search_exact)
    save_diffusion(made, tmp_path / "offline")
    assert load_diffusion(tmp_path / "offline", gallery, options).gallery == made.gallery
    with pytest.raises(ValueError, match="made from other descriptors or with other options; make it again"):
        load_diffusion(tmp_path / "offline", gallery, DiffusionOptions(neighbours=6, truncation=12))
    rows_ND = gallery.rows_ND.copy()
    rows_ND[7] = -rows_ND[7]
    others = [replace(gallery, rows_ND=rows_ND), replace(gallery, ids=gallery.ids[::-1])]
    for other in [replace(gallery, fingerprint="another")] if fingerprint else others:
        with pytest.raises(ValueError, match="made from other descriptors or with other options; make it"):
            load_diffusion(tmp_path / "offline", other, options)
        with pytest.raises(ValueError, match="diffusion was made from other descriptors; make it again"):
            keep_diffusion(Context(gallery=other), made)


def test_a_context_makes_the_offline_part_once_for_the_same_options():
    queries, gallery = world(6)
    asked = []

    def search(queries, gallery, *, k):
        asked.append(k)
        return search_exact(queries, gallery, k=k)

    context = Context(queries=queries, gallery=gallery, search=search)
    ranking = search_exact(queries, gallery, k=7)
    for options in ({}, {"query_neighbours": 3}, {"gamma": 2.0}):
        diffuse(ranking, context, DiffusionOptions(neighbours=5, truncation=12, **options))
    assert asked == [6, 12, 6, 12]


def test_a_query_without_answers_stays_without():
    queries, gallery = world(2, num=3)
    ranking = search_exact(queries, gallery, k=5)
    ranking.positions_QK[1], ranking.scores_QK[1] = PADDING, -np.inf
    found = diffuse(ranking, Context(queries=queries, gallery=gallery), DiffusionOptions())
    assert np.all(found.positions_QK[1] == PADDING)
    assert np.array_equal(np.sort(found.positions_QK[0]), [-1, -1, 0, 1, 2])


def test_reasons_say_where_it_started():
    angle = np.radians([10, 25, 40, 55, -44, -46])
    gallery = descriptors("g", np.stack([np.cos(angle), np.sin(angle)], axis=1))
    found = diffused(descriptors("q", [[1, 0]]), gallery, k=6, neighbours=2, query_neighbours=1, explain=True)
    place = list(found.positions_QK[0]).index(3)
    share = f"{found.scores_QK[0, place]:.3g}"
    assert found.reasons[0][3] == (
        f"6 -> {place + 1}: of what spreads from g0 along mutual neighbours {share} reaches it"
    )
    assert found.reasons[0][4] == "4 -> 5: what spreads from g0 along mutual neighbours does not reach it"
