"""What a stage may train on: labelled photos of split=train, and nothing else, ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landseer.training import training_subset
from landseer.types import SPLITS

ROWS = st.lists(
    st.tuples(st.none() | st.integers(-3, 4), st.sampled_from(SPLITS), st.booleans()), max_size=40
)


def slow_subset(rows, subset, min_photos):
    allowed = [
        (photo, landmark)
        for photo, landmark, split, clean in rows
        if split == "train" and landmark is not None and (clean or subset == "full")
    ]
    kept = []
    for photo, landmark in allowed:
        if sum(1 for _, other in allowed if other == landmark) >= min_photos:
            kept.append((photo, landmark))
    return kept


# the fixture is a plain function, so one for all examples is right
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, subset=st.sampled_from(["clean", "full"]), min_photos=st.integers(1, 4))
def test_only_labelled_training_photos_enter(collection, rows, subset, min_photos):
    named = [(f"p{number}", *row) for number, row in enumerate(rows)]
    expected = slow_subset(named, subset, min_photos)
    landmarks = sorted({landmark for _, landmark in expected})
    if len(landmarks) < 2:
        with pytest.raises(ValueError, match="training needs at least 2 landmarks"):
            training_subset(collection(named), subset=subset, min_photos=min_photos)
        return
    found = training_subset(collection(named), subset=subset, min_photos=min_photos)
    assert [
        (photo, int(landmark))
        for photo, landmark in zip(found.ids, found.landmark_C[found.row_N], strict=True)
    ] == expected
    assert found.landmark_C.tolist() == landmarks
    assert found.paths == tuple(f"{photo}.png" for photo in found.ids)
    assert len(found) == len(expected) == len(found.row_N)
    assert found.row_N.dtype == found.landmark_C.dtype == np.int64


def test_the_label_space_does_not_depend_on_the_order_of_photos(collection):
    rows = [(f"p{number}", landmark, "train", True) for number, landmark in enumerate([9, 2, 5, 2, 9, 5])]
    there = training_subset(collection(rows), subset="clean")
    back = training_subset(collection(rows[::-1]), subset="clean")
    assert there.landmark_C.tolist() == back.landmark_C.tolist() == [2, 5, 9]
    assert dict(zip(there.ids, there.row_N, strict=True)) == dict(zip(back.ids, back.row_N, strict=True))


def test_too_few_landmarks_are_told_with_the_rule_that_left_them_out(collection):
    rows = [
        ("a", 1, "train", True),
        ("b", 1, "train", True),
        ("c", 2, "train", True),
        ("d", 3, "index", True),
    ]
    with pytest.raises(
        ValueError, match=r"at least 2 landmarks with 2 clean training photos each, .* has 1; check"
    ):
        training_subset(collection(rows), subset="clean", min_photos=2)
    with pytest.raises(ValueError, match="has 0"):
        training_subset(collection([]), subset="full")
