"""``landseer train``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landseer.cli.run_command import also_option, named_collections

if TYPE_CHECKING:
    from landseer.training import Callback


@click.command("train")
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
@also_option
@click.option("--root", type=click.Path(path_type=Path), help="Where the photos lie now, if they have moved.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads of each process that decode.  [default: cores]"
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Steps of training between checkpoints, from which a training that was killed goes on; 0: none.",
)
@click.option("--shard-head", is_flag=True, help="Under torchrun: spread the head's rows over the processes.")
@click.option(
    "--tensorboard", type=click.Path(path_type=Path), help="Folder for curves that TensorBoard shows."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    recipe: Path,
    data: Path,
    out: Path,
    weights: Path | None,
    also: tuple[str, ...],
    root: Path | None,
    workers: int | None,
    device: str,
    checkpoint_every: int,
    shard_head: bool,
    tensorboard: Path | None,
    as_json: bool,
) -> None:
    """Train the models of RECIPE through all their stages; landseer run with the same --out then measures them.

    Killed at any moment, the same command goes on from the last checkpoint; finished, it does nothing but say so.
    Under torchrun each process trains on its part of every batch; all of them must see OUT.

    \b
    Example:
        landseer train recipes/landseer.toml --data COLLECTION --out RUN
        torchrun --nproc-per-node 8 --no-python \\
            landseer train RECIPE --data COLLECTION --out RUN --device cuda
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline import train_recipe, training_facts, training_lines
    from landseer.recipe import load_recipe
    from landseer.storage import load_collection

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with progress_bars() as show:
        result = train_recipe(
            load_recipe(recipe),
            load_collection(data, root=root),
            out,
            also=named_collections(also),
            weights=weights,
            workers=workers,
            device=device,
            checkpoint_every=checkpoint_every,
            shard_head=shard_head,
            watch=show,
            callbacks=_curves(tensorboard) if tensorboard is not None and first else (),
        )
    if first and as_json:
        click.echo(json.dumps(training_facts(result)))
    elif first:
        if result.did_nothing:
            click.echo(f"{result.out} is trained already: nothing to do")
        click.echo(training_lines(result))


def _curves(folder: Path) -> tuple[Callback]:
    from landseer.training import tensorboard_callback

    callback = tensorboard_callback(folder)
    if callback is None:
        raise ValueError("--tensorboard: TensorBoard is not installed; pip install landseer[tensorboard]")
    return (callback,)
