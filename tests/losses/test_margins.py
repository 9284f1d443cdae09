import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landseer.losses.margins import arcface, cosface, size_margins

COSINES = (1.0, 0.9, 0.5, 0.0, -0.5, -0.95, -0.99, -1.0)
WORKED = (28.660, 21.930, 6.652, -8.866, -22.008, -29.995, -32.360, -32.660)
"""s * phi at those cosines, s = 30, m = .3: angles added one by one, the last two behind the switch."""
COSINE = st.floats(-1.0, 1.0)
MARGIN = st.floats(0.0, math.pi / 2)
COUNTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=20)


def slow_arcface(cosine, margin):
    angle = math.acos(cosine)
    return (
        math.cos(angle + margin) if angle < math.pi - margin else cosine - margin * math.sin(math.pi - margin)
    )


def number(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_worked_example(dtype):
    found = 30 * arcface(torch.tensor(COSINES, dtype=dtype), 0.3)
    assert [round(value, 3) for value in found.tolist()] == list(WORKED)


@given(COSINE, MARGIN)
def test_arcface_agrees_with_the_angle(cosine, margin):
    if abs(math.acos(cosine) - (math.pi - margin)) > 1e-6:  # on the switch itself rounding decides
        found = arcface(number(cosine), margin).item()
        assert found == pytest.approx(slow_arcface(cosine, margin), abs=2e-6)


@given(COSINE, COSINE, MARGIN)
def test_arcface_rises_with_the_cosine(one, other, margin):
    low, high = sorted((one, other))
    assert arcface(number(low), margin).item() <= arcface(number(high), margin).item() + 1e-9


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.5, 1.0])
def test_arcface_steps_down_at_the_switch_and_never_up(margin):
    switch = math.cos(math.pi - margin)
    below, above = arcface(torch.tensor([switch - 1e-9, switch + 1e-9], dtype=torch.float64), margin).tolist()
    assert above == pytest.approx(-1.0, abs=1e-8)
    step = margin * math.sin(margin) - (1 - math.cos(margin))
    assert step > 0
    assert above - below == pytest.approx(step, abs=1e-8)


def test_every_photo_may_have_its_own_margin():
    cosines, margins = torch.tensor([0.9, 0.9, -0.99]), torch.tensor([0.0, 0.3, 0.3])
    assert arcface(cosines, margins).tolist() == pytest.approx([0.9, 21.930 / 30, -32.360 / 30], abs=2e-5)
    assert cosface(cosines, margins).tolist() == pytest.approx([0.9, 0.6, -1.29])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
def test_gradients_are_finite_at_both_ends_and_beyond(dtype, margin):
    ends = [1.0, -1.0, 1.0 + 2**-7, -1.0 - 2**-7, 1.0 - 2**-24, 0.0]
    cosines = torch.tensor(ends, dtype=dtype, requires_grad=True)
    found = arcface(cosines, margin)
    found.sum().backward()
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.isfinite().all()
    assert cosines.grad.isfinite().all()
    assert (cosines.grad > 0).all()


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5])
def test_gradcheck_on_both_sides_of_the_switch(margin):
    cosines = torch.tensor([-0.999, -0.98, -0.7, 0.0, 0.6, 0.99], dtype=torch.float64, requires_grad=True)
    own = torch.full((6,), margin, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(arcface, (cosines, own))
    assert torch.autograd.gradcheck(cosface, (cosines, own))


def test_range_is_the_published_rule():
    counts = np.array([1, 4, 16, 81, 10_000])
    roots = [1 / math.sqrt(math.sqrt(n)) for n in counts]
    expected = [(root - min(roots)) / (max(roots) - min(roots)) * 0.45 + 0.05 for root in roots]
    assert size_margins(counts, rule="range").tolist() == pytest.approx(expected)
    assert expected[0] == pytest.approx(0.5)
    assert expected[-1] == pytest.approx(0.05)


def test_power_does_not_look_at_other_landmarks():
    found = size_margins(np.array([1, 16]), rule="power", low=0.1, high=0.5)
    assert found.tolist() == pytest.approx([0.5, 0.1 + 0.4 / 2])
    assert size_margins(np.array([16, 81]), rule="power", low=0.1, high=0.5)[0] == pytest.approx(0.3)


@given(COUNTS, st.sampled_from(["range", "power"]), st.floats(0.1, 2.0))
def test_fewer_photos_never_have_a_smaller_margin(counts, rule, power):
    margins = size_margins(np.array(counts), rule=rule, low=0.1, high=0.4, power=power)
    assert np.all(margins >= 0.1 - 1e-12)
    assert np.all(margins <= 0.4 + 1e-12)
    assert np.all(np.diff(margins[np.argsort(counts)]) <= 1e-12)


def test_equally_many_photos_have_the_middle_of_the_range():
    assert size_margins(np.array([7, 7]), rule="range").tolist() == pytest.approx([0.275, 0.275])


@pytest.mark.parametrize("counts", [[3, 0, 2], [[1, 2]], []])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match=r"row 1 of the label space has 0 photos|one number a landmark"):
        size_margins(np.array(counts), rule="power")
