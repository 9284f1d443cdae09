"""Tiny backbones and small noise photos."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from landseer.models import Embedder, build_embedder
from landseer.recipe import ModelOptions


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are faster on one thread, and the same to the bit everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> Callable[..., Embedder]:
    """``tiny(backbone="test_resnet", **options)``: an embedder with random weights."""

    def make(backbone: str = "test_resnet", seed: int = 0, **options: object) -> Embedder:
        return build_embedder(
            ModelOptions(**{"backbone": backbone, "weights": "none", "pooling": "gem", **options}), seed=seed
        )

    return make


@pytest.fixture
def photos() -> np.ndarray:
    """Five photos uint8 ``[5, 64, 64, 3]``."""
    return np.random.default_rng(5).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
