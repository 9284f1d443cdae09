"""Embedders: a timm backbone, pooling, a neck and unit norm, with the preprocessing their weights need."""

from landseer.models.embedder import Embedder, build_embedder, load_embedder, remade, save_embedder
from landseer.models.whitening import discriminative_whitening

__all__ = [
    "Embedder",
    "build_embedder",
    "discriminative_whitening",
    "load_embedder",
    "remade",
    "save_embedder",
]
