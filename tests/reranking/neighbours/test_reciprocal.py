import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.recipe import ReciprocalOptions
from landseer.reranking.context import Context
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors


def descriptors(prefix, rows, dtype=np.float32):
    rows = np.asarray(rows, dtype)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


def world(seed, num=16, num_queries=3, dim=5, clusters=4, dtype=np.float32):
    rng = np.random.default_rng(seed)
    total = num + num_queries
    rows = 2 * rng.standard_normal((clusters, dim))[rng.integers(clusters, size=total)]
    rows += rng.standard_normal((total, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return descriptors("q", rows[:num_queries], dtype), descriptors("g", rows[num_queries:], dtype)


def reranked(queries, gallery, *, k, explain=False, **options):
    ranking = search_exact(queries, gallery, k=k)
    context = Context(queries=queries, gallery=gallery)
    return rerank_reciprocal(ranking, context, ReciprocalOptions(**options), explain=explain)


def dense_scores(rows, num_queries, *, k1, k2, weight):
    """1 - d* of every query and gallery photo from T x T tables, step by step as the definition reads."""
    rows = rows.astype(np.float64)
    total = len(rows)
    distance = (1 - rows @ rows.T) / 2
    ranked = distance.copy()
    np.fill_diagonal(ranked, -1)
    order = np.argsort(ranked, axis=1, kind="stable")

    def near(k):
        table = np.zeros((total, total), bool)
        np.put_along_axis(table, order[:, : k + 1], True, axis=1)
        return table

    mutual, half = near(k1) & near(k1).T, near(round(k1 / 2)) & near(round(k1 / 2)).T
    expanded = mutual.copy()
    for i in range(total):
        for j in np.flatnonzero(mutual[i]):
            if (half[j] & mutual[i]).sum() > 2 / 3 * half[j].sum():
                expanded[i] |= half[j]
    values = np.where(expanded, np.exp(-distance), 0)
    values /= values.sum(axis=1, keepdims=True)
    values = np.array([values[order[i, :k2]].mean(axis=0) for i in range(total)])
    least = np.minimum(values[:num_queries, None], values[None, num_queries:]).sum(axis=2)
    most = np.maximum(values[:num_queries, None], values[None, num_queries:]).sum(axis=2)
    final = (1 - weight) * (1 - least / most) + weight * distance[:num_queries, num_queries:]
    return 1 - final


def assert_best(found, truth):
    """*found* holds the best of *truth* for every query; photos within rounding of each other may change places."""
    width = min(found.positions_QK.shape[1], truth.shape[1])
    positions, scores = found.positions_QK[:, :width], found.scores_QK[:, :width]
    assert np.take_along_axis(truth, positions, axis=1) == pytest.approx(scores, abs=3e-6)
    assert scores == pytest.approx(-np.sort(-truth, axis=1)[:, :width], abs=3e-6)


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(1, 20),
    st.sampled_from([np.float32, np.float16]),
)
def test_the_global_form_is_the_dense_definitions_best(seed, k1, k2, weight, k, dtype):
    queries, gallery = world(seed, dtype=dtype)
    found = reranked(queries, gallery, k=k, k1=k1, k2=k2, weight=weight)
    rows = np.concatenate([queries.rows_ND, gallery.rows_ND])
    assert_best(found, dense_scores(rows, len(queries), k1=k1, k2=k2, weight=weight))
    assert found.score_kind == "1 - k-reciprocal distance"


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4), st.integers(1, 20))
def test_the_local_form_knows_one_query_and_its_answers(seed, k1, k2, k):
    queries, gallery = world(seed)
    found = reranked(queries, gallery, k=k, k1=k1, k2=k2, form="local")
    plain = search_exact(queries, gallery, k=k)
    for row, query in enumerate(queries.rows_ND):
        answers = np.sort(plain.positions_QK[row][plain.positions_QK[row] != PADDING])
        rows = np.concatenate([query[None], gallery.rows_ND[answers]])
        truth = np.full(len(gallery), -np.inf)
        truth[answers] = dense_scores(rows, 1, k1=k1, k2=k2, weight=0.3)[0]
        there = slice(0, len(answers))
        assert truth[found.positions_QK[row, there]] == pytest.approx(found.scores_QK[row, there], abs=3e-6)
        assert np.array_equal(np.sort(found.positions_QK[row, there]), answers)


def polytope():
    """The 24 corners of the 24-cell: unit vectors whose products are exact, so that equal cosines are equal."""
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    halves = np.array(np.meshgrid(*[[0.5, -0.5]] * 4)).reshape(4, -1).T
    return np.concatenate([axes, halves])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 23), min_size=2, max_size=20), st.integers(1, 6), st.integers(1, 4))
