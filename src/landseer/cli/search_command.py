"""``landseer search``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landseer.cli import EXIT_SOME_UNREADABLE

if TYPE_CHECKING:
    from landseer.pipeline import Answers

CSV_COLUMNS = ("rank", "score", "id", "path", "landmark", "landmark_name", "country", "taken")


@click.command("search")
@click.argument("index")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option("-k", default=10, show_default=True, type=click.IntRange(min=1), help="Answers a photo.")
@click.option(
    "--filter", "where", help="Only photos that meet this, say \"country = 'FR' and taken >= '2019'\"."
)
@click.option(
    "--recall",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="Search approximately, by what landseer index rebuild --recall made.  [default: exactly]",
)
@click.option("--rerank", is_flag=True, help="Put the answers in order by the recipe that INDEX keeps.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode and describe.  [default: cores]"
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known of each answer, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print one line an answer, as CSV.")
def command(
    *,
    index: str,
    photos: tuple[Path, ...],
    k: int,
    where: str | None,
    recall: float | None,
    rerank: bool,
    workers: int | None,
    device: str,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Find the photos of INDEX that are most like each PHOTO, exactly unless a --recall is named.

    INDEX is a path or file:PATH; it may be searched while it is built.  A PHOTO need not be in it.

    Exit code: 0, 3 when a PHOTO could not be read (the others are answered), 2 for a mistake in the command.

    \b
    Example:
        landseer search INDEX photo.jpg -k 5 --filter "country = 'FR'"
    """
    from landseer.pipeline import search_index

    if as_json and as_csv:
        raise ValueError("--json and --csv exclude each other; choose one")
    found = search_index(
        index, photos, k=k, where=where, recall=recall, rerank=rerank, workers=workers, device=device
    )
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    elif as_csv:
        _print_csv(found)
    else:
        _print_tables(found)
    unreadable = [each for each in found if each.unreadable is not None]
    for each in unreadable:
        click.echo(f"landseer: {each.query} could not be read: {each.unreadable}", err=True)
    if unreadable:
        sys.exit(EXIT_SOME_UNREADABLE)


def _print_csv(found: Sequence[Answers]) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(("query", *CSV_COLUMNS))
    for each in found:
        for answer in each.answers:
            lines.writerow((each.query, *(answer.get(name) for name in CSV_COLUMNS)))


def _print_tables(found: Sequence[Answers]) -> None:
    from landseer.evaluation import aligned

    for each in found:
        if each.unreadable is not None:
            continue
        click.echo(each.query)
        # the path stands last and whole, however long, so that it can be copied
        lines = [("rank", "score", "landmark", "country", "date", "path")]
        for answer in each.answers:
            landmark = answer.get("landmark_name") or answer.get("landmark")
            lines.append(
                (
                    str(answer["rank"]),
                    f"{answer['score']:.4f}",
                    "" if landmark is None else str(landmark),
                    answer["country"] or "",
                    (answer["taken"] or "")[:10],
                    answer["path"] or answer["id"],
                )
            )
        if each.answers:
            click.echo(aligned(lines, names=6))
        else:
            click.echo("no photo of the index meets the filter, or it is empty")
