"""The paired test of GAP against every swap written out on lists, and on runs without any difference."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import (
    PairedPool,
    compare,
    comparison_table,
    difference_table,
    evaluate_recognition,
    global_average_precision,
    holm,
    latex_table,
    paired_gap_test,
)
from landseer.types import Recognition, Truth

CONFIDENCES = (0.25, 0.5, 0.5, 0.75, 1.0)
ANSWER = st.one_of(st.none(), st.tuples(st.integers(1, 3), st.sampled_from(CONFIDENCES)))
LANDMARKS = st.sampled_from([(1,), (2,), (3,), (2, 1), ()])
QUERIES = st.lists(st.tuples(LANDMARKS, ANSWER, ANSWER), min_size=1, max_size=7).filter(
    lambda rows: any(shown for shown, _, _ in rows)
)


def name(q):
    """Text that sorts otherwise than the numbers do, for ties go by it."""
    return f"q{-q % 1000}"


def truth_of(landmarks, split="Private"):
    num = len(landmarks)
    return Truth(
        query_ids=tuple(name(q) for q in range(num)),
        relevant=((),) * num,
        junk=((),) * num,
        landmarks=tuple(landmarks),
        split=(split,) * num,
        recognition_split=(split,) * num,
    )


def run_of(answers, landmarks, **more):
    """A scored run; of each query (landmark, confidence), or None."""
    named = [answer or (-1, 0.0) for answer in answers]
    recognition = Recognition(
        query_ids=tuple(name(q) for q in range(len(named))),
        landmark_Q=np.array([landmark for landmark, _ in named], np.int64),
        confidence_Q=np.array([confidence for _, confidence in named], np.float32),
    )
    return evaluate_recognition(recognition, truth_of(landmarks), **{"resamples": 0, **more})


def pool_of(first, second, landmarks):
    return PairedPool.of(*(run_of(answers, landmarks).per_query for answers in (first, second)))


def slow_gap(answers, landmarks):
    pool = [(name(q), *answer) for q, answer in enumerate(answers) if answer]
    return global_average_precision(pool, {name(q): shown for q, shown in enumerate(landmarks)})


def slow_p(first, second, landmarks):
    """The share of all ways to swap what two runs say of the queries of a landmark; those of none are alone."""
    cluster_of = [shown[0] if shown else f"alone {q}" for q, shown in enumerate(landmarks)]
    clusters = sorted(set(cluster_of), key=str)

    def difference(swapped):
        sides = [
            (b, a) if c in swapped else (a, b) for a, b, c in zip(first, second, cluster_of, strict=True)
        ]
        before, after = zip(*sides, strict=True)
        return slow_gap(after, landmarks) - slow_gap(before, landmarks)

    measured = abs(difference(()))
    ways = [set(itertools.compress(clusters, way)) for way in itertools.product((0, 1), repeat=len(clusters))]
    return sum(abs(difference(way)) >= measured - 1e-9 for way in ways) / len(ways)


@settings(max_examples=60)
@given(QUERIES)
def test_few_landmarks_are_enumerated(rows):
    landmarks, first, second = zip(*rows, strict=True)
    found = paired_gap_test(pool_of(first, second, landmarks))
    assert found.exact and found.p == pytest.approx(slow_p(first, second, landmarks))
    assert paired_gap_test(pool_of(second, first, landmarks)).p == found.p


@settings(max_examples=60)
@given(QUERIES, st.data())
def test_any_swap_gives_the_gaps_of_the_swapped_lists(rows, data):
    landmarks, first, second = zip(*rows, strict=True)
    pool = pool_of(first, second, landmarks)
    num = int(pool.cluster_Q.max()) + 1
    swapped_C = np.array(data.draw(st.lists(st.booleans(), min_size=num, max_size=num)))
    sides = [
        (b, a) if swapped_C[pool.cluster_Q[q]] else (a, b)
        for q, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    before, after = zip(*sides, strict=True)
    expected = slow_gap(after, landmarks) - slow_gap(before, landmarks)
    assert pool.differences()(swapped_C[None])[0] == pytest.approx(expected)


def random_runs(rng, num=60, skill=(0.7, 0.7)):
    """Two runs on queries of 20 landmarks and a fifth without; each is right with its own skill."""
    landmarks = [() if q % 5 == 4 else (q % 20,) for q in range(num)]

    def answers(share):
        return [
            ((shown[0] if shown and rng.random() < share else 99), float(np.float32(rng.random())))
            for shown in landmarks
        ]

    return answers(skill[0]), answers(skill[1]), landmarks


def test_drawn_swaps_come_near_the_enumeration(monkeypatch):
    rng = np.random.default_rng(5)
    first, second, landmarks = random_runs(rng, num=14, skill=(0.5, 0.6))
    pool = pool_of(first, second, landmarks)
    exact = paired_gap_test(pool)
    monkeypatch.setattr("landseer.evaluation.paired.EXACT_UP_TO", 3)
    monkeypatch.setattr("landseer.evaluation.paired._CELLS_AT_ONCE", 5000)
    drawn = paired_gap_test(pool, flips=10_000, seed=1)
    assert exact.exact and not drawn.exact and drawn.num_flips == 10_000
    assert 0.02 < exact.p < 0.9
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_without_a_difference_p_is_uniform():
    rng = np.random.default_rng(8)
    found = [paired_gap_test(pool_of(*random_runs(rng)), flips=99, seed=trial).p for trial in range(200)]
    for level in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(np.array(found) <= level) == pytest.approx(
            level, abs=4 * (level * (1 - level) / 200) ** 0.5
        )


def test_a_better_run_is_found_and_the_same_run_is_not():
    rng = np.random.default_rng(1)
    first, second, landmarks = random_runs(rng, num=300, skill=(0.3, 0.9))
    pool = pool_of(first, second, landmarks)
    assert paired_gap_test(pool, flips=999).p == 1 / 1000
    assert paired_gap_test(pool_of(first, first, landmarks)).p == 1.0
    # surer of what is right, and nothing else: accuracy is the same, GAP is not
    surer = [(99, 0.1 * c) if named == 99 else (named, c) for named, c in first]
    assert paired_gap_test(pool_of(first, surer, landmarks), flips=999).p == 1 / 1000


def test_runs_are_compared_by_gap_with_holms_correction():
    rng = np.random.default_rng(2)
    first, second, landmarks = random_runs(rng, skill=(0.5, 0.8))
    runs = {
        run: run_of(answers, landmarks, trained_landmarks=range(10))
        for run, answers in (("a", first), ("b", second), ("same", first))
    }
    found = compare(runs, resamples=200, flips=199)
    groups = ["Private", "Private and Public", "landmarks trained on", "landmarks not trained on"]
    assert [(entry.run, entry.group) for entry in found] == [
        (run, group) for run in ("b", "same") for group in groups
    ]
    for entry in found:
        report = runs[entry.run].report
        assert (entry.metric, entry.baseline) == ("GAP", "a")
        expected = report.value("GAP", entry.group) - runs["a"].report.value("GAP", entry.group)
        assert entry.value == pytest.approx(expected, abs=1e-12)
        assert entry.low <= entry.value <= entry.high
    assert [entry.p_holm for entry in found] == pytest.approx(holm([entry.test.p for entry in found]))
    assert found[0].num_queries == 60 and found[0].test.p < 0.05 and found[-1].test.p == 1.0
    assert found[2].num_queries == sum(bool(shown) and shown[0] < 10 for shown in landmarks)
    text = difference_table(found).splitlines()[-1]
    assert text.startswith(
        "GAP minus that of a; p two-sided by 199 drawn swaps or all swaps of the predictions, landmark by landmark"
    )
    table = comparison_table(runs).splitlines()
    assert table[0].split() == ["run", "queries", "GAP", "95", "%", "accuracy", "false", "accepts"]
    assert next(line for line in table if "landmarks trained on" in line).endswith("-")  # all show a landmark
    assert "accuracy & false accepts" in latex_table(runs, found)


def test_predictions_that_are_left_out_are_left_out_of_the_test():
    rng = np.random.default_rng(3)
    first, second, landmarks = random_runs(rng, skill=(0.6, 0.7))
    runs = {
        run: run_of(answers, landmarks, ignore_non_gt=True) for run, answers in (("a", first), ("b", second))
    }
    found = compare(runs, resamples=50, flips=99)[0]
    shown = [q for q, of in enumerate(landmarks) if of]
    difference = slow_gap([second[q] for q in shown], [landmarks[q] for q in shown]) - slow_gap(
        [first[q] for q in shown], [landmarks[q] for q in shown]
    )
    assert found.num_queries == len(shown) and found.value == pytest.approx(difference)
    with pytest.raises(ValueError, match="one of a and b leaves out queries without a landmark"):
        compare({"a": runs["a"], "b": run_of(second, landmarks)})
