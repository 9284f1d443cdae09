import numpy as np
import pytest

from landseer.evaluation.intervals import (
    _resampled,
    cluster_numbers,
    gap_interval,
    intervals,
    mean_interval,
    median_interval,
)
from landseer.evaluation.metrics import global_average_precision, summed_precision


def test_equal_keys_share_a_cluster_and_none_stands_alone():
    assert list(cluster_numbers([5, None, 5, 7, None])) == [0, 1, 0, 2, 3]


def test_the_mean_interval_is_that_of_a_slow_bootstrap():
    rng = np.random.default_rng(1)
    cluster_Q = rng.integers(12, size=80)
    value_Q = np.clip(rng.normal(0.5, 0.1, 80) + rng.normal(0, 0.2, 12)[cluster_Q], 0, 1)
    members = [np.flatnonzero(cluster_Q == cluster) for cluster in range(12)]
    slow = []
    for _ in range(4000):
        drawn = [members[cluster] for cluster in rng.integers(12, size=12)]
        slow.append(value_Q[np.concatenate(drawn)].mean())
    low, high = mean_interval(value_Q, cluster_Q, resamples=4000, seed=3)
    assert (low, high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.012)


def test_clustered_queries_widen_the_interval():
    value_Q = np.repeat([0.0, 1.0] * 10, 20)
    together = mean_interval(value_Q, np.repeat(np.arange(20), 20), resamples=1000, seed=0)
    apart = mean_interval(value_Q, np.arange(400), resamples=1000, seed=0)
    assert together[1] - together[0] > 3 * (apart[1] - apart[0])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(5), 0
    cluster_Q = np.repeat(np.arange(40), 5)
    for trial in range(200):
        value_Q = rng.normal(0, 1, 40)[cluster_Q] + rng.normal(0, 0.5, 200)
        low, high = mean_interval(value_Q, cluster_Q, resamples=300, seed=trial)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_seed_repeats_and_another_differs():
    value_Q, cluster_Q = np.random.default_rng(0).random(50), np.arange(50)
    same = [mean_interval(value_Q, cluster_Q, resamples=200, seed=seed) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_small_blocks_of_resamples_draw_the_same(monkeypatch):
    value_Q, cluster_Q = np.random.default_rng(0).random(50), np.arange(50)
    whole = mean_interval(value_Q, cluster_Q, resamples=200, seed=1)
    monkeypatch.setattr("landseer.evaluation.intervals._CELLS_AT_ONCE", 70)
    assert mean_interval(value_Q, cluster_Q, resamples=200, seed=1) == pytest.approx(whole, abs=1e-12)


def test_one_landmark_says_nothing_of_others():
    value_Q, cluster_Q = np.array([0.4, 0.6]), np.zeros(2, np.int64)
    assert mean_interval(value_Q, cluster_Q, resamples=100, seed=0) == (0.0, 1.0)
    assert median_interval(value_Q, cluster_Q, resamples=100, seed=0, limits=(1, 101)) == (1, 101)


def test_the_median_interval_is_that_of_a_slow_bootstrap():
    rng = np.random.default_rng(2)
    cluster_Q = np.sort(rng.integers(15, size=60))
    value_Q = rng.integers(1, 30, 60).astype(float)
    slow = []
    for _ in range(4000):
        drawn = [np.flatnonzero(cluster_Q == cluster) for cluster in rng.integers(15, size=15)]
        slow.append(np.median(value_Q[np.concatenate(drawn)]))
    low, high = median_interval(value_Q, cluster_Q, resamples=4000, seed=3, limits=(1, 101))
    assert (low, high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1.5)


def test_a_gap_resample_is_the_gap_of_the_drawn_queries():
    """Queries drawn twice get new names, and the metric itself is computed on them."""
    rng = np.random.default_rng(4)
    num = 30
    cluster_Q = cluster_numbers(list(np.arange(num) % 8))
    shown_Q = np.arange(num) % 8 != 7
    right_Q = shown_Q & (rng.random(num) < 0.6)
    confidence_Q = rng.permutation(num) / num
    order = np.argsort(-confidence_Q)
    slow = []
    for _ in range(2000):
        pool, truth = [], {}
        for copy, cluster in enumerate(rng.integers(8, size=8)):
            for query in np.flatnonzero(cluster_Q == cluster):
                name = f"{copy}-{query}"
                truth[name] = {1} if shown_Q[query] else set()
                pool.append((name, 1 if right_Q[query] else 2, confidence_Q[query]))
        if any(truth.values()):
            slow.append(global_average_precision(pool, truth))
    low, high = gap_interval(right_Q[order], order, shown_Q, cluster_Q, resamples=2000, seed=1)
    assert (low, high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.03)


def percentiles(values, value):
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return pytest.approx((min(low, value), max(high, value)), abs=1e-12)


def test_blocks_agree_with_one_resample_after_the_other():
    """The very same resamples, each written out query by query: means, medians of even and odd numbers, GAP."""
    rng = np.random.default_rng(9)
    cluster_Q = np.sort(np.append(rng.integers(7, size=20), np.arange(7)))
    value_Q, rank_Q = rng.random(27), rng.integers(1, 9, 27).astype(float)
    shown_Q = cluster_Q != 6
    query_M = rng.permutation(27)[:22]
    right_M = shown_Q[query_M] & (rng.random(22) < 0.6)
    means, medians, gaps = [], [], []
    for weight_C in np.concatenate(list(_resampled(7, 300, 4, widest=50))):
        times_Q = weight_C[cluster_Q]
        means.append(np.repeat(value_Q, times_Q).mean())
        medians.append(np.median(np.repeat(rank_Q, times_Q)))
        num_shown = times_Q[shown_Q].sum()
        gaps.append(
            summed_precision(np.repeat(right_M, times_Q[query_M])) / num_shown if num_shown else np.nan
        )
    assert any(median % 1 for median in medians), "some resamples must have two middle values"
    found = intervals(
        [value_Q, rank_Q], ["mean", "median"], cluster_Q, resamples=300, seed=4, limits=[(0, 1), (1, 9)]
    )
    assert found[0] == percentiles(means, value_Q.mean()) and found[1] == percentiles(
        medians, np.median(rank_Q)
    )
    gap = summed_precision(right_M) / shown_Q.sum()
    assert gap_interval(right_M, query_M, shown_Q, cluster_Q, resamples=300, seed=4) == percentiles(gaps, gap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landseer.evaluation.intervals._percentiles", lambda found, value: tuple(found))
        every = median_interval(rank_Q, cluster_Q, resamples=300, seed=4, limits=(1, 9))
    assert list(every) == medians


def test_without_resamples_everything_is_possible():
    assert mean_interval(np.ones(3), np.arange(3), resamples=0, seed=0) == (0.0, 1.0)
    assert gap_interval(
        np.ones(2, bool), np.arange(2), np.ones(2, bool), np.arange(2), resamples=0, seed=0
    ) == (
        0.0,
        1.0,
    )
