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
from landseer.models.ensemble import (
    Ensemble,
    Member,
    concatenate_rows,
    join_descriptors,
    load_ensemble,
    save_ensemble,
)
from landseer.models.whitened import Whitening, fit_whitening, load_whitening, save_whitening
from landseer.models.whitening import FeatureSums, LinearMap, discriminative_whitening

__all__ = [
    "Embedder",
    "Ensemble",
    "FeatureSums",
    "LinearMap",
    "Member",
    "Whitening",
    "build_embedder",
    "concatenate_rows",
    "discriminative_whitening",
    "fit_whitening",
    "join_descriptors",
    "load_embedder",
    "load_ensemble",
    "load_whitening",
    "preset_of",
    "remade",
    "require_possible",
    "save_embedder",
    "save_ensemble",
    "save_whitening",
]
