"""The paired test against full enumeration and on data without any difference; Holm against his definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import (
    Gldv2,
    Knn,
    Revisited,
    compare,
    difference_table,
    evaluate,
    holm,
    latex_table,
    paired_test,
)
from landseer.evaluation.paired import EXACT_UP_TO
from landseer.types import Ranking, Truth

GALLERY = tuple("abcdefgh")
# sixteenths add up without rounding, so ties with the measured value are ties
DIFFERENCES = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6)), min_size=1, max_size=9)


def slow_p(difference_Q, cluster_Q):
    """The share of all ways to give each cluster a sign whose mean is as far from 0."""
    clusters = sorted(set(cluster_Q))
    measured = abs(np.mean(difference_Q))
    extreme = 0
    for signs in itertools.product((1, -1), repeat=len(clusters)):
        sign_of = dict(zip(clusters, signs, strict=True))
        mean = np.mean([sign_of[c] * d for c, d in zip(cluster_Q, difference_Q, strict=True)])
        extreme += abs(mean) >= measured - 1e-9
    return extreme / 2 ** len(clusters)


@settings(max_examples=50)
@given(DIFFERENCES)
def test_few_clusters_are_enumerated(rows):
    difference_Q = np.array([value / 16 for value, _ in rows])
    cluster_Q = np.array([cluster for _, cluster in rows])
    found = paired_test(difference_Q, cluster_Q)
    assert found.exact and found.p == pytest.approx(slow_p(difference_Q, cluster_Q))


def test_drawn_flips_come_near_the_enumeration(monkeypatch):
    rng = np.random.default_rng(3)
    cluster_Q = rng.integers(11, size=40)
    difference_Q = rng.normal(0.15, 0.5, 40)
    exact = paired_test(difference_Q, cluster_Q)
    monkeypatch.setattr("landseer.evaluation.paired.EXACT_UP_TO", 3)
    drawn = paired_test(difference_Q, cluster_Q, flips=20_000, seed=1)
    assert exact.exact and not drawn.exact and drawn.num_flips == 20_000
    assert 0.02 < exact.p < 0.9
    assert drawn.p == pytest.approx(exact.p, abs=0.015)
    monkeypatch.setattr("landseer.evaluation.paired._CELLS_AT_ONCE", 5)
    assert 0 < paired_test(difference_Q, cluster_Q, flips=40, seed=1).p <= 1


@pytest.mark.parametrize("num_clusters", [10, 40])
def test_without_a_difference_p_is_uniform(num_clusters):
    """Enumerated and drawn: about as many p-values below each level as the level says."""
    assert (num_clusters > EXACT_UP_TO) == (num_clusters == 40)
    rng = np.random.default_rng(8)
    cluster_Q = np.repeat(np.arange(num_clusters), 3)
    found = []
    for trial in range(600):
        # queries of a landmark move together: a test that flipped them alone would find far too much
        difference_Q = rng.normal(0, 1, num_clusters)[cluster_Q] + rng.normal(0, 0.3, len(cluster_Q))
        found.append(paired_test(difference_Q, cluster_Q, flips=199, seed=trial).p)
    for level in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(np.array(found) <= level) == pytest.approx(
            level, abs=4 * (level * (1 - level) / 600) ** 0.5
        )


def test_a_large_difference_is_found_and_p_is_never_zero():
    better, cluster_Q = np.full(60, 0.2), np.arange(60)
    found = paired_test(better, cluster_Q, flips=999)
    assert found.p == 1 / 1000 and not found.exact
    assert paired_test(better, cluster_Q, flips=999) == paired_test(-better, cluster_Q, flips=999)
    # sixty queries of one landmark are one observation
    assert paired_test(better, np.zeros(60, np.int64)).p == 1.0
    assert paired_test(np.zeros(60), cluster_Q).p == 1.0


def slow_holm(p_values):
    """Rejected at level a: go up from the smallest, stop at the first p above a / (number not yet rejected)."""
    corrected = []
    for at in range(len(p_values)):
        for level in sorted({min(1.0, p * n) for p in p_values for n in range(1, len(p_values) + 1)} | {1.0}):
            left = sorted(range(len(p_values)), key=lambda i: p_values[i])
            rejected = set()
            while left and p_values[left[0]] * len(left) <= level * (1 + 1e-12):
                rejected.add(left.pop(0))
            if at in rejected or level == 1.0:
                corrected.append(level)
                break
    return corrected


@settings(max_examples=50)
@given(st.lists(st.integers(1, 100).map(lambda n: n / 100), max_size=5))
def test_holm_agrees_with_his_procedure(p_values):
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def world(answers, landmarks, hard=()):
    """Each query's relevant photo is ``a``; *answers* are rows of photos."""
    names = tuple(f"q{n}" for n in range(len(answers)))
    ranking = Ranking(
        query_ids=names,
        gallery_ids=GALLERY,
        positions_QK=np.array([[GALLERY.index(photo) for photo in row] for row in answers], np.int64),
        scores_QK=np.full((len(answers), len(answers[0])), 0.5, np.float32),
    )
    truth = Truth(
        query_ids=names,
        relevant=(("a",),) * len(names),
        junk=((),) * len(names),
        landmarks=tuple((landmark,) for landmark in landmarks),
        split=tuple("Public" if n % 2 else "Private" for n in range(len(names))),
        recognition_split=("Public",) * len(names),
        hard=hard,
    )
    return ranking, truth


