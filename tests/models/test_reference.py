"""The reference recipe of the real photos, beside a plain timm computation that shares no code with ours."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from landseer.models import build_embedder
from landseer.photos import load_square
from landseer.recipe import load_recipe, shipped

SHARED = Path(__file__).parents[3] / "shared"
PHOTOS = SHARED / "data" / "gld-mini"
WEIGHTS = SHARED / "weights" / "mobilenet_edgetpu_100" / "model.safetensors"


def plain_descriptor(model: torch.nn.Module, file: Path) -> np.ndarray:
    picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    pooled = model.forward_features(pixels).clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)[0]
    return (pooled / pooled.norm()).numpy()


@pytest.mark.photos
@pytest.mark.skipif(not PHOTOS.is_dir() or not WEIGHTS.is_file(), reason=f"no photos and weights in {SHARED}")
def test_the_zero_shot_recipe_is_the_reference_computation():
    recipe = load_recipe(shipped("zero-shot"))
    embedder = build_embedder(recipe.model, weights=WEIGHTS)
    model = timm.create_model("mobilenet_edgetpu_100", pad_type="same")
    model.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
    model.blocks[0][0].bn1.act = torch.nn.Identity()
    model.eval()
    with (PHOTOS / "metadata" / "index.csv").open() as table:
        ids = [row["id"] for _, row in zip(range(8), csv.DictReader(table), strict=False)]
    assert len(ids) == 8
    with torch.inference_mode():
        for photo in ids:
            path = f"index/{photo[0]}/{photo[1]}/{photo[2]}/{photo}.jpg"
            ours = embedder.describe(load_square(PHOTOS, path, recipe.descriptors.size)[None])[0]
            assert ours == pytest.approx(plain_descriptor(model, PHOTOS / path), abs=1e-5), photo
