"""Pooling against loops anyone can check."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landseer.models.pooling import GAP, GeM


def slow_gem(features: np.ndarray, p: float) -> np.ndarray:
    pooled = np.zeros(features.shape[:2])
    for photo in range(features.shape[0]):
        for channel in range(features.shape[1]):
            values = [max(float(value), 1e-6) for value in features[photo, channel].ravel()]
            pooled[photo, channel] = (sum(value**p for value in values) / len(values)) ** (1 / p)
    return pooled


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8), st.integers(1, 4), st.integers(1, 4))
def test_gem_agrees_with_the_loop(seed, p, height, width):
    features = np.random.default_rng(seed).normal(size=(2, 3, height, width)).astype(np.float32)
    got = GeM(p)(torch.from_numpy(features)).numpy()
    assert got == pytest.approx(slow_gem(features, p), rel=1e-4, abs=3e-5)


def test_gem_of_tokens_is_gem_of_the_same_map():
    features = torch.rand(2, 5, 3, 4)
    tokens = features.flatten(2).transpose(1, 2)
    assert torch.allclose(GeM(3.0)(tokens), GeM(3.0)(features), atol=1e-6)
    assert torch.allclose(GAP()(tokens), GAP()(features), atol=1e-6)


def test_gem_spans_from_the_average_to_the_maximum():
    features = torch.rand(2, 5, 6, 6) + 0.1
    assert torch.allclose(GeM(1.0)(features), GAP()(features), atol=1e-6)
    assert torch.allclose(GAP()(features), features.mean(dim=(2, 3)))
    assert torch.allclose(GeM(60.0)(features), features.amax(dim=(2, 3)), rtol=0.07)
    powers = [GeM(p)(features) for p in (1.0, 2.0, 3.0, 8.0)]
    assert all(bool((low < high).all()) for low, high in itertools.pairwise(powers))


@pytest.mark.parametrize(("p", "most"), [(1.0, 1.01e-6), (3.0, 1.01e-6), (9.0, 1e-4)])
def test_zeros_and_negative_values_count_as_next_to_nothing_and_have_finite_gradients(p, most):
    features = torch.tensor([[[[0.0, -3.0], [0.0, 1e-6]]]], requires_grad=True)
    pooling = GeM(p, learned=True)
    pooled = pooling(features)
    pooled.sum().backward()
    assert 0.99e-6 < pooled.item() < most
    assert bool(features.grad.isfinite().all()) and bool(pooling.p.grad.isfinite())


def test_half_precision_features_are_pooled_in_float32():
    features = (torch.rand(1, 2, 4, 4) * 100).half()  # 100 cubed is more than a float16 holds
    assert GeM(3.0)(features).dtype == torch.float32
    assert torch.equal(GeM(3.0)(features), GeM(3.0)(features.float()))
    brain = features.bfloat16()
    assert torch.equal(GeM(3.0)(brain), GeM(3.0)(brain.float()))
    assert GAP()(brain).dtype == torch.float32


def test_a_learned_exponent_learns_and_a_fixed_one_is_stored():
    learned, fixed = GeM(3.0, learned=True), GeM(3.0)
    learned(torch.rand(1, 2, 3, 3)).sum().backward()
    assert learned.p.grad.abs() > 0
    assert list(fixed.parameters()) == []
    assert fixed.state_dict()["p"] == 3.0
