"""Which queries are shown with their answers, and the pictures of both, within a budget of bytes."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from landseer.photos import UnreadablePhoto, read_bytes, thumbnail
from landseer.reporting.results import Scored
from landseer.types import Collection, Ranking, Truth

NUM_ANSWERS = 10
PICTURE_BYTES = 4_800_000
"""What all pictures of a page may take, base64 and all."""
LONGEST_SIDES = (208, 160, 128, 96, 64, 32)
"""Longest sides of a thumbnail in pixels: the first at which all pictures fit the budget is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A photo as a ``data:`` URI, or the reason why there is none."""

    uri: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One photo of an answer list.  ``junk`` counts neither for nor against a model."""

    rank: int
    photo: str
    score: float
    verdict: Literal["right", "wrong", "junk"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The first answers to a query by one model."""

    model: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A query with its answers."""

    result: Scored
    name: str
    first_right: int | None
    """Rank of the first right answer, from 1, junk not counted."""
    strips: tuple[Strip, ...]


def _spread_over_landmarks(queries: Sequence[Scored], num: int) -> list[Scored]:
    """The first *num*, one a landmark as long as there are enough landmarks."""
    first, rest, met = list[Scored](), list[Scored](), set[int]()
    for query in queries:
        new = query.landmark is None or query.landmark not in met
        (first if new else rest).append(query)
        if query.landmark is not None:
            met.add(query.landmark)
    return [*first, *rest][:num]


def chosen(queries: Sequence[Scored], num: int) -> dict[str, list[Scored]]:
    """The queries to show by kind (best, worst, typical, improved, worsened), at most *num* of each.

    No query is both among the best and the worst.  Of equals the one with more right photos goes first.
    """
    best_first = sorted(queries, key=lambda q: (-q.ap, -q.num_relevant, q.query))
    best = _spread_over_landmarks(best_first, min(num, (len(queries) + 1) // 2))
    worst_first = sorted(queries, key=lambda q: (q.ap, -q.num_relevant, q.query))
    others = [query for query in worst_first if query not in best]
    worst = _spread_over_landmarks(others, num)
    middle = median(query.ap for query in queries) if queries else 0.0
    shown = {query.query for query in (*best, *worst)}
    by_middle = sorted(queries, key=lambda q: (abs(q.ap - middle), q.query))
    typical = _spread_over_landmarks([query for query in by_middle if query.query not in shown], num)
    moved = sorted(((q.change or 0.0, q.query, q) for q in queries), key=lambda entry: (-entry[0], entry[1]))
    improved = [query for change, _, query in moved if change > 0]
    worsened = [query for change, _, query in reversed(moved) if change < 0]
    return {
        "best": best,
        "typical": typical,
        "worst": worst,
        "improved": _spread_over_landmarks(improved, num),
        "worsened": _spread_over_landmarks(worsened, num),
    }


class Answers:
    """The answers of one model, looked up by query and judged by the truth."""

    def __init__(self, model: str, ranking: Ranking, truth: Truth, collection: Collection) -> None:
        self._model = model
        self._ranking = ranking
        self._truth = truth
        self._row = {query: row for row, query in enumerate(ranking.query_ids)}
        self._truth_row = {query: row for row, query in enumerate(truth.query_ids)}
        self._landmark = dict(zip(collection.ids, collection.landmark_N.tolist(), strict=True))
        self._name_of = collection.name_of

    def name(self, photo: str, missing: str) -> str:
        """Name of the landmark that *photo* shows, or *missing*."""
        landmark = self._landmark.get(photo, -1)
        return missing if landmark < 0 else self._name_of(landmark)

    def _judged(self, query: str) -> Iterable[Answer]:
        row = self._truth_row.get(query)
        relevant = set(self._truth.relevant[row]) if row is not None else set()
        junk = set(self._truth.junk[row]) if row is not None else set()
        answers = self._ranking.answers(self._row[query]) if query in self._row else []
        for rank, (photo, score) in enumerate(answers, 1):
            verdict: Literal["right", "wrong", "junk"]
            verdict = "right" if photo in relevant else "junk" if photo in junk else "wrong"
            yield Answer(
                rank=rank, photo=photo, score=score, verdict=verdict, name=self.name(photo, "no label")
            )

    def strip(self, query: str) -> Strip:
        """The first ten answers to *query*."""
        first = (answer for answer in self._judged(query) if answer.rank <= NUM_ANSWERS)
        return Strip(model=self._model, answers=tuple(first))

    def first_right(self, query: str) -> int | None:
        """Rank of the first right answer, from 1, junk not counted; ``None`` where there is none."""
        counted = (answer for answer in self._judged(query) if answer.verdict != "junk")
        return next((rank for rank, answer in enumerate(counted, 1) if answer.verdict == "right"), None)


def cards(queries: Iterable[Scored], models: Sequence[Answers], name: Callable[[Scored], str]) -> list[Card]:
    """One card a query with a strip from each of *models*; the last is the one whose ranks are told."""
    return [
        Card(
            result=query,
            name=name(query),
            first_right=models[-1].first_right(query.query),
            strips=tuple(model.strip(query.query) for model in models),
        )
        for query in queries
    ]


def photos_of(shown: Iterable[Card]) -> Counter[str]:
    """Every photo on *shown*, and how often."""
    uses: Counter[str] = Counter()
    for card in shown:
        uses[card.result.query] += 1
        uses.update(answer.photo for strip in card.strips for answer in strip.answers)
    return uses


def pictures(
    uses: Mapping[str, int], collection: Collection, *, budget: int = PICTURE_BYTES
) -> dict[str, Picture]:
    """A thumbnail of every photo of *uses*, as large as *budget* bytes in all allow.

    A photo that cannot be read, or is not in the collection, is given with the reason.
    """
    path_of = dict(zip(collection.ids, collection.paths, strict=True))
    made: dict[str, Picture] = {}
    for longest in LONGEST_SIDES:
        made = {photo: _picture(photo, path_of, collection.root, longest) for photo in sorted(uses)}
        if sum(len(picture.uri) * uses[photo] for photo, picture in made.items()) <= budget:
            break
    return made


def _picture(photo: str, path_of: Mapping[str, str], root: Path, longest: int) -> Picture:
    if photo not in path_of:
        return Picture(uri="", reason="not in the collection")
    try:
        small = thumbnail(read_bytes(root, path_of[photo]), longest=longest)
    except UnreadablePhoto as error:
        return Picture(uri="", reason=error.reason)
    return Picture(uri="data:image/jpeg;base64," + base64.b64encode(small).decode("ascii"))
