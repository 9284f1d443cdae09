"""A mini world of a few landmarks, imported once, a recipe that trains on it in seconds, and a folder to be indexed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import landseer.pipeline.indexing.model
from landseer.datasets import import_gldv2
from landseer.datasets.miniworld import draw_mini_world
from landseer.pipeline import build_index
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


PLAIN = """
title = "plain"
seed = {seed}
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
[descriptors]
size = {size}
"""


def _draw(folder: Path, *names: str, seed: int = 0) -> None:
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        tiles = np.random.default_rng([seed, number]).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(tiles.repeat(16, axis=0).repeat(16, axis=1)).save(file)


def _truncated(file: Path) -> None:
    _draw(file.parent, file.name, seed=99)
    file.write_bytes(file.read_bytes()[:-40])


def _write_recipe(file: Path, *, seed: int, size: int = 64) -> Path:
    file.write_text(PLAIN.format(seed=seed, size=size))
    return file


@pytest.fixture
def draw() -> Callable[..., None]:
    """Draws photos of large coloured squares, which also an untrained model tells apart."""
    return _draw


@pytest.fixture
def truncated() -> Callable[[Path], None]:
    """Draws a photo whose header can be read and whose pixels cannot."""
    return _truncated


@pytest.fixture
def write_recipe() -> Callable[..., Path]:
    """Writes a recipe whose model is small, untrained and drawn by a seed."""
    return _write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return _write_recipe(tmp_path / "recipe.toml", seed=5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    _draw(tmp_path / "photos", "rome/a.png", "rome/b.png", "oslo/c.png", "d.png", "e.png")
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path, photos: Path, recipe: Path) -> Path:
    build_index(photos, tmp_path / "INDEX", model=recipe, workers=1)
    return tmp_path / "INDEX"


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of all photos that go through the model of an index from now on."""
    ids: list[str] = []

    def noting(opened, collection, *args, **more):
        ids.extend(collection.ids)
        return describe(opened, collection, *args, **more)

    describe = landseer.pipeline.indexing.model.describe
    monkeypatch.setattr("landseer.pipeline.indexing.model.describe", noting)
    return ids
