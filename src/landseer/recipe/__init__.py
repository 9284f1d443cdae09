"""Recipes: every option of every room, loaded strictly from TOML, with a fingerprint."""

from landseer.recipe.aspect_options import AspectOptions
from landseer.recipe.load import fingerprint, load_recipe, options_from, recipe_from, shipped
from landseer.recipe.loss_options import LossOptions
from landseer.recipe.options import (
    DataOptions,
    DescriptorOptions,
    EvaluationOptions,
    MemberOptions,
    ModelOptions,
    Recipe,
    SearchOptions,
)
from landseer.recipe.stage_options import AugmentationOptions, StageOptions

__all__ = [
    "AspectOptions",
    "AugmentationOptions",
    "DataOptions",
    "DescriptorOptions",
    "EvaluationOptions",
    "LossOptions",
    "MemberOptions",
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
