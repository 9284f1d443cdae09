"""All near pairs of hashes, against every pair looked at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.cleaning import hamming
from landseer.cleaning.hamming import canonical, near_pairs
from landseer.photos.hashes import MIRROR, mirrored


def every_pair(hashes, radius, mirror):
    found = []
    values = [int(value) for value in hashes]
    for i in range(len(values)):
        for j in range(i + 1, len(values)):
            for turned, mask in ((False, 0), (True, MIRROR))[: 1 + mirror]:
                bits = (values[i] ^ values[j] ^ mask).bit_count()
                if bits <= radius:
                    found.append((i, j, bits, turned))
    return found


def listed(pairs):
    columns = (pairs.first_P, pairs.second_P, pairs.distance_P, pairs.mirrored_P)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def crowd(seed, num, most_bits):
    """Hashes in families: each with relatives that differ in few bits, some of them mirrored."""
    rng = np.random.default_rng(seed)
    found = []
    for value in rng.integers(0, 2**64, num, dtype=np.uint64).tolist():
        found.append(value)
        for _ in range(2):
            changed = value ^ (MIRROR if rng.random() < 0.4 else 0)
            for bit in rng.choice(64, rng.integers(0, most_bits + 1), replace=False).tolist():
                changed ^= 1 << bit
            found.append(changed)
    return np.array(found, np.uint64)


@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.booleans())
def test_near_pairs_are_those_of_every_pair_looked_at(seed, radius, mirror):
    hashes = crowd(seed, 12, radius + 2)
    hashes = np.unique(canonical(hashes)[0] if mirror else hashes)
    assert listed(near_pairs(hashes, radius, mirrored=mirror, workers=1)) == every_pair(
        hashes, radius, mirror
    )


@pytest.mark.parametrize("num_blocks", range(7, 14))
def test_the_number_of_blocks_changes_nothing(monkeypatch, num_blocks):
    hashes = np.unique(canonical(crowd(num_blocks, 30, 8))[0])
    monkeypatch.setattr(hamming, "_num_blocks", lambda num, radius: num_blocks)
    assert listed(near_pairs(hashes, 6, mirrored=True)) == every_pair(hashes, 6, True)


def test_many_that_stand_together_and_parts_that_end_between_them(monkeypatch):
    monkeypatch.setattr(hamming, "_AT_ONCE", 7)
    hashes = np.unique(np.random.default_rng(0).integers(0, 2**9, 150, dtype=np.uint64) << np.uint64(20))
    assert listed(near_pairs(hashes, 3)) == every_pair(hashes, 3, False)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_a_photo_and_its_mirror_image_have_one_canonical_form(values):
    hashes = np.array(values, np.uint64)
    forms, turned = canonical(hashes)
    mirror_forms, mirror_turned = canonical(mirrored(hashes))
    assert np.array_equal(forms, mirror_forms)
    assert np.array_equal(turned, ~mirror_turned)
    assert np.array_equal(np.where(turned, mirrored(forms), forms), hashes)


def test_few_hashes_and_none():
    assert len(near_pairs(np.empty(0, np.uint64), 6)) == 0
    assert len(near_pairs(np.array([5], np.uint64), 6, mirrored=True)) == 0
    assert listed(near_pairs(np.array([0, 2**64 - 1], np.uint64), 8)) == []
    assert listed(near_pairs(np.array([0, 2**63], np.uint64), 1)) == [(0, 1, 1, False)]


def test_progress_counts_the_sorts():
    told = []
    near_pairs(np.unique(crowd(0, 10, 4)), 2, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))


@pytest.mark.parametrize(
    ("hashes", "radius", "mirror", "message"),
    [
        (np.array([1, 2], np.uint64), 9, False, "between 0 and 8"),
        (np.array([2, 1], np.uint64), 6, False, "strictly rising"),
        (np.array([1, 1], np.uint64), 6, False, "group equal ones"),
        (np.array([1, 2], np.int64), 6, False, "must be uint64"),
        (np.array([0, 2], np.uint64), 6, True, "canonical"),
    ],
)
def test_what_cannot_be_searched_is_refused(hashes, radius, mirror, message):
    with pytest.raises(ValueError, match=message):
        near_pairs(hashes, radius, mirrored=mirror)
