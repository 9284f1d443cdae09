import dataclasses
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.search import certified, exact, search_exact, workers
from landseer.search.certified import prepare, quantise
from landseer.search.scores import norm_bounds
from landseer.types import Descriptors


def descriptors(rows, prefix="g", **more):
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows, **more)


def unit_rows(num, dim, seed):
    rows = np.random.default_rng(seed).standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(num, dim, seed):
    """About 20 rows around each direction, as photos of landmarks are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((max(1, num // 20), dim))[rng.integers(max(1, num // 20), size=num)]
    rows += rng.standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def same(a, b):
    return np.array_equal(a.positions_QK, b.positions_QK) and np.array_equal(a.scores_QK, b.scores_QK)


@pytest.mark.parametrize("num_queries", [1, 40])
def test_unproven_are_the_rows_whose_codes_score_best(num_queries):
    gallery, queries = clustered(700, 48, 1), clustered(num_queries, 48, 2)
    ready, k = prepare(descriptors(gallery)), 9
    positions, scores = exact.search_unproven(descriptors(queries, "q"), ready, k=k)
    codes, _, _ = quantise(queries, norm_bounds(queries, [""] * num_queries))
    by_codes = (codes.astype(int) @ ready.codes_ND.astype(int).T).astype(np.float32) * ready.scale_N
    missed = 0
    for query, mine, score, near in zip(queries, positions, scores, by_codes, strict=True):
        assert set(mine.tolist()) == set(np.argsort(-near)[:k].tolist())
        right = [np.float32(math.fsum(query.astype(float) * gallery[n].astype(float))) for n in mine]
        assert right == list(score) and right == sorted(right, reverse=True)
        missed += len(set(mine.tolist()) ^ set(np.argsort(-(gallery @ query))[:k].tolist()))
    assert 0 <= missed <= num_queries


def test_unproven_without_codes_is_exact():
    """A single component has no codes, and a query out of float32's range is not scanned."""
    one = descriptors(np.linspace(1, 2, 50, dtype=np.float32)[:, None], normalised=False)
    positions, scores = exact.search_unproven(one, prepare(one), k=3)
    assert same(
        search_exact(one, one, k=3),
        dataclasses.replace(search_exact(one, one, k=3), positions_QK=positions, scores_QK=scores),
    )
    gallery = descriptors(clustered(100, 16, 3))
    far = descriptors((clustered(5, 16, 4) * 2.0**70).astype(np.float32), "q", normalised=False)
    truth = search_exact(far, gallery, k=4)
    positions, scores = exact.search_unproven(far, prepare(gallery), k=4)
    assert np.array_equal(positions, truth.positions_QK) and np.array_equal(scores, truth.scores_QK)


@st.composite
def rows_to_cut(draw):
    """Rows that codes catch badly or well: steep, spiked, on and beside rounding boundaries, huge and tiny."""
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    dim = draw(st.sampled_from([1, 2, 3, 17, 64, 100, 600]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "spiked", "boundary", "steep", "zero", "constant"]))
    rows = rng.standard_normal((6, dim))
    if kind == "spiked":
        rows[:, 0] *= 1000
    elif kind == "boundary":  # one component sets the scale to 1, the others lie half way between two codes
        rows = rng.integers(-120, 120, size=(6, dim)) + 0.5 * (
            1 + 2.0**-20 * rng.integers(-2, 3, size=(6, dim))
        )
        rows[:, 0] = 127
    elif kind == "steep":
        rows *= np.exp(-10 * rng.random((6, dim)))
    elif kind == "zero":
        rows[rng.random(rows.shape) < 0.8] = 0
    elif kind == "constant":
        rows = np.repeat(rows[:, :1], dim, axis=1)
    power = draw(st.integers(-3, 1) if dtype == np.float16 else st.integers(-38, 14))
    return (rows * 10.0**power).astype(dtype)


