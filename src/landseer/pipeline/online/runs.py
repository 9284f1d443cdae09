"""A finished run, query by query: what was answered, what was wrong with it, and how another run did.

    run = RunExplorer(Path("RUN"), data=Path("COLLECTION"))
    run.queries(sort="ap", limit=20)[0][0].tags

It only reads.  Everything may be called from any number of threads.  What it raises for a mistake of whoever asks is
``Refused``; ``ValueError`` where the run cannot be opened.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

from landseer.evaluation import Difference, compare
from landseer.photos import UnreadablePhoto, read_bytes, thumbnail
from landseer.pipeline.measure import Measured
from landseer.pipeline.online.refusals import Refused, Unknown
from landseer.pipeline.online.run_opening import Side, open_collection, open_result
from landseer.pipeline.online.run_tags import (
    FAILED,
    FIRST,
    JUDGED,
    RULES,
    JudgedAnswer,
    first_right,
    tags_of,
)
from landseer.types import Collection

SHOWN = 8
"""Answers of a query in a list."""
MOST_CONFUSED = 200
"""Landmarks in the table of confusions."""
_KEPT_BYTES = 64_000_000
"""Small pictures that are kept in memory."""
_FIRST_RUN, _OTHER_RUN = "this", "other"
_LAST = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """How one query was answered.  ``ap`` is None where no photo of the collection is right, so it is not scored."""

    id: str
    landmark: int | None
    """None where it shows several, or none."""
    landmark_name: str | None
    trained: bool | None
    """Whether its landmark was trained on; None where that cannot be said."""
    ap: float | None
    other_ap: float | None
    num_right: int
    """Right photos that the truth names."""
    first_right: int | None
    """Rank of the first right answer among the first 50, from 1, junk not counted."""
    other_first_right: int | None
    tags: tuple[str, ...]
    """Why it failed; empty where it did not."""

    @property
    def change(self) -> float | None:
        """How much higher its AP is than the other's."""
        return None if self.ap is None or self.other_ap is None else self.ap - self.other_ap


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """For which other landmark one is taken most often, among the first five answers to its queries."""

    landmark: int
    name: str
    queries: int
    """Queries that show it."""
    taken_for: int
    taken_for_name: str
    answers: int
    """Answers that show the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run as a whole.  ``other`` is what it is compared with: a run's name, or "untrained"; None: nothing."""

    name: str
    title: str
    warnings: tuple[str, ...]
    photos: int
    """In the gallery."""
    queries: int
    failed: int
    mean_ap: float
    other: str | None
    other_mean_ap: float | None
    difference: Difference | None
    """Mean AP minus the other's, over all scored queries."""
    reranking: tuple[str, ...]


