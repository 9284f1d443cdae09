"""Evaluations as text: one table for several runs, one CSV of the queries behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from landseer.evaluation.gldv2 import Evaluated


def comparison_table(runs: Mapping[str, Evaluated], *, beside: tuple[str, ...] = ("P@1", "P@10")) -> str:
    """One line a run and group: the headline metric with its interval, then the metrics *beside* it."""
    metric = next(iter(runs.values())).report.protocol["metric"]
    lines = [("run", "queries", "", metric, "95 %", *beside)]
    for run, found in runs.items():
        headline = [number for number in found.report.numbers if number.name == metric]
        lines += [
            (
                run,
                number.group,
                str(number.num_queries),
                f"{number.value:.4f}",
                f"{number.low:.4f}-{number.high:.4f}",
                *(f"{found.report.value(name, number.group):.4f}" for name in beside),
            )
            for number in headline
        ]
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]], *, names: int = 2) -> str:
    """*lines* of cells as text in columns: the first *names* lean left, the numbers after them right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def per_query_csv(runs: Mapping[str, Evaluated]) -> str:
    """The per-query tables of all runs below one another, the run's name in the first column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for position, (run, found) in enumerate(runs.items()):
        if position == 0:
            writer.writerow(["run", *found.per_query.column_names])
        for row in found.per_query.to_pylist():
            writer.writerow([run, *("" if value is None else value for value in row.values())])
    return text.getvalue()
