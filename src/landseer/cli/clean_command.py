"""``landseer clean``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landseer.cli.matching_flags import matching_flags

if TYPE_CHECKING:
    from landseer.matching import MatchingSetup
    from landseer.pipeline.clean import Cleaned, CleaningOutputs

_NEW = click.Path(path_type=Path)


@click.command("clean")
@click.argument("collection", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--descriptors", required=True, help="Descriptors of the training photos, by any model.")
@click.option("--out", required=True, type=_NEW, help="Collection folder to write.")
@click.option(
    "--mode",
    type=click.Choice(["both", "geometry", "descriptors"]),
    default="both",
    show_default=True,
    help="What a label needs: the same points in enough photos of it, nearness to it, or one of the two.",
)
@click.option(
    "--neighbours", type=int, default=1000, show_default=True, help="Nearest photos looked through."
)
@click.option("--same-label", type=int, default=100, show_default=True, help="Of these compared, at most.")
@click.option(
    "--inliers", type=int, help="Points that prove a pair.  [default: 6 for rootsift, 20 for xfeat]"
)
@click.option("--least-neighbours", type=int, default=3, show_default=True, help="Pairs that prove a photo.")
@click.option(
    "--least-photos", type=int, default=2, show_default=True, help="A landmark with fewer kept is dropped."
)
@click.option(
    "--agreement", type=int, default=5, show_default=True, help="Nearest photos held against others."
)
@click.option("--centres", type=int, default=1, show_default=True, help="Groups a label is parted into.")
@click.option(
    "--margin", type=float, default=-0.03, show_default=True, help="Cosine by which its label is nearer."
)
@click.option("--sweep", is_flag=True, help="Verify every pair and print what other thresholds would keep.")
@click.option(
    "--overrides",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file with the columns id,decision: keep or drop, whatever the evidence.",
)
@click.option("--csv", type=_NEW, help="Also write the clean photos as GLDv2's train_clean.csv.")
@click.option("--report", type=_NEW, help="Also write a folder of pages with the evidence for each photo.")
@click.option(
    "--pages", type=click.IntRange(min=0), default=1000, show_default=True, help="Landmarks that get a page."
)
@click.option("--evidence", type=_NEW, help="Folder that keeps what was found.  [default: OUT.evidence]")
@matching_flags
@click.option("--workers", type=click.IntRange(min=1), help="Cores to use.  [default: all]")
@click.option("--device", default="cpu", show_default=True, help="Of the search: cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    collection: Path,
    descriptors: str,
    out: Path,
    csv: Path | None,
    report: Path | None,
    pages: int,
    evidence: Path | None,
    overrides: Path | None,
    sweep: bool,
    matching: MatchingSetup,
    workers: int | None,
    device: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Tell clean labels from noisy ones and write the collection with its column clean filled.

    Every training photo with a landmark is judged anew: what clean said before plays no part. Each gets a score from 0
    to 1 (column clean_score) and a reason (clean_reason); from 0.5 it is kept. See docs/cleaning.md.

    Stopped or killed, the same command goes on where it was, with the same result. Other thresholds on the same
    --evidence need seconds: neighbours, inliers and (unless --features names another folder) local features stay there.

    \b
    Example:
        landseer clean COLLECTION --descriptors TRAIN-DESCRIPTORS --out CLEANED --report PAGES
    """
    from landseer.cli.progress import progress_bars
    from landseer.pipeline.clean import CleaningOutputs, clean_collection
    from landseer.recipe.cleaning_options import CleaningOptions

    outputs = CleaningOutputs(collection=out, csv=csv, report=report, evidence=evidence, pages=pages)
    options = CleaningOptions(**chosen, every_pair=sweep)
    with progress_bars() as show:
        found = clean_collection(
            collection,
            descriptors,
            outputs,
            options=options,
            matching=matching,
            overrides=overrides,
            workers=workers,
            device=device,
            watch=show,
        )
    click.echo(json.dumps({**found.to_dict(), "out": str(out)}) if as_json else _text(found, outputs))


def _text(found: Cleaned, outputs: CleaningOutputs) -> str:
    from landseer.evaluation import aligned

    lines = [("why", "photos"), *((reason, f"{number:,}") for reason, number in found.reasons.items())]
    told = [
        aligned(lines, names=1),
        f"kept {found.kept_photos:,} of {found.photos:,} photos, "
        f"{found.kept_landmarks:,} of {found.landmarks:,} landmarks",
    ]
    if found.pairs["possible"]:
        known = f", {found.pairs['known']:,} were known" if found.pairs["known"] else ""
        told.append(
            f"verified {found.pairs['verified']:,} of {found.pairs['possible']:,} pairs{known}; "
            f"{found.saved:.0%} saved by stopping early"
        )
    if found.unreadable:
        name, reason = next(iter(found.unreadable.items()))
        told.append(f"{len(found.unreadable)} photos could not be compared, the first {name!r}: {reason}")
    if found.sweep:
        grid = [("neighbours", "inliers", "photos", "landmarks")]
        grid += [
            (str(row.least_neighbours), str(row.inliers), f"{row.photos:,}", f"{row.landmarks:,}")
            for row in found.sweep
        ]
        told.append("geometry alone would keep\n" + aligned(grid, names=0))
    told += [str(path) for path in (outputs.collection, outputs.csv) if path is not None]
    return "\n".join([*told, *([f"{outputs.report}/index.html"] if outputs.report else [])])
