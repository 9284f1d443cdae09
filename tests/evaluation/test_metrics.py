import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.evaluation import (
    average_precision_at_k,
    first_hit,
    global_average_precision,
    mean_average_precision,
    precision_at_k,
    recall_at_k,
)
from landseer.evaluation.metrics import average_precision_of_hits

RANKS = Path(__file__).parent / "data" / "ranks.csv"
PRIVATE, PUBLIC, BOTH = 0.657656573862, 0.621188363004, 0.645529585084
"""mAP@100 of that table, from exact fractions."""
IDS = st.sampled_from("abcdefghij")
LISTS = st.lists(IDS, max_size=14)
RELEVANT = st.sets(IDS, min_size=1)
DEPTH = st.integers(1, 12)


def slow_ap(answers, relevant, k, full_divisor=False):
    """Rank by rank, as the challenge's definition reads."""
    total = 0.0
    for rank in range(1, min(k, len(answers)) + 1):
        is_new_hit = answers[rank - 1] in relevant and answers[rank - 1] not in answers[: rank - 1]
        if is_new_hit:
            hits_so_far = len(set(answers[:rank]) & set(relevant))
            total += hits_so_far / rank
    return total / (len(relevant) if full_divisor else min(len(relevant), k))


def slow_gap(predictions, landmarks, ignore_non_gt=False):
    """Bubble the best prediction out of the pool again and again."""
    pool = [p for p in predictions if landmarks[p[0]] or not ignore_non_gt]
    rank = num_right = 0
    total, used = 0.0, []
    while pool:
        best = pool[0]
        for other in pool[1:]:
            if other[2] > best[2] or (other[2] == best[2] and (other[0], other[1]) < (best[0], best[1])):
                best = other
        pool.remove(best)
        rank += 1
        if best[1] in landmarks[best[0]] and best[:2] not in used:
            num_right += 1
            total += num_right / rank
        used.append(best[:2])
    return total / sum(1 for shown in landmarks.values() if len(shown) > 0)


@given(LISTS, RELEVANT, DEPTH, st.booleans())
def test_ap_agrees_with_the_slow_oracle(answers, relevant, k, full_divisor):
    got = average_precision_at_k(answers, relevant, k=k, full_divisor=full_divisor)
    assert got == pytest.approx(slow_ap(answers, relevant, k, full_divisor), abs=1e-12)


def test_the_worked_example_of_a_duplicate():
    assert average_precision_at_k(list("xaab"), set("abc")) == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_a_duplicate_keeps_its_rank():
    assert average_precision_at_k(list("aab"), set("ab")) == pytest.approx((1 + 2 / 3) / 2)


def test_the_divisor_is_the_smaller_of_m_and_k_unless_full():
    relevant = {str(number) for number in range(250)}
    answers = [str(number) for number in range(100)]
    assert average_precision_at_k(answers, relevant) == 1
    assert average_precision_at_k(answers, relevant, full_divisor=True) == pytest.approx(100 / 250)
    assert average_precision_at_k(["a"], {"a", "b"}, k=100) == 0.5


@given(RELEVANT, LISTS, DEPTH)
def test_a_perfect_ranking_scores_one(relevant, others, k):
    tail = [photo for photo in others if photo not in relevant]
    assert average_precision_at_k([*sorted(relevant), *tail], relevant, k=k) == pytest.approx(1)


@given(st.permutations("abcdefghij"), RELEVANT, DEPTH, st.data())
def test_moving_a_hit_up_never_lowers_ap(answers, relevant, k, data):
    hit = answers.index(data.draw(st.sampled_from(sorted(relevant))))
    if hit == 0:
        return
    moved = list(answers)
    moved[hit - 1], moved[hit] = moved[hit], moved[hit - 1]
    before, after = (average_precision_at_k(order, relevant, k=k) for order in (answers, moved))
    assert after >= before - 1e-12


@given(LISTS, RELEVANT, DEPTH)
def test_answers_beyond_k_do_not_count(answers, relevant, k):
    assert average_precision_at_k(answers, relevant, k=k) == average_precision_at_k(
        answers[:k], relevant, k=k
    )


def test_ap_without_relevant_photos_is_refused():
    with pytest.raises(ValueError, match="at least one relevant photo"):
        average_precision_at_k(["a"], set())
    with pytest.raises(ValueError, match="k must be at least 1"):
        average_precision_at_k(["a"], {"a"}, k=0)


