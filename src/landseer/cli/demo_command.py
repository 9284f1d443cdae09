"""``landseer demo``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the mini world, the collection and the run.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes and threads.  [default: cores]")
def command(*, out: Path, workers: int | None) -> None:
    """Draw a mini world, import it, train on it, search it and report: the whole chain, without a network.

    Minutes on two cores.  Stopped at any moment, the same command goes on with what is missing.

    \b
    Example:
        landseer demo
    """
    from landseer.cli.progress import progress_bars
    from landseer.cli.run_command import print_result
    from landseer.pipeline import run_demo

    with progress_bars() as show:
        result = run_demo(out, workers=workers, watch=show)
    print_result(result)
