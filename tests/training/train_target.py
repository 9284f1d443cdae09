"""Run as a process of its own: a stage of training that goes on in ``FOLDER`` and writes what it ends with to ``OUT``.

Expects ``PHOTOS``, ``FOLDER``, ``OUT``, ``DIE_AT`` (the file-system step it dies before; 0: never) and ``PAUSE_S`` (a
step) as globals.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from landseer.models import build_embedder
from landseer.recipe import ModelOptions, StageOptions
from landseer.recipe.load import options_from
from landseer.training import train_stage, training_subset, validation_subset

STAGE = {
    "name": "killed",
    "size": 32,
    "epochs": 4,
    "batch": 4,
    "accumulate": 2,
    "optimiser": "sgd",
    "lr": 0.02,
    "ema": 0.8,
    "clip": 1.0,
    "pull": 2.0,
    "sampler": "id-uniform",
    "photos_each": 2,
    "patience": 3,
    "loss": {"adacos": "stateful", "class_weights": "1/ln(n+1)"},
    "augmentation": {"crop": 0.6, "brightness": 0.3, "erase": 0.5},
}
STEPS = 16
CHECKPOINT_EVERY = 3


def die_before_step(number: int) -> list[int]:
    """Kill this process at call *number* of those that sync, rename or remove files."""
    steps = [0]

    def counted(call):
        def counting(*args, **kwargs):
            steps[0] += 1
            if steps[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    os.fsync, os.rename, os.unlink = counted(os.fsync), counted(os.rename), counted(os.unlink)
    return steps


def run(photos: Path, folder: Path, out: Path, *, die_at: int, pause_s: float) -> None:
    torch.set_num_threads(1)
    world = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    names = sorted(file.stem for file in photos.iterdir())
    rows = [
        (name, int(name.split("-")[0]), "validation" if name.endswith("-0") else "train", True)
        for name in names
    ]
    collection = world["collection_of"](rows, photos)
    subset = training_subset(collection, subset="clean")
    # dropout, so that torch's random numbers matter at every step
    embedder = build_embedder(
        ModelOptions(backbone="test_resnet", weights="none", pooling="gem", neck="fc", dim=8), seed=0
    )
    embedder.neck = torch.nn.Sequential(*embedder.neck, torch.nn.Dropout(0.2))
    steps = die_before_step(die_at)
    result = train_stage(
        embedder,
        subset,
        options_from(StageOptions, STAGE),
        seed=3,
        held_out=validation_subset(collection, subset.landmark_C),
        workers=2,
        folder=folder,
        checkpoint_every=CHECKPOINT_EVERY,
        progress=lambda *_: time.sleep(pause_s),
    )
    state = {f"embedder/{key}": value.contiguous() for key, value in result.embedder.state_dict().items()}
    state |= {f"head/{key}": value.contiguous() for key, value in result.head.state_dict().items()}
    save_file(state, out.with_suffix(".safetensors"))
    facts = {"losses": result.losses, "validation": result.validation, "steps": steps[0]}
    out.write_text(json.dumps(facts))


if __name__ == "__kill_target__":
    run(PHOTOS, FOLDER, OUT, die_at=DIE_AT, pause_s=PAUSE_S)  # noqa: F821