class RunExplorer:
    """A finished run beside another one, or beside its own model before training."""

    def __init__(
        self, out: Path, *, against: Path | None = None, data: Path | None = None, root: Path | None = None
    ) -> None:
        """Open the run in *out* and, to compare it with, that in *against*.

        *data* is the collection that it was run on (None: it lies beside *out*), *root* where its photos lie now.
        Raises ``ValueError`` for no run, an unfinished one, one of another collection or photos that moved.
        """
        result, fingerprint = open_result(out)
        self.collection: Collection = open_collection(out, fingerprint, data, root)
        final = "trained" if result.trained is not None else "untrained"
        self._this = self._side(result.final, out / final)
        self._other: Side | None = None
        other_name = None
        if against is not None:
            other, other_fingerprint = open_result(against)
            if other_fingerprint != fingerprint:
                raise ValueError(
                    f"{out} and {against} were run on different collections ({fingerprint}, {other_fingerprint}); "
                    "compare runs on one"
                )
            folder = against / ("trained" if other.trained is not None else "untrained")
            self._other, other_name = self._side(other.final, folder), _told_apart(against, out)
        elif result.trained is not None:
            self._other, other_name = self._side(result.untrained, out / "untrained"), "untrained"
        self._queries = {query.id: query for query in self._told()}
        self._small: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._small_bytes, self._lock = 0, Lock()
        asked = {*result.final.ranking.query_ids, *self._queries}
        self._pictured = dict(zip(self.collection.ids, self.collection.paths, strict=True))
        self._shown = asked | set(result.final.ranking.gallery_ids)
        difference = None if self._other is None else _difference(self._this, self._other)
        self.facts = RunFacts(
            name=out.resolve().name if against is None else _told_apart(out, against),
            title=result.title,
            warnings=result.warnings,
            photos=len(result.final.ranking.gallery_ids),
            queries=len(self._queries),
            failed=sum(bool(query.tags) for query in self._queries.values()),
            mean_ap=_mean(self._this.ap.values()),
            other=other_name,
            other_mean_ap=None if self._other is None else _mean(self._other.ap.values()),
            difference=difference,
            reranking=result.reranking,
        )

    def _side(self, measured: Measured, folder: Path) -> Side:
        return Side(measured.retrieval, measured.ranking, folder, self.collection)

    def _told(self) -> Iterable[RunQuery]:
        """Every scored query, and then those of a landmark of which no photo is right."""
        truth = self.collection.truth
        assert truth is not None, "a run is of a collection with truth"
        own = dict(zip(truth.query_ids, truth.landmarks, strict=True))
        right = dict(zip(truth.query_ids, map(len, truth.relevant), strict=True))
        rows = self._this.evaluated.per_query.select(["query", "landmark", "seen"]).to_pylist()
        scored = {row["query"] for row in rows}
        rows += [
            {"query": query, "landmark": marks[0] if len(marks) == 1 else None, "seen": None}
            for query, marks, split in zip(truth.query_ids, truth.landmarks, truth.split, strict=True)
            if marks and split != "Ignored" and query not in scored
        ]
        for row in rows:
            query, landmark = row["query"], row["landmark"]
            answers = self._this.answers(query, JUDGED)
            marks = own[query] or (() if landmark is None else (landmark,))
            yield RunQuery(
                id=query,
                landmark=landmark,
                landmark_name=None if landmark is None else self.collection.name_of(landmark),
                trained=row["seen"],
                ap=self._this.ap.get(query),
                other_ap=None if self._other is None else self._other.ap.get(query),
                num_right=right[query],
                first_right=first_right(answers),
                other_first_right=None
                if self._other is None
                else first_right(self._other.answers(query, JUDGED)),
                tags=tags_of(answers, own=marks, nearest_right=self._this.nearest_right(query)),
            )

    # --- asking ------------------------------------------------------------------------------------------

    def queries(
        self,
        *,
        sort: str = "ap",
        landmark: int | None = None,
        tag: str | None = None,
        after: int = 0,
        limit: int = 20,
    ) -> tuple[list[RunQuery], int | None, int]:
        """Queries from number *after* on, at most *limit*; the number to go on at, and how many there are.

        *sort* is one of ``SORTS``; *tag* one of ``RULES``, or "failed" for all that failed.  Raises ``Refused``.
        """
        if sort not in SORTS:
            raise Refused(f"sort is one of {', '.join(SORTS)}")
        if sort in ("change", "-change") and self._other is None:
            raise Refused("nothing to compare with: this run trains nothing; start with --compare RUN")
        if tag is not None and tag not in (FAILED, *RULES):
            raise Refused(f"tag is one of {FAILED}, {', '.join(RULES)}")
        chosen = sorted(self._having(landmark, tag), key=SORTS[sort])
        following = after + limit if after + limit < len(chosen) else None
        return chosen[after : after + limit], following, len(chosen)

    def tags(self, *, landmark: int | None = None) -> dict[str, int]:
        """How many queries, of *landmark* if given, have each tag; "failed" counts each failed one once."""
        found = Counter(tag for query in self._having(landmark, FAILED) for tag in (FAILED, *query.tags))
        return {tag: found[tag] for tag in (FAILED, *RULES)}

    def _having(self, landmark: int | None, tag: str | None) -> list[RunQuery]:
        return [
            query
            for query in self._queries.values()
            if landmark in (None, query.landmark)
            and (tag is None or tag in query.tags or (tag == FAILED and query.tags))
        ]

    def query(self, photo: str) -> RunQuery:
        """One query.  Raises ``Unknown``."""
        if photo not in self._queries:
            raise Unknown("the run scores no such query")
        return self._queries[photo]

    def answers(self, photo: str, num: int = JUDGED) -> Sequence[JudgedAnswer]:
        """The first *num* answers to a query."""
        return self._this.answers(self.query(photo).id, num)

    def other_answers(self, photo: str, num: int = JUDGED) -> Sequence[JudgedAnswer] | None:
        """Those of what the run is compared with; None where it is compared with nothing."""
        return None if self._other is None else self._other.answers(self.query(photo).id, num)

    def nearest_right(self, photo: str) -> float | None:
        """The highest cosine of a right photo of the gallery to a query; None where the gallery has none."""
        return self._this.nearest_right(self.query(photo).id)

    def name_of(self, landmark: int | None) -> str | None:
        """What a landmark is called."""
        return None if landmark is None else self.collection.name_of(landmark)

    @cached_property
    def confusions(self) -> list[Confusion]:
        """For each landmark the other one that its queries are answered with most, that with most answers first."""
        wrong: dict[int, Counter[int]] = defaultdict(Counter)
        num = Counter(query.landmark for query in self._queries.values() if query.landmark is not None)
        for query in self._queries.values():
            if query.landmark is None:
                continue
            counted = [answer for answer in self._this.answers(query.id, JUDGED) if answer.verdict != "junk"]
            wrong[query.landmark].update(
                answer.landmark
                for answer in counted[:FIRST]
                if answer.verdict == "wrong" and answer.landmark not in (None, query.landmark)
            )
        found = []
        for landmark, others in wrong.items():
            if not others:
                continue
            answers, other = max((count, -other) for other, count in others.items())
            found.append(
                Confusion(
                    landmark=landmark,
                    name=self.collection.name_of(landmark),
                    queries=num[landmark],
                    taken_for=-other,
                    taken_for_name=self.collection.name_of(-other),
                    answers=answers,
                )
            )
        found.sort(key=lambda each: (-each.answers, each.landmark))
        return found[:MOST_CONFUSED]

    def picture(self, photo: str, longest: int) -> bytes:
        """A photo of the run as a JPEG of at most *longest* pixels a side, without anything it says of itself.

        Raises ``Unknown`` where there is none, or its file cannot be read.
        """
        if photo not in self._shown or photo not in self._pictured:
            raise Unknown("the run has no such photo")
        key = photo, longest
        with self._lock:
            if key in self._small:
                self._small.move_to_end(key)
                return self._small[key]
        try:
            made = thumbnail(read_bytes(self.collection.root, self._pictured[photo]), longest=longest)
        except UnreadablePhoto as error:
            raise Unknown(f"the photo cannot be read: {error.reason}") from None
        with self._lock:
            if key not in self._small:
                self._small[key] = made
                self._small_bytes += len(made)
            while self._small_bytes > _KEPT_BYTES:
                self._small_bytes -= len(self._small.popitem(last=False)[1])
        return made


