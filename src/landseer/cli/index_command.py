"""``landseer index``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landseer.cli import EXIT_SOME_UNREADABLE

if TYPE_CHECKING:
    from landseer.pipeline import Indexed, Rebuilt

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
    help="Most photos that are added, and so found, at a time.",
)
_weights = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help='Backbone weights, where a recipe says weights = "file".',
)
_recipe = click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep its [[reranking]] and [recognition] for landseer search --rerank and landseer serve.",
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
    help="Model folder, ensemble folder or recipe.  [default: DINOv2 small from the hub]",
)
@_weights
@_recipe
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
@click.option(
    "--replace", is_flag=True, help="Describe all of PHOTOS, and put each in the place of the one of its id."
)
@_labels
@_workers
@_device
@_commit_every
@_json
def _add(*, index: str, photos: Path, as_json: bool, **options: Any) -> None:
    """Add those of PHOTOS that INDEX lacks, described by its own model.

    An id is a photo's path below PHOTOS, or the collection's.  Photos that INDEX has from the same folder are
    passed over, also where their files have changed: --replace describes them again.  Where INDEX has an id from
    another folder nothing is added; --prefix and --replace are the ways out.

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


@command.command("rebuild")
@click.argument("index")
@click.option(
    "--model", type=click.Path(exists=True, path_type=Path), help="Model folder, ensemble folder or recipe."
)
@_weights
@click.option(
    "--drop-unreadable", is_flag=True, help="Remove photos from INDEX that cannot be read any more."
)
@_recipe
@click.option("--abandon", is_flag=True, help="Forget the rebuild under way, and what it has done.")
@click.option(
    "--recall",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="Build the structure that landseer search --recall uses, for this share of the true answers.",
)
@click.option(
    "-k", type=click.IntRange(min=1), help="With --recall: answers a photo, at most.  [default: 100]"
)
@_workers
@_device
@_commit_every
@_json
def _rebuild(
    *,
    index: str,
    model: Path | None,
    recipe: Path | None,
    abandon: bool,
    recall: float | None,
    k: int | None,
    as_json: bool,
    drop_unreadable: bool,
    **options: Any,
) -> None:
    """Describe all photos of INDEX again, by another --model; or make its search structure, or keep a recipe.

    The old model answers until all are done; then the new one does, at once.  The photos are read where they
    lay when they were added.  Stopped or killed at any moment, the same command goes on.  Where photos cannot
    be read the old model stays, and the same command tries those again.

    Exit code: 0 when INDEX has the new model, 3 when photos could not be read (with --drop-unreadable it has it
    all the same), 2 for a mistake in the command.

    \b
    Example:
        landseer index rebuild INDEX --model RUN/trained/model
        landseer index rebuild INDEX --recall 0.95
        landseer index rebuild INDEX --recipe recipe.toml
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline import abandon_rebuild, rebuild_index

    if (model is not None) + abandon + (recall is not None) + (recipe is not None) != 1:
        raise ValueError(
            "say one of --model (describe all photos by another), --recall (build the search structure), "
            "--recipe (keep its re-ranking and recognition) and --abandon (forget the rebuild under way)"
        )
    if k is not None and recall is None:
        raise ValueError("-k belongs to --recall; leave it out")
    if recipe is not None:
        _keep(index, recipe)
        return
    if recall is not None:
        _build_structure(index, recall=recall, k=k or 100, as_json=as_json)
        return
    if abandon:
        click.echo(f"rebuild forgotten, and the {abandon_rebuild(index):,} photos it had described")
        return
    assert model is not None
    with progress_bars() as show:
        done = rebuild_index(index, model=model, drop_unreadable=drop_unreadable, progress=show, **options)
    _print_rebuilt(done, as_json=as_json)


def _keep(index: str, recipe: Path) -> None:
    from landseer.pipeline.indexing.settings import keep_recipe

    methods = ", then ".join(options.method for options in keep_recipe(index, recipe).reranking)
    click.echo(f"{index} re-ranks by {methods}" if methods else f"{index} does not re-rank")


def _build_structure(index: str, *, recall: float, k: int, as_json: bool) -> None:
    """Build what approximate searches of INDEX use, and print the recall that was measured."""
    from landseer.search import open_index

    with open_index(index) as opened:
        click.echo(f"building the search structure of {len(opened):,} photos ...", err=True)
        measured = opened.build_structure(recall=recall, k=k)
    click.echo(json.dumps(asdict(measured)) if as_json else str(measured))


@command.command("copy")
@click.argument("index")
@click.argument("out", type=click.Path(path_type=Path))
def _copy(index: str, out: Path) -> None:
    """Copy INDEX to OUT, also while another process writes to it.

    The copy holds one committed state, and its model.  Within one file system it shares the bytes of the
    descriptors with INDEX, so it takes little room; for a copy that outlives the disk, name another one.

    \b
    Example:
        landseer index copy INDEX /media/backup/INDEX
    """
    from landseer.cli.progress import progress_bars
    from landseer.search import open_index

    with open_index(index) as opened, progress_bars() as show:
        opened.copy(out, progress=show)
    with open_index(out) as copied:
        click.echo(f"{len(copied):,} photos copied to {out}")


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
    if facts["structure"]:
        shown["structure"] = facts["structure"]
    chain = [options["method"] for options in facts["settings"].get("reranking", ())]
    if chain:
        shown["re-ranking"] = ", ".join(chain)
    if facts["rebuild"]:
        shown["rebuild"] = (
            f"under way to model {facts['rebuild']}, {facts['staged']:,} of {facts['photos']:,} photos done"
        )
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
        replaced = f", {done.replaced:,} of them in the place of others" if done.replaced else ""
        there = f", {done.there_already:,} were there already" if done.there_already else ""
        click.echo(f"{done.added:,} photos added{replaced}{there}; {done.path} holds {done.photos:,}")
        _print_unreadable(done.num_unreadable, done.unreadable)
    if done.num_unreadable:
        sys.exit(EXIT_SOME_UNREADABLE)


def _print_rebuilt(done: Rebuilt, *, as_json: bool) -> None:
    """What came of a rebuild; exit 3 where photos were unreadable."""
    if as_json:
        click.echo(json.dumps({**asdict(done), "path": str(done.path)}))
    else:
        dropped = f", {done.dropped:,} unreadable ones removed" if done.dropped else ""
        state = (
            f"{done.path} has that model now and holds {done.photos:,}{dropped}"
            if done.finished
            else f"{done.path} keeps the old model until all are: bring the others back and run this again, "
            "or remove them with --drop-unreadable"
        )
        click.echo(f"{done.described:,} photos described; {state}")
        _print_unreadable(len(done.unreadable), done.unreadable)
    if done.unreadable:
        sys.exit(EXIT_SOME_UNREADABLE)


def _print_unreadable(num: int, lines: Sequence[str]) -> None:
    """How many photos could not be read, and the first ones with the reason."""
    if num:
        click.echo(f"{num:,} photos could not be read:")
    for line in lines[:SHOWN_UNREADABLE]:
        click.echo(f"  {line}")
    more = num - min(len(lines), SHOWN_UNREADABLE)
    if more:
        click.echo(f"  and {more:,} more")
