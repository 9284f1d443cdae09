"""``landseer merge``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("merge")
@click.argument(
    "parts",
    nargs=-1,
    required=True,
    metavar="DESC...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Descriptors folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(*, parts: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Join the descriptors of all parts of one extraction, in any order.

    The parts are what landseer extract --shard 1/8 to 8/8 wrote, on as many machines as you like. The result is
    what one machine would have written, to the bit where the machines are of one kind. The parts stay.

    \b
    Example:
        landseer merge part-*/ --out INDEX-DESCRIPTORS
    """
    from landseer.extraction import merge_shards

    found = merge_shards(parts, out)
    if as_json:
        facts = {
            "out": str(out),
            "parts": len(parts),
            "described": len(found),
            "unreadable": len(found.unreadable),
            "dim": found.dim,
            "fingerprint": found.fingerprint,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"{len(parts)} parts, {len(found)} photos, {found.dim} components each -> {out}")
    if found.unreadable:
        click.echo(f"{len(found.unreadable)} photos could not be read; {out / 'unreadable.json'} says why")
