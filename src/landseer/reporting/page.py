"""One run as one HTML file: no script, no request to anywhere, pictures and styles inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from landseer.reporting import figures, results
from landseer.reporting.answers import Answers, Card, cards, chosen, photos_of, pictures
from landseer.reporting.html import environment, head, resource, write_whole
from landseer.reporting.trust import Trust, trust_of
from landseer.types import Collection, Number, Ranking, Report

NUM_CARDS = 5
"""Queries of each kind (best, typical, worst, improved, worsened) that are shown with pictures."""
MOST_UNREADABLE = 200
"""Unreadable photos that are listed one by one; the rest is counted."""
MOST_TEXT = 160
"""Letters of a name, reason or id that are shown."""

PER_QUERY_COLUMNS = ("query", "split", "landmark", "seen", "ap", "num_relevant", "precision_at_10")
"""What the page reads of a table of per-query results; further columns are welcome and ignored."""

_KINDS = {
    "best": ("Best answered", "The highest average precision, one query a landmark as far as that goes."),
    "typical": ("Typical", "Around the median: what a query can expect."),
    "worst": ("Worst answered", "The lowest average precision. Whoever wants a better model starts here."),
    "improved": ("Most improved by training", "Where average precision rose most over the untrained model."),
    "worsened": ("Most worsened by training", "Where average precision fell most: what training cost."),
}
_GLOSSARY = (
    (
        "mAP",
        "mean average precision: 1 when, for every query, all photos of its landmark stand before any other; "
        "0 when none is found. Only the first 100 answers count where the name says so.",
    ),
    (
        "GAP",
        "global average precision of naming the landmark: 1 when every query of a landmark is named rightly "
        "and the model is surer of these than of any wrong answer.",
    ),
    (
        "false accepts",
        "the share of the queries of no known landmark that are given one all the same; less is better.",
    ),
    (
        "right accepts",
        "the share of the queries of a landmark that are given theirs, and surely enough.",
    ),
    (
        "ECE",
        "expected calibration error: how far confidences and the share of right answers lie apart; 0 where "
        "of the answers that are 80 % sure 80 % are right.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Everything the page of a run shows."""

    title: str
    report: Report
    """Numbers of the trained model."""
    baseline: Report | None
    """Numbers of the same model untrained."""
    per_query: pa.Table
    """One row a query: ``query``, ``split``, ``landmark`` (or null), ``seen`` (was its landmark trained on,
    or null), ``ap``, ``num_relevant``, ``precision_at_10``."""
    baseline_per_query: pa.Table | None
    ranking: Ranking
    collection: Collection
    """The photos, with their truth."""
    losses: Sequence[Mapping[str, float | int | str]]
    """One entry a step or epoch: ``stage``, ``step``, ``epoch``, ``loss``, ``lr``."""
    unreadable: Mapping[str, str]
    """Photo id -> why it could not be read."""
    notes: Sequence[str]
    """What a reader must know beside the numbers: substitutes, things not measured."""
    baseline_ranking: Ranking | None = field(default=None)
    """Answers of the untrained model, shown beside the trained one's where given."""
    stages: Sequence[results.StageNumbers] = ()
    """Models at points of their training, in order; shown where there is more to tell than ``report`` does."""
    trust: Trust | None = None
    """How far recognition can be trusted; without it the page has no such section."""

    def __post_init__(self) -> None:
        if self.collection.truth is None:
            raise ValueError("a report needs a collection with truth (queries whose right answers are known)")
        for name in ("per_query", "baseline_per_query"):
            table = getattr(self, name)
            missing = [c for c in PER_QUERY_COLUMNS if table is not None and c not in table.column_names]
            if missing:
                raise ValueError(f"{name} has no column {missing[0]!r}")


def write_page(page: RunPage, path: Path) -> None:
    """Write *page* as one HTML file that appears whole or not at all; an older one is replaced.

    Equal pages over equal photos give equal bytes.  Raises ``ValueError`` where *path* cannot be written.
    """
    write_whole(render_page(page), path)


