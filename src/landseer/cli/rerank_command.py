"""``landseer rerank``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landseer.cli.matching_flags import matching_files

if TYPE_CHECKING:
    from landseer.matching import MatchingSetup
    from landseer.reranking import Step

PATH = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="rerank")
@click.argument("ranking")
@click.option("--recipe", required=True, type=PATH, help="Recipe whose [[reranking]] is applied, in order.")
@click.option("--queries", multiple=True, help="Descriptors of the query photos.")
@click.option("--gallery", multiple=True, help="Descriptors of the photos that were searched.")
@click.option("--bank", multiple=True, help="Descriptors of labelled photos that vote.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Collection of the bank's photos, and of those that are matched.",
)
@click.option("--root", type=click.Path(path_type=Path), help="Where the photos lie now, if they have moved.")
@matching_files
@click.option("--explain", is_flag=True, help="Keep, with each answer that moved, why it did.")
@click.option("--json", "as_json", is_flag=True, help="Print what each method cost and moved as JSON.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the ranking to write.")
def command(
    *,
    ranking: str,
    recipe: Path,
    queries: tuple[str, ...],
    gallery: tuple[str, ...],
    bank: tuple[str, ...],
    data: Path | None,
    root: Path | None,
    matching: MatchingSetup,
    explain: bool,
    as_json: bool,
    out: Path,
) -> None:
    """Apply the [[reranking]] of a recipe to RANKING: expansion, k-reciprocal, diffusion, votes, geometry.

    Which descriptors a method needs, docs/reranking.md says; what is missing is named. Descriptors may be folders of
    landseer extract or files of other tools (docs/foreign.md).  For several models whose similarities are summed, give
    --queries, --gallery and --bank once for each, in the same order. The spatial method looks at the photos of --data.

    \b
    Example:
        landseer rerank RUN/trained/ranking --recipe recipe.toml --queries RUN/trained/query \\
            --gallery RUN/trained/index --bank RUN/trained/bank --data C --out RERANKED
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline import rerank_folder

    with progress_bars() as show:
        steps = rerank_folder(
            ranking,
            recipe,
            out,
            queries=queries,
            gallery=gallery,
            bank=bank,
            data=data,
            root=root,
            matching=matching,
            explain=explain,
            watch=show,
        )
    click.echo(json.dumps([asdict(step) for step in steps]) if as_json else _table(steps, out))


def _table(steps: tuple[Step, ...], out: Path) -> str:
    from landseer.evaluation import aligned

    lines = [("method", "seconds", "memory MB", "answers moved")]
    for step in steps:
        lines.append((step.method, f"{step.seconds:.2f}", f"{step.peak_bytes / 1e6:,.0f}", f"{step.moved:,}"))
    return f"{aligned(lines, names=1)}\n{out}"
