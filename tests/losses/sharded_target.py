"""Run as a process of its own, one a rank: ``sharded_target.py RANK WORLD FOLDER`` puts what it finds into FOLDER.

The cases and their photos are read by the tests, too, which know what the unsharded head makes of them.
"""

from __future__ import annotations

import copy
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from landseer.losses import MarginHead, ShardedHead
from landseer.recipe.loss_options import LossOptions

LANDMARKS, DIM = 7, 5
PHOTOS_C = np.array([40, 3, 7, 1, 12, 2, 5])
BIG = {"dim": 3, "num_landmarks": 9001, "options": LossOptions(subcentres=2)}
SAMPLED = {"scale": 9.0, "kind": "arcface", "margin": 0.2, "subcentres": 2, "negatives": 0.25}
MANY, STEPS = 42, 3

CASES = {
    "softmax": {"kind": "softmax"},
    "softmax smooth": {"kind": "softmax", "smoothing": 0.2},
    "cosine": {},
    "cosine margin": {"scale": 30.0, "margin": 0.3},
    "cosine large": {"scale": 200.0, "margin": 0.5},
    "arcface": {"kind": "arcface", "scale": 30.0, "margin": 0.3},
    "arcface smooth": {"kind": "arcface", "scale": 30.0, "margin": 0.3, "smoothing": 0.1},
    "dynamic": {"adacos": "dynamic"},
    "stateful": {"kind": "arcface", "adacos": "stateful", "margin": 0.2},
    "sub-centres": {"kind": "arcface", "scale": 8.0, "margin": 0.3, "subcentres": 3},
    "sub-centres dynamic": {"adacos": "dynamic", "subcentres": 2},
    "margins by size": {"kind": "arcface", "scale": 10.0, "margins": "range", "subcentres": 2},
    "margins by size, power": {"scale": 10.0, "margins": "power", "smoothing": 0.1},
    "triplet": {"triplet": 0.7},
    "triplet soft": {"triplet": 0.7, "triplet_margin": 0.0, "kind": "arcface", "margin": 0.3},
}
WAYS = {
    "": {},
    "weights": {"weights": True},
    "schedule": {"margin": 0.25},
    "half": {"half": True},
    "still": {"still": True},
    "near": {"near": True},
}
"""How a head is called.  ``half``: bfloat16 descriptors under autocast; ``still``: descriptors without gradient;
``near``: descriptors near their landmarks' rows, where a dynamic scale heeds the angle."""


def sizes(world: int) -> list[tuple[int, ...]]:
    """How many photos each rank has."""
    return [(4, 3), (0, 6), (2, 0)] if world == 2 else [(3, 0, 4)]


