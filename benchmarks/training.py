"""A stage of training beside its floor: bare forward, backward and step on batches already in memory.

The floor is a loop of a dozen lines over the same model, loss and update rule, without a loader, a log, a sampler or a
schedule.  ``take_step`` is the trainer's own step on the same batches in memory: what is lost between the two is its
overhead a step.  ``train_stage`` is all of it, real JPEGs decoded and augmented by threads.  All run in one process, in
turn, on the same photos::

    python benchmarks/training.py --data COLLECTION --weights model.safetensors
    python benchmarks/training.py --data COLLECTION --weights none --device cuda --backbone tf_efficientnet_b5 \\
        --size 448 --batch 64 --precision bf16

``share`` is floor / (seconds of the row), by the clock and by processor time; on a CPU decoding takes cores away from
the model, so the floor of the last row by processor time includes bare decoding, timed alone on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)

from landseer.evaluation import aligned
from landseer.losses import fixed_scale
from landseer.models import Embedder, build_embedder
from landseer.recipe import StageOptions, load_recipe, shipped
from landseer.storage import load_collection
from landseer.training import Subset, train_stage, training_subset
from landseer.training.loader import Batch, epoch_batches
from landseer.training.state import DTYPES, begin, take_step, training_mode


def timed(call: Callable[[], None], device: str) -> tuple[float, float]:
    """(seconds passed, processor seconds) of a call."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    wall, processor = time.perf_counter(), used.ru_utime + used.ru_stime
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - wall, used.ru_utime + used.ru_stime - processor


def bare_loop(embedder: Embedder, batches: list[Batch], num_landmarks: int, stage: StageOptions, device: str):
    """The same step as anyone would write it."""
    embedder = embedder.to(device)
    rows = torch.nn.Parameter(torch.empty(num_landmarks, embedder.dim, device=device))
    torch.nn.init.xavier_uniform_(rows)
    optimiser = torch.optim.AdamW([*embedder.parameters(), rows], lr=1e-4)
    embedder.train()
    for module in embedder.backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    scale = fixed_scale(num_landmarks)
    pixels = [embedder.normalise(batch.photos_BHW3) for batch in batches]
    labels = [torch.from_numpy(batch.row_B).to(device) for batch in batches]

    def run() -> None:
        for photos, row_B in zip(pixels, labels, strict=True):
            optimiser.zero_grad(set_to_none=True)
            half = stage.precision != "float32"
            with torch.autocast(torch.device(device).type, dtype=DTYPES[stage.precision], enabled=half):
                descriptors = embedder(photos)
            loss = F.cross_entropy(scale * descriptors.float() @ F.normalize(rows, dim=1).T, row_B)
            loss.backward()
            optimiser.step()
            loss.item()

    return run


def step_loop(embedder: Embedder, batches: list[Batch], subset: Subset, stage: StageOptions, device: str):
    """The trainer's step on batches in memory."""
    state = begin(embedder, subset, stage, kept=None, workers=2, device=device, fresh=True)
    training_mode(state, stage)

    def run() -> None:
        for batch in batches:
            take_step(state, stage, batch, counts=[len(batch.row_B)], total=10_000, least=1)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a collection with training photos")
    parser.add_argument("--weights", default="none", help="weights of the backbone, or none")
    parser.add_argument("--backbone", help="instead of that of mini/best")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=list(DTYPES), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=16, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()

    recipe = load_recipe(shipped("mini/best"))
    model = replace(recipe.model, neck_start="random", weights="none" if given.weights == "none" else "file")
    if given.backbone:
        model = replace(
            model, backbone=given.backbone, pad_type="", linear_first_block=False, mean=(), std=()
        )
    weights = None if given.weights == "none" else Path(given.weights)
    stage = replace(
        recipe.stages[0],
        size=given.size,
        batch=given.batch,
        precision=given.precision,
        epochs=1,
        head_start="random",
        bn="frozen-statistics",
        interpolate=1.0,
        warmup=0.0,
    )
    whole = training_subset(load_collection(given.data), subset="clean", min_photos=2)
    chosen = np.random.default_rng(0).permutation(len(whole))[: given.steps * given.batch]
    subset = whole.take(np.isin(np.arange(len(whole)), chosen))
    batches = list(
        itertools.islice(epoch_batches(subset, stage, seed=0, epoch=0, workers=given.workers), given.steps)
    )
    photos = sum(len(batch.row_B) for batch in batches)

    def decode() -> None:
        for _ in epoch_batches(subset, stage, seed=0, epoch=0, workers=1):
            pass

    start = build_embedder(model, weights=weights)

    def train() -> None:
        train_stage(
            start,
            subset,
            stage,
            seed=0,
            workers=given.workers,
            device=given.device,
        )

    rows = {
        "floor": bare_loop(
            build_embedder(model, weights=weights), batches, len(subset.landmark_C), stage, given.device
        ),
        "take_step": step_loop(build_embedder(model, weights=weights), batches, subset, stage, given.device),
        "train_stage": train,
        "decoding": decode,
    }
    for name in ("floor", "take_step"):
        rows[name]()  # first calls choose algorithms and allocate
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(given.rounds):
        for name, call in rows.items():
            measured[name].append(timed(call, given.device))
    wall, processor = ({n: statistics.median(m[k] for m in v) for n, v in measured.items()} for k in (0, 1))
    lines = [("", "ms a step", "photos/s", "share (clock)", "processor ms a step", "share (processor)")]
    for name in ("floor", "take_step", "train_stage"):
        least = processor["floor"] + (processor["decoding"] if name == "train_stage" else 0.0)
        lines.append(
            (
                name,
                f"{1000 * wall[name] / len(batches):.1f}",
                f"{photos / wall[name]:.1f}",
                f"{wall['floor'] / wall[name]:.3f}",
                f"{1000 * processor[name] / len(batches):.1f}",
                f"{least / processor[name]:.3f}",
            )
        )
    print(f"{model.backbone}, {given.size} px, batches of {given.batch}, {given.precision}, {given.device}")
    print(aligned(lines))
    print(
        f"decoding and augmenting alone: {1000 * processor['decoding'] / photos:.2f} ms a photo on one thread; "
        f"overhead a step: {1000 * (wall['take_step'] - wall['floor']) / len(batches):.1f} ms"
    )


if __name__ == "__main__":
    main()
