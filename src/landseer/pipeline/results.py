"""The numbers of a run for a terminal and for a program."""

from __future__ import annotations

from typing import Any

from landseer.evaluation import aligned
from landseer.pipeline.finished import RunResult
from landseer.pipeline.trained import TrainResult
from landseer.reporting import GROUPS
from landseer.types import Number, Report

HEADLINES = ("mAP@100", "P@1", "GAP", "false accepts", "ECE")
_OF_ALL = {"P@1", "false accepts", "ECE"}
"""Those of which one group of queries is enough."""


def result_table(result: RunResult) -> str:
    """One line a headline number and group of queries, trained beside untrained, with 95 % intervals.

    Where a run re-ranks, has members or was scored after every stage, further tables follow; then what must be known.
    """
    untrained, trained = result.untrained.report, result.trained.report if result.trained else None
    lines = [("", "queries", "", "untrained", *(("trained", "95 %") if trained else ("95 %",)))]
    for name in HEADLINES:
        for before in untrained.numbers:
            if before.name != name or (name in _OF_ALL and before.group != "Private and Public"):
                continue
            after = _same(trained, before) if trained else before
            cells = [name, before.group, str(before.num_queries), f"{before.value:.4f}"]
            cells += [f"{after.value:.4f}"] if trained else []
            lines.append((*cells, f"{after.low:.4f}-{after.high:.4f}"))
    parts = [
        aligned(lines),
        _reranking_table(result),
        _stage_table(result),
        "\n".join(f"note: {note}" for note in result.warnings),
    ]
    return "\n\n".join(part for part in parts if part)


def _reranking_table(result: RunResult) -> str:
    """The final model's mAP@100 by group, of the search alone and re-ranked; empty where a run does not re-rank."""
    final = result.final
    if final.searched is None:
        return ""
    rows = [("search alone", final.searched), (", ".join(result.reranking), final.report)]
    lines: list[tuple[str, ...]] = [(f"{HEADLINES[0]} of", *GROUPS)]
    lines += [(name, *(_cell(report, group) for group in GROUPS)) for name, report in rows]
    return aligned(lines, names=1)


def _stage_table(result: RunResult) -> str:
    """One line a model and stage, its mAP@100 by group; empty where that is only what the first table has."""
    members = any(found.member is not None for found in result.stages)
    if len(result.stages) < 2 and not members:
        return ""
    every = len({found.member for found in result.stages}) < len(result.stages)
    title = f"{HEADLINES[0]} {'after each stage' if every else 'of each member'}"
    rows = [("untrained", result.untrained.report)] if not members else []
    rows += [(found.stage or "as it is", found.report) for found in result.stages]
    names = [found.member or "" for found in result.stages]
    cells = [(stage, *(_cell(report, group) for group in GROUPS)) for stage, report in rows]
    lines = [("after", *GROUPS), *cells]
    if members:
        lines = [(name, *line) for name, line in zip(("member", *names), lines, strict=True)]
    return f"{title}\n{aligned(lines, names=1 + members)}"


def result_facts(result: RunResult) -> dict[str, Any]:
    """The same for a program: every number, the fingerprints, the report's path."""
    return {
        "title": result.title,
        "out": str(result.out),
        "report": str(result.page),
        "did_nothing": result.did_nothing,
        "untrained": _numbers(result.untrained.report),
        "trained": _numbers(result.trained.report) if result.trained else None,
        "searched": _numbers(result.final.searched) if result.final.searched else None,
        "stages": [
            {
                "member": found.member,
                "stage": found.stage,
                "folder": str(found.folder),
                "numbers": _numbers(found.report),
            }
            for found in result.stages
        ],
        "notes": [*result.warnings, *result.notes],
        "made_by": dict(result.final.report.made_by),
        "unreadable": len(result.final.unreadable),
    }


def training_lines(result: TrainResult) -> str:
    """One line a stage: where its model is, and the last losses."""
    lines = []
    for found in result.stages:
        member = f"{found.member}, " if found.member else ""
        watched = "".join(f", {key.replace('_', ' ')} {value:.4f}" for key, value in found.validation.items())
        losses = f"loss {found.loss:.4f}{watched} after {found.steps} steps"
        lines.append(f"{member}{found.stage}: {losses} -> {found.model}")
    return "\n".join(lines)


def training_facts(result: TrainResult) -> dict[str, Any]:
    """The same for a program."""
    return {
        "out": str(result.out),
        "did_nothing": result.did_nothing,
        "stages": [
            {
                "member": found.member,
                "stage": found.stage,
                "model": str(found.model),
                "steps": found.steps,
                "loss": found.loss,
                "validation": dict(found.validation),
            }
            for found in result.stages
        ],
    }


def _numbers(report: Report) -> list[dict[str, Any]]:
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


def _same(report: Report, number: Number) -> Number:
    return next(n for n in report.numbers if (n.name, n.group) == (number.name, number.group))


def _cell(report: Report, group: str) -> str:
    found = (n.value for n in report.numbers if (n.name, n.group) == (HEADLINES[0], group))
    value = next(found, None)  # a group without queries is not measured
    return "-" if value is None else f"{value:.4f}"
