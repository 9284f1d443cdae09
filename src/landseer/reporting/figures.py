"""Figures as inline SVG: small, scriptless, coloured by the page's style sheet so that they follow dark mode.

Every function returns one ``<svg role="img">`` whose label says in words what the drawing shows.  Coordinates
are rounded to a tenth of a unit, which keeps files small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 340.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 10.0, 40.0
MAX_POINTS = 400
"""Points of a line before neighbours are averaged: more than a screen has pixels for shows nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve: its points, and the style class (``trained``, ``untrained``, ``ceiling``) that draws it."""

    x: Sequence[float]
    y: Sequence[float]
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


def _n(value: float) -> str:
    """A coordinate: one decimal, no trailing zero, no negative zero."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _svg(
    body: Iterable[Markup], *, label: str, width: float, height: float, style: str, stretched: bool = False
) -> Markup:
    fit = Markup(' preserveAspectRatio="none"') if stretched else Markup("")
    return Markup('<svg class="{}" viewBox="0 0 {} {}"{} role="img" aria-label="{}">{}</svg>').format(
        style, _n(width), _n(height), fit, label, Markup("").join(body)
    )


def _text(x: float, y: float, content: str, *, anchor: str = "middle", turned: bool = False) -> Markup:
    turn = Markup(' transform="rotate(-90 {} {})"').format(_n(x), _n(y)) if turned else Markup("")
    return Markup('<text x="{}" y="{}" text-anchor="{}"{}>{}</text>').format(
        _n(x), _n(y), anchor, turn, content
    )


def _stroke(points: Iterable[tuple[float, float]], style: str) -> Markup:
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return Markup('<polyline class="line {}" points="{}"/>').format(style, path)


def _dot(x: float, y: float, style: str) -> Markup:
    return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.6"/>').format(style, _n(x), _n(y))


def _rect(x: float, y: float, width: float, height: float, style: str, *, title: str = "") -> Markup:
    hint = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
        style, _n(x), _n(y), _n(max(width, 0.0)), _n(max(height, 0.0)), hint
    )


def _segment(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        style, _n(x1), _n(y1), _n(x2), _n(y2)
    )


def ticks(low: float, high: float, num: int = 5) -> list[float]:
    """About *num* round values (1, 2 or 5 times a power of ten apart) from *low* to *high*."""
    if not high > low:
        return [low]
    rough = (high - low) / num
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _plain(value: float) -> str:
    """A tick's text: ``0``, ``0.25``, ``1,500``, ``2e-05``."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """A plotting area and the scales that map data to it."""

    x: tuple[float, float]
    y: tuple[float, float]
    top: float = _TOP
    height: float = _HEIGHT - _TOP - _BOTTOM
    log_x: bool = False

    def at_x(self, value: float) -> float:
        low, high = self.x
        if self.log_x:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        share = (value - low) / (high - low) if high > low else 0.5
        return self.top + (1 - share) * self.height

    def axes(
        self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str
    ) -> list[Markup]:
        """Grid lines, tick labels and names; an empty *x_name* leaves the horizontal labels out."""
        bottom = self.top + self.height
        parts = []
        for value in y_ticks:
            parts.append(_segment(_LEFT, self.at_y(value), _WIDTH - _RIGHT, self.at_y(value), "grid"))
            parts.append(_text(_LEFT - 6, self.at_y(value) + 4, _plain(value), anchor="end"))
        parts.append(_segment(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "axis"))
        if x_name:
            parts += [_text(self.at_x(value), bottom + 15, _plain(value)) for value in x_ticks]
            parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 33, x_name))
        parts.append(_text(11, self.top + self.height / 2, y_name, turned=True))
        return parts

    def draw(self, line: Line) -> Markup:
        """*line* in this panel's coordinates; a single point, of which no line can be drawn, as a dot."""
        points = [(self.at_x(x), self.at_y(y)) for x, y in zip(line.x, line.y, strict=True)]
        return _dot(*points[0], line.style) if len(points) == 1 else _stroke(points, line.style)


