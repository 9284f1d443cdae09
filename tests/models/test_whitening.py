"""Discriminative whitening against explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.models import FeatureSums, discriminative_whitening


def landmarks_and_features(seed, *, num=120, channels=6, landmarks=8, dtype=np.float64):
    rng = np.random.default_rng(seed)
    landmark_N = rng.integers(0, landmarks, num) * 7 + 3
    mixing = rng.normal(size=(channels, channels))
    centres = rng.normal(size=(landmarks * 7 + 3, channels)) * 3
    features = centres[landmark_N] + rng.normal(size=(num, channels)) @ mixing + 5
    return features.astype(dtype), landmark_N


def learned(features, landmark_N, *, dim, ridge, origin=None, parts=3):
    """Weight and bias from features that come in parts."""
    known, row_N = np.unique(landmark_N, return_inverse=True)
    sums = FeatureSums(
        len(known) + 1, features[: len(features) // parts].mean(axis=0) if origin is None else origin
    )
    for part in np.array_split(np.arange(len(features)), parts):
        sums.add(features[part], row_N[part])
    found = discriminative_whitening(sums, dim=dim, ridge=ridge)
    return found.weight_DC, found.bias_D


def slow_scatter(features, landmark_N):
    """Mean outer product of each photo's offset from the mean of its landmark's photos."""
    scatter = np.zeros((features.shape[1],) * 2)
    for row, landmark in zip(features, landmark_N, strict=True):
        same = [other for other, one in zip(features, landmark_N, strict=True) if one == landmark]
        offset = row - sum(same) / len(same)
        for i in range(len(offset)):
            for j in range(len(offset)):
                scatter[i, j] += offset[i] * offset[j] / len(features)
    return scatter


def slow_whitening(features, landmark_N, dim, ridge):
    """The same map by the generalised eigenproblem: total scatter against the ridged within-scatter."""
    features = features.astype(np.float64)
    within = slow_scatter(features, landmark_N)
    mean_eigenvalue = sum(within[i, i] for i in range(len(within))) / len(within)
    for i in range(len(within)):
        within[i, i] += ridge * mean_eigenvalue
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T  # another square root than Cholesky's, on purpose
    centre = sum(features) / len(features)
    total = np.zeros_like(within)
    for row in features:
        moved = root @ (row - centre)
        total += np.outer(moved, moved)
    strengths, axes = np.linalg.eigh(total)
    rows = np.stack([axes[:, k] @ root for k in np.argsort(-strengths)[:dim]])
    squares = [np.sum(np.square(rows @ (row - centre))) for row in features]
    return rows / np.sqrt(sum(squares) / len(squares)), centre


def outputs(features, weight, bias):
    return features.astype(np.float64) @ weight.T.astype(np.float64) + bias


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([1e-6, 0.1, 1.0, 10.0]))
def test_it_agrees_with_the_slow_oracle_up_to_the_sign_of_an_axis(seed, dim, ridge):
    features, landmark_N = landmarks_and_features(seed, num=40)
    weight, bias = learned(features, landmark_N, dim=dim, ridge=ridge)
    expected, centre = slow_whitening(features, landmark_N, dim, ridge)
    signs = np.sign((weight * expected).sum(axis=1, keepdims=True))
    assert weight == pytest.approx(signs * expected, rel=1e-3, abs=1e-4)
    assert bias == pytest.approx(-weight.astype(np.float64) @ centre, rel=1e-3, abs=1e-4)


def test_what_differs_within_landmarks_becomes_white():
    features, landmark_N = landmarks_and_features(1, num=300)
    weight, bias = learned(features, landmark_N, dim=4, ridge=1e-9)
    scatter = slow_scatter(outputs(features, weight, bias), landmark_N)
    assert scatter / scatter[0, 0] == pytest.approx(np.eye(4), abs=1e-4)


def test_outputs_have_root_mean_square_length_one_and_mean_zero():
    features, landmark_N = landmarks_and_features(2)
    rows = outputs(features, *learned(features, landmark_N, dim=5, ridge=1.0))
    assert np.square(rows).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-5)
    assert rows.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_photos_and_the_names_of_landmarks_do_not_matter(seed):
    features, landmark_N = landmarks_and_features(seed)
    first = learned(features, landmark_N, dim=6, ridge=1.0)
    order = np.random.default_rng(seed).permutation(len(features))
    second = learned(features[order], landmark_N[order] * -3 + 1, dim=6, ridge=1.0)
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_sign_of_an_axis_is_decided(seed):
    features, landmark_N = landmarks_and_features(seed)
    weight, _ = learned(features, landmark_N, dim=6, ridge=1.0)
    within = slow_scatter(features, landmark_N)
    ridged = within + np.trace(within) / len(within) * np.eye(len(within))
    axes = weight @ np.linalg.cholesky(ridged)  # as they lie among whitened features
    assert (axes[np.arange(6), np.abs(axes).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("rank", [1, 3])
def test_axes_that_the_photos_do_not_span_are_zero_rows(rank):
    features, landmark_N = landmarks_and_features(4, channels=rank)
    spread = features @ np.random.default_rng(0).normal(size=(rank, 10))
    weight, bias = learned(spread, landmark_N, dim=12, ridge=0.1)
    assert weight.shape == (12, 10) and bias.shape == (12,)
    assert np.abs(weight[:rank]).max(axis=1) == pytest.approx(np.abs(weight[:rank]).max(axis=1))
    assert (np.abs(weight[:rank]).max(axis=1) > 1e-3).all()
    assert not weight[rank:].any() and not bias[rank:].any()


def test_float32_features_are_computed_in_float64():
    features, landmark_N = landmarks_and_features(5, dtype=np.float32)
    features += np.float32(3000)  # far from the origin float32 products lose the scatter
    narrow, _ = learned(features, landmark_N, dim=3, ridge=1.0)
    wide, _ = learned(features.astype(np.float64), landmark_N, dim=3, ridge=1.0)
    assert narrow.dtype == np.float32
    assert np.array_equal(narrow, wide)


def test_directions_of_very_different_strength_are_whitened_alike():
    features, landmark_N = landmarks_and_features(6, num=400)
    features *= 10.0 ** np.linspace(-3, 1.5, 6)
    weight, bias = learned(features, landmark_N, dim=6, ridge=1e-13)
    scatter = slow_scatter(outputs(features, weight, bias), landmark_N)
    assert scatter / scatter[0, 0] == pytest.approx(np.eye(6), abs=0.02)


def test_photos_that_teach_nothing_are_refused():
    features, _ = landmarks_and_features(7, num=12)
    with pytest.raises(ValueError, match="no landmark has two training photos that differ"):
        learned(features, np.arange(12), dim=3, ridge=1.0)
    copies = np.repeat(features[:4], 3, axis=0)
    with pytest.raises(ValueError, match="no landmark has two training photos that differ"):
        learned(copies, np.repeat(np.arange(4), 3), dim=3, ridge=1.0)
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        learned(features, np.zeros(12, dtype=int), dim=3, ridge=1.0)


def test_parts_and_processes_add_up_to_the_whole():
    features, landmark_N = landmarks_and_features(8)
    row_N = np.unique(landmark_N, return_inverse=True)[1]
    origin = features[:5].mean(axis=0)
    whole, *shares = (FeatureSums(9, origin) for _ in range(3))
    whole.add(features, row_N)
    for share, part in zip(shares, np.array_split(np.arange(len(features)), [37]), strict=True):
        share.add(features[part], row_N[part])
    for mine, others in zip(shares[0].tables, shares[1].tables, strict=True):
        mine += others
    assert shares[0].num == len(features)
    assert shares[0].mean_C == pytest.approx(features.mean(axis=0))
    assert shares[0].total_CC == pytest.approx(np.cov(features.T, bias=True))
    assert shares[0].within_CC == pytest.approx(slow_scatter(features, landmark_N))
    one, other = (discriminative_whitening(sums, dim=4, ridge=1.0) for sums in (whole, shares[0]))
    assert one.weight_DC == pytest.approx(other.weight_DC, abs=1e-6)
    rows = outputs(features, one.weight_DC, one.bias_D)
    assert one.variance_D == pytest.approx(rows.var(axis=0), rel=1e-4)
