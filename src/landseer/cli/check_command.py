"""``landseer check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landseer.cli.matching_flags import matching_flags

if TYPE_CHECKING:
    from landseer.matching import MatchingSetup

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXIT_FAILED = 1
"""With --fail: a photo is unreadable, doubled or leaking."""


@click.command("check")
@click.argument("collection", type=FOLDER)
@click.option(
    "--against",
    multiple=True,
    type=FOLDER,
    help="Another collection, whose queries and index photos this one must not have seen; may be repeated.",
)
@click.option(
    "--descriptors",
    multiple=True,
    type=FOLDER,
    help="Descriptors of the photos; without them crops and scenes are not found.  May be repeated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the report.  [default: check-COLLECTION, here]"
)
@click.option("--radius", type=int, help="Bits in which hashes of copies may differ, 0 to 8.  [default: 6]")
@click.option("--neighbours", type=int, help="Nearest by descriptor that are compared.  [default: 8]")
@click.option(
    "--scene-inliers", type=int, help="Points that must agree in photos of one scene.  [default: 30]"
)
@matching_flags
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: cores]")
@click.option(
    "--fail", is_flag=True, help="Exit with 1 where a photo is unreadable, doubled or leaking (for scripts)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    collection: Path,
    against: tuple[Path, ...],
    descriptors: tuple[Path, ...],
    out: Path | None,
    matching: MatchingSetup,
    workers: int | None,
    fail: bool,
    as_json: bool,
    **options: int | None,
) -> None:
    """Find what is unreadable, doubled or leaking in COLLECTION, and count its labels.  Nothing is deleted.

    Three notions of a copy are kept apart: equal bytes; the same picture re-encoded, resized, mirrored or, with
    --descriptors, cropped; and with --descriptors the same scene.  A leak is a photo of train whose copy is in
    validation, index or query (or of an earlier of these in a later one), here or in a collection --against.

    OUT gets report.html, check.json and the lists duplicates.csv, leaks.csv, landmarks.csv and unreadable.csv.
    Stopped or repeated, a check reads no photo again that it has read.

    Exit code: 0 whatever was found, 2 for a mistake in the command; with --fail 1 where something is wrong.

    \b
    Example:
        landseer check gld-mini --descriptors runs/a/bank --descriptors runs/a/index --out checked
        landseer check gld-mini --against roxford5k --against rparis6k --fail
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline.check import check_collection, check_facts
    from landseer.recipe.check_options import CheckOptions
    from landseer.storage import load_collection, load_descriptors

    chosen = CheckOptions(**{key: value for key, value in options.items() if value is not None})
    place = out or Path(f"check-{collection.resolve().name}")
    with progress_bars() as show:
        checked = check_collection(
            load_collection(collection),
            place,
            against={str(folder): load_collection(folder) for folder in against},
            descriptors=[load_descriptors(folder) for folder in descriptors],
            options=chosen,
            matching=matching,
            name=collection.resolve().name,
            workers=workers,
            progress=show,
        )
    facts = {**check_facts(checked), "out": str(place)}
    click.echo(json.dumps(facts) if as_json else "\n".join(lines_of(facts)))
    if fail and checked.failed:
        sys.exit(EXIT_FAILED)


def lines_of(facts: Mapping[str, Any]) -> Iterator[str]:
    """What was found, for a terminal."""
    yield from _photo_lines(facts)
    yield from _leak_lines(facts)
    yield from _label_lines(facts["labels"])
    yield f"{facts['out']}/report.html shows it; the lists beside it have every case, and nothing was deleted"


def _photo_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["duplicates"]
    yield f"{facts['photos']:,} photos, {facts['unreadable']:,} of them unreadable"
    copies = ", ".join(
        f"{found[kind]['clusters']:,} clusters of {what} ({found[kind]['photos']:,} photos)"
        for kind, what in (("bytes", "equal files"), ("picture", "the same picture"))
    )
    yield f"copies: {copies}; {found['photos_to_spare']:,} photos to spare"
    if found["with_different_landmarks"]:
        yield f"of these clusters {found['with_different_landmarks']:,} are under different landmarks"
    if facts["with_descriptors"]:
        scene = found["scene"]
        yield f"scenes: {scene['clusters']:,} clusters of the same scene ({scene['photos']:,} photos)"
    else:
        yield "crops and scenes were not looked for; they need --descriptors"


def _leak_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    ways = ", ".join(f"{way} {num:,}" for way, num in facts["photo_leaks"]["from_to"].items())
    yield f"photos that leak: {facts['photo_leaks']['photos']:,}" + (f" ({ways})" if ways else "")
    for name, share in facts["landmarks_trained_on"].items():
        if share["queries"]:
            known = share["queries"] - share["unknown"]
            part = "" if share["share"] is None else f" ({share['share']:.1%})"
            yield f"queries of {name} whose landmark was trained on: {share['seen']:,} of {known:,}{part}"
        if share["how"].get("words"):
            yield f"and {share['how']['words']:,} landmarks of {name} may be, by words alone: see landmarks.csv"


def _label_lines(labels: Mapping[str, Any]) -> Iterator[str]:
    tail = labels["tail"]
    if tail is None:
        yield "no photo has a landmark"
        return
    what = "training photos" if tail["split"] == "train" else "photos"
    yield (
        f"{tail['landmarks']:,} landmarks of {what}, half of which show {tail['half']:,}; "
        f"median {tail['median']:g} photos, {tail['singles']:,} landmarks have one"
    )
