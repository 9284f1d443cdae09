"""``landseer import``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from landseer.datasets import Progress, Summary
    from landseer.types import Collection

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

_out = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Collection folder to write."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
_no_file_check = click.option(
    "--no-file-check", is_flag=True, help="Do not look whether the photos are there; import all rows."
)
_keep_missing = click.option(
    "--keep-missing",
    is_flag=True,
    help="Keep rows whose photo is not there (yet).  [default: leave them out]",
)


_split = click.option(
    "--split",
    default="index",
    show_default=True,
    help="Where photos belong: train, validation, index or query.",
)


@click.group(name="import")
def command() -> None:
    """Turn photos and labels of any layout into a collection.

    Every row is checked; what is wrong is listed, and stays beside the collection in summary.json.

    \b
    Example:
        landseer import folder ~/Pictures --out pictures
    """


@command.command("gldv2")
@click.argument("source", type=FOLDER)
@click.option(
    "--none",
    "strangers",
    type=FOLDER,
    help="A folder below SOURCE of photos known to show no landmark: recognition is calibrated on them.",
)
@_out
@_no_file_check
@_keep_missing
@_json
def _gldv2(
    *,
    source: Path,
    strangers: Path | None,
    out: Path,
    no_file_check: bool,
    keep_missing: bool,
    as_json: bool,
) -> None:
    """Google Landmarks v2: train/, index/ and test/ (loose or in tar shards), CSV files in metadata/.

    \b
    Example:
        landseer import gldv2 /data/gldv2 --out gldv2
    """
    from landseer.datasets import import_gldv2, with_strangers

    if strangers is not None and not strangers.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"--none: {strangers} does not lie below {source}; move it there")

    def read(progress: Progress) -> tuple[Collection, Summary]:
        collection, summary = import_gldv2(
            source, check_files=not no_file_check, keep_missing=keep_missing, progress=progress
        )
        if strangers is not None:
            below = strangers.resolve().relative_to(source.resolve()).as_posix()
            before, collection = len(collection), with_strangers(collection, below)
            more = len(collection) - before
            summary = replace(
                summary,
                photos=summary.photos + more,
                splits={**summary.splits, "train": summary.splits.get("train", 0) + more},
                notes=(
                    *summary.notes,
                    f"{more:,} photos of {strangers} joined train as photos of no landmark",
                ),
            )
        return collection, summary

    _import(read, out, {"importer": "gldv2"}, as_json=as_json)


@command.command("gldv1")
@click.argument("source", type=FOLDER)
@_out
@_no_file_check
@_keep_missing
@_json
def _gldv1(*, source: Path, out: Path, no_file_check: bool, keep_missing: bool, as_json: bool) -> None:
    """Google Landmarks v1: train.csv with id,url,landmark_id, photos named after their ids.

    \b
    Example:
        landseer import gldv1 /data/gldv1 --out gldv1
    """
    from landseer.datasets import import_gldv1

    def read(progress: Progress) -> tuple[Collection, Summary]:
        return import_gldv1(
            source, check_files=not no_file_check, keep_missing=keep_missing, progress=progress
        )

    _import(read, out, {"importer": "gldv1"}, as_json=as_json)


@command.command("revisited")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--photos", type=FOLDER, help="Where the photos lie.  [default: the folder jpg beside the ground truth]"
)
@_out
@_no_file_check
@_keep_missing
@_json
def _revisited(
    *, source: Path, photos: Path | None, out: Path, no_file_check: bool, keep_missing: bool, as_json: bool
) -> None:
    """Revisited Oxford or Paris: gnd_roxford5k.pkl, gnd_rparis6k.pkl, or the same as JSON.

    \b
    Example:
        landseer import revisited gnd_roxford5k.pkl --photos oxbuild_images --out roxford5k
    """
    from landseer.datasets import import_revisited

    def read(progress: Progress) -> tuple[Collection, Summary]:
        return import_revisited(
            source,
            photos=photos,
            check_files=not no_file_check,
            keep_missing=keep_missing,
            progress=progress,
        )

    _import(read, out, {"importer": "revisited"}, as_json=as_json)


@command.command("folder")
@click.argument("source", type=FOLDER)
@_out
@click.option(
    "--labels",
    type=click.Choice(["auto", "folder", "none"]),
    default="auto",
    show_default=True,
    help="Whether each folder is a landmark; auto: yes where a subfolder holds photos.",
)
@_split
@click.option(
    "--split-by-folder", is_flag=True, help="The topmost folders are called train, index, query ..."
)
@_json
def _folder(
    *, source: Path, out: Path, labels: Any, split: str, split_by_folder: bool, as_json: bool
) -> None:
    """Photos in a folder of any depth: one folder a landmark, or no labels.

    Date, camera and position come from the photos, the country from the position.

    \b
    Example:
        landseer import folder ~/Pictures --labels none --out pictures
    """
    from landseer.datasets import import_folder

    def read(progress: Progress) -> tuple[Collection, Summary]:
        return import_folder(
            source, labels=labels, split=split, split_by_folder=split_by_folder, progress=progress
        )

    made_by = {"importer": "folder", "labels": labels, "split": split, "split_by_folder": split_by_folder}
    _import(read, out, made_by, as_json=as_json)


@command.command("table")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_out
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Which column of the table stands for which of the collection, say path=file_name; repeatable.",
)
@click.option("--root", type=FOLDER, help="Where the photos' paths start.  [default: the table's folder]")
@_split
@_no_file_check
@_keep_missing
@_json
def _table(
    *,
    source: Path,
    out: Path,
    columns: tuple[str, ...],
    root: Path | None,
    split: str,
    no_file_check: bool,
    keep_missing: bool,
    as_json: bool,
) -> None:
    """A CSV or Parquet table with one row a photo.

    \b
    Example:
        landseer import table photos.csv --column path=file_name --column landmark=place --out photos
    """
    from landseer.datasets import import_table

    mapping = _mapping(columns)

    def read(progress: Progress) -> tuple[Collection, Summary]:
        return import_table(
            source,
            columns=mapping,
            root=root,
            split=split,
            check_files=not no_file_check,
            keep_missing=keep_missing,
            progress=progress,
        )

    _import(read, out, {"importer": "table", "columns": mapping, "split": split}, as_json=as_json)


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    """``("path=file_name",)`` -> ``{"path": "file_name"}``."""
    found: dict[str, str] = {}
    for text in columns:
        target, equals, name = text.partition("=")
        if not equals or not target or not name:
            raise ValueError(f"--column {text!r} is not of the form NAME=COLUMN, as path=file_name")
        if target in found:
            raise ValueError(f"--column names {target!r} twice; give it one column")
        found[target] = name
    return found


def _import(
    read: Callable[[Progress], tuple[Collection, Summary]],
    out: Path,
    made_by: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Read, write *out*, print the summary; nothing is written where reading fails."""
    from rich.console import Console

    from landseer.cli.progress import progress_bars
    from landseer.storage import save_collection

    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    with progress_bars() as show:
        collection, summary = read(show)
    saved = save_collection(collection, out, made_by=made_by, summary=summary.to_dict())
    if as_json:
        click.echo(json.dumps({**summary.to_dict(), "out": str(out), "fingerprint": saved.fingerprint}))
        return
    console = Console()
    for table in _tables(summary):
        console.print(table)
    for note in summary.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    console.print(f"collection {saved.fingerprint}: {out}", markup=False, highlight=False, soft_wrap=True)


