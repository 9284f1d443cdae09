"""``landseer recognise``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from landseer.pipeline.recognise import Recognised
    from landseer.reranking import Threshold

MOST_LINES = 20
"""A table in the terminal is no longer than this."""


@click.command(name="recognise")
@click.argument("queries")
@click.option("--bank", required=True, help="Descriptors of labelled photos that vote.")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Collection of the bank's photos: their labels, and the names.",
)
@click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recipe whose [recognition] and [bank] count.  [default: the defaults of both]",
)
@click.option(
    "--none",
    "non_landmarks",
    help="Descriptors of photos known to show no landmark: what is like them counts less.",
)
@click.option(
    "--calibrate",
    "calibration",
    help="Descriptors of photos whose truth the collection knows, to learn how sure is sure enough.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all that is known of each query, as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV file to write: query,landmark,confidence.")
def command(
    *,
    queries: str,
    bank: str,
    data: Path,
    recipe: Path | None,
    non_landmarks: str | None,
    calibration: str | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Name the landmark that each photo of QUERIES shows, how sure that is, and the country.

    The labelled photos most like a query vote. With --calibrate a landmark that is too unsure becomes "none I know",
    and confidences are probabilities. Descriptors may be folders of landseer extract or files of other tools
    (docs/foreign.md). landseer export submission takes what --out writes.

    \b
    Example:
        landseer recognise RUN/trained/query --bank RUN/trained/bank --data C \\
            --calibrate VALIDATION --none NONE --out found.csv
    """
    from landseer.pipeline.recognise import recognise_folder

    done = recognise_folder(
        queries,
        bank=bank,
        data=data,
        recipe=recipe,
        non_landmarks=non_landmarks,
        calibration=calibration,
        out=out,
    )
    click.echo(json.dumps(facts_of(done)) if as_json else text_of(done, out))


def facts_of(done: Recognised) -> dict[str, Any]:
    """What ``--json`` prints: the threshold, None where not calibrated, and all that is known of each query."""
    threshold = None if done.threshold is None else asdict(done.threshold)
    if threshold is not None and not math.isfinite(threshold["confidence"]):
        threshold["confidence"] = None  # JSON has no infinity
    return {"threshold": threshold, "queries": _rows(done)}


def _rows(done: Recognised, most: int | None = None) -> list[dict[str, Any]]:
    """What is known of each of the first *most* queries (None: of all)."""
    found, places = done.recognition, done.countries
    columns = (
        found.query_ids[:most],
        found.landmark_Q[:most].tolist(),
        done.names[:most],
        found.confidence_Q[:most].tolist(),
        places.countries[:most],
        places.confidence_Q[:most].tolist(),
    )
    return [
        {
            "query": query,
            "landmark": None if landmark < 0 else landmark,
            "name": name,
            "confidence": confidence,
            "country": country,
            "country_votes": votes,
        }
        for query, landmark, name, confidence, country, votes in zip(*columns, strict=True)
    ]


def text_of(done: Recognised, out: Path | None) -> str:
    """The calibration in a line, a table of the first queries, and where the rest is."""
    from landseer.evaluation import aligned

    sure = "confidence" if done.threshold is None else "probability"
    rows = _rows(done, MOST_LINES)
    table = aligned([("query", "landmark", sure, "country", "votes"), *map(_cells, rows)])
    parts = [] if done.threshold is None else [_calibration_line(done.threshold)]
    parts.append(table)
    num = len(done.recognition.query_ids)
    if out is not None:
        parts.append(f"{num} queries, {int((done.recognition.landmark_Q >= 0).sum())} with a landmark: {out}")
    elif num > len(rows):
        parts.append(f"and {num - len(rows)} more; --out or --json has all")
    return "\n".join(parts)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["landmark"] is None:
        # the confidence is that of a landmark which is not named here
        landmark, confidence = "none I know", ""
    else:
        number, confidence = row["landmark"], f"{row['confidence']:.3f}"
        landmark = f"landmark {number}" if row["name"] is None else f"{row['name']} ({number})"
    country = row["country"]
    return (
        row["query"],
        landmark,
        confidence,
        country or "",
        "" if country is None else f"{row['country_votes']:.3f}",
    )


def _calibration_line(threshold: Threshold) -> str:
    lowest = f"{threshold.confidence:.4f}" if math.isfinite(threshold.confidence) else "none needed"
    return (
        f"threshold {lowest}: recall {threshold.recall:.3f} of {threshold.num_known} photos of known landmarks, "
        f"false-accept rate {threshold.false_accept_rate:.3f} of {threshold.num_unknown} photos of none"
    )
