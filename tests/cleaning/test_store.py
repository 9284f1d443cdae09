"""Inliers on disk: found again, whichever photo comes first; other settings, another folder; damage is survived."""

import numpy as np
import pytest

from landseer.cleaning import PairStore
from landseer.cleaning.store import MOST_INLIERS, pair_keys


def keys(num, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, num, dtype=np.uint64)


def filled(folder, keys_P, inliers_P, **more):
    store = PairStore(folder, {"model": "affine"}, **more)
    with store.held():
        for start in range(0, len(keys_P), 10):
            store.add(keys_P[start : start + 10], inliers_P[start : start + 10])
    return store


def read(folder, keys_P, settings=None):
    store = PairStore(folder, settings or {"model": "affine"})
    with store.held():
        return store.known(keys_P)


def test_what_was_kept_is_found_and_nothing_else(tmp_path):
    keys_P, inliers_P = keys(1000), np.arange(1000)
    filled(tmp_path, keys_P, inliers_P, commit_every=128)
    assert np.array_equal(read(tmp_path, keys_P[::-1]), inliers_P[::-1])
    assert set(read(tmp_path, keys(50, seed=1)).tolist()) == {-1}
    assert len(list(tmp_path.glob("inliers-*/shard-*"))) == 8
    assert set(read(tmp_path, keys_P, {"model": "homography"}).tolist()) == {-1}


def test_a_key_is_the_same_from_both_sides_and_another_for_other_photos():
    photos = keys(200)
    a, b = np.meshgrid(photos, photos)
    both = pair_keys(a, b)
    assert np.array_equal(both, both.T)
    assert len(np.unique(both)) == 200 * 201 // 2


def test_a_damaged_shard_costs_its_own_pairs(tmp_path, caplog):
    keys_P = keys(30)
    filled(tmp_path, keys_P, np.arange(30), commit_every=10)
    shard = sorted(tmp_path.glob("inliers-*/shard-*"))[1]
    table = shard / "table.npy"
    table.write_bytes(table.read_bytes()[:-1] + b"\xff")
    found = read(tmp_path, keys_P)
    assert found.tolist() == [*range(10), *[-1] * 10, *range(20, 30)]
    assert "its pairs are matched again" in caplog.text
    filled(tmp_path, keys_P[10:20], np.arange(10, 20))
    assert read(tmp_path, keys_P).tolist() == list(range(30))


def test_more_inliers_than_fit_count_as_the_most(tmp_path):
    filled(tmp_path, keys(2), np.array([70000, 3]))
    assert read(tmp_path, keys(2)).tolist() == [MOST_INLIERS, 3]


def test_two_cannot_add_at_once(tmp_path):
    with PairStore(tmp_path, {}).held():
        second = PairStore(tmp_path, {}).held()
        with pytest.raises(ValueError, match="another process is adding pairs"):
            second.__enter__()


def test_without_a_folder_nothing_is_kept():
    store = filled(None, keys(20), np.arange(20))
    assert set(store.known(keys(20)).tolist()) == {-1}
