import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.matching import mutual_pairs


def slow_pairs(a_KD, b_LD, ratio):
    """Every distance by itself, in whole numbers; a pair is nearest from both sides, and clearly so."""
    a, b = a_KD.astype(int).tolist(), b_LD.astype(int).tolist()
    far = [[sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for q in b] for p in a]
    pairs = []
    for i in range(len(a)):
        for j in range(len(b)):
            rivals = (
                [far[i][k] for k in range(len(b)) if k != j],
                [far[k][j] for k in range(len(a)) if k != i],
            )
            if all(others and far[i][j] < min(others) * ratio**2 for others in rivals):
                pairs.append((i, j))
    return pairs


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@given(
    seed=st.integers(0, 2**32 - 1), ratio=st.sampled_from([0.5, 0.75, 0.9, 1.0]), spread=st.integers(1, 127)
)
def test_it_agrees_with_a_plain_loop(dtype, seed, ratio, spread):
    """Small numbers make ties, large ones the longest sums; a common part makes real pairs."""
    rng = np.random.default_rng(seed)
    low = -spread if dtype is np.int8 else 0
    a, b = (rng.integers(low, spread + 1, (rng.integers(0, 7), 3)).astype(dtype) for _ in range(2))
    num = min(len(a), len(b)) // 2
    b[:num] = a[:num]
    found = mutual_pairs(a, b, ratio=ratio)
    assert found.dtype == np.int64
    assert [tuple(pair) for pair in found.tolist()] == slow_pairs(a, b, ratio)


@given(seed=st.integers(0, 2**32 - 1))
def test_exchanged_photos_give_exchanged_pairs(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 4, (rng.integers(0, 40), 4)).astype(np.uint8) for _ in range(2))
    there, back = mutual_pairs(a, b, ratio=0.95), mutual_pairs(b, a, ratio=0.95)
    assert sorted(map(tuple, there.tolist())) == sorted((i, j) for j, i in back.tolist())
    assert len(set(there[:, 0])) == len(there) == len(set(there[:, 1]))


def test_distances_of_the_largest_bytes_are_exact():
    """A last bit of a sum near 2 ** 24 decides here."""
    a = np.full((2, 128), 255, np.uint8)
    b = np.zeros((2, 128), np.uint8)
    a[1] = 0
    a[1, :64] = 200
    b[0, 0], b[1, :64] = 1, 199
    found = mutual_pairs(a, b, ratio=1.0)
    assert [tuple(pair) for pair in found.tolist()] == slow_pairs(a, b, 1.0)


def test_two_equal_points_pair_with_nothing():
    a = np.array([[10, 0], [10, 0], [200, 0]], np.uint8)
    b = np.array([[10, 0], [200, 0]], np.uint8)
    assert mutual_pairs(a, b, ratio=1.0).tolist() == [[2, 1]]
