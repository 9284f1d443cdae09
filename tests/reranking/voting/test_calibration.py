import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.reranking.voting.calibration import calibrate
from landseer.types import Recognition


def recognised(landmarks, confidences):
    return Recognition(
        query_ids=tuple(f"q{n}" for n in range(len(landmarks))),
        landmark_Q=np.array(landmarks, np.int64),
        confidence_Q=np.array(confidences, np.float32),
    )


def test_the_threshold_lets_no_more_non_landmarks_through_than_allowed():
    found = recognised([1, 2, 3, 4, 5, 6, 7, 8], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    truth = np.array([1, 2, -1, 4, -1, 9, -1, -1])  # non-landmarks at .7, .5, .3, .2; 6 is named wrongly
    none = calibrate(found, truth, false_accepts=0)
    assert 0.7 < none.confidence <= np.nextafter(np.float32(0.7), np.float32(1))
    assert (none.recall, none.false_accept_rate) == (0.5, 0)
    one = calibrate(found, truth, false_accepts=0.25)
    assert 0.5 < one.confidence < 0.6
    assert (one.recall, one.false_accept_rate) == (0.75, 0.25)
    assert calibrate(found, truth, false_accepts=0.49).confidence == one.confidence
    assert calibrate(found, truth, false_accepts=0.99).false_accept_rate == 0.75
    assert (one.num_known, one.num_unknown) == (4, 4)


def test_the_allowed_share_is_used_up_whatever_its_rounding():
    found = recognised([5] * 101, np.linspace(0.9, 0.1, 101))
    truth = np.array([5] + [-1] * 100)
    assert 0.29 * 100 < 29
    assert calibrate(found, truth, false_accepts=0.29).false_accept_rate == 0.29


def test_photos_that_no_landmark_was_named_for_are_never_accepted():
    found = recognised([1, -1, -1, 4], [0.5, 0.9, 0.0, 0.1])
    threshold = calibrate(found, np.array([1, 2, -1, -1]), false_accepts=0.5)
    assert threshold.confidence == -np.inf  # one of two non-landmarks may pass, and only one was named
    assert (threshold.recall, threshold.false_accept_rate) == (0.5, 0.5)
    applied = threshold.apply(found)
    assert applied.landmark_Q.tolist() == [1, -1, -1, 4]
    assert applied.confidence_Q[1:3].tolist() == [0, 0]


def test_applied_it_says_not_a_landmark_i_know():
    found = recognised([1, 2, 3, 4], [0.9, 0.8, 0.5, 0.4])
    threshold = calibrate(found, np.array([1, 2, -1, 4]), false_accepts=0)
    applied = threshold.apply(found)
    assert applied.landmark_Q.tolist() == [1, 2, -1, -1]
    assert np.array_equal(applied.confidence_Q, threshold.probability(found.confidence_Q))
    assert applied.query_ids == found.query_ids and applied.confidence_Q.dtype == np.float32


def test_what_cannot_be_calibrated_is_refused():
    found = recognised([1, 2], [0.9, 0.8])
    with pytest.raises(ValueError, match="photos of known landmarks and photos of none, not 2 and 0"):
        calibrate(found, np.array([1, 2]), false_accepts=0.1)
    with pytest.raises(ValueError, match="photos of known landmarks and photos of none, not 0 and 2"):
        calibrate(found, np.array([-1, -1]), false_accepts=0.1)
    with pytest.raises(ValueError, match=r"2 photos were recognised but \(3,\) are known"):
        calibrate(found, np.array([1, 2, 3]), false_accepts=0.1)


def random_case(seed):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(2, 30))
    landmarks = rng.integers(-1, 3, size=num)
    truth = np.where(rng.random(num) < 0.6, landmarks, rng.integers(-1, 3, size=num))
    truth[:2] = -1, 0
    confidences = np.where(landmarks == -1, 0, rng.integers(-8, 9, size=num) / 8)
    return recognised(landmarks, confidences), truth


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.01, 0.1, 0.29, 0.5, 0.9]))
def test_no_threshold_has_more_recall_at_this_rate(seed, allowed):
    found, truth = random_case(seed)
    threshold = calibrate(found, truth, false_accepts=allowed)

    def measured(at):
        accepted = (found.landmark_Q != -1) & (found.confidence_Q >= np.float32(at))
        right = accepted & (found.landmark_Q == truth)
        return right[truth != -1].mean(), accepted[truth == -1].mean()

    assert measured(threshold.confidence) == (threshold.recall, threshold.false_accept_rate)
    assert threshold.false_accept_rate <= allowed
    for at in {-np.inf, *found.confidence_Q.tolist()}:
        recall, rate = measured(at)
        assert rate > allowed or recall <= threshold.recall


