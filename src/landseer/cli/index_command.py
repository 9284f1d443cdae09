"""``landseer index``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landseer.cli import EXIT_SOME_UNREADABLE

if TYPE_CHECKING:
    from landseer.pipeline import Indexed

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXIT_BROKEN = 1
"""``verify`` found something broken."""
SHOWN_UNREADABLE = 20

_labels = click.option(
    "--labels",
    type=click.Choice(["auto", "folder", "none"]),
    default="auto",
    show_default=True,
    help="Whether each folder of a plain folder is a landmark; auto: yes where a subfolder holds photos.",
)
_workers = click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode and describe.  [default: cores]"
)
_device = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
_commit_every = click.option(
    "--commit-every",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Photos that are added, and so found, at a time.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")


@click.group(name="index")
def command() -> None:
    """A living index: photos come and go while queries are answered.

    One process writes, any number search.  INDEX holds the model, too; landseer search needs nothing else.

    \b
    Example:
        landseer index build ~/Pictures --out INDEX
    """


@command.command("build")
@click.argument("photos", type=FOLDER)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Index folder to write.")
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="Model folder or recipe.  [default: DINOv2 small from the hub]",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help='Backbone weights, where a recipe says weights = "file".',
)
@_labels
@_workers
@_device
@_commit_every
@_json
def _build(*, photos: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Describe PHOTOS, any folder of photos or a collection, and put them in a new index.

    Others can search as soon as the first photos are in.  Stopped or killed at any moment, the same command
    goes on with the photos that the index lacks.  Photos that cannot be read are listed at the end.

    Exit code: 0 when every photo was read, 3 when some could not be, 2 for a mistake in the command.

    \b
    Example:
        landseer index build ~/Pictures --out INDEX
    """
    from landseer.pipeline import build_index

    _fill(lambda show: build_index(photos, out, progress=show, **options), as_json=as_json)


@command.command("add")
@click.argument("index")
@click.argument("photos", type=FOLDER)
@click.option(
    "--prefix", default="", help="Put this and a slash before the new ids, where another folder has the same."
)
@_labels
@_workers
@_device
@_commit_every
@_json
def _add(*, index: str, photos: Path, as_json: bool, **options: Any) -> None:
    """Add those of PHOTOS that INDEX lacks, described by its own model.

    An id is a photo's path below PHOTOS, or the collection's.  Photos that INDEX has from the same folder are
    passed over; where it has the id from another folder, nothing is added and --prefix is the way out.

    Exit code: 0 when every photo was read, 3 when some could not be, 2 for a mistake in the command.

    \b
    Example:
        landseer index add INDEX ~/Pictures
    """
    from landseer.pipeline import add_to_index

    _fill(lambda show: add_to_index(index, photos, progress=show, **options), as_json=as_json)


@command.command("remove")
@click.argument("index")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def _remove(index: str, ids: tuple[str, ...]) -> None:
    """Remove photos from INDEX by id; no search finds them from then on.  The photos themselves stay.

    Where one id is unknown nothing is removed.

    \b
    Example:
        landseer index remove INDEX holiday/beach.jpg
    """
    from landseer.search import open_index

    with open_index(index, write=True) as opened:
        removed = opened.remove(ids)
        click.echo(
            f"{removed} photos removed, {len(opened)} left; landseer index compact gives back their room"
        )


@command.command("compact")
@click.argument("index")
def _compact(index: str) -> None:
    """Give back the room of removed photos and wipe what INDEX knew of them.

    \b
    Example:
        landseer index compact INDEX
    """
    from landseer.search import open_index

    with open_index(index, write=True) as opened:
        before = opened.info()
        opened.compact()
        after = opened.info()
    click.echo(
        f"room of {before.removed} removed photos given back: {before.bytes / 1e6:.1f} MB before, "
        f"{after.bytes / 1e6:.1f} MB now"
    )


@command.command("verify")
@click.argument("index")
def _verify(index: str) -> None:
    """Read all of INDEX and name what is broken, one line each.

    Exit code: 0 where all is well, 1 where something is broken.

    \b
    Example:
        landseer index verify INDEX
    """
    from landseer.search import verify_index

    problems = verify_index(index)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        sys.exit(EXIT_BROKEN)
    click.echo(f"{index}: nothing is broken")


@command.command("info")
@click.argument("index")
@_json
def _info(*, index: str, as_json: bool) -> None:
    """What INDEX holds.

    \b
    Example:
        landseer index info INDEX
    """
    from landseer.search import open_index

    with open_index(index) as opened:
        facts = {**asdict(opened.info()), "settings": dict(opened.settings)}
    if as_json:
        click.echo(json.dumps(facts))
        return
    source = facts["settings"].get("photos")
    shown = {
        "photos": f"{facts['photos']:,}" + (f", first from {source}" if source else ""),
        "removed": f"{facts['removed']:,} whose room compact would give back",
        "size": f"{facts['bytes'] / 1e6:,.1f} MB in {facts['segments']} segments",
        "model": facts["model"],
        "descriptors": f"{facts['dim']} components, {facts['dtype']}, {facts['metric']}",
        "columns": ", ".join(facts["columns"]),
        "changes": f"{facts['generation']:,}",
    }
    if facts["rebuild"]:
        shown["rebuild"] = f"to model {facts['rebuild']}, {facts['staged']:,} photos done"
    for name, value in shown.items():
        click.echo(f"{name:<12} {value}")


def _fill(fill: Callable[[Any], Indexed], *, as_json: bool) -> None:
    """Run *fill* under progress bars and print what came of it; exit 3 where photos were unreadable."""
    from landseer.cli.progress import progress_bars

    with progress_bars() as show:
        done = fill(show)
    if as_json:
        click.echo(json.dumps({**asdict(done), "path": str(done.path)}))
    else:
        there = f", {done.there_already:,} were there already" if done.there_already else ""
        click.echo(f"{done.added:,} photos added{there}; {done.path} holds {done.photos:,}")
        if done.num_unreadable:
            click.echo(f"{done.num_unreadable:,} photos could not be read:")
        for line in done.unreadable[:SHOWN_UNREADABLE]:
            click.echo(f"  {line}")
        more = done.num_unreadable - min(len(done.unreadable), SHOWN_UNREADABLE)
        if more:
            click.echo(f"  and {more:,} more")
    if done.num_unreadable:
        sys.exit(EXIT_SOME_UNREADABLE)
