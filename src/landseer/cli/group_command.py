"""``landseer group``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landseer.cli.matching_flags import matching_flags

if TYPE_CHECKING:
    from landseer.cleaning.grouping import Grouping
    from landseer.matching import MatchingSetup

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("group")
@click.argument("collection", type=FOLDER)
@click.option(
    "--descriptors", help="Descriptors of the photos to group: a folder, or a file of another tool."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--apply", "applied", type=FOLDER, help="A folder of groups, edited: write the collection they make."
)
@click.option(
    "--onto", type=FOLDER, help="An earlier folder of groups: keep them, place only photos it does not list."
)
@click.option(
    "--split",
    help="With --apply: the split of photos that have a place now; those of train vote.  [default: as is]",
)
@click.option(
    "--mode",
    type=click.Choice(["geometry", "descriptors"]),
    default="geometry",
    show_default=True,
    help="Whether neighbours are also matched point by point.",
)
@click.option(
    "--likeness", type=float, help="How alike groups must be; higher: surer, smaller groups.  [default: 5.5]"
)
@click.option("--least", type=click.IntRange(min=2), default=2, show_default=True, help="Smallest group.")
@matching_flags
@click.option("--root", type=click.Path(path_type=Path), help="Where the photos lie now, if they have moved.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1, for the search.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def command(
    *,
    collection: Path,
    descriptors: str | None,
    out: Path,
    applied: Path | None,
    onto: Path | None,
    split: str | None,
    mode: str,
    likeness: float | None,
    least: int,
    matching: MatchingSetup,
    root: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Put the unlabelled photos of COLLECTION together by place, to be named.

    First --descriptors writes groups.html to look at, and groups.csv and photos.csv to edit: write names, say which
    groups are the same, move photos. Then --apply writes a new collection whose photos carry these names. Photos that
    fit no group stay unknown. Photos added later are placed by --onto.

    \b
    Example:
        landseer group C --descriptors DESC --out GROUPS
        landseer group C --apply GROUPS --out NAMED --split train
    """
    if (descriptors is None) == (applied is None):
        raise ValueError("say --descriptors DESC to group photos, or --apply GROUPS to write their names")
    if applied is not None:
        if onto is not None:
            raise ValueError("--onto places photos and --apply writes names; one after the other, please")
        facts = _apply(collection, applied, out, root=root, split=split)
    else:
        if split is not None:
            raise ValueError("--split goes with --apply; no photo changes its split before")
        from landseer.cli.progress import progress_bars
        from landseer.pipeline.group import group_collection
        from landseer.recipe.grouping_options import GroupingOptions

        changed: dict[str, Any] = {} if likeness is None else {"likeness": likeness}
        options = GroupingOptions(mode=mode, least=least, **changed)  # type: ignore[arg-type]
        with progress_bars() as show:
            found = group_collection(
                collection,
                str(descriptors),
                out,
                root=root,
                options=options,
                matching=matching,
                onto=onto,
                device=device,
                watch=show,
            )
        facts = _facts(found, out)
    click.echo(
        json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items())
    )


def _apply(
    collection: Path, groups: Path, out: Path, *, root: Path | None, split: str | None
) -> dict[str, Any]:
    from landseer.pipeline.group import apply_groups

    done = apply_groups(collection, groups, out, root=root, split=split)
    return {
        "landmarks": done.landmarks,
        "with a name": done.named,
        "photos with a landmark now": done.photos,
        "photos that stay unknown": done.unknown,
        "collection": str(out),
    }


def _facts(found: Grouping, out: Path) -> dict[str, Any]:
    return {
        "groups": len(found.groups),
        "photos in groups": sum(len(group) for group in found.groups),
        "photos that fit none": len(found.alone),
        "largest group": max((len(group) for group in found.groups), default=0),
        "look at": str(out / "groups.html"),
        "edit": str(out / "groups.csv"),
    }
