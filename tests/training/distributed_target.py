"""Run as one of several processes: trains every case and, in the first process, writes what each ends with to ``OUT``.

Expects ``PHOTOS``, ``OUT``, ``CASES`` (names of those below), ``RANK``, ``WORLD`` and ``PORT`` as globals.
"""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import torch
from safetensors.torch import save_file

from landseer.models import build_embedder
from landseer.recipe import ModelOptions, StageOptions
from landseer.recipe.load import options_from
from landseer.training import Subset, start_neck, train_stage, training_subset, validation_subset
from landseer.training.distributed import joined, rank

# twenty steps of seven photos, which neither two nor three processes share evenly
STAGE = {
    "name": "together",
    "size": 32,
    "epochs": 20,
    "batch": 7,
    "optimiser": "sgd",
    "lr": 0.02,
    "bn": "frozen-statistics",
    "augmentation": {"crop": 0.6, "brightness": 0.3, "erase": 0.5},
}
CASES: dict[str, dict] = {
    "plain": {},
    "everything": {
        "accumulate": 2,
        "optimiser": "adamw",
        "lr": 1e-3,
        "clip": 0.5,
        "pull": 20.0,
        "ema": 0.8,
        "patience": 20,
        "judge": "mAP",
        "head_start": "means",
        "loss": {"class_weights": "1/ln(n+1)", "margin": 0.2, "kind": "arcface", "scale": 12.0},
    },
    "shapes": {"aspects": {"splits": [1.0], "sizes": [[32, 24], [24, 32]]}, "batch": 6},
    "neck": {"backbone_lr": 0.0, "neck_lr": 0.0, "batch": 9},
    "sharded": {"loss": {"subcentres": 2, "smoothing": 0.1, "margin": 0.1}, "ema": 0.5},
    "sharded everything": {
        "accumulate": 2,
        "clip": 0.5,
        "patience": 20,
        "head_start": "means",
        "loss": {"kind": "arcface", "scale": 12.0, "margins": "range", "class_weights": "1/ln(n+1)"},
    },
}
FC_BN = {"neck": "fc-bn", "neck_start": "whitening"}


def run(photos: Path, case: str, folder: Path | None) -> dict[str, torch.Tensor]:
    """The weights that *case* ends with, and under ``loss`` every step's loss."""
    torch.set_num_threads(1)
    subset, held_out = data(photos)
    options = FC_BN if case == "neck" else {"neck": "fc"}
    embedder = build_embedder(
        ModelOptions(backbone="test_resnet", weights="none", pooling="gem", dim=8, **options), seed=0
    )
    if case == "neck":
        unreadable = start_neck(embedder, subset, size_px=32, batch=5)
        assert sorted(unreadable) == ["broken"]
    result = train_stage(
        embedder,
        subset,
        options_from(StageOptions, {**STAGE, **CASES[case]}),
        seed=3,
        held_out=held_out if "everything" in case else None,
        workers=2,
        folder=folder,
        checkpoint_every=7 if folder else 0,
        shard_head=case.startswith("sharded"),
    )
    assert sorted(result.unreadable) == ["broken"]
    state = {f"embedder/{key}": value for key, value in result.embedder.state_dict().items()}
    state |= {f"head/{key}": value for key, value in result.head.state_dict().items()}
    state["loss"] = torch.tensor([entry["loss"] for entry in result.losses])
    state["validation"] = torch.tensor([entry["validation_loss"] for entry in result.validation])
    return {key: value.contiguous() for key, value in state.items()}


def data(photos: Path) -> tuple[Subset, Subset | None]:
    """Two photos each of six landmarks, one that cannot be read of a seventh, and six that are held out."""
    world = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    rows = [("broken", 99, "train", True)]
    for name in sorted(file.stem for file in photos.iterdir()):
        colour, number = map(int, name.split("-"))
        rows.append((name, colour + (number > 3), "validation" if number < 2 else "train", True))
    collection = world["collection_of"](rows, photos)
    subset = training_subset(collection, subset="clean")
    assert len(subset) == 13 and len(subset.landmark_C) == 7
    return subset, validation_subset(collection, subset.landmark_C)


if __name__ == "__distributed_target__":
    os.environ |= {
        "RANK": str(RANK),  # noqa: F821
        "LOCAL_RANK": str(RANK),  # noqa: F821
        "WORLD_SIZE": str(WORLD),  # noqa: F821
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(PORT),  # noqa: F821
    }
    with joined("cpu") as device:
        assert device == "cpu"
        for number, case in enumerate(CASES):
            found = run(PHOTOS, case, OUT / f"{number}-work")  # noqa: F821
            if rank() == 0:
                save_file(found, OUT / f"{number}.safetensors")  # noqa: F821
        (OUT / f"done-{rank()}").write_text(json.dumps(True))  # noqa: F821