def histogram(trained: Sequence[float], untrained: Sequence[float] | None, *, num_bins: int = 20) -> Markup:
    """How many queries fall in each band of average precision, 0 to 1; the untrained model as an outline."""
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    counts, _ = np.histogram(trained, bins=edges)
    before = np.histogram(untrained, bins=edges)[0] if untrained is not None else None
    top = max(1, int(counts.max()), int(before.max()) if before is not None else 0)
    panel = _Panel(x=(0.0, 1.0), y=(0.0, top * 1.05))
    parts = panel.axes(ticks(0, 1), [t for t in ticks(0, top) if t == int(t)], "average precision", "queries")
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        x, y = panel.at_x(left), panel.at_y(count)
        title = f"{left:.2f} to {right:.2f}: {count} queries"
        parts.append(
            _rect(x + 1, y, panel.at_x(right) - x - 2, panel.at_y(0) - y, "bar trained", title=title)
        )
    if before is not None:
        outline = [(panel.at_x(0), panel.at_y(0))]
        for left, right, count in zip(edges[:-1], edges[1:], before, strict=True):
            outline += [(panel.at_x(left), panel.at_y(count)), (panel.at_x(right), panel.at_y(count))]
        outline.append((panel.at_x(1), panel.at_y(0)))
        parts += [_stroke(outline, "halo"), _stroke(outline, "untrained")]  # the halo parts it from the bars
    label = f"Histogram of average precision over {len(trained)} queries. " + _spread(trained, "trained")
    if untrained is not None:
        label += " " + _spread(untrained, "untrained")
    return _svg(parts, label=label, width=_WIDTH, height=_HEIGHT, style="chart")


def _spread(values: Sequence[float], name: str) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"Half of the {name} model's queries lie between {low:.2f} and {high:.2f}, median {middle:.2f}."


def recall_figure(lines: Sequence[Line], *, label: str) -> Markup:
    """Recall by rank: x from 1 to K on a logarithmic scale, y from 0 to 1."""
    last = max(line.x[-1] for line in lines)
    panel = _Panel(x=(1.0, float(max(last, 2))), y=(0.0, 1.0), log_x=True)
    marks = [value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if value <= panel.x[1]]
    parts = panel.axes(marks, ticks(0, 1), "answers looked at", "share found")
    parts += [panel.draw(line) for line in lines]
    return _svg(parts, label=label, width=_WIDTH, height=_HEIGHT, style="chart")


