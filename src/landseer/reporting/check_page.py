"""What a check found as one HTML file: no script, no request to anywhere, pictures and styles inside."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from landseer.datasets.statistics import LabelStatistics, LongTail
from landseer.photos import UnreadablePhoto, read_bytes, thumbnail
from landseer.reporting.html import environment, head, resource, write_whole
from landseer.reporting.results import country_names

LONGEST_PX = 160
"""Of a picture on the page."""
MOST_TEXT = 120
"""Letters of a name, id or reason that are shown."""
MOST_COUNTRIES = 20
_WIDTH, _HEIGHT = 460.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 10.0, 12.0, 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoCard:
    """A photo: what it is called, where it lies, and why it is shown."""

    id: str
    root: Path
    path: str
    split: str
    landmark: str
    """Name; empty: none known."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCard:
    """Photos that are the same, the one to keep first; ``conflict``: their landmarks differ."""

    kind: str
    photos: tuple[PhotoCard, ...]
    num_photos: int
    conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCard:
    """A photo of a later split, and its copy in an earlier one, which has so many ``copies``."""

    earlier: PhotoCard
    later: PhotoCard
    how: str
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkRow:
    """A landmark that is evaluated and was trained on, or so it seems."""

    collection: str
    name: str
    how: str
    queries: int
    trained_name: str
    photos: int


@dataclass(frozen=True, kw_only=True)
class CheckPage:
    """Everything the page shows.  Lists are what is shown of more; ``facts`` has all numbers, as ``check.json``."""

    title: str
    facts: Mapping[str, Any]
    statistics: LabelStatistics
    unreadable: Sequence[tuple[str, str]]
    """Id, reason."""
    copies: Sequence[ClusterCard]
    scenes: Sequence[ClusterCard]
    leaks: Sequence[LeakCard]
    num_leaks: int
    landmarks: Sequence[LandmarkRow]


def write_check_page(page: CheckPage, path: Path) -> None:
    """Write *page* as one HTML file that appears whole or not at all; an older one is replaced.

    Equal pages over equal photos give equal bytes.  Raises ``ValueError`` where *path* cannot be written.
    """
    write_whole(render_check_page(page), path)


def render_check_page(page: CheckPage) -> str:
    """The HTML text of *page*."""
    env = environment(short=_short, count=lambda value: f"{value:,}", share=_share)
    names = country_names()
    countries = list(page.statistics.countries.items())
    return env.from_string(resource("check.html")).render(
        page=page,
        facts=page.facts,
        **head(resource("page.css") + resource("check.css")),
        pictures=_pictures(page),
        tail=None if page.statistics.tail is None else long_tail_figure(page.statistics.tail),
        countries=[(names.get(code, code), num) for code, num in countries[:MOST_COUNTRIES]],
        num_countries=len(countries),
    )


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _pictures(page: CheckPage) -> dict[tuple[Path, str], tuple[str, str]]:
    """(root, path) -> a ``data:`` address, or nothing and the reason."""
    shown: Iterable[PhotoCard] = (
        *(photo for cluster in (*page.copies, *page.scenes) for photo in cluster.photos),
        *(photo for leak in page.leaks for photo in (leak.earlier, leak.later)),
    )
    return {(photo.root, photo.path): _picture(photo.root, photo.path) for photo in shown}


def _picture(root: Path, path: str) -> tuple[str, str]:
    try:
        small = thumbnail(read_bytes(root, path), longest=LONGEST_PX)
    except UnreadablePhoto as error:
        return "", error.reason
    return "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii"), ""


def long_tail_figure(tail: LongTail) -> Markup:
    """Photos of each landmark, most first; both scales are logarithmic.

    Steps are drawn where the number changes, so a hundred thousand landmarks make a short drawing.
    """
    counts = tail.counts
    changes = [n for n in range(len(counts)) if n == 0 or counts[n] != counts[n - 1]]
    ends = [*changes[1:], len(counts)]
    most_x, most_y = max(2, len(counts)), max(2, counts[0])
    points = []
    for start, end in zip(changes, ends, strict=True):
        y = _at_y(counts[start], most_y)
        points += [f"{_at_x(start + 1, most_x):.1f},{y:.1f}", f"{_at_x(end, most_x):.1f},{y:.1f}"]
    marks = [_mark_y(value, most_y) for value in _powers(most_y)] + [
        _mark_x(v, most_x) for v in _powers(most_x)
    ]
    label = (
        f"Photos a landmark: {len(counts):,} landmarks, the largest has {counts[0]:,}, "
        f"half of them at most {tail.median:,.0f}, {tail.singles:,} have one."
    )
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/><polyline class="line trained" points="{}"/>'
        '<text x="{}" y="{}" text-anchor="middle">landmarks, by number of photos</text>'
        '<text x="12" y="{}" text-anchor="middle" transform="rotate(-90 12 {})">photos</text></svg>'
    ).format(
        *(f"{_WIDTH:g}", f"{_HEIGHT:g}", label, Markup("").join(marks)),
        *(f"{_LEFT:g}", f"{bottom:g}", f"{right:g}", f"{bottom:g}", " ".join(points)),
        *(
            f"{(_LEFT + right) / 2:g}",
            f"{_HEIGHT - 6:g}",
            f"{(_TOP + bottom) / 2:g}",
            f"{(_TOP + bottom) / 2:g}",
        ),
    )


def _powers(most: int) -> list[int]:
    """1, 10, 100 ... up to *most*; 1, 2, 5, 10 ... where these would be few."""
    steps = (1,) if most >= 1000 else (1, 2, 5)
    return [step * 10**power for power in range(len(str(most))) for step in steps if step * 10**power <= most]


def _at_x(value: float, most: int) -> float:
    return _LEFT + math.log(value) / math.log(most) * (_WIDTH - _LEFT - _RIGHT)


def _at_y(value: float, most: int) -> float:
    return _TOP + (1 - math.log(value) / math.log(most)) * (_HEIGHT - _TOP - _BOTTOM)


def _mark_y(value: int, most: int) -> Markup:
    y = _at_y(value, most)
    return Markup(
        '<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(
        *(f"{_LEFT:g}", f"{y:.1f}", f"{_WIDTH - _RIGHT:g}", f"{y:.1f}"),
        *(f"{_LEFT - 6:g}", f"{y + 4:.1f}", f"{value:,}"),
    )


def _mark_x(value: int, most: int) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
        f"{_at_x(value, most):.1f}", f"{_HEIGHT - _BOTTOM + 15:g}", f"{value:,}"
    )
