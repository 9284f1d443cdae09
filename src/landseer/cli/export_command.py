"""``landseer export``."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("export")
def command() -> None:
    """Write results in the forms that others ask for."""


@command.command("submission")
@click.argument("source", metavar="RANKING")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="submission.csv to write.")
@click.option("--sample", type=FILE, help="sample_submission.csv: the queries asked for, and their order.")
@click.option("--index", type=FILE, help="index.csv: the photos that may be answers.")
def submission(source: str, out: Path, sample: Path | None, index: Path | None) -> None:
    """Write RANKING as submission.csv of the Google Landmark challenges of 2019 and 2021.

    RANKING is a ranking folder, a run, a table or an older submission, for retrieval; or a recognition: a table with
    the header query,landmark,confidence or a submission with the header id,landmarks. What is written was checked: one
    row for each query of --sample and no other, at most 100 answers a query, none twice, and each in --index.

    \b
    Example:
        landseer export submission RUN/ranking --out submission.csv --sample sample_submission.csv
    """
    from landseer.export import sample_queries
    from landseer.storage.foreign import is_recognition, read_ids

    queries = None if sample is None else sample_queries(sample)
    if is_recognition(source):
        if index is not None:
            raise ValueError(f"{source} is a recognition, whose answers are landmarks; leave out --index")
        done, kind = write_recognition(source, out, queries)
    else:
        done, kind = write_ranking(source, out, queries, None if index is None else read_ids(index))
    click.echo(f"{done} queries, {kind}: {out}")


def write_ranking(
    source: str, out: Path, queries: tuple[str, ...] | None, index: tuple[str, ...] | None
) -> tuple[int, str]:
    """Read a ranking, write it as a submission; returns the number of queries and what it is for."""
    from landseer.export import write_retrieval_submission
    from landseer.storage.foreign import read_ranking

    ranking = read_ranking(source)
    write_retrieval_submission(ranking, out, query_ids=queries, index_ids=index)
    return len(ranking), "retrieval"


def write_recognition(source: str, out: Path, queries: tuple[str, ...] | None) -> tuple[int, str]:
    """Read a recognition, write it as a submission; returns the number of queries and what it is for."""
    from landseer.export import write_recognition_submission
    from landseer.storage.foreign import read_recognition

    recognition = read_recognition(source)
    write_recognition_submission(recognition, out, query_ids=queries)
    return len(recognition.query_ids), "recognition"
