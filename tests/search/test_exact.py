import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.search import certified, exact, score, search_exact
from landseer.search.certified import prepare
from landseer.search.scores import norm_bounds, round_sums, sum_bound
from landseer.types import PADDING, Descriptors


def descriptors(rows, prefix="g", normalised=False, **more):
    rows = np.asarray(rows)
    ids = tuple(f"{prefix}{number}" for number in range(len(rows)))
    return Descriptors(ids=ids, rows_ND=rows, normalised=normalised, **more)


def slow_search(query_rows, gallery_rows, k):
    """Every pair by the definition, sorted by (score descending, position ascending)."""
    positions = np.full((len(query_rows), k), PADDING, np.int64)
    scores = np.full((len(query_rows), k), -np.inf, np.float32)
    for q, query in enumerate(query_rows):
        found = []
        for n, row in enumerate(gallery_rows):
            total = math.fsum(float(a) * float(b) for a, b in zip(query, row, strict=True))
            with np.errstate(over="ignore"):
                found.append((np.float32(total), n))
        found.sort(key=lambda pair: (-pair[0], pair[1]))
        for place, (value, n) in enumerate(found[:k]):
            positions[q, place], scores[q, place] = n, value
    return positions, scores


def assert_exact(ranking, query_rows, gallery_rows, k):
    positions, scores = slow_search(query_rows, gallery_rows, k)
    assert np.array_equal(ranking.positions_QK, positions)
    assert np.array_equal(ranking.scores_QK, scores)


WAYS = ("plain", "prepared, one by one", "prepared, in blocks")


def ask(query_rows, gallery_rows, *, way, k, block=None):
    """Search the float32 way, or from a prepared gallery by either scan, in blocks so small that many go by."""
    queries, gallery = descriptors(query_rows, "q"), descriptors(gallery_rows)
    if way == "plain":
        return search_exact(queries, gallery, k=k, block=block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified, "_ALONE", 0 if "blocks" in way else 10**9)
        patch.setattr(certified, "_FIRST_BLOCK", 16)
        patch.setattr(certified, "_BLOCK", 8)
        return search_exact(queries, prepare(gallery), k=k, block=block)


def largest_power(dtype):
    """Ten to this power is near the end of what the type holds, in both directions."""
    return 37 if dtype == np.float32 else 4


