"""Drawn scenes: sharp random patches that SIFT finds, seen under a known homography; and collections of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

TILT = np.array([[0.9, -0.2, 30.0], [0.15, 0.95, 12.0], [1e-4, 2e-4, 1.0]])
"""A turn, a shift and a slight perspective."""


def drawn(seed: int, *, width: int = 200, height: int = 160) -> np.ndarray:
    """RGB uint8: grey rectangles of all sizes on each other, and their edges softened once."""
    rng = np.random.default_rng(seed)
    grey = np.full((height, width), 128, np.uint8)
    for _ in range(150):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, 40, size=2)
        cv2.rectangle(grey, (int(x), int(y)), (int(x + w), int(y + h)), int(rng.integers(0, 256)), -1)
    return np.repeat(cv2.GaussianBlur(grey, (0, 0), 0.8)[..., None], 3, axis=2)


def seen_through(picture: np.ndarray, model: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.warpPerspective(picture, model, (width, height), borderValue=(128, 128, 128))


def collection_of(
    root: Path, pictures: dict[str, np.ndarray], *, missing: tuple[str, ...] = ()
) -> Collection:
    """A collection of PNGs below *root*; the *missing* ones have a row and no file."""
    root.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(root / f"{name}.png")
    names = [*pictures, *missing]
    columns = {
        "id": names,
        "path": [f"{name}.png" for name in names],
        "kind": ["unknown"] * len(names),
        "clean": [False] * len(names),
        "split": ["index"] * len(names),
    }
    photos = {field.name: columns.get(field.name, [None] * len(names)) for field in PHOTO_SCHEMA}
    return Collection(
        photos=pa.table(photos, schema=PHOTO_SCHEMA), landmarks=LANDMARK_SCHEMA.empty_table(), root=root
    )


@pytest.fixture(autouse=True)
def _one_core():
    """Tests share the machine."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="session")
def scenes() -> dict[str, np.ndarray]:
    """Two scenes, each as it is and tilted."""
    first, second = drawn(0), drawn(1)
    return {
        "a": first,
        "a-tilted": seen_through(first, TILT),
        "b": second,
        "b-tilted": seen_through(second, TILT),
    }


@pytest.fixture(scope="session")
def draw():
    """``drawn``."""
    return drawn


@pytest.fixture(scope="session")
def collect():
    """``collection_of``."""
    return collection_of


@pytest.fixture(scope="session")
def tilt() -> np.ndarray:
    return TILT
