"""``landseer extract``."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landseer.cli import EXIT_SOME_UNREADABLE

if TYPE_CHECKING:
    from landseer.types import Collection, Descriptors


@click.command("extract")
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A collection.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Descriptors folder to write.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help='Backbone weights, where a recipe says weights = "file".',
)
@click.option(
    "--shard", help="Describe the third of eight parts: 3/8.  landseer merge joins the parts.  [default: all]"
)
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.  [default: all]")
@click.option("--size", type=int, help="Side of the square input, pixels.  [default: 224]")
@click.option(
    "--scales", help="Also see the input at these multiples of the size, say 0.7,1.0,1.4.  [default: 1.0]"
)
@click.option("--batch", type=int, help="Photos a forward pass.  [default: 32]")
@click.option("--dtype", help="How rows are stored: float32 or float16.  [default: float32]")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode and describe.  [default: cores]"
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    model: Path | None,
    data: Path,
    out: Path,
    weights: Path | None,
    shard: str | None,
    splits: tuple[str, ...],
    size: int | None,
    scales: str | None,
    batch: int | None,
    dtype: str | None,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Describe the photos of a collection by MODEL, one row a photo.

    MODEL is a model or ensemble folder (a run's trained/model, say), or a recipe, whose backbone is taken as it
    is.  Both remember how the model sees photos, which replaces the defaults below; of an ensemble each member
    does.  Where none is named it is DINOv2 small from the hub.

    Stopped or killed at any moment, the same command goes on where it was, with the same result to the bit.
    Photos that cannot be read are listed in OUT/unreadable.json and skipped.

    With --shard any number of machines share the work: each describes its part into a folder of its own, and
    landseer merge joins the folders to what one machine would have written.

    Exit code: 0 when every photo was read, 3 when some could not be, 2 for a mistake in the command.

    \b
    Example:
        landseer extract RUN/trained/model --data COLLECTION --split index --out INDEX-DESCRIPTORS
    """
    from landseer.cli.progress import progress_bars
    from landseer.extraction import Shard
    from landseer.pipeline import describe, open_model
    from landseer.recipe import recipe_from
    from landseer.storage import load_collection

    part = None if shard is None else Shard.named(shard)
    collection = _selected(load_collection(data), splits)
    opened, preset = open_model(model, weights=weights)
    asked = {"size": size, "scales": _numbers(scales), "batch": batch, "dtype": dtype}
    chosen = {key: value for key, value in asked.items() if value is not None}
    if preset is not None and preset.aspects.sizes and size is not None:
        raise ValueError(f"--size: {model} sees photos in sizes that go by their shape; leave it out")
    if preset is not None:
        preset = recipe_from({"title": "-", "descriptors": {**asdict(preset), **chosen}}).descriptors
    elif chosen:
        raise ValueError(
            f"{model} is an ensemble, and each of its members has its own way to see photos; "
            f"leave out --{next(iter(chosen))}"
        )
    there = out.exists()
    begun = time.monotonic()
    with progress_bars() as show:
        found = describe(
            (opened, preset),
            collection,
            out,
            workers=workers,
            progress=lambda done, total: show("describing photos", done, total),
            device=device,
            shard=part,
        )
    _print_summary(found, out, seconds=None if there else time.monotonic() - begun, as_json=as_json)
    if found.unreadable:
        sys.exit(EXIT_SOME_UNREADABLE)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--scales: {text!r} is not a list of numbers, say 0.7,1.0,1.4") from None


def _selected(collection: Collection, splits: tuple[str, ...]) -> Collection:
    chosen = collection.in_split(*splits) if splits else collection
    if not len(collection):
        raise ValueError("the collection has no photos")
    if not len(chosen):
        there = ", ".join(sorted(set(collection.photos["split"].to_pylist())))
        raise ValueError(f"--split: no photo of the collection is in {' or '.join(splits)}; it has {there}")
    return chosen


def _print_summary(found: Descriptors, out: Path, *, seconds: float | None, as_json: bool) -> None:
    """*seconds* is ``None`` where nothing had to be done."""
    photos = len(found) + len(found.unreadable)
    if as_json:
        facts = {
            "out": str(out),
            "photos": photos,
            "described": len(found),
            "unreadable": len(found.unreadable),
            "dim": found.dim,
            "fingerprint": found.fingerprint,
            "seconds": None if seconds is None else round(seconds, 3),
        }
        click.echo(json.dumps(facts))
        return
    if seconds is None:
        click.echo(f"{out} is there already, made with these settings: nothing to do")
    else:
        took = f"in {seconds:.0f} s, {found.dim} components each"
        click.echo(f"{len(found)} of {photos} photos described {took} -> {out}")
    if found.unreadable:
        click.echo(
            f"{len(found.unreadable)} photos could not be read; {out / 'unreadable.json'} says why "
            "(remove the folder to try them again)"
        )
