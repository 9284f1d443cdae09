"""``landseer evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from landseer.evaluation import Difference, Evaluated, Protocol
    from landseer.types import Collection, Ranking, Truth

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FROM_PHOTOS = ("places", "knn")
"""Protocols whose truth is made from what the collection says of each photo."""

_OPTIONS = {"rectangular": "rectangular-ap"}
"""Settings of a protocol whose option on the command line is called otherwise."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How rankings are scored: the protocol's name (None: the truth's own), its settings, and what is allowed."""

    protocol: str | None
    settings: dict[str, Any]
    trained_on: Path | None
    allow_overlap: bool


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a ranking file that holds numbers alone does not say: its format, and which photos are meant."""

    format: str | None
    query_ids: str | None
    gallery_ids: str | None


@click.command(name="evaluate")
@click.argument("rankings", nargs=-1, required=True, metavar="RANKING...")
@click.option("--truth", required=True, type=FOLDER, help="Collection whose queries have known answers.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["positions", "ranks", "trec", "submission", "csv"]),
    help="What a ranking file of another tool is.  [default: what the file says]",
)
@click.option(
    "--query-ids", help="Ids of the queries, for a file without.  [default: those of the truth, in order]"
)
@click.option("--gallery-ids", help="Ids of the gallery.  [default: those of split index, in order]")
@click.option(
    "--protocol",
    type=click.Choice(["gldv2", "revisited", "ilias", "places", "knn"]),
    help="Whose definition.  [default: revisited where relevant photos are graded, else gldv2]",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="Recognition of another tool: confidences are probabilities, so give their calibration error, too.",
)
@click.option(
    "--trained-on", type=FOLDER, help="Collection trained on: report its landmarks and the others apart."
)
@click.option(
    "--metres",
    type=float,
    help="places: how near a right answer was taken.  [default: 25]",
)
@click.option(
    "--queries",
    type=click.Choice(["cropped", "uncropped"]),
    help="revisited: whether queries were cropped to their boxes; the report says so.",
)
@click.option("--mistakes", is_flag=True, help="Show what each common mistake would make of the numbers.")
@click.option(
    "--full-divisor", is_flag=True, help="Mistake: divide an AP by all relevant photos, not min(m, k)."
)
@click.option("--rectangular-ap", is_flag=True, help="Mistake: an AP without trapezoids (revisited).")
@click.option("--junk-late", is_flag=True, help="Mistake: take junk out after the answers were cut.")
@click.option("--allow-overlap", is_flag=True, help="Accept queries that are in the gallery themselves.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.option("--latex", is_flag=True, help="Print the table in LaTeX (package booktabs).")
@click.option("--per-query", type=click.Path(path_type=Path), help="CSV file to write: one row a query.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the report to write (one ranking only)."
)
def command(
    *,
    rankings: tuple[str, ...],
    truth: Path,
    format_: str | None,
    query_ids: str | None,
    gallery_ids: str | None,
    protocol: str | None,
    probabilities: bool,
    trained_on: Path | None,
    metres: float | None,
    queries: str | None,
    mistakes: bool,
    full_divisor: bool,
    rectangular_ap: bool,
    junk_late: bool,
    allow_overlap: bool,
    as_json: bool,
    latex: bool,
    per_query: Path | None,
    out: Path | None,
) -> None:
    """Score RANKING folders or files; several give one table, and a paired test of each against the first.

    A file is an array of positions or ranks, a TREC run, a submission or a CSV of another tool (docs/foreign.md).

    gldv2: mAP@100 of the Google Landmark challenges; revisited: Oxford and Paris, Easy, Medium and Hard; ilias:
    mAP@1000; places: recall@N within some metres; knn: mAP@R, R-precision, recall and CMC by landmark.

    What names a landmark a query instead (a run's recognition folder, what landseer recognise writes, a submission) is
    scored by GAP, accuracy and false accepts.

    \b
    Example:
        landseer evaluate runs/a/ranking runs/b/ranking --truth gld-mini --trained-on gld-mini
        landseer evaluate oxford/ranking --truth roxford5k --queries cropped --mistakes
        landseer evaluate runs/a/trained/recognition runs/b/trained/recognition --truth gld-mini
    """
    refuse_outputs(rankings, per_query, out)
    if sum((as_json, latex, mistakes)) > 1:
        raise ValueError("--json, --latex and --mistakes are three ways to print; choose one")
    if mistakes and (per_query is not None or out is not None):
        raise ValueError("--mistakes writes no --per-query and no --out; score by one mistake to have them")
    settings = {
        "full_divisor": full_divisor or None,
        "rectangular": rectangular_ap or None,
        "junk_late": junk_late or None,
        "queries": queries,
        "metres": metres,
    }
    scoring = Scoring(
        protocol=protocol,
        settings={name: value for name, value in settings.items() if value is not None},
        trained_on=trained_on,
        allow_overlap=allow_overlap,
    )
    order = Order(format=format_, query_ids=query_ids, gallery_ids=gallery_ids)
    named = are_recognitions(rankings)
    if named:
        refuse_rankings_only(scoring, order, mistakes=mistakes)
    elif probabilities:
        raise ValueError("--probabilities is of recognitions, and these are rankings; leave it out")
    if mistakes:
        click.echo(mistakes_text(rankings, truth, scoring, order))
        return
    runs = (
        evaluate_recognitions(rankings, truth, trained_on, probabilities=probabilities)
        if named
        else evaluate_folders(rankings, truth, scoring, order)
    )
    write_outputs(runs, per_query, out)
    differences = compared(runs)
    click.echo(as_json_text(runs, differences) if as_json else as_table(runs, differences, latex=latex))


def refuse_outputs(rankings: tuple[str, ...], per_query: Path | None, out: Path | None) -> None:
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
    rankings: tuple[str, ...], truth: Path, scoring: Scoring, order: Order
) -> dict[str, Evaluated]:
    """Score each ranking against the truth of a collection folder: ranking as given -> result."""
    from landseer.evaluation import evaluate
    from landseer.storage import load_collection
    from landseer.storage.foreign import fingerprint_of_source

    collection = load_collection(truth)
    known_of = landmarks_known(collection, scoring.trained_on)
    runs = {}
    for place in rankings:
        ranking = read(place, collection, order)
        known, protocol = judge(collection, truth, ranking, scoring)
        made_by = {"ranking": fingerprint_of_source(place), "truth": collection.fingerprint}
        runs[place] = evaluate(
            ranking,
            known,
            protocol=protocol,
            allow_overlap=scoring.allow_overlap,
            title=Path(place).name,
            made_by=made_by,
            **known_of,
        )
    return runs


def landmarks_known(collection: Collection, trained_on: Path | None) -> dict[str, Any]:
    """What both kinds of evaluation are told of landmarks: those of the queries, and those trained on."""
    from landseer.storage import load_collection

    queries = collection.in_split("query")
    landmark_of = {photo: int(n) for photo, n in zip(queries.ids, queries.landmark_N, strict=True) if n >= 0}
    landmarks = None
    if trained_on is not None:
        from landseer.cleaning.leaks import landmarks_trained_on

        landmarks = landmarks_trained_on(load_collection(trained_on), collection)
    return {"landmark_of": landmark_of, "trained_landmarks": landmarks}


def are_recognitions(places: tuple[str, ...]) -> bool:
    """Whether all of *places* name landmarks.  Raises ``ValueError`` where some do and some rank photos."""
    from landseer.pipeline.recognise_run import names_landmarks

    kinds = {place: names_landmarks(place) for place in places}
    if len(set(kinds.values())) > 1:
        first = next(place for place, named in kinds.items() if named)
        raise ValueError(f"{first} names landmarks, and others here rank photos; evaluate them apart")
    return all(kinds.values())


def refuse_rankings_only(scoring: Scoring, order: Order, *, mistakes: bool) -> None:
    """Raise ``ValueError`` for options that a recognition has no use for."""
    given = {
        "protocol": scoring.protocol not in (None, "gldv2"),
        **{_OPTIONS.get(name, name): True for name in scoring.settings},
        "allow-overlap": scoring.allow_overlap,
        "mistakes": mistakes,
        **{name: value is not None for name, value in asdict(order).items()},
    }
    strange = next((name for name, is_given in given.items() if is_given), None)
    if strange is not None:
        raise ValueError(f"--{strange.replace('_', '-')} has no meaning for a recognition; leave it out")


def evaluate_recognitions(
    places: tuple[str, ...], truth: Path, trained_on: Path | None, *, probabilities: bool
) -> dict[str, Evaluated]:
    """Score each recognition against the truth of a collection folder: place as given -> result."""
    from landseer.evaluation import evaluate_recognition
    from landseer.pipeline.recognise_run import read_named
    from landseer.storage import load_collection
    from landseer.storage.foreign import fingerprint_of_source

    collection = load_collection(truth)
    if collection.truth is None:
        raise ValueError(
            f"{truth} holds no truth (no query with known answers); import one with a solution file"
        )
    known_of = landmarks_known(collection, trained_on)
    runs = {}
    for place in places:
        found = read_named(place, probabilities=probabilities)
        runs[place] = evaluate_recognition(
            found.recognition,
            collection.truth,
            calibrated=found.calibrated,
            not_calibrated=found.why_not,
            title=Path(place).name,
            made_by={"recognition": fingerprint_of_source(place), "truth": collection.fingerprint},
            **known_of,
        )
    return runs


def read(place: str, collection: Collection, order: Order) -> Ranking:
    """A ranking folder or file; where it names no photos and *order* neither, they are those of *collection*."""
    from landseer.storage.foreign import needs_ids, read_ranking

    queries: str | tuple[str, ...] | None = order.query_ids
    gallery: str | tuple[str, ...] | None = order.gallery_ids
    if needs_ids(place, format=order.format):
        truth = collection.truth
        queries = queries or (collection.in_split("query").ids if truth is None else truth.query_ids)
        gallery = gallery or collection.in_split("index").ids
    return read_ranking(place, query_ids=queries, gallery_ids=gallery, format=order.format)


def mistakes_text(rankings: tuple[str, ...], truth: Path, scoring: Scoring, order: Order) -> str:
    """Below each ranking's name its numbers as defined and under each common mistake."""
    from landseer.evaluation import evaluate_mistakes, mistakes_table
    from landseer.storage import load_collection

    collection = load_collection(truth)
    parts = []
    for place in rankings:
        ranking = read(place, collection, order)
        known, protocol = judge(collection, truth, ranking, scoring)
        ways = evaluate_mistakes(ranking, known, protocol=protocol, allow_overlap=scoring.allow_overlap)
        lines = [place, mistakes_table(ways)]
        if protocol.name == "revisited":
            lines.append(
                "uncropped queries: describe them without their boxes, and compare that ranking with this"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def judge(collection: Collection, folder: Path, ranking: Ranking, scoring: Scoring) -> tuple[Truth, Protocol]:
    """The truth and the protocol that *scoring* asks for.  Raises ``ValueError`` where *collection* lacks either."""
    from landseer.evaluation import PROTOCOLS, protocol_for, truth_by_landmark, truth_within

    if scoring.protocol in FROM_PHOTOS or (scoring.protocol == "ilias" and collection.truth is None):
        kind = PROTOCOLS[str(scoring.protocol)]
        protocol = kind(**_fitting(scoring.settings, str(scoring.protocol), kind))
        queries = _queries(collection, ranking)
        if scoring.protocol == "places":
            metres = scoring.settings.get("metres", 25.0)
            return truth_within(collection, queries, ranking.gallery_ids, metres=metres), protocol
        return truth_by_landmark(collection, queries, ranking.gallery_ids), protocol
    if collection.truth is None:
        raise ValueError(
            f"{folder} holds no truth (no query with known answers); import one with a solution file, or use "
            "--protocol knn or places"
        )
    kind = type(protocol_for(collection.truth)) if scoring.protocol is None else PROTOCOLS[scoring.protocol]
    name = next(name for name, known in PROTOCOLS.items() if known is kind)
    return collection.truth, kind(**_fitting(scoring.settings, name, kind))


def _fitting(settings: dict[str, Any], name: str, kind: type[Protocol]) -> dict[str, Any]:
    """*settings* as they are.  Raises ``ValueError`` for one that the protocol *name* does not have."""
    strange = next((key for key in settings if key not in {field.name for field in fields(kind)}), None)
    if strange is not None:
        option = _OPTIONS.get(strange, strange).replace("_", "-")
        raise ValueError(f"--{option} has no meaning under the protocol {name}; leave it out")
    return settings


def _queries(collection: Collection, ranking: Ranking) -> tuple[str, ...]:
    """The queries to score: all of split ``query``, or where others were ranked, those."""
    queries = collection.in_split("query").ids
    return queries if set(ranking.query_ids) <= set(queries) else ranking.query_ids


def compared(runs: dict[str, Evaluated]) -> list[Difference]:
    """Every later run against the first; nothing for a single run."""
    from landseer.evaluation import compare

    return compare(runs) if len(runs) > 1 else []


def write_outputs(runs: dict[str, Evaluated], per_query: Path | None, out: Path | None) -> None:
    """Write the CSV of the queries and the folder of the (only) report, where they are asked for."""
    from landseer.evaluation import per_query_csv

    if per_query is not None:
        per_query.write_text(per_query_csv(runs))
    if out is not None:
        save_evaluated(next(iter(runs.values())), out)


def save_evaluated(found: Evaluated, out: Path) -> None:
    """Write the report folder *out* with the per-query table beside the numbers."""
    from landseer.storage import save_report

    roles = ("ranking", "recognition", "truth")
    parents = {role: found.report.made_by[role] for role in roles if role in found.report.made_by}
    save_report(found.report, out, tables={"per_query": found.per_query}, parents=parents)


def as_table(runs: dict[str, Evaluated], differences: list[Difference], *, latex: bool) -> str:
    """The numbers, the differences to the first run, and whether a ranking is too short for its protocol."""
    from landseer.evaluation import comparison_table, difference_table, latex_table

    if latex:
        return latex_table(runs, differences)
    parts = [comparison_table(runs), difference_table(differences) if differences else ""]
    for folder, found in runs.items():
        answers = found.report.protocol.get("answers a query", "")
        short = bool(answers) and not answers.isdigit()
        parts.append(f"note: {folder} has answers a query: {answers}" if short else "")
    parts.append("\n".join(trained_lines(runs)))
    return "\n\n".join(part for part in parts if part)


def trained_lines(runs: dict[str, Evaluated]) -> Iterator[str]:
    """Of how many queries the landmark was trained on, where that was asked; once for runs of the same queries."""
    from landseer.evaluation.seen import share_trained_on

    shares = {folder: share_trained_on(found.per_query) for folder, found in runs.items()}
    told = {folder: share for folder, share in shares.items() if share.share is not None}
    if len(set(told.values())) == 1:
        yield str(next(iter(told.values())))
    else:
        yield from (f"{folder}: {share}" for folder, share in told.items())


def as_json_text(runs: dict[str, Evaluated], differences: list[Difference]) -> str:
    """Folder -> report and, of a later run, its differences to the first, as JSON."""
    import json

    from landseer.evaluation.seen import share_trained_on

    found = {
        folder: {
            **asdict(run.report),
            "trained_on": asdict(share_trained_on(run.per_query)),
            "differences": [asdict(entry) for entry in differences if entry.run == folder],
        }
        for folder, run in runs.items()
    }
    return json.dumps(found, indent=2)