def run(answers, protocol=None, landmarks=(1, 2, 3, 3), hard=(), **more):
    return evaluate(*world(answers, landmarks, hard), protocol=protocol or Gldv2(), resamples=200, **more)


WORSE, BETTER = ["ba", "ab", "ba", "ba"], ["ab", "ab", "ba", "ab"]


def test_runs_are_compared_group_by_group():
    runs = {"before": run(WORSE), "after": run(BETTER), "again": run(WORSE)}
    found = compare(runs, resamples=200)
    assert [(entry.run, entry.group) for entry in found] == [
        (name, group) for name in ("after", "again") for group in ("Private", "Public", "Private and Public")
    ]
    after = found[2]
    assert (after.baseline, after.metric, after.num_queries) == ("before", "mAP@100", 4)
    assert after.value == pytest.approx((0.5 + 0 + 0 + 0.5) / 4)
    assert after.low <= after.value <= after.high
    # two landmarks differ, 1 and 3: of four sign flips both or neither give the same distance from 0
    assert after.test.exact and after.test.num_flips == 4 and after.test.p == 0.5
    assert after.p_holm == 1.0 and found[-1].value == 0 and found[-1].test.p == 1.0
    assert [entry.p_holm for entry in found] == pytest.approx(holm([entry.test.p for entry in found]))
    lines = difference_table(found).splitlines()
    assert lines[0].split() == ["run", "queries", "difference", "95", "%", "p", "p", "(Holm)"]
    assert "+0.2500" in lines[3] and lines[3].split()[-2:] == ["0.5000", "1.0000"]
    assert lines[-1] == (
        "mAP@100 minus that of before; p two-sided by all sign flips of landmarks, Holm over 6 comparisons"
    )


def test_the_setups_and_training_groups_are_compared_too():
    found = compare({"a": run(WORSE, trained_landmarks=[1]), "b": run(BETTER, trained_landmarks=[1])})
    values = {entry.group: entry.value for entry in found}
    assert values["landmarks trained on"] == 0.5
    assert values["landmarks not trained on"] == pytest.approx(0.5 / 3)
    hard = (("a",), (), ("a",), ())
    setups = compare(
        {name: run(rows, Revisited(), hard=hard) for name, rows in (("a", WORSE), ("b", BETTER))}
    )
    assert {entry.group: entry.num_queries for entry in setups} == {"Easy": 2, "Medium": 4, "Hard": 2}
    assert compare({"a": run(WORSE, Knn()), "b": run(BETTER, Knn())})[0].value == 0.5


def test_runs_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="before was scored by mAP@100 and after by mAP@50; score both"):
        compare({"before": run(WORSE), "after": run(WORSE, Gldv2(k=50))})
    with pytest.raises(ValueError, match="scored by gldv2 retrieval and after by knn"):
        compare({"before": run(WORSE), "after": run(WORSE, Knn())})
    with pytest.raises(ValueError, match="were not scored on the same queries"):
        compare({"before": run(WORSE), "after": run(WORSE[:3], landmarks=(1, 2, 3))})


def test_a_table_for_a_paper():
    runs = {"runs/a_b": run(WORSE), "50% & more": run(BETTER)}
    lines = latex_table(runs, compare(runs)).splitlines()
    assert lines[0] == r"\begin{tabular}{llrrrrrrrr}"
    assert (lines[1], lines[3], lines[-2], lines[-1]) == (
        r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"
    )  # fmt: skip
    assert lines[2].startswith(r"run & queries & n & mAP@100 & 95 \% & P@1 & P@10 & difference")
    assert lines[4].startswith(r"runs/a\_b & Private & 2 & 0.5000 & 0.5000--0.5000 & ")
    after = next(line for line in lines if line.startswith(r"50\% \& more & Private and Public"))
    assert "& $+0.2500$ & $+0.0000$ to $+0.5000$ & 1.0000" in after
    assert all(line.count("&") - line.count(r"\&") == 9 for line in lines[4:-2])
    assert latex_table(runs).splitlines()[0] == r"\begin{tabular}{llrrrrr}"