@settings(max_examples=200, deadline=None)
@given(rows_to_cut())
def test_the_rest_of_a_row_is_no_longer_than_its_bound(rows):
    """The sum of the squares of x - s c in whole numbers of float64, against what is stored."""
    codes, scale, rest = quantise(rows, norm_bounds(rows, [""] * len(rows)))
    assert codes.dtype == np.int8 and np.abs(codes.astype(int)).max() <= 127
    for row, code, unit, bound in zip(rows, codes, scale, rest, strict=True):
        true = math.sqrt(
            math.fsum((float(x) - float(unit) * int(c)) ** 2 for x, c in zip(row, code, strict=True))
        )
        assert true <= bound
        length = math.sqrt(math.fsum(float(x) ** 2 for x in row))
        assert bound <= 1.005 * true + 1e-6 * length + 1e-33, "so wide a bound would certify nothing"


@settings(max_examples=200, deadline=None)
@given(
    rows_to_cut(), st.integers(0, 2**32 - 1), st.sampled_from(["as drawn", "aligned with the rest", "itself"])
)
def test_scores_lie_within_their_bounds(rows, seed, kind):
    """Lower and upper bounds hold for random queries and for those that meet the worst case of the proof."""
    ready = prepare(descriptors(rows))
    if ready.codes_ND is None:  # too long, or a single component
        return
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(rows.shape[1]) * 10.0 ** rng.integers(-3, 4)
    if kind == "aligned with the rest":
        left = rows[0].astype(np.float64) - ready.scale_N[0].astype(np.float64) * ready.codes_ND[0]
        query = left / (np.abs(left).max() or 1)
    elif kind == "itself":
        query = rows[0].astype(np.float64)
    query = query.astype(rows.dtype)[None]
    if not np.isfinite(query).all():
        return
    chunk = certified._Chunk(query, norm_bounds(query, [""]), ready, proven=True)
    if np.isnan(chunk.error_Q[0]):
        return
    held = certified._Held(chunk, ready, 1)
    scores = np.array(
        [
            float(np.float32(s) * np.float32(i))
            for s, i in zip(
                ready.scale_N,
                ready.codes_ND.astype(np.int64) @ chunk.codes_QD[0].astype(np.int64),
                strict=True,
            )
        ],
        np.float32,
    )
    held.add(np.zeros(len(rows), np.int64), np.arange(len(rows)), scores)
    _, positions, lower, upper = held.pairs()
    assert list(positions) == list(range(len(rows)))
    for row, low, high in zip(rows, lower, upper, strict=True):
        true = math.fsum(float(a) * float(b) for a, b in zip(query[0], row, strict=True))
        for value in (true, float(np.float32(true))):
            assert low <= value / chunk.scale_Q[0] <= high


@pytest.mark.parametrize("num_queries", [1, 3, 7, 70])
def test_clustered_unit_rows_are_certified_without_the_float32_pass(monkeypatch, num_queries):
    rows = clustered(6000 + num_queries, 128, 1)
    queries, gallery = descriptors(rows[:num_queries], "q"), descriptors(rows[num_queries:])
    slow = search_exact(queries, gallery, k=30)
    ready = prepare(gallery)
    monkeypatch.setattr(exact, "_search", None)  # not callable: nothing may be left for it
    assert same(search_exact(queries, ready, k=30), slow)


@pytest.mark.parametrize("num_queries", [2, 40])
def test_differences_below_the_step_of_the_codes(num_queries):
    """Hundreds of rows with the same codes and different scores."""
    rng = np.random.default_rng(3)
    query_rows = unit_rows(num_queries, 96, 4)
    base = np.repeat(unit_rows(5, 96, 5), 150, axis=0)
    rows = (base + 1e-5 * rng.standard_normal(base.shape)).astype(np.float32)[rng.permutation(len(base))]
    ready = prepare(descriptors(rows))
    assert len(np.unique(ready.codes_ND, axis=0)) < 600
    queries = descriptors(query_rows, "q")
    assert same(search_exact(queries, ready, k=40), search_exact(queries, descriptors(rows), k=40))


