"""The scan that accelerators do, on the processor under another name: the same answers as the definition's."""

import numpy as np
import pytest
import torch

from landseer.search import certified, device, exact, search_exact
from landseer.search.certified import prepare
from landseer.search.device import DeviceCodes
from landseer.types import Descriptors

ELSEWHERE = "cpu:0"  # a torch device that is not called "cpu"


def descriptors(rows, prefix="g"):
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


def clustered(num, dim, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((max(1, num // 20), dim))[rng.integers(max(1, num // 20), size=num)]
    rows += rng.standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def same(a, b):
    return np.array_equal(a.positions_QK, b.positions_QK) and np.array_equal(a.scores_QK, b.scores_QK)


@pytest.mark.parametrize("dim", [5, 64, 101])
@pytest.mark.parametrize("num_queries", [1, 40, 600])
@pytest.mark.parametrize("block", [8, 512, 2**16])
def test_blocks_shapes_and_numbers_of_queries(monkeypatch, dim, num_queries, block):
    monkeypatch.setattr(certified, "BLOCK", block)
    rows = clustered(1500 + num_queries, dim, 1)
    queries, gallery = descriptors(rows[:num_queries], "q"), descriptors(rows[num_queries:])
    ready = prepare(gallery, device=ELSEWHERE)
    assert ready.on_device is not None
    for k in (1, 30, 2000):
        assert same(search_exact(queries, ready, k=k), search_exact(queries, gallery, k=k))


def test_clustered_unit_rows_need_no_other_pass(monkeypatch):
    rows = clustered(6000, 128, 2)
    queries, gallery = descriptors(rows[:50], "q"), descriptors(rows[50:])
    slow = search_exact(queries, gallery, k=30)
    ready = prepare(gallery, device=ELSEWHERE)
    for name in ("_scan", "_scan_alone"):
        monkeypatch.setattr(certified, name, None)
    monkeypatch.setattr(exact, "_search", None)
    assert same(search_exact(queries, ready, k=30), slow)


def test_crowds_of_equal_and_nearly_equal_rows():
    rng = np.random.default_rng(3)
    base = np.repeat(clustered(4, 96, 5), 400, axis=0)
    rows = (base + 1e-5 * rng.standard_normal(base.shape) * (rng.random((len(base), 1)) < 0.5)).astype(
        np.float32
    )
    queries, gallery = descriptors(rows[::97], "q"), descriptors(rows)
    assert same(
        search_exact(queries, prepare(gallery, device=ELSEWHERE), k=40), search_exact(queries, gallery, k=40)
    )


@pytest.mark.parametrize(("num", "dim"), [(1, 8), (9, 3), (64, 64)])
def test_products_are_whole_whatever_the_padding(num, dim):
    rng = np.random.default_rng(4)
    left, right = (rng.integers(-127, 128, size=(n, dim)).astype(np.int8) for n in (3, num))
    codes = DeviceCodes(right, np.ones(num, np.float32), ELSEWHERE)
    table = codes.queries(left)
    assert table.shape[0] >= 17 and table.shape[1] % 8 == 0
    found = codes.products(table, 0, num)[:3].numpy()
    assert np.array_equal(found, left.astype(np.int64) @ right.astype(np.int64).T)


def test_a_device_whose_products_are_wrong_is_found_out(monkeypatch):
    rows = clustered(300, 32, 7)
    queries, gallery = descriptors(rows[:20], "q"), descriptors(rows)
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b).clamp(-(2**15), 2**15 - 1))
    certified.products_are_exact.cache_clear()
    try:
        ready = prepare(gallery, device=ELSEWHERE)
    finally:
        certified.products_are_exact.cache_clear()
    assert ready.codes_ND is None and ready.on_device is None
    assert same(search_exact(queries, ready, k=9), search_exact(queries, gallery, k=9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_definitions_answers():
    rows = clustered(device.BLOCK + 1000, 100, 8)
    queries, gallery = descriptors(rows[:300], "q"), descriptors(rows)
    ready = prepare(gallery, device="cuda")
    assert ready.on_device is not None
    assert same(search_exact(queries, ready, k=100), search_exact(queries, gallery, k=100))
