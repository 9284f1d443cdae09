"""``landseer evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from landseer.evaluation import Evaluated

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="evaluate")
@click.argument("rankings", nargs=-1, required=True, type=FOLDER, metavar="RANKING...")
@click.option("--truth", required=True, type=FOLDER, help="Collection whose queries have known answers.")
@click.option(
    "--trained-on", type=FOLDER, help="Collection trained on: report its landmarks and the others apart."
)
@click.option("--full-divisor", is_flag=True, help="Divide an AP by all relevant photos, not by min(m, 100).")
@click.option("--allow-overlap", is_flag=True, help="Accept queries that are in the gallery themselves.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.option("--per-query", type=click.Path(path_type=Path), help="CSV file to write: one row a query.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the report to write (one ranking only)."
)
def command(
    *,
    rankings: tuple[Path, ...],
    truth: Path,
    trained_on: Path | None,
    full_divisor: bool,
    allow_overlap: bool,
    as_json: bool,
    per_query: Path | None,
    out: Path | None,
) -> None:
    """Score RANKING folders by mAP@100 as the Google Landmark challenges do; several give one table.

    \b
    Example:
        landseer evaluate runs/a/ranking runs/b/ranking --truth gld-mini --trained-on gld-mini
    """
    from landseer.evaluation import comparison_table, per_query_csv

    refuse_outputs(rankings, per_query, out)
    runs = evaluate_folders(
        rankings, truth, trained_on=trained_on, full_divisor=full_divisor, allow_overlap=allow_overlap
    )
    if per_query is not None:
        per_query.write_text(per_query_csv(runs))
    if out is not None:
        save_evaluated(runs[str(rankings[0])], out)
    click.echo(as_json_text(runs) if as_json else comparison_table(runs))


def refuse_outputs(rankings: tuple[Path, ...], per_query: Path | None, out: Path | None) -> None:
    """Raise ``ValueError`` for outputs that could not be written, before anything is computed."""
    if out is not None and len(rankings) > 1:
        raise ValueError(
            f"--out writes the report of one ranking, not of {len(rankings)}; use --json or --per-query"
        )
    if len(set(rankings)) != len(rankings):
        raise ValueError("a ranking is named twice")
    if out is not None and out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    if per_query is not None and not per_query.parent.is_dir():
        raise ValueError(f"{per_query.parent} is not a folder; make it before --per-query can write there")


def evaluate_folders(
    rankings: tuple[Path, ...],
    truth: Path,
    *,
    trained_on: Path | None,
    full_divisor: bool,
    allow_overlap: bool,
) -> dict[str, Evaluated]:
    """Score each ranking folder against the truth of a collection folder: folder as given -> result."""
    from landseer.evaluation import evaluate_retrieval
    from landseer.storage import load_collection, load_ranking, load_truth, open_artifact

    known = load_truth(truth)
    queries = load_collection(truth).in_split("query")
    landmark_of = {photo: int(n) for photo, n in zip(queries.ids, queries.landmark_N, strict=True) if n >= 0}
    trained = None if trained_on is None else load_collection(trained_on).in_split("train")
    landmarks = None if trained is None else set(trained.landmark_N[trained.landmark_N >= 0].tolist())
    runs = {}
    for folder in rankings:
        made_by = {
            "ranking": open_artifact(folder, "ranking").fingerprint,
            "truth": open_artifact(truth, "collection").fingerprint,
        }
        runs[str(folder)] = evaluate_retrieval(
            load_ranking(folder),
            known,
            full_divisor=full_divisor,
            allow_overlap=allow_overlap,
            trained_landmarks=landmarks,
            landmark_of=landmark_of,
            title=folder.name,
            made_by=made_by,
        )
    return runs


def save_evaluated(found: Evaluated, out: Path) -> None:
    """Write the report folder *out* with the per-query table beside the numbers."""
    from landseer.storage import save_report

    parents = {role: found.report.made_by[role] for role in ("ranking", "truth")}
    save_report(found.report, out, tables={"per_query": found.per_query}, parents=parents)


def as_json_text(runs: dict[str, Evaluated]) -> str:
    """Folder -> report, as JSON."""
    import json

    return json.dumps({folder: asdict(found.report) for folder, found in runs.items()}, indent=2)
