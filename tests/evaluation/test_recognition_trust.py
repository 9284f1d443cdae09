"""False accepts, right accepts and calibration error by hand and by slow loops; what a table of queries gives back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import (
    Calibrated,
    Confidences,
    confidences_in,
    confidences_of,
    evaluate_recognition,
    is_calibrated,
    recognition_in,
    reliability,
    trade_off,
)
from landseer.evaluation.intervals import (
    _resampled,
    calibration_error_interval,
    gap_difference_interval,
)
from landseer.evaluation.metrics import summed_precision
from landseer.types import Recognition, Truth

TRUTH = Truth(
    query_ids=("a", "b", "c", "tree", "dog", "new", "old"),
    relevant=((),) * 7,
    junk=((),) * 7,
    landmarks=((1,), (1,), (2,), (), (), (), (3,)),
    split=("Public",) * 7,
    recognition_split=("Public", "Private", "Private", "Private", "Public", "Private", "Ignored"),
)
FOUND = {
    "a": (1, 0.9),
    "b": (1, 0.4),
    "c": (1, 0.8),
    "tree": (2, 0.7),
    "dog": (-1, 0.0),
    "new": (2, 0.3),
    "old": (9, 1),
}
SURE = ("a", "c", "tree")


def recognition_of(found):
    return Recognition(
        query_ids=tuple(found),
        landmark_Q=np.array([landmark for landmark, _ in found.values()], np.int64),
        confidence_Q=np.array([confidence for _, confidence in found.values()], np.float32),
    )


def scored(found=FOUND, sure=SURE, **more):
    accepted_Q = None if sure is None else np.array([query in sure for query in found])
    return evaluate_recognition(
        recognition_of(found),
        TRUTH,
        calibrated=Calibrated(how="on a few", accepted_Q=accepted_Q),
        landmark_of={"new": 7, "a": 1},
        **{"resamples": 100, **more},
    )


def test_what_is_accepted_by_hand():
    report = scored().report
    assert report.value("false accepts", "Private and Public") == pytest.approx(1 / 3)
    assert report.value("false accepts", "Private") == pytest.approx(1 / 2)
    assert report.value("false accepts", "Public") == 0
    assert report.value("false accepts", "queries of no landmark") == pytest.approx(1 / 2)
    assert report.value("false accepts", "queries of landmarks not known") == 0
    assert report.value("right accepts", "Private and Public") == pytest.approx(1 / 3)
    assert report.value("accuracy", "Private and Public") == pytest.approx(2 / 3)
    assert is_calibrated(report) and report.protocol["calibration"] == "on a few"
    number = next(n for n in report.numbers if (n.name, n.group) == ("false accepts", "Private and Public"))
    assert number.num_queries == 3 and number.low <= number.value <= number.high
    rows = {row["query"]: row["accepted"] for row in scored().per_query.to_pylist()}
    assert rows == {"a": True, "b": False, "c": True, "tree": True, "dog": False, "new": False}


def test_all_that_is_named_is_accepted_where_nothing_says_otherwise():
    report = scored(sure=None).report
    assert report.value("false accepts", "Private and Public") == pytest.approx(2 / 3)
    assert report.value("right accepts", "Private and Public") == pytest.approx(2 / 3)


def test_gap_ranks_what_is_not_accepted_too():
    assert scored().report.value("GAP", "Private") == scored(sure=None).report.value("GAP", "Private")


def test_the_error_is_that_of_the_reliability_diagram():
    found = scored()
    chosen = confidences_of(recognition_of(FOUND), TRUTH)
    assert found.report.value("ECE", "Private and Public") == pytest.approx(
        reliability(chosen).expected_calibration_error
    )
    # b, c and new: right at .4, wrong at .8 and .3; each in a bin of its own, and tree at .7
    assert found.report.value("ECE", "Private") == pytest.approx((0.6 + 0.8 + 0.3 + 0.7) / 4)


def test_votes_have_no_error_and_say_why():
    votes = evaluate_recognition(recognition_of({**FOUND, "a": (1, 3.5)}), TRUTH, not_calibrated="no photos")
    assert not is_calibrated(votes.report) and votes.report.protocol["calibration"] == "none: no photos"
    assert {number.name for number in votes.report.numbers} == {"GAP", "accuracy", "false accepts"}
    assert {number.group for number in votes.report.numbers} == {"Private", "Public", "Private and Public"}
    with pytest.raises(ValueError, match=r"a confidence of 3\.5 is no probability"):
        scored({**FOUND, "a": (1, 3.5)})


def test_queries_that_are_left_out_are_no_false_accepts():
    names = {number.name for number in scored(ignore_non_gt=True).report.numbers}
    assert names == {"GAP", "accuracy", "right accepts", "ECE"}


def test_a_table_of_queries_gives_back_what_it_was_made_of():
    table = scored().per_query
    again, judged = confidences_in(table), confidences_of(recognition_of(FOUND), TRUTH)
    for name in ("confidence_Q", "right_Q", "shown_Q"):
        assert np.array_equal(getattr(again, name), getattr(judged, name))
    assert evaluate_recognition(recognition_in(table), TRUTH).per_query["right"] == table["right"]
    with pytest.raises(ValueError, match="no column 'predicted'; it is of no recognition"):
        recognition_in(table.drop_columns(["predicted"]))


ROWS = st.lists(
    st.tuples(st.sampled_from([-np.inf, 0.1, 0.5, 0.5, 0.9]), st.booleans(), st.booleans()), max_size=12
)


@settings(max_examples=60)
@given(ROWS)
def test_the_trade_off_is_what_each_threshold_would_do(rows):
    rows = [*rows, (0.5, True, True), (0.25, False, False)]
    confidence_Q, right_Q, shown_Q = (np.array(column) for column in zip(*rows, strict=True))
    right_Q = right_Q & shown_Q & (confidence_Q > -np.inf)
    false_T, recall_T = trade_off(Confidences(confidence_Q=confidence_Q, right_Q=right_Q, shown_Q=shown_Q))
    thresholds = [np.inf, *sorted({c for c in confidence_Q.tolist() if c > -np.inf}, reverse=True)]
    for at, threshold in enumerate(thresholds):
        sure_Q = (confidence_Q >= threshold) & (confidence_Q > -np.inf)
        assert false_T[at] == pytest.approx(np.mean(sure_Q[~shown_Q]))
        assert recall_T[at] == pytest.approx(np.mean((sure_Q & right_Q)[shown_Q]))
    assert len(false_T) == len(recall_T) == len(thresholds)


def test_a_trade_off_needs_both_kinds_of_queries():
    one = np.ones(1, bool)
    with pytest.raises(ValueError, match="need queries that show a landmark and some that show none"):
        trade_off(Confidences(confidence_Q=np.ones(1), right_Q=one, shown_Q=one))


def test_resamples_of_error_and_difference_are_written_out():
    """The very same resamples, query by query."""
    rng = np.random.default_rng(9)
    cluster_Q = np.sort(np.append(rng.integers(7, size=20), np.arange(7)))
    shown_Q = cluster_Q != 6
    made_M = rng.permutation(27)[:22]
    confidence_M, right_M = rng.random(22), rng.random(22) < 0.6
    bin_M = (confidence_M * 5).astype(int)
    orders = [rng.permutation(27)[:20] for _ in range(2)]
    pools = tuple((shown_Q[order] & (rng.random(20) < 0.5), order) for order in orders)
    errors, differences = [], []
    for weight_C in np.concatenate(list(_resampled(7, 300, 4, widest=50))):
        times_M = weight_C[cluster_Q[made_M]]
        total = 0.0
        for b in range(5):
            total += abs(np.sum(((confidence_M - right_M) * times_M)[bin_M == b]))
        errors.append(total / times_M.sum())
        gaps = [summed_precision(np.repeat(right, weight_C[cluster_Q][order])) for right, order in pools]
        shown = weight_C[cluster_Q][shown_Q].sum()
        differences.append((gaps[1] - gaps[0]) / shown if shown else np.nan)
    measured = sum(abs(np.sum((confidence_M - right_M)[bin_M == b])) for b in range(5)) / 22
    low, high = np.nanpercentile(errors, [2.5, 97.5])
    found = calibration_error_interval(
        confidence_M - right_M, bin_M, cluster_Q[made_M], 7, resamples=300, seed=4
    )
    assert found == pytest.approx((min(low, measured), max(high, measured)))
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    gap = (summed_precision(pools[1][0]) - summed_precision(pools[0][0])) / shown_Q.sum()
    found = gap_difference_interval(pools, shown_Q, cluster_Q, resamples=300, seed=4)
    assert found == pytest.approx((min(low, gap), max(high, gap)))
