"""The numbers of a run for a terminal and for a program."""

from __future__ import annotations

from typing import Any

from landseer.evaluation import aligned
from landseer.pipeline.run import RunResult
from landseer.types import Number, Report

HEADLINES = ("mAP@100", "P@1", "GAP")


def result_table(result: RunResult) -> str:
    """One line a headline number and group of queries, trained beside untrained, with 95 % intervals."""
    untrained, trained = result.untrained.report, result.trained.report if result.trained else None
    lines = [("", "queries", "", "untrained", *(("trained", "95 %") if trained else ("95 %",)))]
    for name in HEADLINES:
        for before in untrained.numbers:
            if before.name != name or (name == "P@1" and before.group != "Private and Public"):
                continue
            after = _same(trained, before) if trained else before
            cells = [name, before.group, str(before.num_queries), f"{before.value:.4f}"]
            cells += [f"{after.value:.4f}"] if trained else []
            lines.append((*cells, f"{after.low:.4f}-{after.high:.4f}"))
    return aligned(lines)


def result_facts(result: RunResult) -> dict[str, Any]:
    """The same for a program: every number, the fingerprints, the report's path."""

    def numbers(report: Report) -> list[dict[str, Any]]:
        return [
            {
                "name": number.name,
                "group": number.group,
                "value": number.value,
                "low": number.low,
                "high": number.high,
                "queries": number.num_queries,
            }
            for number in report.numbers
        ]

    return {
        "title": result.title,
        "out": str(result.out),
        "report": str(result.page),
        "did_nothing": result.did_nothing,
        "untrained": numbers(result.untrained.report),
        "trained": numbers(result.trained.report) if result.trained else None,
        "made_by": dict(result.final.report.made_by),
        "unreadable": len(result.final.unreadable),
    }


def _same(report: Report, number: Number) -> Number:
    return next(n for n in report.numbers if (n.name, n.group) == (number.name, number.group))
