"""A tiny backbone and drawn photos: landmarks are colours, so a few steps of training can tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from landseer.models import Embedder, build_embedder
from landseer.recipe import ModelOptions, StageOptions
from landseer.recipe.load import options_from
from landseer.training import Subset, training_subset
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

COLOURS = {30: (200, 60, 60), 10: (60, 200, 60), 20: (60, 60, 200)}
PHOTOS_EACH = 6


def table(schema: pa.Schema, columns: dict[str, list]) -> pa.Table:
    num = len(next(iter(columns.values())))
    return pa.table(
        [pa.array(columns.get(field.name, [None] * num), field.type) for field in schema], schema=schema
    )


def collection_of(rows: list[tuple[str, int | None, str, bool]], root: Path = Path("nowhere")) -> Collection:
    """A collection of (id, landmark, split, clean) rows; photo ``a`` lies in ``a.png``."""
    ids, landmarks, splits, clean = (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 4
    known = sorted({landmark for landmark in landmarks if landmark is not None})
    columns = {
        "id": ids,
        "path": [f"{photo}.png" for photo in ids],
        "landmark": landmarks,
        "kind": ["landmark" if landmark is not None else "unknown" for landmark in landmarks],
        "clean": clean,
        "split": splits,
    }
    return Collection(
        photos=table(PHOTO_SCHEMA, columns), landmarks=table(LANDMARK_SCHEMA, {"landmark": known}), root=root
    )


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are faster on one thread, and the same to the bit everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def collection() -> Callable[..., Collection]:
    return collection_of


@pytest.fixture(scope="session")
def photo_root(tmp_path_factory) -> Path:
    """Photos 40 x 36 px: noise over the colour of their landmark."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for landmark, colour in COLOURS.items():
        for number in range(PHOTOS_EACH):
            pixels = np.clip(rng.normal(colour, 40, size=(36, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{landmark}-{number}.png")
    return root


@pytest.fixture
def toy(photo_root) -> Subset:
    """Eighteen photos of three landmarks, in mixed order."""
    rows = [(f"{mark}-{n}", mark, "train", True) for n in range(PHOTOS_EACH) for mark in COLOURS]
    return training_subset(collection_of(rows, photo_root), subset="clean")


@pytest.fixture
def tiny() -> Callable[..., Embedder]:
    """``tiny(**options)``: a random test_resnet with an FC neck of 16."""

    def make(seed: int = 0, **options: object) -> Embedder:
        given = {"backbone": "test_resnet", "weights": "none", "pooling": "gem", "neck": "fc", "dim": 16}
        return build_embedder(ModelOptions(**{**given, **options}), seed=seed)

    return make


@pytest.fixture
def stage() -> Callable[..., StageOptions]:
    """``stage(**options)``: two epochs of small batches."""
    return lambda **options: options_from(
        StageOptions,
        {"name": "toy", "size": 32, "epochs": 2, "batch": 6, "lr": 3e-3, "warmup": 0.0, **options},
    )
