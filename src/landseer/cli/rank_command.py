"""``landseer rank``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


@click.command(name="rank")
@click.option(
    "--queries", required=True, help="Descriptors of the query photos: a folder, or a file of another tool."
)
@click.option("--gallery", required=True, help="Descriptors of the photos to search.")
@click.option("--query-ids", help="List of the query ids, for a file without (docs/foreign.md).")
@click.option("--gallery-ids", help="List of the gallery's ids.")
@click.option("--normalise", is_flag=True, help="Make unit rows of both, where a file holds others.")
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
def command(*, queries: str, gallery: str, out: Path, **options: Any) -> None:
    """Rank the photos of one descriptor folder or file for every photo of another, exactly or to a --recall.

    \b
    Example:
        landseer rank --queries runs/a/query --gallery runs/a/index -k 100 --out runs/a/ranking
    """
    num_queries, num_gallery, how = rank_folders(queries, gallery, out, **options)
    click.echo(
        f"{num_queries} queries ranked against {num_gallery} photos, {options['k']} answers each: {out}"
    )
    for line in how:
        click.echo(line)


def rank_folders(
    queries: str,
    gallery: str,
    out: Path,
    *,
    k: int,
    recall: float | None,
    device: str,
    query_ids: str | None,
    gallery_ids: str | None,
    normalise: bool,
) -> tuple[int, int, tuple[str, ...]]:
    """Read two tables of descriptors, search, write *out*; returns the numbers of queries and photos, and the plan."""
    from landseer.search import build_approximate, search_exact
    from landseer.storage import save_ranking
    from landseer.storage.foreign import fingerprint_of_source, read_descriptors

    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    asked = read_descriptors(queries, query_ids, normalise=normalise)
    searched = read_descriptors(gallery, gallery_ids, normalise=normalise)
    facts: dict[str, object] = {"search": "exact", "k": k}
    how: tuple[str, ...] = ()
    if recall is None:
        ranking = search_exact(asked, searched, k=k, device=device)
    else:
        made = build_approximate(searched, k=k, recall=recall)
        ranking = made.search(asked)
        facts |= {"search": "approximate", "plan": asdict(made.plan), "measured": asdict(made.measured)}
        how = (str(made.measured), str(made.plan))
    parents = {"queries": fingerprint_of_source(queries), "gallery": fingerprint_of_source(gallery)}
    save_ranking(ranking, out, made_by=facts, parents=parents)
    return len(asked), len(searched), how
