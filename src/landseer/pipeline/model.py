"""Models from wherever the user names one, kept, opened and put to work: an embedder, or an ensemble of several."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from landseer.extraction import Shard, extract, extract_ensemble
from landseer.extraction.plan import require_sizes
from landseer.models import (
    Embedder,
    Ensemble,
    Member,
    build_embedder,
    load_embedder,
    load_ensemble,
    preset_of,
    save_embedder,
    save_ensemble,
)
from landseer.recipe import DescriptorOptions, MemberOptions, ModelOptions, Recipe, load_recipe
from landseer.storage import Manifest, open_artifact, read_json
from landseer.types import Collection, Descriptors

Opened = tuple[Embedder | Ensemble, DescriptorOptions | None]
"""A model and how it sees photos; None for an ensemble, whose members each have their own way."""


def open_model(source: Path | None = None, *, weights: Path | None = None) -> Opened:
    """The model *source* names, and how it wants to see photos.

    A folder is a model or ensemble folder (a run's ``trained/model``, say); a file is a recipe, whose models are
    taken as they are before any training, with *weights* for ``weights = "file"``; None is the model of
    ``ModelOptions``' defaults, DINOv2 small from the hub.  Raises ``ValueError`` where the model cannot be had, and
    for a recipe with a neck, a whitening or weights that only a run gives a meaning.
    """
    if source is not None and source.is_dir():
        if weights is not None:
            raise ValueError(f"--weights was given, but the model folder {source} has weights of its own")
        return load_model(source)
    if source is None:
        return build_embedder(ModelOptions(), weights=weights), DescriptorOptions()
    recipe = load_recipe(source)
    for part in recipe.parts:
        if part.model.neck != "none":
            raise ValueError(
                f"{source} has a neck ({part.model.neck}), which means nothing before training; "
                "give the trained/model folder of a run of it"
            )
    if recipe.descriptors.fitted:
        raise ValueError(
            f"{source} has a whitening or weights of members that only a run fits; "
            "give the trained/model folder of a run of it"
        )
    return untrained_model(recipe, weights=weights)


def seed_of(seed: int, member: str, stage: str = "") -> int:
    """The seed of one *stage* of one *member* of a recipe with this *seed*, or of the member's start; 63 bits.

    It follows from the names alone, so another member or stage before it changes nothing.
    """
    digest = hashlib.sha256(json.dumps([seed, member, stage]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def built(part: MemberOptions, recipe: Recipe, *, weights: Path | None, neck: bool = True) -> Embedder:
    """The embedder of *part* before any training, with its neck or without.

    *weights* goes to the parts that say ``weights = "file"``.  Raises ``ValueError`` for sizes of the recipe that
    the backbone cannot take.
    """
    takes = [other.name for other in recipe.parts if other.model.weights == "file"]
    embedder = build_embedder(
        part.model if neck else _plain(part.model),
        # where none takes a file, the builder says so
        weights=weights if part.name in takes or not takes else None,
        seed=seed_of(recipe.seed, part.name),
    )
    _require_sizes(embedder, part, recipe)
    return embedder


def untrained_model(recipe: Recipe, *, weights: Path | None) -> Opened:
    """The recipe's models as they are before any training: without necks, which only training gives a meaning.

    Members that start from the same weights and see photos alike are one, with the weight of all: their
    concatenated rows have the same cosines.
    """
    distinct: dict[tuple[ModelOptions, DescriptorOptions, str], Member] = {}
    for part in recipe.parts:
        plain = _plain(part.model)
        key = (plain, part.descriptors, part.name if plain.weights == "none" else "")
        if key in distinct:
            same = distinct[key]
            _require_sizes(same.embedder, part, recipe)
            distinct[key] = replace(same, weight=math.hypot(same.weight, part.weight))
        else:
            distinct[key] = Member(
                name=part.name,
                weight=part.weight,
                embedder=built(part, recipe, weights=weights, neck=False),
                descriptors=part.descriptors,
            )
    members = tuple(distinct.values())
    if len(members) == 1:
        return members[0].embedder, members[0].descriptors
    return Ensemble(members=members, unit=recipe.descriptors.renormalise), None


def save_model(opened: Opened, folder: Path, *, made_by: Mapping[str, object]) -> None:
    """Write a model folder or an ensemble folder; it remembers how its models see photos."""
    model, options = opened
    if isinstance(model, Ensemble):
        save_ensemble(model, folder, made_by=made_by)
    else:
        save_embedder(model, folder, made_by=made_by, descriptors=options)


def load_model(folder: Path) -> Opened:
    """What ``save_model`` wrote to *folder*."""
    if _kind(folder) == "ensemble":
        return load_ensemble(folder), None
    return load_embedder(folder), preset_of(folder)


def model_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder or of an ensemble folder."""
    return open_artifact(folder, _kind(folder))


def describe(
    opened: Opened,
    collection: Collection,
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    shard: Shard | None = None,
) -> Descriptors:
    """Describe every photo of *collection*, or a part, by what ``open_model`` gave, into the folder *out*."""
    model, options = opened
    if isinstance(model, Ensemble):
        return extract_ensemble(
            model, collection, out, workers=workers, progress=progress, device=device, shard=shard
        )
    assert options is not None, "only an ensemble comes without"
    return extract(
        model,
        collection,
        out,
        options=options,
        workers=workers,
        progress=progress,
        device=device,
        shard=shard,
    )


def _kind(folder: Path) -> str:
    """``ensemble``, or ``model`` for anything else: whoever opens it as one says what is wrong with it."""
    file = folder / "manifest.json"
    return "ensemble" if file.is_file() and read_json(file).get("kind") == "ensemble" else "model"


def _plain(options: ModelOptions) -> ModelOptions:
    return replace(options, neck="none", neck_start="random")


def _require_sizes(embedder: Embedder, part: MemberOptions, recipe: Recipe) -> None:
    """Refuse every size that *part* would show the backbone and that it cannot take."""
    require_sizes(embedder, part.descriptors)
    for stage in recipe.stages_of(part):
        where = f"stages.{stage.name}"
        for width, height in stage.aspects.sizes:
            embedder.require_size((width, height), f"{where}.aspects.sizes")
        if not stage.aspects.sizes:
            embedder.require_size(stage.size, f"{where}.size")
