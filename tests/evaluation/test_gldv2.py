from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import (
    average_precision_at_k,
    comparison_table,
    evaluate_recognition,
    evaluate_retrieval,
    global_average_precision,
    per_query_csv,
)
from landseer.types import PADDING, Ranking, Recognition, Truth

GALLERY = tuple("abcdefgh")


def truth_of(rows):
    """Rows of (query, relevant, junk, landmarks, split)."""
    columns = list(zip(*rows, strict=True))
    return Truth(
        query_ids=tuple(columns[0]),
        relevant=tuple(tuple(good) for good in columns[1]),
        junk=tuple(tuple(bad) for bad in columns[2]),
        landmarks=tuple(tuple(shown) for shown in columns[3]),
        split=tuple(columns[4]),
        recognition_split=tuple(columns[4]),
    )


def ranking_of(answers, gallery=GALLERY):
    """Query -> answers, best first."""
    width = max((len(found) for found in answers.values()), default=0)
    positions = np.full((len(answers), width), PADDING, np.int64)
    scores = np.full((len(answers), width), -np.inf, np.float32)
    for row, found in enumerate(answers.values()):
        positions[row, : len(found)] = [gallery.index(photo) for photo in found]
        scores[row, : len(found)] = np.linspace(1, 0.5, len(found))
    return Ranking(
        query_ids=tuple(answers),
        gallery_ids=gallery,
        positions_QK=positions,
        scores_QK=scores,
        gallery_fingerprint="gallery-1",
    )


TRUTH = truth_of(
    [
        ("q1", "ab", "", [1], "Private"),
        ("q2", "c", "", [2], "Private"),
        ("q3", "d", "", [3], "Public"),
        ("q4", "e", "", [], "Public"),
        ("q5", "", "", [], "Private"),
        ("q6", "a", "", [1], "Ignored"),
    ]
)
RANKING = ranking_of({"q1": "axb", "q2": "dc", "q3": "d", "q5": "a", "q6": "h"}, gallery=(*GALLERY, "x"))


def retrieve(ranking=RANKING, truth=TRUTH, **more):
    return evaluate_retrieval(ranking, truth, **{"resamples": 200, **more})


def recognise(found, truth=TRUTH, **more):
    recognition = Recognition(
        query_ids=tuple(query for query, _, _ in found),
        landmark_Q=np.array([landmark for _, landmark, _ in found], np.int64),
        confidence_Q=np.array([confidence for _, _, confidence in found], np.float32),
    )
    return evaluate_recognition(recognition, truth, **{"resamples": 200, **more})


def test_retrieval_by_hand():
    report = retrieve().report
    first, second = (1 + 2 / 3) / 2, 1 / 2
    assert report.value("mAP@100", "Private") == pytest.approx((first + second) / 2)
    assert report.value("mAP@100", "Public") == pytest.approx((1 + 0) / 2)  # q4 was never answered
    assert report.value("mAP@100", "Private and Public") == pytest.approx((first + second + 1 + 0) / 4)
    assert report.value("P@1", "Private") == 0.5
    assert report.value("P@5", "Private") == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert report.value("R@5", "Private and Public") == pytest.approx(3 / 4)
    assert report.value("mean position of first hit", "Public") == pytest.approx((1 + 101) / 2)
    assert report.value("median position of first hit", "Private and Public") == 1.5
    assert {number.num_queries for number in report.numbers if number.group == "Private"} == {2}
    assert all(number.low <= number.value <= number.high for number in report.numbers)
    assert report.made_by["gallery"] == "gallery-1"
    assert report.protocol["divisor"] == "min(m, 100)" and report.protocol["query crop"] == "none"


def test_the_table_of_queries():
    rows = {row["query"]: row for row in retrieve(trained_landmarks=[1, 3]).per_query.to_pylist()}
    assert list(rows) == ["q1", "q2", "q3", "q4"]
    assert rows["q1"] == {
        "query": "q1",
        "split": "Private",
        "landmark": 1,
        "seen": True,
        "ap": pytest.approx((1 + 2 / 3) / 2),
        "num_relevant": 2,
        "first_hit": 1,
        "precision_at_10": pytest.approx(0.2),
    }
    assert (rows["q2"]["seen"], rows["q4"]["seen"]) == (False, None)
    assert (rows["q4"]["first_hit"], rows["q4"]["landmark"], rows["q4"]["ap"]) == (None, None, 0.0)
    assert {row["seen"] for row in retrieve().per_query.to_pylist()} == {None}


