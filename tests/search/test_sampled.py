"""Sums of pairs row by row: against a loop, and where they may stand in for the sums query by query."""

import math
import sys

import numpy as np
import pytest
import torch  # noqa: F401  the sums need it loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.search import sampled, scores
from landseer.search.scores import exact_scores, norm_bounds

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def pairs_of(num_queries, num_rows, each, rng):
    query = np.repeat(np.arange(num_queries), each)
    rows = [np.sort(rng.choice(num_rows, each, replace=False)) for _ in range(num_queries)]
    return query, np.concatenate(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 60),
    st.sampled_from([1, 2, 17, 64]),
    st.sampled_from([np.float32, np.float16]),
    st.sampled_from([8 * 64, 8 * 1000, 2**21]),
)
def test_every_pair_has_its_own_sum(seed, num_queries, num_rows, dim, dtype, bytes_at_once):
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((num_queries, dim)).astype(dtype)
    rows = rng.standard_normal((num_rows, dim)).astype(dtype)
    query, row = pairs_of(num_queries, num_rows, rng.integers(1, num_rows + 1), rng)
    before = sampled._BYTES_AT_ONCE
    sampled._BYTES_AT_ONCE = bytes_at_once
    try:
        found = sampled.sums_by_row(queries, rows, query_M=query, row_M=row)
    finally:
        sampled._BYTES_AT_ONCE = before
    right = [
        math.fsum(queries[q].astype(float) * rows[r].astype(float)) for q, r in zip(query, row, strict=True)
    ]
    assert np.allclose(found, right, rtol=0, atol=1e-12 * max(1, dim))


def test_a_few_of_many_rows_and_rows_of_a_file(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", rng.standard_normal((5000, 32)).astype(np.float32))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    queries = rng.standard_normal((40, 32)).astype(np.float32)
    query, row = np.repeat(np.arange(40), 3), np.tile([0, 4321, 4999], 40)
    found = sampled.sums_by_row(queries, rows, query_M=query, row_M=row)
    right = (queries.astype(float) @ rows[[0, 4321, 4999]].astype(float).T).ravel()
    assert np.allclose(found, right, rtol=0, atol=1e-12)


def test_scores_are_the_same_to_the_last_bit_either_way(monkeypatch):
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((64, 48)).astype(np.float32)
    rows = rng.standard_normal((100, 48)).astype(np.float32)
    query, row = pairs_of(64, 100, 80, rng)
    how = []
    by_row = sampled.sums_by_row
    monkeypatch.setattr(scores, "sums_by_row", lambda *a, **k: how.append("row") or by_row(*a, **k))

    def scored():
        norms = norm_bounds(queries, [""] * 64), rows, norm_bounds(rows, [""] * 100)
        return exact_scores(queries, *norms, query_M=query, row_M=row)

    one = scored()
    assert how == ["row"]
    monkeypatch.setattr(scores, "worth_it", lambda *_: False)
    other = scored()
    assert how == ["row"]
    assert np.array_equal(one.view(np.int32), other.view(np.int32))


@pytest.mark.parametrize(
    ("pairs", "rows", "worth"), [(4096, 1024, True), (4095, 1000, False), (4096, 1025, False)]
)
def test_it_is_worth_it_for_many_pairs_of_few_rows(pairs, rows, worth):
    assert sampled.worth_it(10_000, np.arange(pairs) % rows) is worth


def test_where_torch_is_not_loaded_or_cannot_the_other_way_is_taken(monkeypatch):
    many = np.zeros(5000, np.int64)
    assert sampled.worth_it(1, many)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        assert not sampled.worth_it(1, many)
    sampled._can.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            "torch.sparse.sampled_addmm", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("none here"))
        )
        assert not sampled.worth_it(1, many)
    sampled._can.cache_clear()
    assert sampled.worth_it(1, many)
