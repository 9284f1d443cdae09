"""Losses over descriptors and label rows."""

from landseer.losses.adacos import dynamic_scale, fixed_scale
from landseer.losses.head import MarginHead
from landseer.losses.margins import arcface, cosface, size_margins
from landseer.losses.sharded import ShardedHead
from landseer.losses.triplet import batch_hard_triplet
from landseer.losses.weights import class_weights, sample_weights

__all__ = [
    "MarginHead",
    "ShardedHead",
    "arcface",
    "batch_hard_triplet",
    "class_weights",
    "cosface",
    "dynamic_scale",
    "fixed_scale",
    "sample_weights",
    "size_margins",
]
