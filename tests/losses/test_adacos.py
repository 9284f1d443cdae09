import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.losses.adacos import LEAST_DYNAMIC_SCALE, dynamic_scale, fixed_scale


def slow_scale(cosines, rows, scale):
    """The rule as it is written, photo by photo, before the floor."""
    sums, angles = [], []
    for photo, row in zip(cosines, rows, strict=True):
        sums.append(sum(math.exp(scale * c) for landmark, c in enumerate(photo) if landmark != row))
        angles.append(math.acos(max(-1.0, min(1.0, photo[row]))))
    lower_median = sorted(angles)[(len(angles) - 1) // 2]
    return math.log(sum(sums) / len(sums)) / math.cos(min(math.pi / 4, lower_median))


@pytest.mark.parametrize(("landmarks", "scale"), [(81_313, 15.989), (203_094, 17.284), (14_951, 13.594)])
def test_fixed_scales_of_the_published_label_spaces(landmarks, scale):
    assert round(fixed_scale(landmarks), 3) == scale


def test_tiny_label_spaces_have_a_scale():
    assert fixed_scale(2) == fixed_scale(3) == pytest.approx(math.sqrt(2) * math.log(2))


@settings(deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(2, 12), st.floats(0.5, 20.0))
def test_dynamic_scale_agrees_with_the_loop(data, photos, landmarks, scale):
    cosine = st.floats(-1.0, 1.0)
    cosines = data.draw(
        st.lists(st.lists(cosine, min_size=landmarks, max_size=landmarks), min_size=photos, max_size=photos)
    )
    rows = data.draw(st.lists(st.integers(0, landmarks - 1), min_size=photos, max_size=photos))
    found = dynamic_scale(torch.tensor(cosines, dtype=torch.float64), torch.tensor(rows), scale).item()
    assert found == pytest.approx(max(LEAST_DYNAMIC_SCALE, slow_scale(cosines, rows, scale)), rel=1e-9)


@pytest.mark.parametrize(
    ("landmarks", "angle", "expected"),
    [
        (81_313, 1.2, 16.3),
        (81_313, 0.5, 13.2),
        (81_313, 0.3, 12.1),
        (203_094, 0.5, 14.3),
        (203_094, 0.3, 13.1),
    ],
)
def test_dynamic_scales_with_near_orthogonal_negatives(landmarks, angle, expected):
    generator = torch.Generator().manual_seed(0)
    cosines = torch.randn(2, landmarks, generator=generator) / math.sqrt(512)
    rows = torch.tensor([5, 77])
    cosines[torch.arange(2), rows] = math.cos(angle)
    assert dynamic_scale(cosines, rows, fixed_scale(landmarks)).item() == pytest.approx(expected, abs=0.06)


def test_no_overflow_where_the_running_scale_is_large():
    cosines = torch.full((2, 5), 0.9)
    found = dynamic_scale(cosines, torch.tensor([0, 1]), 500.0).item()
    assert found == pytest.approx((450 + math.log(4)) / math.cos(math.acos(0.9)), rel=1e-5)


def test_no_gradient_flows_through_the_scale():
    cosines = torch.rand(3, 4, requires_grad=True)
    before = cosines.detach().clone()
    assert not dynamic_scale(cosines, torch.tensor([0, 1, 2]), 5.0).requires_grad
    assert torch.equal(cosines, before)


def test_without_a_photo_the_scale_stays():
    assert dynamic_scale(torch.empty(0, 5), torch.empty(0, dtype=torch.int64), 12.5) == 12.5