def test_landmarks_trained_on_and_not_are_apart():
    report = retrieve(trained_landmarks=[1, 3]).report
    assert report.value("mAP@100", "landmarks trained on") == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert report.value("mAP@100", "landmarks not trained on") == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="has no 'mAP@100' on 'landmarks trained on'"):
        retrieve().report.value("mAP@100", "landmarks trained on")


def test_a_landmark_only_the_index_knows_is_not_trained_on():
    found = retrieve(trained_landmarks=[1, 2, 3], landmark_of={"q4": 77, "q1": 99})
    assert found.report.value("mAP@100", "landmarks not trained on") == 0
    assert found.per_query["landmark"].to_pylist() == [1, 2, 3, 77]  # the truth's own word comes first


def test_full_divisor_and_shallower_k():
    truth = truth_of([("q1", "abcd", "", [1], "Private")])
    ranking = ranking_of({"q1": "abc"})
    assert retrieve(ranking, truth, k=2).report.value("mAP@2", "Private") == 1
    assert retrieve(ranking, truth, k=2, full_divisor=True).report.value("mAP@2", "Private") == 0.5
    assert retrieve(ranking, truth, k=2).report.value("P@5", "Private") == pytest.approx(3 / 5)


def test_the_first_hit_may_be_the_last_that_counts():
    truth = truth_of([("q1", "b", "", [1], "Private"), ("q2", "c", "", [2], "Private")])
    found = retrieve(ranking_of({"q1": "abc", "q2": "abc"}), truth, k=2)
    assert found.per_query["first_hit"].to_pylist() == [2, None]
    assert found.report.value("mean position of first hit", "Private") == (2 + 3) / 2


def test_junk_changes_nothing():
    plain = truth_of([("q1", "ac", "", [1], "Private"), ("q2", "b", "", [2], "Public")])
    with_junk = truth_of([("q1", "ac", "dh", [1], "Private"), ("q2", "b", "a", [2], "Public")])
    a = retrieve(ranking_of({"q1": "abc", "q2": "b"}), plain)
    b = retrieve(ranking_of({"q1": "dahbc", "q2": "ab"}), with_junk)
    assert a.per_query == b.per_query
    assert (a.report.protocol["junk"], b.report.protocol["junk"]) == (
        "none",
        "removed before ranks are counted",
    )


def test_ignored_queries_change_nothing():
    without = truth_of([row for row in _rows(TRUTH) if row[4] != "Ignored"])
    kept = [row for row, query in enumerate(RANKING.query_ids) if query != "q6"]
    fewer = replace(
        RANKING,
        query_ids=tuple(RANKING.query_ids[row] for row in kept),
        positions_QK=RANKING.positions_QK[kept],
        scores_QK=RANKING.scores_QK[kept],
    )
    assert retrieve().report == retrieve(fewer, without).report
    found = [("q1", 1, 0.9), ("q2", 1, 0.8)]
    assert recognise([*found, ("q6", 7, 0.99)]).report == recognise(found, without).report


def _rows(truth):
    return list(zip(truth.query_ids, truth.relevant, truth.junk, truth.landmarks, truth.split, strict=True))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_retrieval_agrees_with_the_metric_on_lists(data):
    answers = {f"q{n}": data.draw(st.permutations("abcdefgh")) for n in range(data.draw(st.integers(1, 5)))}
    split = st.sampled_from(["Private", "Public", "Ignored"])
    rows = [
        (query, sorted(data.draw(st.sets(st.sampled_from("abcdefgh")))), "", [], data.draw(split))
        for query in answers
    ]
    rows.append(("last", "a", "", [], "Private"))
    found = retrieve(ranking_of(answers), truth_of(rows), resamples=100).report
    for group, splits in (("Private", ["Private"]), ("Private and Public", ["Private", "Public"])):
        values = [
            average_precision_at_k(answers.get(query, []), good)
            for query, good, _, _, split in rows
            if good and split in splits
        ]
        assert found.value("mAP@100", group) == pytest.approx(np.mean(values))


