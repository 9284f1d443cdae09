"""Recipes: every option of every room, loaded strictly from TOML, with a fingerprint."""

from landseer.recipe.aspect_options import AspectOptions
from landseer.recipe.cleaning_options import CleaningOptions
from landseer.recipe.load import fingerprint, load_recipe, options_from, recipe_from, shipped
from landseer.recipe.loss_options import LossOptions
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.recipe.options import (
    DataOptions,
    DescriptorOptions,
    EvaluationOptions,
    MemberOptions,
    ModelOptions,
    Recipe,
    SearchOptions,
    WhiteningOptions,
)
from landseer.recipe.recognition_options import RecognitionOptions
from landseer.recipe.reranking_options import (
    BankOptions,
    DiffusionOptions,
    ExpansionOptions,
    LandmarkCountryOptions,
    NearestLabelOptions,
    ReciprocalOptions,
    RerankingOptions,
    SpatialOptions,
    TraversalOptions,
    TwoStageOptions,
)
from landseer.recipe.stage_options import AugmentationOptions, StageOptions

__all__ = [
    "AspectOptions",
    "AugmentationOptions",
    "BankOptions",
    "CleaningOptions",
    "DataOptions",
    "DescriptorOptions",
    "DiffusionOptions",
    "EvaluationOptions",
    "ExpansionOptions",
    "LandmarkCountryOptions",
    "LocalFeatureOptions",
    "LossOptions",
    "MatchingOptions",
    "MemberOptions",
    "ModelOptions",
    "NearestLabelOptions",
    "Recipe",
    "ReciprocalOptions",
    "RecognitionOptions",
    "RerankingOptions",
    "SearchOptions",
    "SpatialOptions",
    "StageOptions",
    "TraversalOptions",
    "TwoStageOptions",
    "WhiteningOptions",
    "fingerprint",
    "load_recipe",
    "options_from",
    "recipe_from",
    "shipped",
]
