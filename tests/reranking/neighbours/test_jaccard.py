import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.reranking.neighbours.jaccard import local_jaccard, local_jaccards


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def slow_jaccard(rows, k1, k2):
    """J of all pairs, from the definition with sets and dense tables."""
    wide = rows.astype(np.float64)
    total = len(rows)
    distance = (1 - wide @ wide.T) / 2
    near = [
        [i, *sorted((j for j in range(total) if j != i), key=lambda j, i=i: (distance[i, j], j))]
        for i in range(total)
    ]

    def mutual(i, k):
        return {j for j in near[i][: k + 1] if i in near[j][: k + 1]}

    weights = np.zeros((total, total))
    for i in range(total):
        members = set(mutual(i, k1))
        for j in mutual(i, k1):
            others = mutual(j, round(k1 / 2))
            if len(others & mutual(i, k1)) > 2 / 3 * len(others):
                members |= others
        for j in members:
            weights[i, j] = np.exp(-distance[i, j])
        weights[i] /= weights[i].sum()
    weights = np.array([weights[near[i][:k2]].mean(axis=0) for i in range(total)])
    least = np.minimum(weights[:, None], weights[None]).sum(axis=2)
    most = np.maximum(weights[:, None], weights[None]).sum(axis=2)
    return 1 - least / most


def clustered(rng, num, dim=6, clusters=3):
    return unit(
        rng.standard_normal((clusters, dim))[rng.integers(clusters, size=num)] * 2
        + rng.standard_normal((num, dim))
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 8), st.integers(1, 5))
def test_local_distances_are_the_definitions(seed, num, k1, k2):
    rows = clustered(np.random.default_rng(seed), num + 1)
    found = local_jaccard(rows[0], rows[1:], k1=k1, k2=k2)
    assert found.dtype == np.float32
    assert found == pytest.approx(slow_jaccard(rows, k1, k2)[0, 1:], abs=2e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), max_size=6))
def test_queries_asked_together_are_answered_as_alone(seed, sizes):
    rng = np.random.default_rng(seed)
    candidates = [clustered(rng, size) for size in sizes]
    queries = clustered(rng, len(sizes))
    together = local_jaccards(queries, candidates, k1=4, k2=3)
    alone = [local_jaccard(query, rows, k1=4, k2=3) for query, rows in zip(queries, candidates, strict=True)]
    assert [list(one) for one in together] == [list(one) for one in alone]


def test_many_queries_in_several_batches(monkeypatch):
    rng = np.random.default_rng(0)
    queries, candidates = clustered(rng, 9), [clustered(rng, 20) for _ in range(9)]
    whole = local_jaccards(queries, candidates, k1=5, k2=2)
    for name in ("jaccard._COMPARED_AT_ONCE", "graph.CELLS_AT_ONCE"):
        monkeypatch.setattr(f"landseer.reranking.neighbours.{name}", 700)
    parts = local_jaccards(queries, candidates, k1=5, k2=2)
    assert [list(one) for one in whole] == [list(one) for one in parts]


def test_a_neighbourhood_worked_by_hand():
    """Two on one side, two on the other: with k1 = 1 only the mutually nearest share a neighbourhood."""
    angle = np.radians([0, 10, 90, 95])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert list(local_jaccard(rows[0], rows[1:], k1=1, k2=1)) == pytest.approx([0.0076, 1, 1], abs=1e-4)
    # V_0 = (1, e^-d) / (1 + e^-d), V_1 = (e^-d, 1) / (1 + e^-d): sum min / sum max = e^-d
    assert local_jaccard(rows[0], rows[1:2], k1=1, k2=1)[0] == pytest.approx(
        1 - np.exp(-(1 - np.cos(np.radians(10))) / 2), abs=1e-6
    )


def test_each_of_many_equal_photos_is_in_its_own_neighbourhood():
    rows = np.float32([[1, 0]] * 5 + [[0, 1]] * 3 + [[0.6, 0.8]])
    assert local_jaccard(rows[0], rows[1:], k1=2, k2=2) == pytest.approx(
        slow_jaccard(rows, 2, 2)[0, 1:], abs=2e-6
    )