def loss_figure(
    step: Sequence[float], loss: Sequence[float], lr: Sequence[float] | None, borders: Sequence[float]
) -> Markup:
    """Loss above, learning rate below, over the steps of all stages; dashed uprights stand at *borders*."""
    height = _HEIGHT - _TOP - _BOTTOM
    upper = height * (0.68 if lr else 1.0)
    span = (min(step), max(step))
    x, y = thinned(step, loss)
    floor = 0.0 if min(y) >= 0 else min(y)
    panel = _Panel(x=span, y=(floor, max(*y, floor + 1e-6) * 1.05), height=upper)
    marks = ticks(*span)
    parts = panel.axes(marks, ticks(*panel.y, num=4), "" if lr else "step", "loss")
    parts += [_segment(panel.at_x(b), _TOP, panel.at_x(b), _TOP + height, "border") for b in borders]
    parts.append(panel.draw(Line(x=x, y=y, style="trained")))
    if lr:
        top = max(*lr, 1e-12)
        lower = _Panel(x=span, y=(0.0, top), top=_TOP + upper + 16, height=height - upper - 16)
        parts += lower.axes(marks, [0.0, float(f"{top:.2g}")], "step", "rate")
        rate_x, rate_y = thinned(step, lr)
        parts.append(lower.draw(Line(x=rate_x, y=rate_y, style="rate")))
    label = f"Training loss over {len(step)} records: starts at {loss[0]:.3g}, ends at {loss[-1]:.3g}."
    return _svg(parts, label=label, width=_WIDTH, height=_HEIGHT, style="chart")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A reliability diagram: in each bin of confidence how many predictions, how sure, how often right (or NaN)."""

    edges: Sequence[float]
    count_B: Sequence[int]
    confidence_B: Sequence[float]
    accuracy_B: Sequence[float]

    def points(self) -> list[tuple[float, float]]:
        """(how sure, how often right) of every bin that has predictions."""
        triples = zip(self.count_B, self.confidence_B, self.accuracy_B, strict=True)
        return [(sure, right) for count, sure, right in triples if count]


def reliability_figure(trained: Calibration, untrained: Calibration | None, *, label: str) -> Markup:
    """How often predictions are right against how sure they are, above how many there are of each sureness.

    On the dotted diagonal a confidence means what it says.  Bars are the trained model's bins, in title and height;
    the untrained model's are rings on a dashed line.
    """
    height = _HEIGHT - _TOP - _BOTTOM
    upper = height * 0.72
    panel = _Panel(x=(0.0, 1.0), y=(0.0, 1.0), height=upper)
    parts = panel.axes(ticks(0, 1), ticks(0, 1, num=4), "", "share right")
    most = max(trained.count_B)
    lower = _Panel(x=(0.0, 1.0), y=(0.0, most * 1.05), top=_TOP + upper + 14, height=height - upper - 14)
    parts += lower.axes(ticks(0, 1), [0.0, float(most)], "confidence", "queries")
    bins = zip(
        trained.edges[:-1], trained.edges[1:], trained.count_B, trained.confidence_B, trained.accuracy_B,
        strict=True,
    )  # fmt: skip
    for left, right, count, sure, share in bins:
        if not count:
            continue
        title = f"{left:.2f} to {right:.2f}: {count} queries, {share:.0%} right, {sure:.0%} sure on average"
        x, width = panel.at_x(left) + 1, panel.at_x(right) - panel.at_x(left) - 2
        for place, value in ((panel, share), (lower, float(count))):
            y = place.at_y(value)
            parts.append(_rect(x, y, width, place.at_y(0) - y, "bar trained", title=title))
    diagonal = [(panel.at_x(value), panel.at_y(value)) for value in (0.0, 1.0)]
    parts += [_stroke(diagonal, "halo"), _stroke(diagonal, "ceiling")]
    if untrained is not None:
        points = [(panel.at_x(sure), panel.at_y(share)) for sure, share in untrained.points()]
        parts += [_stroke(points, "halo"), _stroke(points, "untrained")] if len(points) > 1 else []
        parts += [_dot(*point, "untrained") for point in points]
    return _svg(parts, label=label, width=_WIDTH, height=_HEIGHT, style="chart")


def trade_off_figure(lines: Sequence[Line], chosen: Sequence[Line], *, label: str) -> Markup:
    """Share of the known named rightly against false accepts, both 0 to 1; *chosen* are single points on the lines."""
    panel = _Panel(x=(0.0, 1.0), y=(0.0, 1.0))
    parts = panel.axes(ticks(0, 1), ticks(0, 1), "false accepts", "named rightly")
    parts += [panel.draw(line) for line in lines]
    for point in chosen:
        parts.append(panel.draw(point))
    return _svg(parts, label=label, width=_WIDTH, height=_HEIGHT, style="chart")


def thinned(
    x: Sequence[float], y: Sequence[float], num: int = MAX_POINTS
) -> tuple[Sequence[float], Sequence[float]]:
    """The curve with at most *num* points, the means of equal runs; a short curve stays as it is."""
    if len(x) <= num:
        return x, y
    runs_x, runs_y = (np.array_split(np.asarray(values, dtype=float), num) for values in (x, y))
    return [float(run.mean()) for run in runs_x], [float(run.mean()) for run in runs_y]


def interval_strip(
    trained: Estimate | None, untrained: Estimate | None, *, span: tuple[float, float], label: str
) -> Markup:
    """Two values with intervals on a strip over *span*: the trained a disc, the untrained a ring above."""
    width, height, pad = 200.0, 26.0, 6.0

    def at(value: float) -> float:
        share = (value - span[0]) / (span[1] - span[0])
        return pad + min(max(share, 0.0), 1.0) * (width - 2 * pad)

    parts = [_segment(at(v), 2, at(v), height - 2, "grid") for v in ticks(*span, num=4)]
    for estimate, style, y in ((untrained, "untrained", 8.0), (trained, "trained", 18.0)):
        if estimate is not None:
            parts.append(_segment(at(estimate.low), y, at(estimate.high), y, f"line {style}"))
            parts.append(_dot(at(estimate.value), y, style))
    return _svg(parts, label=label, width=width, height=height, style="mini")


def precision_bar(value: float, possible: float, untrained: float | None, *, label: str) -> Markup:
    """A bar on a rail that ends where a perfect ranking would; the upright marks the untrained model."""
    width, height = 200.0, 16.0
    parts = [
        _rect(0, 5, possible * width, 6, "rail"),
        _rect(0, 3, value * width, 10, "bar trained"),
    ]
    if untrained is not None:
        x = min(max(untrained * width, 1.5), width - 1.5)
        parts.append(_segment(x, 0, x, height, "mark untrained"))
    return _svg(parts, label=label, width=width, height=height, style="mini", stretched=True)


def swatch(style: str) -> Markup:
    """A sample of a series' line for a legend; the words beside it carry its name."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true">'
        '<line class="line {}" x1="1" y1="5" x2="27" y2="5"/></svg>'
    ).format(escape(style))
