"""Evaluations as text: tables for a terminal and for a paper, one CSV of the queries behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from landseer.evaluation.paired import Difference, protocol_of
from landseer.evaluation.recognition import PROTOCOL as RECOGNITION
from landseer.evaluation.scoring import Evaluated

_SPECIAL = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)
"""What LaTeX would not print as it is."""


def comparison_table(runs: Mapping[str, Evaluated], *, beside: tuple[str, ...] | None = None) -> str:
    """One line a run and group: the headline metric with its interval, then the metrics *beside* it.

    By default those are what the protocol of the first run shows.
    """
    return aligned(_lines(runs, beside))


def _lines(runs: Mapping[str, Evaluated], beside: tuple[str, ...] | None) -> list[tuple[str, ...]]:
    first = next(iter(runs.values()))
    beside = _beside(first) if beside is None else beside
    metric = first.report.protocol["metric"]
    lines: list[tuple[str, ...]] = [("run", "queries", "", metric, "95 %", *beside)]
    for run, found in runs.items():
        headline = [number for number in found.report.numbers if number.name == metric]
        lines += [
            (
                run,
                number.group,
                str(number.num_queries),
                f"{number.value:.4f}",
                f"{number.low:.4f}-{number.high:.4f}",
                *(_cell(found, name, number.group) for name in beside),
            )
            for number in headline
        ]
    return lines


def _beside(found: Evaluated) -> tuple[str, ...]:
    """What stands beside the headline: what the protocol shows, of a recognition all else that was measured."""
    if found.report.protocol["protocol"] != RECOGNITION:
        return protocol_of(found).beside
    names = dict.fromkeys(number.name for number in found.report.numbers)
    return tuple(name for name in names if name != found.report.protocol["metric"])


def _cell(found: Evaluated, name: str, group: str) -> str:
    """A figure, or a dash where this group has no query that it is of."""
    values = (n.value for n in found.report.numbers if (n.name, n.group) == (name, group))
    value = next(values, None)
    return "-" if value is None else f"{value:.4f}"


def difference_table(differences: Sequence[Difference]) -> str:
    """One line a run and group: how much better than the first run, its paired interval, p, and p corrected.

    Below it stand what the p-values rest on.
    """
    lines: list[tuple[str, ...]] = [("run", "queries", "", "difference", "95 %", "p", "p (Holm)")]
    lines += [
        (
            found.run,
            found.group,
            str(found.num_queries),
            f"{found.value:+.4f}",
            f"{found.low:+.4f}..{found.high:+.4f}",
            _p(found.test.p),
            _p(found.p_holm),
        )
        for found in differences
    ]
    return f"{aligned(lines)}\n{test_text(differences)}"


def test_text(differences: Sequence[Difference]) -> str:
    """One sentence on what the p-values of *differences* rest on."""
    first = differences[0]
    drawn = sorted({found.test.num_flips for found in differences if not found.test.exact})
    noun, what = ("sign flips", "of landmarks")
    if first.metric == "GAP":
        noun, what = ("swaps", "of the predictions, landmark by landmark")
    flips = [f"{num:,} drawn {noun}" for num in drawn]
    flips += [f"all {noun}"] if any(found.test.exact for found in differences) else []
    return (
        f"{first.metric} minus that of {first.baseline}; p two-sided by {' or '.join(flips)} {what}, "
        f"Holm over {len(differences)} comparisons"
    )


def mistakes_table(ways: Mapping[str, Evaluated]) -> str:
    """One line a group and way of scoring: the number as defined, then what each mistake would make of it."""
    first = next(iter(ways.values())).report
    names = (first.protocol["metric"], *protocol_of(next(iter(ways.values()))).beside)
    lines: list[tuple[str, ...]] = [("queries", "scored", *names)]
    for group in dict.fromkeys(number.group for number in first.numbers):
        for way, found in ways.items():
            shown = way if way == "as defined" else f"mistake: {way}"
            lines.append((group, shown, *(f"{found.report.value(name, group):.4f}" for name in names)))
    return aligned(lines)


def latex_table(runs: Mapping[str, Evaluated], differences: Sequence[Difference] = ()) -> str:
    """The comparison as a LaTeX ``tabular`` with the rules of the package booktabs.

    With *differences* two columns follow: the difference to the first run with its interval, and p by Holm.
    """
    head, *rows = _lines(runs, None)
    of = {(found.run, found.group): found for found in differences}
    more = ("difference", "95 %", "p (Holm)") if differences else ()
    lines = [(*head[:2], "n", *head[3:], *more)]
    for row in rows:
        found = of.get((row[0], row[1]))
        cells = ("",) * len(more)
        if found is not None:
            cells = (f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", _p(found.p_holm))
        lines.append((*row[:4], row[4].replace("-", "--"), *row[5:], *cells))
    body = [" & ".join(_latex(cell) for cell in line) + r" \\" for line in lines]
    columns = "ll" + "r" * (len(lines[0]) - 2)
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _latex(cell: str) -> str:
    signed = cell[:1] in "+-" and cell[1:2].isdigit()
    text = cell.translate(_SPECIAL)
    return text if not signed else " to ".join(f"${part}$" for part in text.split(" to "))


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


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
