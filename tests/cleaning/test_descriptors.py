"""Centres of labels, against loops; groups by spherical k-means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.cleaning import centre_margin
from landseer.cleaning.descriptors import groups_of


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0, 1, 2, -1, -2]), min_size=2, max_size=25).filter(
        lambda labels: len({label for label in labels if label >= 0}) > 1
    ),
)
def test_the_margin_agrees_with_the_loop(seed, labels):
    label_N = np.array(labels)
    rows = unit(np.random.default_rng(seed).normal(size=(len(labels), 5))).astype(np.float32)
    found = centre_margin(rows, label_N)
    for photo, label in enumerate(labels):
        own = [n for n in range(len(labels)) if labels[n] == label and n != photo]
        if label < 0 or not own:
            assert np.isnan(found[photo])
            continue
        others = [
            unit(rows[label_N == other].astype(np.float64).sum(axis=0)) @ rows[photo]
            for other in set(labels)
            if other >= 0 and other != label
        ]
        want = unit(rows[own].astype(np.float64).sum(axis=0)) @ rows[photo] - max(others)
        assert found[photo] == pytest.approx(want, abs=1e-5)


def test_photos_away_from_the_greatest_group_lose():
    """Two views of a landmark and one label beside it: with two centres the smaller view is far from home."""
    rng = np.random.default_rng(0)
    views = unit([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.3]])
    rows = unit(views[np.repeat([0, 1, 2], [8, 4, 8])] + 0.05 * rng.normal(size=(20, 4))).astype(np.float32)
    label_N = np.repeat([0, 0, 1], [8, 4, 8])
    one, two = (centre_margin(rows, label_N, centres=centres) for centres in (1, 2))
    assert one[8:12].min() > 0.2
    assert two[8:12].max() < 0.15
    assert two[:8].min() > 0.8


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 5))
def test_every_row_is_in_the_group_of_its_nearest_centre(seed, num, groups):
    rows = unit(np.random.default_rng(seed).normal(size=(num, 3)))
    group_P = groups_of(rows, groups)
    assert set(group_P.tolist()) <= set(range(min(groups, num)))
    assert np.array_equal(group_P, groups_of(rows, groups))
    names = np.unique(group_P)
    centres = unit([rows[group_P == name].sum(axis=0) for name in names])
    nearest = (rows @ centres.T).max(axis=1)
    own = (rows * centres[np.searchsorted(names, group_P)]).sum(axis=1)
    assert np.allclose(own, nearest, atol=1e-9)


def test_well_parted_groups_are_found():
    rng = np.random.default_rng(1)
    rows = unit(np.eye(3)[np.repeat([2, 0, 1], [5, 7, 3])] + 0.1 * rng.normal(size=(15, 3)))
    group_P = groups_of(rows, 3)
    assert [len(set(group_P[part])) for part in (slice(0, 5), slice(5, 12), slice(12, 15))] == [1, 1, 1]
    assert len(set(group_P)) == 3


def test_one_label_alone_cannot_be_told_from_others():
    with pytest.raises(ValueError, match=r"fewer than two; clean by geometry"):
        centre_margin(np.eye(3, dtype=np.float32), np.array([0, 0, -1]))