def test_equal_neighbours_go_by_position_and_the_photo_itself_comes_first(corners, k1, k2):
    rows = polytope()[corners]
    queries, gallery = descriptors("q", rows[:1]), descriptors("g", rows[1:])
    truth = dense_scores(rows, 1, k1=k1, k2=k2, weight=0.3)
    for form in ("global", "local"):
        assert_best(reranked(queries, gallery, k=len(rows) - 1, k1=k1, k2=k2, form=form), truth)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["global", "local"]))
def test_the_order_of_the_gallery_does_not_matter(seed, form):
    queries, gallery = world(seed)
    order = np.random.default_rng(seed).permutation(len(gallery))
    one, other = (
        reranked(queries, rows, k=8, k1=5, k2=3, form=form)
        for rows in (gallery, descriptors("g", gallery.rows_ND[order]))
    )
    apart = np.diff(one.scores_QK, axis=1) < -1e-6
    clear = np.pad(apart, ((0, 0), (1, 0)), constant_values=True) & np.pad(apart, ((0, 0), (0, 1)))
    assert one.scores_QK == pytest.approx(other.scores_QK, abs=1e-6)
    assert np.array_equal(one.positions_QK[clear], order[other.positions_QK][clear])


def test_it_finds_photos_that_the_search_missed():
    """40 degrees off, but with the photo at 20 in common; the one at -38 has better friends than the query."""
    angle = np.radians([0, 20, 40, -38, -39, -40])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    queries, gallery = descriptors("q", rows[:1]), descriptors("g", rows[1:])
    assert list(search_exact(queries, gallery, k=2).positions_QK[0]) == [0, 2]
    assert list(reranked(queries, gallery, k=2, k1=2, k2=1).positions_QK[0]) == [0, 1]


def test_parts_make_no_difference(monkeypatch):
    queries, gallery = world(3, num=60, num_queries=40)
    options = [{"k": 12, "k1": 6, "k2": 3, "form": form} for form in ("global", "local")]
    whole = [reranked(queries, gallery, **one) for one in options]
    monkeypatch.setattr("landseer.reranking.neighbours.graph.CELLS_AT_ONCE", 500)
    monkeypatch.setattr("landseer.reranking.neighbours.graph._PAIRS_AT_ONCE", 100)
    monkeypatch.setattr("landseer.reranking.neighbours.jaccard._COMPARED_AT_ONCE", 2000)
    monkeypatch.setattr("landseer.reranking.neighbours.reciprocal._QUERIES_AT_ONCE", 7)
    for before, after in zip(whole, [reranked(queries, gallery, **one) for one in options], strict=True):
        assert np.array_equal(before.positions_QK, after.positions_QK)
        assert np.array_equal(before.scores_QK, after.scores_QK)


@pytest.mark.parametrize("form", ["global", "local"])
def test_a_query_without_answers_stays_without(form):
    queries, gallery = world(2, num=3)
    ranking = search_exact(queries, gallery, k=5)
    ranking.positions_QK[1], ranking.scores_QK[1] = PADDING, -np.inf
    context = Context(queries=queries, gallery=gallery)
    found = rerank_reciprocal(ranking, context, ReciprocalOptions(form=form))
    assert np.all(found.positions_QK[1] == PADDING)
    assert np.array_equal(np.sort(found.positions_QK[0]), [-1, -1, 0, 1, 2])


def test_reasons_say_what_is_shared():
    queries, gallery = world(4, num=30)
    plain = search_exact(queries, gallery, k=10)
    found = reranked(queries, gallery, k=10, k1=5, k2=2, weight=0, explain=True)
    moved = 0
    for row, reasons in enumerate(found.reasons):
        for place, position in enumerate(found.positions_QK[row]):
            old = np.flatnonzero(plain.positions_QK[row] == position)
            if len(old) and old[0] == place:
                assert position not in reasons
                continue
            moved += 1
            before = old[0] + 1 if len(old) else "new"
            shared = f"{100 * found.scores_QK[row, place]:.0f}"
            words = f"its neighbourhood and the query's have {shared} % in common"
            assert reasons[position] == f"{before} -> {place + 1}: {words}"
    assert moved > 5


def test_rows_that_are_no_unit_rows_are_refused():
    queries, gallery = world(0)
    long = Descriptors(ids=gallery.ids, rows_ND=gallery.rows_ND, normalised=False)
    ranking = search_exact(queries, gallery, k=2)
    with pytest.raises(ValueError, match="k-reciprocal needs descriptors of unit length; normalise them"):
        rerank_reciprocal(ranking, Context(queries=queries, gallery=long), ReciprocalOptions())
