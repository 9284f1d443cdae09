import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.losses.triplet import batch_hard_triplet


def rows_of(seed, photos, dim=6):
    return torch.randn(photos, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_triplet(descriptors, landmarks, margin):
    points = [[x / math.hypot(*row) for x in row] for row in descriptors.tolist()]
    losses = []
    for anchor, point in enumerate(points):
        positive, negative = [], []
        for other, place in enumerate(points):
            if other != anchor:
                (positive if landmarks[other] == landmarks[anchor] else negative).append(
                    math.dist(point, place)
                )
        if positive and negative:
            gap = max(positive) - min(negative)
            losses.append(max(0.0, gap + margin) if margin else math.log(1 + math.exp(gap)))
    return sum(losses) / len(losses) if losses else 0.0


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 3), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
)
def test_agrees_with_the_loop(seed, landmarks, margin):
    descriptors = rows_of(seed, len(landmarks))
    found = batch_hard_triplet(descriptors, torch.tensor(landmarks), margin=margin).item()
    assert found == pytest.approx(slow_triplet(descriptors, landmarks, margin), abs=1e-9)


def test_worked_example():
    """On a circle: two of one landmark 90 degrees apart, one of another between them, one seen once more."""
    angles = torch.tensor([0.0, 90.0, 45.0]) * math.pi / 180
    descriptors = torch.stack([angles.cos(), angles.sin()], dim=1)
    apart, near = math.sqrt(2), 2 * math.sin(math.pi / 8)
    found = batch_hard_triplet(descriptors, torch.tensor([7, 7, 9]), margin=0.2).item()
    assert found == pytest.approx(apart - near + 0.2, abs=1e-6)  # the third has no positive


@pytest.mark.parametrize("landmarks", [[0, 1, 2], [4, 4, 4], [3]])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_without_an_anchor_the_loss_is_zero_and_so_is_its_gradient(landmarks, margin):
    descriptors = rows_of(1, len(landmarks)).requires_grad_()
    loss = batch_hard_triplet(descriptors, torch.tensor(landmarks), margin=margin)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(descriptors.grad, torch.zeros_like(descriptors))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_gradcheck(margin):
    landmarks = torch.tensor([0, 0, 1, 1, 1, 2])
    descriptors = rows_of(3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: batch_hard_triplet(d, landmarks, margin=margin), descriptors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_finite_where_photos_coincide_or_oppose(dtype):
    one = rows_of(5, 1).to(dtype)
    descriptors = torch.cat([one, one, -one, one]).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = batch_hard_triplet(descriptors, torch.tensor([0, 0, 1, 1]), margin=0.3)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert descriptors.grad.isfinite().all()


def test_well_separated_landmarks_cost_nothing_with_a_margin():
    descriptors = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]])
    landmarks = torch.tensor([0, 0, 1, 1])
    assert batch_hard_triplet(descriptors, landmarks, margin=0.3).item() == 0.0
    assert batch_hard_triplet(descriptors, landmarks, margin=0.0).item() > 0.1
    assert batch_hard_triplet(5 * descriptors, landmarks, margin=2.1).item() == pytest.approx(0.11, abs=1e-3)