def loss(slope, offset, confidence, right):
    """What Platt minimises, term by term."""
    wrong = ~right
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / (wrong.sum() + 2))
    probability = 1 / (1 + np.exp(-(slope * confidence + offset)))
    return -np.sum(targets * np.log(probability) + (1 - targets) * np.log(1 - probability))


@given(st.integers(0, 2**32 - 1))
def test_no_other_curve_of_the_kind_is_likelier(seed):
    found, truth = random_case(seed)
    threshold = calibrate(found, truth, false_accepts=0.1)
    named = found.landmark_Q != -1
    confidence = found.confidence_Q[named].astype(np.float64)
    right = found.landmark_Q[named] == truth[named]
    if not len(confidence):
        return
    best = loss(threshold.slope, threshold.offset, confidence, right)
    for slope_step in (-0.3, -0.01, 0, 0.01, 0.3):
        for offset_step in (-0.3, -0.01, 0, 0.01, 0.3):
            slope = threshold.slope + slope_step
            if slope >= 0:
                assert best <= loss(slope, threshold.offset + offset_step, confidence, right) + 1e-7
    assert threshold.slope >= 0


def test_probabilities_are_right_as_often_as_they_say():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0, 1, 40_000)
    right = rng.random(40_000) < 1 / (1 + np.exp(-(9 * confidences - 4)))
    truth = np.where(right, 5, -1)
    threshold = calibrate(recognised(np.full(40_000, 5), confidences), truth, false_accepts=0.1)
    assert threshold.slope == pytest.approx(9, rel=0.05) and threshold.offset == pytest.approx(-4, rel=0.05)
    probability = threshold.probability(confidences.astype(np.float32))
    for low in np.arange(0, 1, 0.1):
        some = (probability >= low) & (probability < low + 0.1)
        assert right[some].mean() == pytest.approx(probability[some].mean(), abs=0.04)


def test_the_order_of_confidences_stays():
    rng = np.random.default_rng(1)
    confidences = np.sort(rng.uniform(-40, 1, 200)).astype(np.float32)
    truth = np.where(rng.random(200) < 0.5, 5, -1)
    truth[150:] = 5
    threshold = calibrate(recognised(np.full(200, 5), confidences), truth, false_accepts=0.1)
    assert threshold.slope > 0
    assert np.all(np.diff(threshold.probability(confidences)) >= 0)


def test_confidences_that_mislead_or_say_nothing_give_the_share_that_is_right():
    for confidences in ([0.1, 0.2, 0.8, 0.9], [0.5] * 4):
        threshold = calibrate(recognised([5] * 4, confidences), np.array([5, 5, -1, -1]), false_accepts=0)
        assert threshold.slope == 0
        assert threshold.probability(np.float32([0.3])) == pytest.approx([0.5])


def test_confidences_far_out_do_not_overflow():
    threshold = calibrate(
        recognised([5] * 4, [-500, -3, 0.2, 0.9]), np.array([-1, -1, -1, 5]), false_accepts=0.4
    )
    assert np.isfinite(threshold.probability(np.float32([-1e6, 1e6]))).all()