@st.composite
def adversaries(draw):
    """Rows that tie, nearly tie, vanish, explode or repeat, in float32 or float16."""
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    dim = draw(st.one_of(st.integers(1, 24), st.integers(25, 600)))
    num, num_queries = draw(st.integers(0, 40)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = rng.standard_normal((draw(st.integers(1, 6)), dim))
    rows = pool[rng.integers(len(pool), size=num + num_queries)]
    kind = draw(
        st.sampled_from(
            ["same", "nearly", "fresh", "unit", "signs", "sparse", "mixed scales", "zero", "huge", "tiny"]
        )
    )
    if kind == "nearly":
        rows = rows * (1 + rng.integers(-2, 3, size=rows.shape) * 2.0**-23)
    elif kind == "fresh":
        rows = rng.standard_normal(rows.shape)
    elif kind == "unit":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    elif kind == "signs":
        rows = np.where(rng.random(rows.shape) < 0.5, -1.0, 1.0)
    elif kind == "sparse":
        rows = np.where(rng.random(rows.shape) < 0.1, rows, 0.0)
    elif kind == "mixed scales":
        largest = 30 if dtype == np.float32 else 3
        rows = rows * 10.0 ** rng.integers(-largest, largest + 1, size=(len(rows), 1))
    elif kind in {"huge", "tiny"}:
        rows = rows * 10.0 ** (largest_power(dtype) * (1 if kind == "huge" else -1))
    elif kind == "zero":
        rows = np.where(rng.random((len(rows), 1)) < 0.5, rows, 0.0)
    rows = rows.astype(dtype)
    return rows[:num_queries], rows[num_queries:]


@settings(max_examples=300, deadline=None)
@given(adversaries(), st.integers(1, 45), st.integers(1, 50), st.sampled_from(WAYS))
def test_search_equals_the_definition_on_hard_rows(rows, k, block, way):
    query_rows, gallery_rows = rows
    found = ask(query_rows, gallery_rows, way=way, k=k, block=block)
    assert_exact(found, query_rows, gallery_rows, k)


@settings(max_examples=100, deadline=None)
@given(adversaries(), st.integers(1, 6), st.integers(1, 50), st.sampled_from(WAYS))
def test_search_equals_the_definition_when_lists_overflow(rows, k, block, way):
    query_rows, gallery_rows = rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_places", lambda k, num_rows: k + 2)
        patch.setattr(certified, "_places", lambda k, num_rows: k + 2)
        found = ask(query_rows, gallery_rows, way=way, k=k, block=block)
    assert_exact(found, query_rows, gallery_rows, k)


@settings(max_examples=40, deadline=None)
@given(adversaries(), st.integers(1, 45), st.integers(1, 50))
def test_the_torch_pass_gives_the_same(rows, k, block):
    query_rows, gallery_rows = rows
    queries, gallery = descriptors(query_rows, "q"), descriptors(gallery_rows)
    a = search_exact(queries, gallery, k=k, block=block)
    b = search_exact(queries, gallery, k=k, block=block, device="cpu:0")
    assert np.array_equal(a.positions_QK, b.positions_QK) and np.array_equal(a.scores_QK, b.scores_QK)


def unit_rows(num, dim, seed):
    rows = np.random.default_rng(seed).standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_thousands_of_rows_with_masses_of_duplicates(dtype, way):
    gallery_rows = unit_rows(3000, 32, 1)
    gallery_rows[500:2500] = gallery_rows[7]  # far more than a shortlist holds
    gallery_rows[2600:2900:2] = gallery_rows[8]
    query_rows = np.concatenate([gallery_rows[[7, 8, 9]], unit_rows(5, 32, 2)]).astype(dtype)
    gallery_rows = gallery_rows.astype(dtype)
    found = ask(query_rows, gallery_rows, way=way, k=20, block=256)
    assert_exact(found, query_rows, gallery_rows, 20)
    assert list(found.positions_QK[0]) == [7, *range(500, 519)]


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_rows_that_float32_sums_put_in_the_wrong_order(device):
    rng = np.random.default_rng(11)
    half, other = unit_rows(2, 64, 10)
    query_rows = np.concatenate([half, -half])[None]
    gallery_rows = np.repeat(
        np.concatenate([other, other])[None], 300, axis=0
    )  # nearly orthogonal: all cancels
    gallery_rows = (gallery_rows * (1 + rng.integers(-3, 4, size=gallery_rows.shape) * 2.0**-23)).astype(
        np.float32
    )
    found = search_exact(
        descriptors(query_rows, "q"), descriptors(gallery_rows), k=20, block=64, device=device
    )
    assert_exact(found, query_rows, gallery_rows, 20)
    float32 = gallery_rows @ query_rows[0]
    # an answer lies below the 20th best of the float32 pass, which alone would have lost it
    assert float32[found.positions_QK[0]].min() < np.sort(float32)[-20]


@pytest.mark.parametrize("way", WAYS)
def test_a_gallery_sorted_from_worst_to_best_is_no_trap(way):
    query_rows = unit_rows(1, 16, 3)
    gallery_rows = unit_rows(4000, 16, 4)
    gallery_rows = gallery_rows[np.argsort(gallery_rows @ query_rows[0])]
    found = ask(query_rows, gallery_rows, way=way, k=3, block=1000)
    assert_exact(found, query_rows, gallery_rows, 3)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_gallery_order_does_not_matter_without_ties(seed):
    rng = np.random.default_rng(seed)
    query_rows, gallery_rows = unit_rows(3, 8, seed), unit_rows(200, 8, seed + 1)
    shuffled = rng.permutation(200)
    a = search_exact(descriptors(query_rows, "q"), descriptors(gallery_rows), k=5)
    b = search_exact(descriptors(query_rows, "q"), descriptors(gallery_rows[shuffled]), k=5)
    assert np.array_equal(a.positions_QK, shuffled[b.positions_QK])
    assert np.array_equal(a.scores_QK, b.scores_QK)


def test_neither_block_nor_batch_nor_the_order_of_components_changes_a_bit():
    query_rows, gallery_rows = unit_rows(40, 128, 5), unit_rows(5000, 128, 6)
    whole = search_exact(descriptors(query_rows, "q"), descriptors(gallery_rows), k=50)
    order = np.random.default_rng(0).permutation(128)
    for block in (1, 37, 4999, 5000, 9000):
        rows = (query_rows, gallery_rows) if block % 2 else (query_rows[:, order], gallery_rows[:, order])
        other = search_exact(descriptors(rows[0], "q"), descriptors(rows[1]), k=50, block=block)
        assert np.array_equal(whole.positions_QK, other.positions_QK)
        assert np.array_equal(whole.scores_QK, other.scores_QK)
    ready = prepare(descriptors(gallery_rows))
    for gallery in (ready, ready):  # it does not wear out
        other = search_exact(descriptors(query_rows, "q"), gallery, k=50)
        assert np.array_equal(whole.positions_QK, other.positions_QK)
        assert np.array_equal(whole.scores_QK, other.scores_QK)
    for number in (0, 17):
        one = search_exact(descriptors(query_rows[number : number + 1], "q"), descriptors(gallery_rows), k=50)
        assert np.array_equal(one.scores_QK[0], whole.scores_QK[number])
        one = search_exact(descriptors(query_rows[number : number + 1], "q"), ready, k=50)
        assert np.array_equal(one.scores_QK[0], whole.scores_QK[number])


@pytest.mark.parametrize("way", WAYS)
def test_queries_are_cut_into_chunks_without_a_seam(monkeypatch, way):
    query_rows, gallery_rows = unit_rows(23, 16, 7), unit_rows(300, 16, 8)
    whole = search_exact(descriptors(query_rows, "q"), descriptors(gallery_rows), k=9)
    for module in (exact, certified):
        monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 5)
    parts = ask(query_rows, gallery_rows, way=way, k=9)
    assert np.array_equal(whole.positions_QK, parts.positions_QK)


