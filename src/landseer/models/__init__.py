"""Embedders: a timm backbone, pooling, a neck and unit norm, with the preprocessing their weights need."""

from landseer.models.backbone import require_possible
from landseer.models.embedder import (
    Embedder,
    build_embedder,
    load_embedder,
    preset_of,
    remade,
    save_embedder,
)
from landseer.models.ensemble import Ensemble, Member, concatenate_rows, load_ensemble, save_ensemble
from landseer.models.whitening import FeatureSums, Whitening, discriminative_whitening

__all__ = [
    "Embedder",
    "Ensemble",
    "FeatureSums",
    "Member",
    "Whitening",
    "build_embedder",
    "concatenate_rows",
    "discriminative_whitening",
    "load_embedder",
    "load_ensemble",
    "preset_of",
    "remade",
    "require_possible",
    "save_embedder",
    "save_ensemble",
]
