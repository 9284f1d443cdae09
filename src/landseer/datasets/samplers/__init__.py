"""Samplers: which photos stand in which batch of an epoch, by (seed, epoch, rank) alone."""

from landseer.datasets.samplers.aspect import AspectGrouped, bin_of
from landseer.datasets.samplers.base import Sampler
from landseer.datasets.samplers.continents import (
    CLEAN_SHARE,
    OTHER,
    POOLS,
    RATIOS,
    ContinentAware,
    Drawn,
    continents_in,
)
from landseer.datasets.samplers.mixture import BatchMixture, Part, PhotoMixture, SampledPart
from landseer.datasets.samplers.shuffle import IdUniform, Shuffle

__all__ = [
    "CLEAN_SHARE",
    "OTHER",
    "POOLS",
    "RATIOS",
    "AspectGrouped",
    "BatchMixture",
    "ContinentAware",
    "Drawn",
    "IdUniform",
    "Part",
    "PhotoMixture",
    "SampledPart",
    "Sampler",
    "Shuffle",
    "bin_of",
    "continents_in",
]