def _tables(summary: Summary) -> Iterator[Table]:
    """What was taken over, and what was wrong."""
    from rich.table import Table
    from rich.text import Text

    taken = Table(title=f"Imported from {summary.source}", title_justify="left", show_header=False)
    for name, value in _facts(summary):
        taken.add_row(name, Text(value))
    yield taken
    if summary.problems:
        wrong = Table("what", "rows", "outcome", title="Problems", title_justify="left")
        wrong.add_column("for example", overflow="fold")
        for problem in summary.problems:
            examples = Text("\n".join(problem.examples[:3]))
            wrong.add_row(Text(problem.what), str(problem.count), Text(problem.outcome), examples)
        yield wrong


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "photos", f"{summary.photos:,}"
    splits = [f"{split} {number:,}" for split, number in summary.splits.items() if number]
    yield "splits", ", ".join(splits)
    yield "photos with a landmark", f"{summary.labelled:,}"
    yield "landmarks", f"{summary.landmarks:,} ({summary.landmarks_without_name:,} without a name)"
    if summary.train_labelled:
        yield (
            "clean training photos",
            f"{summary.train_clean:,} of {summary.train_labelled:,} ({summary.clean_share:.1%}), "
            f"{summary.clean_landmarks:,} of {summary.train_landmarks:,} landmarks",
        )
    yield "countries", f"{summary.countries:,}"
    if summary.queries_with_answers:
        answered = [f"{split} {number:,}" for split, number in summary.queries_with_answers.items()]
        yield "queries with an answer", ", ".join(answered)
    yield "missing files", f"{summary.missing_files:,}" if summary.files_checked else "not looked for"
    yield "duplicate ids", f"{summary.duplicate_ids:,}"
    yield "rows left out", f"{summary.rows_refused:,}"
    ignored = [f"{file}: {', '.join(names)}" for file, names in summary.ignored_columns.items()]
    yield "columns ignored", "; ".join(ignored) or "none"
