"""``landseer rank``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="rank")
@click.option("--queries", required=True, type=FOLDER, help="Descriptors of the query photos.")
@click.option("--gallery", required=True, type=FOLDER, help="Descriptors of the photos to search.")
@click.option("-k", default=100, show_default=True, type=click.IntRange(min=1), help="Answers a query.")
@click.option(
    "--recall",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="Search approximately, for this share of the true answers; what is reached is measured and printed.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where the first pass runs; results are the same."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the ranking to write.")
def command(*, queries: Path, gallery: Path, k: int, recall: float | None, device: str, out: Path) -> None:
    """Rank the photos of one descriptor folder for every photo of another, exactly or to a --recall.

    \b
    Example:
        landseer rank --queries runs/a/query --gallery runs/a/index -k 100 --out runs/a/ranking
    """
    num_queries, num_gallery, how = rank_folders(queries, gallery, out, k=k, recall=recall, device=device)
    click.echo(f"{num_queries} queries ranked against {num_gallery} photos, {k} answers each: {out}")
    for line in how:
        click.echo(line)


def rank_folders(
    queries: Path, gallery: Path, out: Path, *, k: int, recall: float | None, device: str
) -> tuple[int, int, tuple[str, ...]]:
    """Read two descriptor folders, search, write *out*; returns the numbers of queries and photos, and the plan."""
    from landseer.search import build_approximate, search_exact
    from landseer.storage import load_descriptors, save_ranking

    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    asked, searched = load_descriptors(queries), load_descriptors(gallery, mmap=True)
    facts: dict[str, object] = {"search": "exact", "k": k}
    how: tuple[str, ...] = ()
    if recall is None:
        ranking = search_exact(asked, searched, k=k, device=device)
    else:
        made = build_approximate(searched, k=k, recall=recall)
        ranking = made.search(asked)
        facts |= {"search": "approximate", "plan": asdict(made.plan), "measured": asdict(made.measured)}
        how = (str(made.measured), str(made.plan))
    parents = {"queries": asked.fingerprint, "gallery": searched.fingerprint}
    save_ranking(ranking, out, made_by=facts, parents=parents)
    return len(asked), len(searched), how
