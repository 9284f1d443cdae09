"""A mini world of a few landmarks, imported once, and a recipe that trains on it in seconds."""

from pathlib import Path

import pytest

from landseer.datasets import import_gldv2
from landseer.datasets.miniworld import draw_mini_world
from landseer.recipe import Recipe, recipe_from
from landseer.storage import load_collection, save_collection
from landseer.types import Collection

TINY = {
    "title": "tiny",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gem", "neck": "fc", "dim": 32},
    "stages": [{"name": "first", "size": 64, "epochs": 2, "batch": 16, "lr": 3e-3}],
    "descriptors": {"size": 64, "batch": 16},
    "evaluation": {"resamples": 100},
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "photos"
    draw_mini_world(folder, num_landmarks=8, num_photos=120, size_px=96, workers=1)
    return folder


@pytest.fixture(scope="session")
def collection_folder(world: Path) -> Path:
    folder = world.parent / "collection"
    imported, summary = import_gldv2(world)
    save_collection(imported, folder, made_by={"import": "gldv2"}, summary=summary.to_dict())
    return folder


@pytest.fixture
def collection(collection_folder: Path) -> Collection:
    return load_collection(collection_folder)


@pytest.fixture
def tiny() -> Recipe:
    return recipe_from(TINY)
