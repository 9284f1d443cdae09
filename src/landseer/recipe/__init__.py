"""Recipes: every option of every room, loaded strictly from TOML, with a fingerprint."""

from landseer.recipe.load import fingerprint, load_recipe, options_from, recipe_from, shipped
from landseer.recipe.loss_options import LossOptions
from landseer.recipe.options import (
    DataOptions,
    DescriptorOptions,
    EvaluationOptions,
    ModelOptions,
    Recipe,
    SearchOptions,
)
from landseer.recipe.stage_options import AugmentationOptions, StageOptions

__all__ = [
    "AugmentationOptions",
    "DataOptions",
    "DescriptorOptions",
    "EvaluationOptions",
    "LossOptions",
    "ModelOptions",
    "Recipe",
    "SearchOptions",
    "StageOptions",
    "fingerprint",
    "load_recipe",
    "options_from",
    "recipe_from",
    "shipped",
]
