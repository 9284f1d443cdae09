"""The cosine softmax against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from landseer.losses import CosineSoftmax, adacos_scale


def slow_loss(descriptors, rows, targets, scale, margin):
    total = 0.0
    for descriptor, target in zip(descriptors, targets, strict=True):
        logits = []
        for number, row in enumerate(rows):
            cosine = float(np.dot(descriptor, row) / (np.linalg.norm(descriptor) * np.linalg.norm(row)))
            logits.append(scale * (cosine - margin if number == target else cosine))
        top = max(logits)
        total += top + math.log(sum(math.exp(logit - top) for logit in logits)) - logits[target]
    return total / len(targets)


def head_of(dim, num, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CosineSoftmax(dim, num, **options)


def unit(num, dim, seed=0, dtype=torch.float32):
    return F.normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(num, dim))).to(dtype), dim=1)


@given(st.integers(0, 2**16), st.integers(2, 9), st.floats(0, 40), st.sampled_from([0.0, 0.3, 1.0]))
def test_it_agrees_with_the_loop(seed, num_landmarks, scale, margin):
    head = head_of(5, num_landmarks, seed, scale=scale, margin=margin)
    descriptors = unit(4, 5, seed)
    targets = np.random.default_rng(seed).integers(0, num_landmarks, 4)
    expected = slow_loss(
        descriptors.double().numpy(),
        head.rows.detach().double().numpy(),
        targets,
        scale or adacos_scale(num_landmarks),
        margin,
    )
    assert head(descriptors, torch.from_numpy(targets)).item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("num_landmarks", "scale"), [(81_313, 15.989), (203_094, 17.284), (14_951, 13.594)])
def test_the_fixed_scales_of_the_published_label_spaces(num_landmarks, scale):
    assert round(adacos_scale(num_landmarks), 3) == scale
    assert CosineSoftmax(1, num_landmarks, scale=0.0).scale == adacos_scale(num_landmarks)
    assert CosineSoftmax(1, num_landmarks, scale=30.0).scale == 30.0


def test_two_landmarks_still_have_a_scale_to_learn_with():
    assert adacos_scale(2) == adacos_scale(3) > 0


def test_the_margin_lowers_the_target_logit_by_scale_times_margin():
    plain, strict = (head_of(6, 4, scale=20.0, margin=margin) for margin in (0.0, 0.3))
    descriptors, targets = unit(3, 6), torch.tensor([0, 3, 1])
    logits = 20.0 * plain.cosines(descriptors)
    lowered = logits.clone()
    lowered[torch.arange(3), targets] -= 20.0 * 0.3
    assert strict(descriptors, targets).item() == pytest.approx(F.cross_entropy(lowered, targets).item())
    assert strict(descriptors, targets) > plain(descriptors, targets)


def test_the_length_of_a_row_does_not_matter():
    head = head_of(6, 4)
    descriptors, targets = unit(3, 6), torch.tensor([0, 3, 1])
    before = head(descriptors, targets).item()
    with torch.no_grad():
        head.rows.mul_(torch.tensor([[1.0], [5.0], [0.01], [300.0]]))
    assert head(descriptors, targets).item() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_where_a_cosine_is_one(sign):
    head = head_of(6, 4, scale=64.0, margin=0.3)
    descriptors = (sign * F.normalize(head.rows.detach(), dim=1)).requires_grad_()
    head(descriptors, torch.arange(4)).backward()
    assert bool(descriptors.grad.isfinite().all()) and bool(head.rows.grad.isfinite().all())


def test_gradients_are_those_of_finite_differences():
    head = head_of(3, 4, scale=5.0, margin=0.2).double()
    descriptors = unit(3, 3, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([2, 0, 3])
    assert head(descriptors, targets).dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda given, rows: torch.func.functional_call(head, {"rows": rows}, (given, targets)),
        (descriptors, head.rows),
    )


def test_autocast_does_not_reach_the_cosines():
    head = head_of(64, 50)
    descriptors, targets = unit(8, 64), torch.arange(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(descriptors, targets), head(descriptors.float(), targets))
        inside = head.cosines(descriptors)
    assert torch.equal(inside, head.cosines(descriptors))
    assert head.cosines(descriptors.bfloat16()).dtype == torch.float32


def test_one_landmark_is_nothing_to_tell_apart():
    with pytest.raises(ValueError, match="at least 2 landmarks, not 1"):
        CosineSoftmax(4, 1)