def test_a_gallery_photo_finds_itself_first():
    rows = unit_rows(500, 24, 9)
    found = search_exact(descriptors(rows, "q", normalised=True), descriptors(rows, normalised=True), k=1)
    assert np.array_equal(found.positions_QK[:, 0], np.arange(500))
    assert found.score_kind == "cosine"


def test_what_the_ranking_says_of_itself():
    gallery = descriptors(unit_rows(4, 3, 1), normalised=True, fingerprint="abc")
    found = search_exact(descriptors(np.ones((1, 3), np.float32), "q"), gallery, k=2)
    assert (found.score_kind, found.gallery_fingerprint) == ("dot", "abc")
    assert found.query_ids == ("q0",) and found.gallery_ids == gallery.ids


def test_a_memory_map_is_searched(tmp_path):
    rows = unit_rows(50, 8, 2).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    gallery = descriptors(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert_exact(search_exact(descriptors(rows[:2], "q"), gallery, k=5, block=7), rows[:2], rows, 5)
    assert_exact(search_exact(descriptors(rows[:2], "q"), prepare(gallery), k=5), rows[:2], rows, 5)


@pytest.mark.parametrize("way", WAYS)
def test_too_large_for_float32_ties_at_infinity(way):
    rows = np.array([[1e30], [-1e30], [2e30], [3e30]], np.float32)
    found = ask(rows[:1], rows, way=way, k=4)
    assert list(found.positions_QK[0]) == [0, 2, 3, 1]
    assert list(found.scores_QK[0]) == [np.inf, np.inf, np.inf, -np.inf]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_row_that_is_no_number_is_named(value, dtype):
    good = unit_rows(30, 4, 1).astype(dtype)
    bad = good.copy()
    bad[21, 2] = value
    with pytest.raises(ValueError, match="'g21' holds a NaN or an infinity"):
        search_exact(descriptors(good, "q"), descriptors(bad), k=3)
    with pytest.raises(ValueError, match="'g21' holds a NaN or an infinity"):
        prepare(descriptors(bad))
    with pytest.raises(ValueError, match="'q21' holds a NaN or an infinity"):
        search_exact(descriptors(bad, "q"), prepare(descriptors(good)), k=3)
    with pytest.raises(ValueError, match="'q21' holds a NaN or an infinity"):
        search_exact(descriptors(bad, "q"), descriptors(good), k=3)


def test_what_does_not_fit_is_refused():
    three, four = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    with pytest.raises(ValueError, match="queries have 3 components and the gallery 4"):
        search_exact(descriptors(three), descriptors(four), k=1)
    with pytest.raises(ValueError, match="queries have 3 components and the gallery 4"):
        search_exact(descriptors(three), prepare(descriptors(four)), k=1)
    with pytest.raises(ValueError, match="compared by euclidean and the gallery by cosine"):
        search_exact(descriptors(three, metric="euclidean"), descriptors(three), k=1)
    with pytest.raises(ValueError, match="for unit rows only"):
        search_exact(descriptors(three, metric="euclidean"), descriptors(three, metric="euclidean"), k=1)
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        search_exact(descriptors(three), descriptors(three), k=0)


@given(adversaries())
@settings(max_examples=60, deadline=None)
def test_norm_bounds_hold_and_are_tight(rows):
    norms = norm_bounds(rows[1], [""] * len(rows[1]), block=7)
    for row, bound in zip(rows[1], norms, strict=True):
        true = math.sqrt(math.fsum(float(a) ** 2 for a in row))
        assert true <= bound <= true * 1.005


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_wrong_last_bit_of_the_float64_sum_never_shows(seed):
    """Sums anywhere within the bound give the same scores, midpoints of float32 included."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, size=(40, 6)).astype(np.float32)
    rows[:, 5] *= 2.0**-24  # products that land on and beside float32 midpoints
    query = np.array([1, 1, 1, 1, 1, 1], np.float32)
    true = np.array([score(query, row) for row in rows])
    bound = sum_bound(6) * np.linalg.norm(query) * np.linalg.norm(rows.astype(np.float64), axis=1) * 1.001
    sums = rows.astype(np.float64).sum(axis=1)
    for shift in (-0.99, 0.0, 0.99):
        got = round_sums(
            sums + shift * sum_bound(6) * np.abs(rows.astype(np.float64)).sum(axis=1),
            bound,
            queries_QD=query[None],
            query_M=np.zeros(40, np.int64),
            rows_ND=rows,
            row_M=np.arange(40),
        )
        assert np.array_equal(got, true)
