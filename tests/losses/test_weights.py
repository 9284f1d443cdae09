import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.losses.weights import class_weights, sample_weights

ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=40)


def label_space(landmarks):
    """Rows of the photos and photos of the rows, as a stage counts them."""
    _, rows, counts = np.unique(landmarks, return_inverse=True, return_counts=True)
    return rows, counts


def slow_weights(landmarks, clean, noisy_weight):
    """The winners' rule for the full set, photo by photo."""
    counts = Counter(landmarks)
    raw = [
        (1.0 if is_clean else noisy_weight) * (1 / math.log(counts[landmark] + 1))
        for landmark, is_clean in zip(landmarks, clean, strict=True)
    ]
    kappa = 1 / (sum(raw) / len(raw))
    return [kappa * weight for weight in raw]


@given(ROWS, st.data(), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_full_rule_agrees_with_the_loop(landmarks, data, noisy_weight):
    clean = data.draw(st.lists(st.booleans(), min_size=len(landmarks), max_size=len(landmarks)))
    rows, counts = label_space(landmarks)
    found = sample_weights(rows, counts, rule="1/ln(n+1)", clean_N=np.array(clean), noisy_weight=noisy_weight)
    assert found.tolist() == pytest.approx(slow_weights(landmarks, clean, noisy_weight))
    assert found.mean() == pytest.approx(1.0)


def test_clean_rule_worked_example():
    """Two, two and four photos: 1/ln 2 and 1/ln 4 are as 2 to 1, so the weights are 4/3 and 2/3."""
    assert class_weights(np.array([2, 2, 4]), rule="1/ln n").tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3])
    rows = np.array([0, 2, 1, 2, 2, 0, 1, 2])
    expected = [4 / 3, 2 / 3, 4 / 3, 2 / 3, 2 / 3, 4 / 3, 4 / 3, 2 / 3]
    assert sample_weights(rows, np.array([2, 2, 4]), rule="1/ln n").tolist() == pytest.approx(expected)


@given(ROWS)
def test_photos_of_all_landmarks_weigh_one_on_average(landmarks):
    rows, counts = label_space(landmarks)
    weights = class_weights(counts, rule="1/ln(n+1)")
    assert weights[rows].mean() == pytest.approx(1.0)
    assert sample_weights(rows, counts, rule="1/ln(n+1)").tolist() == pytest.approx(weights[rows].tolist())
    assert class_weights(counts, rule="same").tolist() == [1.0] * len(counts)


def test_clean_counts_double():
    found = sample_weights(
        np.array([0, 0, 1, 1]),
        np.array([2, 2]),
        rule="same",
        clean_N=np.array([True, False, True, False]),
        noisy_weight=0.5,
    )
    assert found.tolist() == pytest.approx([4 / 3, 2 / 3, 4 / 3, 2 / 3])


def test_a_single_photo_has_no_logarithm_to_divide_by():
    with pytest.raises(ValueError, match=r"row 1 of the label space has one photo, and 1/ln 1 is infinite"):
        class_weights(np.array([3, 1]), rule="1/ln n")
    assert np.isfinite(class_weights(np.array([3, 1]), rule="1/ln(n+1)")).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noisy_weight": 0.5}, "needs to know which photos are clean"),
        ({"noisy_weight": 0.0, "clean_N": np.array([True, True])}, "must be above 0, not 0.0"),
        ({"clean_N": np.array([True])}, "2 photos but .* marks"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_weights(np.array([0, 1]), np.array([1, 1]), rule="same", **arguments)
    with pytest.raises(ValueError, match="no photo to weigh"):
        sample_weights(np.array([], dtype=np.int64), np.array([1]), rule="same")
    with pytest.raises(ValueError, match="row 0 of the label space has 0 photos"):
        class_weights(np.array([0, 1]), rule="1/ln(n+1)")
