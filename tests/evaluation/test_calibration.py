import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import Confidences, confidences_of, false_accept_rate, reliability
from landseer.types import Recognition, Truth

TRUTH = Truth(
    query_ids=("q1", "q2", "q3", "q4", "q5"),
    relevant=((),) * 5,
    junk=((),) * 5,
    landmarks=((1,), (2,), (), (), (3,)),
    split=("Public",) * 5,
    recognition_split=("Public", "Private", "Public", "Public", "Ignored"),
)


def recognition(**found):
    """Query -> (landmark, confidence)."""
    return Recognition(
        query_ids=tuple(found),
        landmark_Q=np.array([landmark for landmark, _ in found.values()], np.int64),
        confidence_Q=np.array([confidence for _, confidence in found.values()], np.float32),
    )


def test_predictions_are_judged_in_the_order_of_the_truth():
    found = confidences_of(recognition(q5=(3, 0.9), q3=(7, 0.5), q2=(1, 0.75), q1=(1, 0.25)), TRUTH)
    assert found.confidence_Q.tolist() == [0.25, 0.75, 0.5, -np.inf]  # q4 was never answered, q5 is ignored
    assert found.right_Q.tolist() == [True, False, False, False]
    assert found.shown_Q.tolist() == [True, True, False, False]
    unnamed = confidences_of(recognition(q1=(-1, 0.99)), TRUTH)
    assert unnamed.confidence_Q[0] == -np.inf and not unnamed.right_Q[0]
    with pytest.raises(ValueError, match="'zz' was answered but is not in the truth"):
        confidences_of(recognition(zz=(1, 0.5)), TRUTH)


def test_false_accepts_by_hand():
    found = confidences_of(recognition(q1=(1, 0.9), q3=(7, 0.5)), TRUTH)
    assert false_accept_rate(found, np.array([0.0, 0.5, 0.51])).tolist() == [0.5, 0.5, 0.0]
    shown = Confidences(confidence_Q=np.ones(1), right_Q=np.ones(1, bool), shown_Q=np.ones(1, bool))
    with pytest.raises(ValueError, match="every scored query shows a landmark"):
        false_accept_rate(shown, np.array([0.5]))


CONFIDENCE = st.one_of(st.floats(0, 1), st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 0.75, 1.0]))


@settings(max_examples=50)
@given(st.lists(st.tuples(CONFIDENCE, st.booleans()), min_size=1), st.sampled_from([1, 4, 8]))
def test_a_reliability_diagram_agrees_with_a_slow_loop(rows, num_bins):
    rows = [*rows, (0.5, True)]
    found = Confidences(
        confidence_Q=np.array([confidence for confidence, _ in rows]),
        right_Q=np.array([right for _, right in rows]),
        shown_Q=np.ones(len(rows), bool),
    )
    diagram = reliability(found, num_bins=num_bins)
    error, made = 0.0, [row for row in rows if row[0] != -np.inf]
    for number in range(num_bins):
        low, high = number / num_bins, (number + 1) / num_bins
        inside = [row for row in made if low < row[0] <= high or (number == 0 and row[0] == 0)]
        assert diagram.count_B[number] == len(inside)
        if inside:
            confidence = np.mean([confidence for confidence, _ in inside])
            accuracy = np.mean([right for _, right in inside])
            assert diagram.confidence_B[number] == pytest.approx(confidence)
            assert diagram.accuracy_B[number] == pytest.approx(accuracy)
            error += len(inside) / len(made) * abs(confidence - accuracy)
        else:
            assert np.isnan(diagram.confidence_B[number]) and np.isnan(diagram.accuracy_B[number])
    assert diagram.expected_calibration_error == pytest.approx(error)
    assert diagram.edges.tolist() == [number / num_bins for number in range(num_bins + 1)]


def test_what_is_no_probability_is_refused():
    for confidence, message in (
        (1.5, "a confidence of 1.5 is no probability"),
        (-np.inf, "nothing to calibrate"),
    ):
        found = Confidences(
            confidence_Q=np.array([confidence]), right_Q=np.zeros(1, bool), shown_Q=np.ones(1, bool)
        )
        with pytest.raises(ValueError, match=message):
            reliability(found)
