"""The sharded head, on two and three processes, against the unsharded one.

The processes start once and go through everything; the tests read what they found.
"""

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from landseer.losses import MarginHead, ShardedHead, fixed_scale
from landseer.recipe.loss_options import LossOptions

SCRIPT = Path(__file__).with_name("sharded_target.py")
target = SimpleNamespace(**runpy.run_path(str(SCRIPT)))
WORLDS = (2, 3)
RUNS = [(world, *run) for world in WORLDS for run in target.runs(world)]


def run_ranks(world, folder):
    """What each of *world* processes found."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::FutureWarning", str(SCRIPT)]
    processes = [
        subprocess.Popen([*command, str(rank), str(world), str(folder)], env=environment)
        for rank in range(world)
    ]
    try:
        while any(process.poll() is None for process in processes):
            assert not any(process.poll() for process in processes), "a rank failed"
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return {world: run_ranks(world, tmp_path_factory.mktemp("ranks")) for world in WORLDS}


def unsharded(seed, options, **arguments):
    return target.unsharded(seed, LossOptions(**options), **arguments)


def joined(ranks, key):
    return torch.cat([rank[key] for rank in ranks])


@pytest.mark.parametrize(("world", "case", "way", "nums"), RUNS)
def test_losses_and_gradients_are_those_of_the_unsharded_head(found, world, case, way, nums):
    ranks = [rank[case, way, nums] for rank in found[world]]
    expected = target.measured(unsharded(3, target.CASES[case]), slice(None), nums, way)
    assert {tuple(rank) for rank in ranks} == {tuple(expected)}
    for key, value in expected.items():
        at = joined(ranks, key) if value.ndim else ranks[0][key]
        # the unsharded head rounds the gradients of bfloat16 descriptors before it adds them up
        close = 2**-7 if way == "half" and key.startswith("descriptors") else 1e-5
        torch.testing.assert_close(at, value, atol=close, rtol=close)
        if not value.ndim:
            assert len({rank[key].item() for rank in ranks}) == 1  # to the bit: a rank may decide by it


@pytest.mark.parametrize("world", WORLDS)
def test_rows_start_as_the_unsharded_ones(found, world):
    torch.manual_seed(5)
    head, after = MarginHead(**target.BIG), torch.rand(2)
    ranks = [rank["big"] for rank in found[world]]
    assert [rank["part"] for rank in ranks] == [
        (r * 9001 // world, (r + 1) * 9001 // world) for r in range(world)
    ]
    assert torch.equal(joined(ranks, "rows"), head.rows)
    assert all(torch.equal(rank["after"], after) for rank in ranks)


@pytest.mark.parametrize("world", WORLDS)
def test_a_state_goes_out_whole_and_comes_back(found, world):
    options = {"kind": "cosine", "adacos": "stateful", "subcentres": 2}
    first, *others = (rank["states"] for rank in found[world])
    head = unsharded(3, options)
    assert all(rank[key] is None for rank in others for key in ("full", "bias", "again"))
    assert first["full"].keys() == head.state_dict().keys()
    for key, value in head.state_dict().items():
        assert torch.equal(first["full"][key], value)
    biased = unsharded(4, {"kind": "softmax"})
    biased.load_state_dict(first["bias"])
    assert biased.bias.tolist() == list(range(target.LANDMARKS))
    assert torch.equal(biased.rows, unsharded(4, {"kind": "softmax"}).rows)
    for key, value in first["whole"].items():
        assert torch.equal(first["again"][key], value)
    assert torch.equal(torch.cat([rank["taken"] for rank in (first, *others)]), first["whole"]["rows"])
    assert not torch.equal(first["whole"]["rows"], head.rows + 1), "trained in between"
    assert all(rank["scale"] == first["whole"]["running_scale"] for rank in others)
    assert torch.cat([rank["slice"] for rank in (first, *others)]).tolist() == list(range(target.LANDMARKS))


@pytest.mark.parametrize("world", WORLDS)
def test_moments_of_an_optimiser_go_out_whole(found, world):
    ranks = [rank["states"]["moments"] for rank in found[world]]
    assert torch.equal(ranks[0][1], torch.cat([mine for mine, _ in ranks]))
    assert ranks[0][1].abs().sum() > 0
    assert all(whole is None for _, whole in ranks[1:])


@pytest.mark.parametrize("world", WORLDS)
def test_a_step_compares_with_the_drawn_landmarks_and_the_photos_own(found, world):
    head = unsharded(7, target.SAMPLED, num_landmarks=target.MANY)
    drawn = []
    for step in range(target.STEPS):
        ranks = [rank["sampled"][step] for rank in found[world]]
        descriptors, rows = target.alike(world, seed=step)
        grad = joined(ranks, "rows").view(target.MANY, 2, -1)
        kept = grad.flatten(1).any(dim=1).nonzero()[:, 0]
        assert set(rows.tolist()) <= set(kept.tolist())
        for rank in range(world):
            part = range(rank * target.MANY // world, (rank + 1) * target.MANY // world)
            own = len(set(rows.tolist()) & set(part))
            assert len(set(kept.tolist()) & set(part)) == own + round(0.25 * (len(part) - own))
        # the same step of a head that has no other landmarks
        small = unsharded(0, {**target.SAMPLED, "negatives": 1.0}, num_landmarks=len(kept))
        small.rows.data = head.rows.data.view(target.MANY, 2, -1)[kept].flatten(0, 1)
        leaf = descriptors.requires_grad_()
        loss = small(leaf, torch.searchsorted(kept, rows))
        loss.backward()
        torch.testing.assert_close(ranks[0]["loss"], loss.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(grad[kept].flatten(0, 1), small.rows.grad, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joined(ranks, "descriptors"), leaf.grad, atol=1e-5, rtol=1e-5)
        drawn.append(set(kept.tolist()) - set(rows.tolist()))
    assert len(set(map(frozenset, drawn))) == target.STEPS
    for rank in found[world]:
        once, again = rank["sampled"][: target.STEPS], rank["sampled"][target.STEPS :]
        assert all(
            torch.equal(one[key], other[key]) for one, other in zip(once, again, strict=True) for key in one
        )
    shares = [
        {c - r * target.MANY // world for c in drawn[0] if c * world // target.MANY == r}
        for r in range(world)
    ]
    assert shares[0] != shares[1], "the ranks' random states were equal"


@pytest.mark.parametrize("world", WORLDS)
def test_only_training_draws(found, world):
    expected = target.measured(unsharded(3, {}).eval(), slice(None), (4,) * world, "")
    for key, value in expected.items():
        ranks = [rank["unsampled"] for rank in found[world]]
        at = joined(ranks, key) if value.ndim else ranks[0][key]
        torch.testing.assert_close(at, value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no photo", "no rank has a photo"),
        ("some weights", "weights on some ranks only"),
        ("row", "label rows must lie in 0..6"),
        ("ranks", "1 landmarks cannot be shared out to"),
        ("table", "a table (8, 5) does not fit 7 landmarks with 1 rows each"),
    ],
)
def test_what_cannot_be_is_refused_on_every_rank(found, world, what, message):
    assert all(message in rank["refusals"][what] for rank in found[world])


def test_a_sharded_head_needs_a_process_group():
    with pytest.raises(ValueError, match="needs a process group; start with torchrun, or use MarginHead"):
        ShardedHead(5, 7, options=LossOptions())


def test_the_fixed_scale_is_that_of_all_landmarks():
    assert unsharded(0, {"negatives": 0.1}).fixed_scale == fixed_scale(target.LANDMARKS)