def runs(world: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """(case, way, photos of each rank): every way that goes with a case where the photos are (4, 3), else two."""
    found = []
    for nums in sizes(world):
        for case, options in CASES.items():
            left_out = set() if nums == (4, 3) else set(WAYS) - {"", "weights"}
            if options.get("kind") == "softmax" or "margins" in options:
                left_out.add("schedule")
            found += [(case, way, nums) for way in WAYS if way not in left_out]
    return found


def photos(nums: tuple[int, ...], *, landmarks: int = LANDMARKS, seed: int = 1):
    """Descriptors, label rows and weights of all ranks; landmarks come again, some on several ranks."""
    random = torch.Generator().manual_seed(seed)
    descriptors = F.normalize(torch.randn(sum(nums), DIM, generator=random), dim=1)
    rows = torch.randint(landmarks, (sum(nums),), generator=random)
    rows[-1] = rows[0]
    return descriptors, rows, 0.5 + torch.rand(sum(nums), generator=random, dtype=torch.float64)


def unsharded(seed: int, options: LossOptions, num_landmarks: int = LANDMARKS) -> MarginHead:
    """What a sharded head must do as."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MarginHead(DIM, num_landmarks, options=options, photos_C=PHOTOS_C)


def call(head, descriptors, rows, weights, way: str):
    """(loss, leaf whose gradient counts) of *head* in *way*."""
    how = WAYS[way]
    # a rank without photos has no graph
    leaf = descriptors.clone().requires_grad_(len(descriptors) > 0 and not how.get("still"))
    arguments = {"margin": how["margin"]} if "margin" in how else {}
    if how.get("weights"):
        arguments["weight_N"] = weights
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(how.get("half"))):
        loss = head(leaf.bfloat16() if how.get("half") else leaf, rows, **arguments)
    return loss, leaf


def measured(head, mine: slice, nums: tuple[int, ...], way: str) -> dict[str, torch.Tensor]:
    """A step or two of *head* on the photos *mine* of all, and their gradients."""
    found = {}
    for step in range(1 if way else 2):
        descriptors, rows, weights = (part[mine] for part in photos(nums, seed=step + 1))
        if way == "near":
            nearest = unsharded(3, head.options).rows.detach()[rows * head.options.subcentres]
            descriptors = F.normalize(descriptors + 3.0 * F.normalize(nearest, dim=1), dim=1)
        head.zero_grad()
        loss, leaf = call(head, descriptors, rows, weights, way)
        loss.backward()
        found |= {f"loss {step}": loss.detach(), f"rows {step}": head.rows.grad.clone()}
        if step:
            found["validation"] = head.validation_loss(descriptors, rows)
        if way != "still":
            found[f"descriptors {step}"] = leaf.grad if leaf.requires_grad else leaf
        if head.bias is not None:
            found[f"bias {step}"] = head.bias.grad.clone()
        if head.running_scale is not None:
            found[f"scale {step}"] = head.running_scale.clone()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.1 * parameter.grad
    return found


def make(seed: int, options, **arguments):
    """A sharded head of the tests' size."""
    torch.manual_seed(seed)
    return ShardedHead(DIM, LANDMARKS, options=LossOptions(**options), photos_C=PHOTOS_C, **arguments)


def refusal(act) -> str:
    """What *act* is refused with."""
    try:
        act()
    except ValueError as error:
        return str(error)
    return "nothing"


def main(rank: int, world: int, folder: Path) -> None:
    """Everything that is looked at, on one rank."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    found: dict = {}
    for case, way, nums in runs(world):
        mine = slice(sum(nums[:rank]), sum(nums[: rank + 1]))
        found[case, way, nums] = measured(make(3, CASES[case]), mine, nums, way)
    found["big"] = start_big()
    found["states"] = states(rank)
    found["sampled"] = sampled(rank, world)
    found["unsampled"] = measured(
        make(3, {"negatives": 0.5}).eval(), slice(4 * rank, 4 * rank + 4), (4,) * world, ""
    )
    found["refusals"] = refusals(rank)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def start_big() -> dict:
    """The start of a head of several blocks, and the random numbers after it."""
    torch.manual_seed(5)
    head = ShardedHead(**BIG)
    return {"rows": head.rows.detach(), "part": (head.part.start, head.part.stop), "after": torch.rand(2)}


def states(rank: int) -> dict:
    """What a head gives out whole and takes back, and what its copy does."""
    options = {"kind": "cosine", "adacos": "stateful", "subcentres": 2}
    head = make(3, options, group=dist.new_group())
    average = copy.deepcopy(head)
    descriptors, rows, _ = photos((2,) * dist.get_world_size())
    mine = slice(2 * rank, 2 * rank + 2)
    head(descriptors[mine], rows[mine]).backward()
    moments = head.rows.grad.clone()
    with torch.no_grad():
        head.rows -= moments
    biased = make(4, {"kind": "softmax"})
    with torch.no_grad():
        biased.bias.copy_(torch.arange(biased.part.start, biased.part.stop))
    whole = {key: value + 1 for key, value in whole_of(head).items()}
    head.load_full_state(whole)
    return {
        "full": average.full_state(),
        "bias": biased.full_state(),
        "moments": (moments, head.gather_rows(moments)),
        "taken": head.rows.detach().clone(),
        "scale": head.running_scale.clone(),
        "again": head.full_state(),
        "whole": whole,
        "slice": head.slice_rows(torch.arange(LANDMARKS)).clone(),
    }


def whole_of(head) -> dict:
    """The full state, sent from rank 0 to all."""
    shared = [head.full_state()]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def alike(world: int, *, seed: int):
    """Three photos a rank, of landmarks at the same places in every rank's part."""
    descriptors, rows, _ = photos((3,) * world, landmarks=MANY // world, seed=seed)
    return descriptors, torch.cat([rows[:3] + rank * MANY // world for rank in range(world)])


def sampled(rank: int, world: int) -> list[dict]:
    """Steps of a head that compares with a share of the landmarks, twice from one random state."""
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        head = ShardedHead(DIM, MANY, options=LossOptions(**SAMPLED))
        torch.manual_seed(8)
        for step in range(STEPS):
            descriptors, rows = alike(world, seed=step)
            head.zero_grad()
            leaf = descriptors[3 * rank : 3 * rank + 3].clone().requires_grad_()
            loss = head(leaf, rows[3 * rank : 3 * rank + 3])
            loss.backward()
            found.append({"loss": loss.detach(), "rows": head.rows.grad.clone(), "descriptors": leaf.grad})
    return found


def refusals(rank: int) -> dict[str, str]:
    """What no rank may ask, or none alone."""
    head, (descriptors, rows, weights) = make(3, {}), photos((2, 2))
    none = slice(0, 0)
    return {
        "no photo": refusal(lambda: head(descriptors[none], rows[none])),
        "some weights": refusal(lambda: head(descriptors, rows, weight_N=weights if rank else None)),
        "row": refusal(lambda: head(descriptors, rows + (LANDMARKS if rank else 0))),
        "ranks": refusal(lambda: ShardedHead(DIM, 1, options=LossOptions())),
        "table": refusal(lambda: head.slice_rows(torch.zeros(LANDMARKS + 1, DIM))),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
