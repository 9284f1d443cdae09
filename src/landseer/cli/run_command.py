"""``landseer run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landseer.cli import EXIT_SOME_UNREADABLE
from landseer.cli.matching_flags import matching_files

if TYPE_CHECKING:
    from landseer.matching import MatchingSetup
    from landseer.pipeline import RunResult
    from landseer.types import Collection

also_option = click.option(
    "--also",
    "also",
    multiple=True,
    metavar="NAME=COLLECTION",
    help="A collection that stages of the recipe learn from by this name; may be repeated.",
)


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A collection.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder to write or to go on with."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help='Backbone weights (.safetensors or .pth), where the recipe says weights = "file".',
)
@matching_files
@also_option
@click.option("--root", type=click.Path(path_type=Path), help="Where the photos lie now, if they have moved.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode and describe.  [default: cores]"
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Steps of training between checkpoints, from which a run that was killed goes on; 0: none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def command(
    *,
    recipe: Path,
    data: Path,
    out: Path,
    weights: Path | None,
    matching: MatchingSetup,
    also: tuple[str, ...],
    root: Path | None,
    workers: int | None,
    device: str,
    checkpoint_every: int,
    as_json: bool,
) -> None:
    """Train, describe, search, evaluate and report as RECIPE says, beside the same model untrained.

    Stopped at any moment, the same command goes on with what is missing; finished, it does nothing but say so.

    Exit code: 0 when every photo was read, 3 when some could not be, 2 for a mistake in the command.

    \b
    Example:
        landseer run recipes/gld-mini.toml --data COLLECTION --out RUN --weights model.safetensors
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline import run_recipe
    from landseer.recipe import load_recipe
    from landseer.storage import load_collection

    with progress_bars() as show:
        result = run_recipe(
            load_recipe(recipe),
            load_collection(data, root=root),
            out,
            also=named_collections(also),
            weights=weights,
            matching=matching,
            workers=workers,
            device=device,
            checkpoint_every=checkpoint_every,
            watch=show,
        )
    print_result(result, as_json=as_json)


def named_collections(given: tuple[str, ...]) -> dict[str, Collection]:
    """The collections of ``--also NAME=COLLECTION``, by name."""
    from landseer.storage import load_collection

    found: dict[str, Collection] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--also: {text!r} is not NAME=COLLECTION, say gldv1=COLLECTIONS/gldv1")
        if name in found:
            raise ValueError(f"--also: the name {name!r} is given twice")
        found[name] = load_collection(Path(folder))
    return found


def print_result(result: RunResult, *, as_json: bool = False) -> None:
    """Print the numbers, trained beside untrained, and where the report is; exit 3 where photos were unreadable."""
    from landseer.pipeline import result_facts, result_table

    if as_json:
        click.echo(json.dumps(result_facts(result)))
    else:
        if result.did_nothing:
            click.echo(f"{result.out} is finished already: nothing to do")
        click.echo(result_table(result))
        click.echo(f"report: {result.page}")
    unreadable = result.final.unreadable
    if unreadable:
        click.echo(
            f"{len(unreadable)} photos could not be read and were skipped; the report lists them", err=True
        )
        sys.exit(EXIT_SOME_UNREADABLE)