@pytest.mark.parametrize("num_queries", [1, 40])
@pytest.mark.parametrize("first", [True, False])
def test_rows_that_codes_put_as_far_wrong_as_the_bounds_allow(num_queries, first):
    """Rests along the query: what looks best is overrated, and the answers look worse by nearly twice the bound."""
    dim, k = 65, 5
    rng = np.random.default_rng(1)
    query = np.where(rng.random(dim) < 0.5, -1.0, 1.0)
    query[0] = 0
    overrated = 50 * query + rng.integers(-5, 6, size=dim)
    underrated = overrated.copy()
    underrated[1:57] -= query[1:57]  # 56 less by its codes; its rest and that of the other make up for 62
    far = rng.integers(-5, 6, size=(900, dim)) - 50 * query
    rows = np.repeat(np.stack([overrated - 0.49 * query, underrated + 0.49 * query]), [20, 2 * k], axis=0)
    rows = np.concatenate([rows, far])
    rows[:, 0] = 127  # so that the step of the codes is 1
    rows = (rows if first else rows[::-1]).astype(np.float32)
    queries = descriptors(np.repeat(query[None], num_queries, axis=0).astype(np.float32), "q")
    ready = prepare(descriptors(rows))
    found = search_exact(queries, ready, k=k)
    assert same(found, search_exact(queries, descriptors(rows), k=k))
    products = ready.codes_ND.astype(np.int64) @ query.astype(np.int64)
    rank = np.argsort(np.argsort(-products, kind="stable"))
    assert rank[found.positions_QK[0]].min() >= 20, "by codes alone none would be among the answers"


def test_what_cannot_be_certified_falls_back_query_by_query(monkeypatch):
    rows = clustered(3000, 64, 6)
    rows[1000:] = rows[5] + 1e-6 * np.random.default_rng(0).standard_normal((2000, 64), np.float32)
    queries = descriptors(np.concatenate([rows[5:6], rows[200:206]]), "q")
    monkeypatch.setattr(certified, "_places", lambda k, num_rows: 500)
    asked, slow = [], exact._search
    monkeypatch.setattr(
        exact, "_search", lambda q, *more, **named: asked.append(len(q)) or slow(q, *more, **named)
    )
    found = search_exact(queries, prepare(descriptors(rows)), k=10)
    assert asked == [1], "only the query in the middle of the crowd"
    monkeypatch.undo()
    assert same(found, search_exact(queries, descriptors(rows), k=10))


def test_a_machine_that_saturates_is_found_out(monkeypatch):
    """Some processors add pairs of int8 products in 16 bits; then there are no codes, and the answer stands."""
    rows = clustered(500, 32, 7)
    queries, gallery = descriptors(rows[:3], "q"), descriptors(rows)

    def saturating(a, b, out=None):
        unsigned, b = a.int() + 128, b.int()  # how a product of u8 and s8 is made to serve two s8
        products = unsigned[:, :, None] * b[None]
        pairs = (products[:, 0::2] + products[:, 1::2]).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(dim=1) - 128 * b.sum(dim=0)).int()

    certified.products_are_exact.cache_clear()
    try:
        monkeypatch.setattr(torch, "_int_mm", saturating)
        ready = prepare(gallery)
    finally:
        certified.products_are_exact.cache_clear()
    assert ready.codes_ND is None
    assert same(search_exact(queries, ready, k=9), search_exact(queries, gallery, k=9))