def test_queries_in_the_gallery_are_refused_unless_allowed():
    ranking = ranking_of({"q1": ["a", "q1"]}, gallery=("a", "b", "q1"))
    with pytest.raises(ValueError, match="1 queries are in the gallery themselves, 'q1' for one"):
        retrieve(ranking)
    assert retrieve(ranking, allow_overlap=True).report.value("mAP@100", "Public") == 0


def test_a_stranger_among_the_queries_is_refused():
    with pytest.raises(ValueError, match="'zz' was answered but is not in the truth"):
        retrieve(ranking_of({"zz": "a"}))
    with pytest.raises(ValueError, match="'zz' was answered but is not in the truth"):
        recognise([("zz", 1, 0.5)])


def test_nothing_to_score_is_refused():
    truth = truth_of([("q1", "", "", [], "Private"), ("q2", "a", "", [1], "Ignored")])
    with pytest.raises(ValueError, match="nothing to score"):
        retrieve(ranking_of({"q1": "a"}), truth)
    with pytest.raises(ValueError, match="nothing to score"):
        recognise([("q1", 1, 0.5)], truth)


def test_recognition_by_hand():
    found = [("q1", 1, 0.9), ("q5", 4, 0.8), ("q2", 2, 0.7), ("q3", 9, 0.6), ("q4", -1, 0.99)]
    report = recognise(found).report
    assert report.value("GAP", "Private") == pytest.approx((1 + 2 / 3) / 2)
    assert report.value("GAP", "Public") == 0
    assert report.value("GAP", "Private and Public") == pytest.approx((1 + 2 / 3) / 3)
    assert report.value("accuracy", "Private and Public") == pytest.approx(2 / 3)
    assert recognise(found, ignore_non_gt=True).report.value("GAP", "Private") == 1
    apart = recognise(found, trained_landmarks=[1]).report
    assert apart.value("GAP", "landmarks trained on") == 1
    assert apart.value("GAP", "landmarks not trained on") == pytest.approx((1 / 1) / 2)
    rows = {row["query"]: row for row in recognise(found).per_query.to_pylist()}
    assert (rows["q2"]["right"], rows["q3"]["right"], rows["q4"]["predicted"]) == (True, False, None)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_recognition_agrees_with_the_metric_on_lists(data):
    rows = [
        (
            f"q{n}",
            "",
            "",
            sorted(data.draw(st.sets(st.integers(0, 3), max_size=2))),
            data.draw(st.sampled_from(["Private", "Ignored"])),
        )
        for n in range(6)
    ]
    rows.append(("last", "", "", [2], "Private"))
    found = [
        (row[0], data.draw(st.integers(-1, 3)), data.draw(st.sampled_from([0.25, 0.5, 1.0]))) for row in rows
    ]
    shown = {row[0]: row[3] for row in rows if row[4] == "Private"}
    pool = [entry for entry in found if entry[0] in shown and entry[1] >= 0]
    assert recognise(found, truth_of(rows)).report.value("GAP", "Private") == pytest.approx(
        global_average_precision(pool, shown)
    )


def test_one_table_for_several_runs_and_one_csv():
    other = retrieve(ranking_of({"q1": "ab", "q2": "c", "q3": "d", "q4": "e"}))
    text = comparison_table({"before": retrieve(), "after": other})
    lines = text.splitlines()
    assert lines[0].split() == ["run", "queries", "mAP@100", "95", "%", "P@1", "P@10"]
    assert len(lines) == 7 and lines[4].startswith("after   Private ") and "1.0000" in lines[4]
    table = per_query_csv({"before": retrieve(), "after": other}).splitlines()
    assert table[0] == "run,query,split,landmark,seen,ap,num_relevant,first_hit,precision_at_10"
    assert len(table) == 9 and table[4] == "before,q4,Public,,,0.0,1,,0.0"
