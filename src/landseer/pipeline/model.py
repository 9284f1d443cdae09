"""A model from wherever the user names one: a model folder, a recipe, or nothing."""

from __future__ import annotations

from pathlib import Path

from landseer.models import Embedder, build_embedder, load_embedder
from landseer.recipe import DescriptorOptions, ModelOptions, load_recipe


def open_model(
    source: Path | None = None, *, weights: Path | None = None
) -> tuple[Embedder, DescriptorOptions]:
    """The embedder *source* names, and how it wants to see photos.

    A folder is a model folder (a run's ``trained/model``, say); a file is a recipe, whose model is taken as it is
    before any training, with *weights* for ``weights = "file"``; None is the model of ``ModelOptions``' defaults,
    DINOv2 small from the hub.  Raises ``ValueError`` where the model cannot be had, and for a recipe with a neck
    that only training gives a meaning.
    """
    if source is not None and source.is_dir():
        if weights is not None:
            raise ValueError(f"--weights was given, but the model folder {source} has weights of its own")
        return load_embedder(source), DescriptorOptions()
    if source is None:
        return build_embedder(ModelOptions(), weights=weights), DescriptorOptions()
    recipe = load_recipe(source)
    if recipe.model.neck != "none":
        raise ValueError(
            f"{source} has a neck ({recipe.model.neck}), which means nothing before training; "
            "give the trained/model folder of a run of it"
        )
    return build_embedder(recipe.model, weights=weights, seed=recipe.seed), recipe.descriptors
