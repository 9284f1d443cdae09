"""A small real embedder and drawn photos, for the tests of extraction and for the processes they kill."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

REFUSED = 17
"""Side of the one square that the small embedder pretends it cannot take."""


class SmallEmbedder(nn.Module):
    """Two convolutions, average pooling, unit rows: the interface of ``landseer.models.Embedder``."""

    def __init__(self, *, seed: int = 0, dim: int = 24) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.BatchNorm2d(16), nn.Conv2d(16, dim, 3)
        )
        for parameter in self.layers.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        weights = b"".join(p.detach().numpy().tobytes() for p in self.layers.parameters())
        self.fingerprint = hashlib.sha256(weights).hexdigest()

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.layers(photos).mean(dim=(2, 3)))

    def require_size(self, size: int | tuple[int, int], where: str) -> None:
        if size == REFUSED or size == (REFUSED, REFUSED):
            raise ValueError(f"{where}: not {size}")

    def scaled_size(self, size: tuple[int, int], scale: float, multiple: int = 0) -> tuple[int, int]:
        width, height = (int(side * scale) // max(1, multiple) * max(1, multiple) for side in size)
        self.require_size((width, height), "scales")
        return width, height

    @torch.inference_mode()
    def describe(
        self,
        photos: np.ndarray,
        *,
        scales: tuple[float, ...] = (1.0,),
        scale_average: str = "unit",
        scale_multiple: int = 0,
        flip: bool = False,
    ) -> np.ndarray:
        pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 127.5 - 1
        see = self if scale_average == "unit" else lambda seen: self.layers(seen).mean(dim=(2, 3))
        rows = []
        for scale in scales:
            width, height = self.scaled_size((photos.shape[2], photos.shape[1]), scale, scale_multiple)
            seen = nn.functional.interpolate(pixels, size=(height, width))
            rows += [see(photos) for photos in ((seen, seen.flip(3)) if flip else (seen,))]
        return nn.functional.normalize(torch.stack(rows).mean(dim=0)).numpy()


def draw_photos(
    root: Path,
    num: int,
    *,
    unreadable: tuple[int, ...] = (),
    shapes: tuple[tuple[int, int], ...] = ((28, 20),),
) -> Collection:
    """*num* noise photos below *root* (made where absent); those at *unreadable* are no pictures.

    *shapes* are their (width, height), one after the other and again from the first.
    """
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{number:04d}.png" for number in range(num)]
    for number, name in enumerate(names):
        if number in unreadable:
            (root / name).write_bytes(b"this is not a picture")
        elif not (root / name).exists():
            width, height = shapes[number % len(shapes)]
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name)
    columns = {
        "id": [f"photo-{number}" for number in range(num)],
        "path": names,
        "kind": ["unknown"] * num,
        "clean": [True] * num,
        "split": ["index"] * num,
    }
    arrays = [pa.array(columns.get(field.name, [None] * num), field.type) for field in PHOTO_SCHEMA]
    return Collection(
        photos=pa.table(arrays, schema=PHOTO_SCHEMA),
        landmarks=LANDMARK_SCHEMA.empty_table(),
        root=root,
        fingerprint="drawn",
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder: name -> bytes."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def embedder() -> SmallEmbedder:
    return SmallEmbedder()


@pytest.fixture
def draw(tmp_path: Path):
    """``draw(num, unreadable=(), shapes=...)`` draws photos and gives their collection."""
    return lambda num, unreadable=(), **more: draw_photos(
        tmp_path / "photos", num, unreadable=unreadable, **more
    )


@pytest.fixture
def one_thread():
    """Direct calls of a model agree with an extraction to the bit when torch uses one thread here, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def content_of():
    """``content_of(folder)``: every file of a folder, name -> bytes."""
    return content