@pytest.mark.parametrize("num_queries", [2, 20])
def test_a_product_that_goes_wrong_later_shows_in_the_bounds(monkeypatch, num_queries):
    rows = clustered(800, 32, 8)
    queries, gallery = descriptors(rows[:num_queries], "q"), descriptors(rows)
    ready, right = prepare(gallery), torch._int_mm

    def wrong(a, b, out=None):
        product = right(a, b).div_(2, rounding_mode="floor")
        return product if out is None else out.copy_(product)

    monkeypatch.setattr(torch, "_int_mm", wrong)
    assert same(search_exact(queries, ready, k=9), search_exact(queries, gallery, k=9))


def test_a_bound_that_is_too_small_gives_wrong_answers():
    """What the bounds are for: without them rows of the answer are lost."""
    rows = clustered(4000, 64, 9)
    queries, gallery = descriptors(rows[:50], "q"), descriptors(rows)
    ready, true = prepare(gallery), search_exact(descriptors(rows[:50], "q"), gallery, k=20)
    chunk = certified._Chunk(queries.rows_ND, norm_bounds(queries.rows_ND, queries.ids), ready, proven=True)
    chunk.length_Q[:], chunk.error_Q[:] = 0, 0
    positions, _, broken = certified._answer(chunk, certified._scan(chunk, ready, 20), ready, 20)
    assert (positions != true.positions_QK).any()
    assert broken.all(), "and the rows scored exactly tell"


def test_many_queries_prepare_the_gallery_on_the_way(monkeypatch):
    rows = clustered(400, 32, 10)
    queries, gallery = descriptors(rows[:260], "q"), descriptors(rows)
    before = search_exact(queries, gallery, k=5)
    monkeypatch.setattr(exact, "_WORTH_PREPARING", 1)
    made = []
    monkeypatch.setattr(exact, "prepare", lambda g: made.append(g) or prepare(g))
    assert same(search_exact(queries, gallery, k=5), before) and made == [gallery]
    search_exact(descriptors(rows[:2], "q"), gallery, k=5)
    search_exact(queries, gallery, k=5, device="cpu:0")
    monkeypatch.delitem(sys.modules, "torch")
    search_exact(queries, gallery, k=5)
    assert made == [gallery], "neither for a few, nor for another device, nor to import torch for so little"


def test_a_prepared_gallery_stands_in_for_the_gallery():
    rows = clustered(60, 16, 11)
    gallery = descriptors(rows, normalised=False, fingerprint="abc")
    ready = prepare(gallery)
    found = search_exact(descriptors(rows[:2], "q"), ready, k=70)
    assert (found.gallery_ids, found.gallery_fingerprint, found.score_kind) == (gallery.ids, "abc", "dot")
    assert len(ready) == 60 and ready.ids == gallery.ids
    assert same(found, search_exact(descriptors(rows[:2], "q"), ready, k=70, device="cpu:0"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        ready.gallery = gallery


@pytest.mark.parametrize("rows", [np.zeros((0, 8), np.float32), np.zeros((3, 0), np.float32)])
def test_nothing_to_prepare(rows):
    queries = descriptors(np.zeros((2, rows.shape[1]), np.float32), "q")
    found = search_exact(queries, prepare(descriptors(rows)), k=2)
    assert same(found, search_exact(queries, descriptors(rows), k=2))


def test_threads_ask_at_once_and_keep_their_settings(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(workers, "_pools", {})
    try:
        rows = clustered(3000, 64, 12)
        gallery = prepare(descriptors(rows))
        queries = [descriptors(rows[n : n + 5], "q") for n in range(8)]
        want = [search_exact(one, gallery, k=9) for one in queries]
        with ThreadPoolExecutor(8) as asking:
            got = list(asking.map(lambda one: search_exact(one, gallery, k=9), queries))
            assert asking.submit(torch.get_num_threads).result() == 2
        assert all(same(a, b) for a, b in zip(want, got, strict=True))
        assert torch.get_num_threads() == 2
        assert workers.run(lambda _: torch.get_num_threads(), range(5)) == [1] * 5
    finally:
        torch.set_num_threads(before)
        for pool in workers._pools.values():
            pool.shutdown()
