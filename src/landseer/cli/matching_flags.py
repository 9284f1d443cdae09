"""The options of every command that matches photos point by point."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def matching_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* an argument ``matching``, a ``MatchingSetup``, and the options that it is made from.

    To stand under ``@click.command`` and beside ``@click.option``, of a command without a recipe.
    """

    @click.option(
        "--extractor",
        type=click.Choice(["rootsift", "xfeat"]),
        default="rootsift",
        show_default=True,
        help="Which points of a photo are described; xfeat needs --extractor-weights.",
    )
    @click.option(
        "--pairing",
        type=click.Choice(["mutual", "lighterglue"]),
        default="mutual",
        show_default=True,
        help="How the points of two photos are paired; lighterglue is for xfeat and needs --pairer-weights.",
    )
    @matching_files
    @wraps(command)
    def with_options(*, extractor: Any, pairing: Any, matching: Any, **rest: Any) -> None:
        from dataclasses import replace

        from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions

        options = MatchingOptions(features=LocalFeatureOptions(extractor=extractor), pairing=pairing)
        command(matching=replace(matching, options=options), **rest)

    return with_options


def matching_files(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command with a recipe, whose ``[matching]`` says the rest: weights and the folder of features."""

    @click.option("--extractor-weights", type=FILE, help="ONNX file of xfeat.")
    @click.option("--pairer-weights", type=FILE, help="ONNX file of lighterglue.")
    @click.option(
        "--features",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that keeps the photos' local features, to be used again.  [default: in memory only]",
    )
    @wraps(command)
    def with_files(
        *,
        extractor_weights: Path | None,
        pairer_weights: Path | None,
        features: Path | None,
        **rest: Any,
    ) -> None:
        from landseer.matching import MatchingSetup

        matching = MatchingSetup(
            extractor_weights=extractor_weights, pairer_weights=pairer_weights, features=features
        )
        command(matching=matching, **rest)

    return with_files