def _low_first(query: RunQuery) -> tuple[float, str]:
    return _LAST if query.ap is None else query.ap, query.id


def _high_first(query: RunQuery) -> tuple[float, str]:
    return _LAST if query.ap is None else -query.ap, query.id


def _by_landmark(query: RunQuery) -> tuple[bool, str, int, float, str]:
    name = (query.landmark_name or "").casefold()
    return query.landmark is None, name, query.landmark or 0, *_low_first(query)


def _lost_first(query: RunQuery) -> tuple[float, str]:
    return _LAST if query.change is None else query.change, query.id


def _gained_first(query: RunQuery) -> tuple[float, str]:
    return _LAST if query.change is None else -query.change, query.id


SORTS: dict[str, Callable[[RunQuery], tuple[float | str | int | bool, ...]]] = {
    "ap": _low_first,
    "-ap": _high_first,
    "landmark": _by_landmark,
    "change": _lost_first,
    "-change": _gained_first,
}
"""How queries may be ordered; those that cannot be come last."""


def _difference(this: Side, other: Side) -> Difference:
    """Over all scored queries.  It is one comparison, so the p-value needs no correction."""
    found = compare({_OTHER_RUN: other.evaluated, _FIRST_RUN: this.evaluated})
    return max(found, key=lambda each: each.num_queries)


def _told_apart(run: Path, from_other: Path) -> str:
    """The name of its folder, with the folder around it where both are called the same."""
    there, other = run.resolve(), from_other.resolve()
    return there.name if there.name != other.name else f"{there.parent.name}/{there.name}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
