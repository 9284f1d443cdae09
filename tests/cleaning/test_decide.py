"""Thresholds, scores, landmarks with too few photos, and a person's word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.cleaning import REASONS, Evidence, decide, sweep
from landseer.recipe.cleaning_options import CleaningOptions


def evidence_of(seed: int, num: int = 60, labels: int = 8) -> Evidence:
    rng = np.random.default_rng(seed)
    margin_N = rng.normal(0, 0.1, num).astype(np.float32)
    margin_N[rng.random(num) < 0.1] = np.nan
    best_NF = -np.sort(-rng.integers(0, 60, (num, 10)) * rng.integers(0, 2, (num, 10)), axis=1)
    return Evidence(
        label_N=rng.integers(-2, labels, num),
        described_N=rng.random(num) < 0.9,
        margin_N=margin_N,
        best_NF=best_NF.astype(np.int32),
    )


def by_loop(evidence: Evidence, options: CleaningOptions, inliers: int, hand=None) -> list[bool]:
    """Kept photos, in the words of the rule."""
    num = len(evidence.label_N)
    hand = [0] * num if hand is None else hand
    kept = []
    for photo in range(num):
        near = evidence.margin_N[photo] >= np.float32(options.margin)
        same = sum(evidence.best_NF[photo] >= inliers) >= options.least_neighbours
        said = {"geometry": same, "descriptors": near, "both": near or same}[options.mode]
        able = evidence.described_N[photo] and evidence.label_N[photo] >= 0
        kept.append(hand[photo] > 0 or bool(said and able and hand[photo] == 0))
    return [
        hand[photo] > 0
        or (
            kept[photo]
            and sum(kept[p] for p in range(num) if evidence.label_N[p] == evidence.label_N[photo])
            >= options.least_photos
        )
        for photo in range(num)
    ]


OPTIONS = st.builds(
    CleaningOptions,
    mode=st.sampled_from(["geometry", "descriptors", "both"]),
    least_neighbours=st.integers(1, 10),
    least_photos=st.integers(1, 6),
    margin=st.sampled_from([-0.05, 0.0, 0.1]),
)
SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, OPTIONS, st.integers(1, 60))
def test_decisions_agree_with_the_loop(seed, options, inliers):
    evidence = evidence_of(seed)
    assert decide(evidence, options, inliers=inliers).kept_N.tolist() == by_loop(evidence, options, inliers)


@given(SEEDS, OPTIONS, st.integers(1, 60), st.integers(1, 30), st.integers(0, 5), st.floats(0, 0.2))
def test_a_higher_threshold_never_keeps_more(seed, options, inliers, more, photos, margin):
    evidence = evidence_of(seed)
    loose = decide(evidence, options, inliers=inliers)
    strict = CleaningOptions(
        mode=options.mode,
        least_neighbours=options.least_neighbours,
        least_photos=options.least_photos + photos,
        margin=options.margin + margin,
    )
    tight = decide(evidence, strict, inliers=inliers + more)
    assert not np.any(tight.kept_N & ~loose.kept_N)
    assert np.all((tight.score_N <= loose.score_N) | np.isnan(loose.score_N))


@given(SEEDS, OPTIONS, st.integers(1, 60))
def test_a_score_of_one_half_is_the_threshold(seed, options, inliers):
    evidence = evidence_of(seed)
    single = CleaningOptions(
        mode=options.mode,
        least_neighbours=options.least_neighbours,
        least_photos=1,
        margin=options.margin,
    )
    decision = decide(evidence, single, inliers=inliers)
    judged = (evidence.label_N >= 0) & evidence.described_N
    assert np.array_equal(np.isnan(decision.score_N), ~judged)
    assert np.array_equal(decision.kept_N[judged], decision.score_N[judged] >= 0.5)
    assert not decision.kept_N[~judged].any()
    assert ((decision.score_N[judged] >= 0) & (decision.score_N[judged] <= 1)).all()


@given(SEEDS, OPTIONS, st.integers(1, 60))
def test_a_person_wins_over_the_machine(seed, options, inliers):
    evidence = evidence_of(seed)
    hand_N = np.random.default_rng(seed).integers(-1, 2, len(evidence.label_N)).astype(np.int8)
    hand_N[evidence.label_N < 0] = np.minimum(hand_N[evidence.label_N < 0], 0)
    decision = decide(evidence, options, inliers=inliers, overrides_N=hand_N)
    assert decision.kept_N[hand_N > 0].all()
    assert not decision.kept_N[hand_N < 0].any()
    assert decision.kept_N.tolist() == by_loop(evidence, options, inliers, hand_N.tolist())
    assert {REASONS[number] for number in decision.reason_N[hand_N > 0]} <= {"kept by hand"}
    assert {REASONS[number] for number in decision.reason_N[hand_N < 0]} <= {"dropped by hand"}


def test_every_reason_says_what_happened():
    options = CleaningOptions(least_neighbours=1, margin=0.0)
    decision = decide(
        Evidence(
            label_N=np.array([0, 0, 0, 0, 1, -1, 0, 0]),
            described_N=np.array([1, 1, 1, 1, 1, 1, 0, 1], bool),
            margin_N=np.array([0.1, -0.1, 0.1, -0.1, 0.1, np.nan, np.nan, 0.1], np.float32),
            best_NF=np.array([[0], [30], [30], [29], [0], [0], [0], [0]], np.int32),
        ),
        options,
        inliers=30,
        overrides_N=np.array([0] * 7 + [-1], np.int8),
    )
    assert [REASONS[number] for number in decision.reason_N] == [
        "nearer to its own label",
        "same points in enough photos of its label",
        "nearer to its own label, and same points in enough photos of it",
        "too little evidence",
        "too few of its landmark kept",
        "not judged",
        "no descriptor",
        "dropped by hand",
    ]
    assert decision.kept_N.tolist() == [True, True, True, False, False, False, False, False]


@given(SEEDS)
def test_the_sweep_is_what_geometry_would_decide(seed):
    evidence = evidence_of(seed)
    rows = sweep(evidence, frequencies=(5, 1), inliers=(40, 20))
    assert [(row.least_neighbours, row.inliers) for row in rows] == [(5, 40), (5, 20), (1, 40), (1, 20)]
    whole = Evidence(
        label_N=evidence.label_N,
        described_N=np.ones(len(evidence.label_N), bool),
        margin_N=evidence.margin_N,
        best_NF=evidence.best_NF,
    )
    for row in rows:
        options = CleaningOptions(mode="geometry", least_neighbours=row.least_neighbours)
        kept_N = decide(whole, options, inliers=row.inliers).kept_N
        assert (row.photos, row.landmarks) == (kept_N.sum(), len(set(evidence.label_N[kept_N])))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"neighbours": 0}, "neighbours: must be at least 1, not 0"),
        ({"same_label": 2}, "least_neighbours: must be at most same_label, 2, not 3"),
        ({"inliers": 0}, "inliers: must lie in 1 to 65534, not 0"),
        ({"margin": float("nan")}, "margin: must lie in -2 to 2, not nan"),
    ],
)
def test_impossible_options_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        CleaningOptions(**wrong)