def render_page(page: RunPage) -> str:
    """The HTML text of *page*."""
    env = environment(figure=_figure, signed=_signed, short=_short, count=_count, capitalised=_capitalised)
    queries = results.scored(page.per_query, page.baseline_per_query)
    return env.from_string(resource("page.html")).render(
        page=page,
        **head(resource("page.css")),
        swatch=figures.swatch,
        num_landmarks=len({query.landmark for query in queries if query.landmark is not None}),
        num_scored=len(queries),
        glossary=_glossary(page.report),
        curves=_curves(page, queries),
        trust=None if page.trust is None else trust_of(page.trust),
        breakdowns=_breakdowns(page, queries),
        unreadable=sorted(page.unreadable.items())[:MOST_UNREADABLE],
        num_unreadable=len(page.unreadable),
        origins=_origins(page),
        **_stages(page),
        **_headline(page),
        **_gallery(page, queries),
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _count(value: int) -> str:
    return f"{value:,}"


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _capitalised(text: str) -> str:
    """*text* as the start of a sentence: the first letter alone."""
    return text[:1].upper() + text[1:]


def _estimate(number: Number | None) -> figures.Estimate | None:
    if number is None or not results.is_share(number):
        return None
    return figures.Estimate(value=number.value, low=number.low, high=number.high)


def _headline(page: RunPage) -> dict[str, Any]:
    """The table of numbers, and of them the few that stand on top in large type."""
    groups = results.headline(page.report, page.baseline)
    span = results.span_of([row for _, rows in groups for row in rows])
    strips = {
        (group, row.name): figures.interval_strip(
            _estimate(row.trained),
            _estimate(row.untrained),
            span=span,
            label=f"{row.name}, {group}: "
            + ", ".join(
                f"{word} {number.value:.3f}, between {number.low:.3f} and {number.high:.3f}"
                for word, number in (("untrained", row.untrained), ("trained", row.trained))
                if number is not None
            ),
        )
        for group, rows in groups
        for row in rows
    }
    leading = [(group, row) for group, rows in groups for row in rows if row.trained is not None]
    first = leading[:1]
    unseen = [entry for entry in leading if entry[0] == "landmarks not trained on"][:1]
    recognition = [entry for entry in leading if entry[1].name.startswith("GAP")][:1]
    top = list({id(entry[1]): entry for entry in (*first, *unseen, *recognition)}.values())
    return {"groups": groups, "strips": strips, "span": span, "top": top}


def _stages(page: RunPage) -> dict[str, Any]:
    """The table of what each model scored after each stage; empty where there is one model after one stage."""
    several = len(page.stages) > 1 or any(entry.model for entry in page.stages)
    name, groups, rows = results.stage_rows(page.stages if several else ())
    return {
        "stage_metric": name,
        "stage_groups": groups,
        "stage_rows": rows,
        "stage_models": any(model for model, _, _ in rows),
    }


def _glossary(report: Report) -> list[tuple[str, str]]:
    names = [number.name for number in report.numbers]
    return [
        (next(name for name in names if name.startswith(prefix)), meaning)
        for prefix, meaning in _GLOSSARY
        if any(name.startswith(prefix) for name in names)
    ]


def _curves(page: RunPage, queries: Sequence[results.Scored]) -> dict[str, Any]:
    """The figures, and the sentences under them; ``None`` for what there is nothing to draw of."""
    before = [query.ap_before for query in queries if query.ap_before is not None]
    found = {"histogram": None, "recall": None, "recall_before": None, "recall_figure": None, "loss": None}
    curves: dict[str, Any] = dict(found)
    if queries:
        curves["histogram"] = figures.histogram([query.ap for query in queries], before or None)
    truth = page.collection.truth
    assert truth is not None  # RunPage refuses a collection without
    ids = [query.query for query in queries]
    now = results.recall(page.ranking, truth, ids)
    old = results.recall(page.baseline_ranking, truth, ids) if page.baseline_ranking is not None else None
    if now is not None:
        curves["recall"], curves["recall_before"] = now, old
        curves["recall_figure"] = _recall_figure(now, old)
    curve = results.loss_curve(page.losses)
    curves["loss"] = curve
    if curve is not None:
        curves["loss_figure"] = figures.loss_figure(curve.step, curve.loss, curve.lr, curve.borders)
    return curves


def _recall_figure(now: results.Recall, old: results.Recall | None) -> Markup:
    def line(values: Sequence[float], style: str) -> figures.Line:
        return figures.Line(x=range(1, len(values) + 1), y=values, style=style)

    lines = [line(now.possible_K.tolist(), "ceiling")]
    lines += [line(old.found_K.tolist(), "untrained")] if old is not None else []
    lines.append(line(now.found_K.tolist(), "trained"))
    last = len(now.found_K)
    label = f"Recall by rank over {now.num_queries} queries: trained {now.found_K[-1]:.3f} at {last} answers"
    return figures.recall_figure(lines, label=label + (f", untrained {old.found_K[-1]:.3f}." if old else "."))


def _breakdowns(page: RunPage, queries: Sequence[results.Scored]) -> list[dict[str, Any]]:
    """Precision by country and by landmark: rows with their bars, and how many rows are left out."""
    country_of = results.landmark_countries(page.collection)
    country_name = results.country_names()

    def landmark(value: int | None, members: Sequence[results.Scored]) -> tuple[str, str]:
        if value is None:
            return "several landmarks, or none", ""
        code = country_of.get(value, "")
        place = country_name.get(code, code)
        seen = {True: "trained on", False: "not trained on", None: ""}[members[0].seen]
        return page.collection.name_of(value), " · ".join(part for part in (place, seen) if part)

    def country(value: str, members: Sequence[results.Scored]) -> tuple[str, str]:
        num = len({query.landmark for query in members})
        return country_name.get(value, value) or "country not known", f"{num} landmark{'s' * (num != 1)}"

    landmarks = results.breakdown(queries, lambda query: query.landmark, landmark)
    countries = results.breakdown(queries, lambda query: country_of.get(query.landmark or -1, ""), country)
    shown = []
    for title, rows in (("country", countries), ("landmark", landmarks)):
        kept, left_out = results.shortened(rows)
        bars = [
            figures.precision_bar(
                row.precision,
                row.possible,
                row.precision_before,
                label=f"precision {row.precision:.2f} of {row.possible:.2f} possible"
                + ("" if row.precision_before is None else f", untrained {row.precision_before:.2f}"),
            )
            for row in kept
        ]
        shown.append(
            {
                "title": title,
                "rows": list(zip(kept, bars, strict=True)),
                "left_out": left_out,
                "half": results.MOST_ROWS // 2,
            }
        )
    return shown


def _gallery(page: RunPage, queries: Sequence[results.Scored]) -> dict[str, Any]:
    """The cards of best, worst ... queries by kind, and the picture of every photo on them."""
    truth = page.collection.truth
    assert truth is not None  # RunPage refuses a collection without
    trained = Answers("trained", page.ranking, truth, page.collection)
    compared = [trained]
    if page.baseline_ranking is not None:
        compared.insert(0, Answers("untrained", page.baseline_ranking, truth, page.collection))
    name = _namer(page.collection, trained)
    shown: dict[str, list[Card]] = {}
    for kind, members in chosen(queries, NUM_CARDS).items():
        # the untrained model's answers belong where the two are compared
        shown[kind] = cards(members, compared if kind in ("improved", "worsened") else [trained], name)
    uses = photos_of(card for kind in shown.values() for card in kind)
    sections = [(kind, *_KINDS[kind], shown[kind]) for kind in _KINDS if shown[kind]]
    return {"sections": sections, "pictures": pictures(uses, page.collection)}


def _namer(collection: Collection, answers: Answers) -> Callable[[results.Scored], str]:
    def name(query: results.Scored) -> str:
        if query.landmark is not None:
            return collection.name_of(query.landmark)
        return answers.name(query.query, "several landmarks, or none")

    return name


def _origins(page: RunPage) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """What the numbers rest on: protocol and fingerprints, by table."""
    tables = [
        ("Protocol", list(page.report.protocol.items())),
        ("What made the trained model's numbers", list(page.report.made_by.items())),
    ]
    if page.baseline is not None:
        tables.append(("What made the untrained model's numbers", list(page.baseline.made_by.items())))
    data = [("collection", page.collection.fingerprint), ("gallery", page.ranking.gallery_fingerprint)]
    tables.append(("Data", [(key, value) for key, value in data if value]))
    return [(title, rows) for title, rows in tables if rows]
