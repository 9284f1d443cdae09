"""Weights of members that are fitted on held-out photos."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.pipeline.weights import (
    GRID,
    FittedWeights,
    fit_weights,
    load_weights,
    save_weights,
    some_landmarks,
)
from landseer.types import Descriptors


def parts_of(seed, *noises, num=30, landmarks=6, dim=8):
    """One model a noise: the larger it is, the less its rows say about the landmark."""
    rng = np.random.default_rng(seed)
    landmark_N = rng.integers(0, landmarks, num)
    centres = rng.normal(size=(landmarks, dim))
    ids = tuple(map(str, range(num)))
    return [
        Descriptors(
            ids=ids, rows_ND=(centres[landmark_N] + noise * rng.normal(size=(num, dim))).astype(np.float32)
        )
        for noise in noises
    ], landmark_N


def slow_score(parts, landmark_N, weights):
    """mAP@100 of each photo among the others, by the cosine that weights mean."""
    units = [part.rows_ND / np.linalg.norm(part.rows_ND, axis=1, keepdims=True) for part in parts]
    similar = sum(
        weight**2 * unit.astype(np.float64) @ unit.T for weight, unit in zip(weights, units, strict=True)
    )
    scores = []
    for photo, landmark in enumerate(landmark_N):
        same = {other for other in range(len(landmark_N)) if landmark_N[other] == landmark >= 0} - {photo}
        if same:
            others = sorted(set(range(len(landmark_N))) - {photo}, key=lambda other: -similar[photo][other])
            hits = [rank for rank, other in enumerate(others[:100], 1) if other in same]
            scores.append(sum(number / rank for number, rank in enumerate(hits, 1)) / min(100, len(same)))
    return float(np.mean(scores))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_weighted_cosine_and_each_weight_of_the_grid_was_tried(seed):
    parts, landmark_N = parts_of(seed, 0.8, 1.6)
    found = fit_weights(parts, landmark_N)
    assert found.mean_average_precision == pytest.approx(
        slow_score(parts, landmark_N, found.weights), abs=1e-6
    )
    assert found.before == pytest.approx(slow_score(parts, landmark_N, (1, 1)), abs=1e-6)
    tried = max(slow_score(parts, landmark_N, (weight, 1.0)) for weight in GRID)
    assert found.mean_average_precision > tried - 1e-6


def test_a_round_that_changes_nothing_ends_it_where_no_single_step_is_better():
    parts, landmark_N = parts_of(3, 0.8, 1.2, 1.6)
    found = fit_weights(parts, landmark_N)
    assert max(found.weights) == 1.0 and found.num_photos == 30
    best = slow_score(parts, landmark_N, found.weights)
    for place, weight in itertools.product(range(3), GRID):
        step = [*found.weights[:place], weight, *found.weights[place + 1 :]]
        assert slow_score(parts, landmark_N, step) <= best + 1e-6
    assert fit_weights(parts, landmark_N) == found


def test_it_never_ends_with_less_than_it_began_with_and_only_ratios_count():
    parts, landmark_N = parts_of(4, 0.5, 3.0)
    begun = fit_weights(parts, landmark_N, start=(2.0, 0.06), names=("a", "b"))
    assert begun.before == pytest.approx(slow_score(parts, landmark_N, (1.0, 0.03)), abs=1e-6)
    assert begun.mean_average_precision >= begun.before
    assert list(begun.by_name) == ["a", "b"]
    assert fit_weights(parts, landmark_N, start=(3, 3)) == fit_weights(parts, landmark_N)


def test_where_all_weights_are_as_good_the_given_ones_stay():
    parts, landmark_N = parts_of(5, 1.0)
    found = fit_weights([parts[0], parts[0]], landmark_N, start=(0.9, 1.0))
    assert found.weights == (0.9, 1.0)
    assert fit_weights(parts, landmark_N, start=(0.7,)).weights == (1.0,)


def test_photos_of_no_landmark_only_stand_in_the_way():
    parts, landmark_N = parts_of(6, 0.8, 1.2)
    landmark_N = np.where(landmark_N == 0, -1, landmark_N)
    found = fit_weights(parts, landmark_N)
    assert found.mean_average_precision == pytest.approx(
        slow_score(parts, landmark_N, found.weights), abs=1e-6
    )


def test_what_does_not_fit_together_is_refused():
    parts, landmark_N = parts_of(7, 0.8, 1.2)
    with pytest.raises(ValueError, match="2 models, 1 weights"):
        fit_weights(parts, landmark_N, start=(1.0,))
    with pytest.raises(ValueError, match="other photos, or in another order"):
        fit_weights([parts[0], parts[1].take(parts[1].ids[::-1])], landmark_N)
    with pytest.raises(ValueError, match="30 photos need as many landmarks"):
        fit_weights(parts, landmark_N[:-1])
    with pytest.raises(ValueError, match="weights must be above 0"):
        fit_weights(parts, landmark_N, grid=(0.0, 1.0))
    with pytest.raises(ValueError, match="no landmark has two validation photos"):
        fit_weights(parts, np.arange(30))


def test_whole_landmarks_are_drawn_up_to_a_number_of_photos(collection):
    photos = collection.in_split("train")
    landmark_L, count_L = np.unique(photos.landmark_N[photos.landmark_N >= 0], return_counts=True)
    whole = some_landmarks(photos, seed=1)
    assert set(whole.landmark_N) == set(landmark_L[count_L > 1])
    most = int(count_L.sum() // 2)
    drawn = {seed: some_landmarks(photos, seed=seed, most=most) for seed in (1, 1, 2, 3, 4)}
    for some in drawn.values():
        assert 0 < len(some) <= most
        for landmark, count in zip(*np.unique(some.landmark_N, return_counts=True), strict=True):
            assert count == count_L[landmark_L == landmark]
    assert drawn[1].ids == some_landmarks(photos, seed=1, most=most).ids
    assert len({some.ids for some in drawn.values()}) > 1
    alone = photos.select(pa.array([True] + [False] * (len(photos) - 1)))
    with pytest.raises(ValueError, match="no landmark has two photos that are held out"):
        some_landmarks(alone, seed=1)


def test_saved_weights_come_back(tmp_path):
    found = FittedWeights(
        names=("a", "b"), weights=(1.0, 0.5), mean_average_precision=0.75, before=0.5, num_photos=9
    )
    save_weights(found, tmp_path / "w", made_by={"run": "x"}, parents={"a": "f"})
    assert load_weights(tmp_path / "w") == found
