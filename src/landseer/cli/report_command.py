"""``landseer report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The run's collection.",
)
@click.option("--root", type=click.Path(path_type=Path), help="Where the photos lie now, if they have moved.")
def command(*, run: Path, data: Path, root: Path | None) -> None:
    """Write RUN/report.html anew: one self-contained page with numbers, figures and pictures.

    \b
    Example:
        landseer report RUN --data COLLECTION
    """
    from landseer.pipeline import write_run_page
    from landseer.storage import load_collection

    click.echo(f"report: {write_run_page(run, load_collection(data, root=root))}")
