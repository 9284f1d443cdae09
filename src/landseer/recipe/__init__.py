"""Recipes: every option of every room, loaded strictly from TOML, with a fingerprint."""

from landseer.recipe.load import fingerprint, load_recipe, options_from, recipe_from, shipped
from landseer.recipe.options import (
    DataOptions,
    DescriptorOptions,
    EvaluationOptions,
    ModelOptions,
    Recipe,
    SearchOptions,
    StageOptions,
)

__all__ = [
    "DataOptions",
    "DescriptorOptions",
    "EvaluationOptions",
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