def test_a_missing_query_scores_zero_and_one_without_relevant_is_not_scored():
    relevant = {"p": {"a"}, "q": {"b"}, "r": set()}
    assert mean_average_precision({"p": ["a"], "r": ["z"]}, relevant) == 0.5


def test_a_query_the_truth_does_not_know_raises():
    with pytest.raises(ValueError, match="'s' was answered but is not in the truth"):
        mean_average_precision({"s": ["a"]}, {"p": {"a"}})
    with pytest.raises(ValueError, match="'s' was answered but is not in the truth"):
        global_average_precision([("s", 1, 0.5)], {"p": {1}})


def test_nothing_to_score_raises():
    with pytest.raises(ValueError, match="nothing to score"):
        mean_average_precision({}, {"p": set()})
    with pytest.raises(ValueError, match="nothing to score"):
        global_average_precision([], {"p": set()})


@given(LISTS, RELEVANT, DEPTH)
def test_precision_recall_and_first_hit_count_what_they_say(answers, relevant, k):
    found = len(set(answers[:k]) & relevant)
    assert precision_at_k(answers, relevant, k=k) == pytest.approx(found / k)
    assert recall_at_k(answers, relevant, k=k) == pytest.approx(found / len(relevant))
    ranks = [rank for rank, photo in enumerate(answers[:k], 1) if photo in relevant]
    assert first_hit(answers, relevant, k=k) == (ranks[0] if ranks else None)


QUERIES = st.sampled_from("pqrstu")
TRUTHS = st.fixed_dictionaries({query: st.sets(st.integers(1, 4), max_size=2) for query in "pqrstu"}).filter(
    lambda truth: any(truth.values())
)
POOLS = st.lists(st.tuples(QUERIES, st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.5, 0.9])), max_size=14)


@given(POOLS, TRUTHS, st.booleans())
def test_gap_agrees_with_the_slow_oracle(predictions, truth, ignore_non_gt):
    got = global_average_precision(predictions, truth, ignore_non_gt=ignore_non_gt)
    assert got == pytest.approx(slow_gap(predictions, truth, ignore_non_gt), abs=1e-12)


def test_gap_by_hand():
    truth = {"p": {1}, "q": {2}, "r": set()}
    predictions = [("p", 1, 0.9), ("r", 3, 0.8), ("q", 2, 0.7)]
    assert global_average_precision(predictions, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert global_average_precision(predictions, truth, ignore_non_gt=True) == 1


def test_gap_ties_go_by_query_then_landmark():
    truth = {"p": {1}, "q": {2}}
    assert global_average_precision([("q", 9, 0.5), ("p", 1, 0.5)], truth) == pytest.approx(1 / 2)
    assert global_average_precision([("q", 2, 0.5), ("p", 9, 0.5)], truth) == pytest.approx(1 / 4)
    assert global_average_precision([("p", 2, 0.5), ("p", 1, 0.5)], truth) == pytest.approx(1 / 2)


@given(POOLS, TRUTHS, st.randoms())
def test_gap_does_not_depend_on_the_order_given(predictions, truth, random):
    shuffled = list(predictions)
    random.shuffle(shuffled)
    assert global_average_precision(shuffled, truth) == global_average_precision(predictions, truth)


def test_a_confidence_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        global_average_precision([("p", 1, float("nan"))], {"p": {1}})


def test_a_real_run_keeps_its_figures():
    """Ranks of an untrained MobileNet's answers on 418 real queries, by the reference evaluation."""
    values: dict[str, list[float]] = {"Private": [], "Public": []}
    with RANKS.open() as file:
        for row in csv.DictReader(file):
            ranks = np.array(row["hit_ranks"].split(), np.int64)
            value = average_precision_of_hits(ranks, int(row["num_relevant"]), k=100)
            answers = ["x"] * 100
            for number, rank in enumerate(ranks):
                answers[rank - 1] = f"r{number}"
            relevant = {f"r{number}" for number in range(int(row["num_relevant"]))}
            assert average_precision_at_k(answers, relevant) == pytest.approx(value, abs=1e-12)
            values[row["split"]].append(value)
    assert {split: len(found) for split, found in values.items()} == {"Private": 279, "Public": 139}
    assert np.mean(values["Private"]) == pytest.approx(PRIVATE, abs=1e-9)
    assert np.mean(values["Public"]) == pytest.approx(PUBLIC, abs=1e-9)
    assert np.mean(values["Private"] + values["Public"]) == pytest.approx(BOTH, abs=1e-9)
