"""What a reader sees: the live rows of one committed state, and the search among them.

A search answers for one state from beginning to end, whatever is committed or compacted meanwhile.

Axes: Q queries, K answers, N rows of a segment, D components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from landseer.search.certified import Prepared, prepare
from landseer.search.exact import search_exact
from landseer.search.living.segments import FOLDER, Segment
from landseer.search.living.state import Snapshot, State
from landseer.search.scores import norm_bounds
from landseer.types import PADDING, Descriptors, Ranking

_COPIED_BYTES = 2**26
_WORTH_COPYING = 8
"""Where fewer than one row in so many is allowed, copying those is cheaper than scoring all."""
NO_ROW = np.iinfo(np.int64).max
"""Stands for "no answer" among row numbers, and sorts behind them all."""


class Part:
    """One segment as a gallery whose positions rise with the row numbers."""

    def __init__(self, segment: Segment, *, metric: str, normalised: bool) -> None:
        self.segment = segment
        self._how = {"metric": metric, "normalised": normalised}

    def gallery(self, *, prepared: bool) -> Descriptors | Prepared:
        """All rows, checked: a memory map; *prepared*, with a byte a component in memory beside it."""
        self.segment.check()
        return self._prepared if prepared else self._whole

    def copies(self, place_M: np.ndarray) -> Descriptors:
        """Copies of some rows, checked."""
        ids = tuple(map(str, self.segment.row_N[place_M].tolist()))
        return Descriptors(ids=ids, rows_ND=self.segment.take(place_M), **self._how)  # type: ignore[arg-type]

    @cached_property
    def norm_N(self) -> np.ndarray:
        """Upper bounds of the lengths of all rows, checked."""
        self.segment.check()
        return norm_bounds(self._whole.rows_ND, self._whole.ids)

    @cached_property
    def _whole(self) -> Descriptors:
        # by row number: a photo that was replaced may be twice among the rows
        ids = tuple(map(str, self.segment.row_N.tolist()))
        return Descriptors(ids=ids, rows_ND=self.segment.unchecked_ND, **self._how)  # type: ignore[arg-type]

    @cached_property
    def _prepared(self) -> Prepared:
        return prepare(self._whole)


@dataclass(frozen=True)
class View:
    """One committed state, open for reading."""

    snapshot: Snapshot
    parts: Mapping[int, Part]
    """By number of the segment; those of the current model."""
    live: Mapping[int, np.ndarray]
    """Which rows of each part are not removed: bool ``[N]``."""
    known: tuple[tuple[str, ...], np.ndarray] | None
    """The ids of an earlier state, and the rows that were removed then."""

    @staticmethod
    def open(folder: Path, snapshot: Snapshot, before: View | None) -> View:
        """The view of *snapshot*; what *before* had opened is used again.

        Raises ``FileNotFoundError`` where a compaction took a file away since the snapshot.
        """
        state = snapshot.state
        parts, live = {}, {}
        for facts in snapshot.segments:
            if facts.epoch != state.epoch:
                continue
            part = None if before is None else before.parts.get(facts.number)
            if part is None:
                segment = Segment(folder / FOLDER, facts)
                part = Part(segment, metric=state.model.metric, normalised=state.model.normalised)
            parts[facts.number] = part
            live[facts.number] = ~np.isin(part.segment.row_N, snapshot.removed_R)
        num_live = sum(int(mask.sum()) for mask in live.values())
        if num_live != state.num_photos:
            raise ValueError(
                f"{folder} is damaged: {state.num_photos} photos but {num_live} descriptors; "
                "restore it or build the index anew"
            )
        known = None if before is None else before.known
        if before is not None and "ids" in vars(before):
            known = (before.ids, before.snapshot.removed_R)
        return View(snapshot, parts, live, known)

    @property
    def state(self) -> State:
        """The few facts that change with every step."""
        return self.snapshot.state

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Photo id of each row number; empty where the photo is removed."""
        known, removed_R = self.known or ((), np.empty(0, np.int64))
        ids = [*known, *[""] * (self.state.next_row - len(known))]
        # a row number keeps its id through compaction and rebuilds: only removed and new ones differ
        for row in np.setdiff1d(self.snapshot.removed_R, removed_R).tolist():
            ids[row] = ""
        for number, part in self.parts.items():
            row_N = part.segment.row_N
            first = int(np.searchsorted(row_N, len(known)))
            if first < len(row_N):
                names = part.segment.ids()[first:]
                for row, photo, alive in zip(
                    row_N[first:].tolist(), names, self.live[number][first:].tolist(), strict=True
                ):
                    ids[row] = photo if alive else ""
        return tuple(ids)

    def search(
        self,
        queries: Descriptors,
        *,
        k: int,
        chosen_R: np.ndarray | None = None,
        device: str = "cpu",
        prepared: bool = False,
    ) -> Ranking:
        """The *k* best live rows for every query; only row numbers where *chosen_R* (bool) holds, if given."""
        best = no_answers(len(queries), k)
        for number, part in self.parts.items():
            allowed_N = self.live[number]
            if chosen_R is not None:
                allowed_N = allowed_N & chosen_R[part.segment.row_N]
            found = search_part(
                part, allowed_N, queries, k=k, device=device, prepared=prepared and device == "cpu"
            )
            best = merged(best, found, k=k)
        return self.ranking_of(queries, best)

    def ranking_of(self, queries: Descriptors, answers: _Answers) -> Ranking:
        """Row numbers and scores as a Ranking of the whole index."""
        row_QK, score_QK = answers
        return Ranking(
            query_ids=queries.ids,
            gallery_ids=self.ids,
            positions_QK=np.where(row_QK == NO_ROW, PADDING, row_QK),
            scores_QK=score_QK,
            score_kind="cosine" if queries.normalised and self.state.model.normalised else "dot",
        )


_Answers = tuple[np.ndarray, np.ndarray]
"""Row numbers (``NO_ROW`` where there is no answer) and scores ``[Q, K]``, best first."""


def no_answers(num_queries: int, k: int) -> _Answers:
    """Before anything is searched."""
    return np.full((num_queries, k), NO_ROW, np.int64), np.full((num_queries, k), -np.inf, np.float32)


def merged(one: _Answers, other: _Answers, *, k: int) -> _Answers:
    """The *k* best of both: by score, equal scores by lower row, what is no answer last."""
    row, score = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    order_QK = np.lexsort((row, -score), axis=-1)[:, :k]
    return np.take_along_axis(row, order_QK, axis=1), np.take_along_axis(score, order_QK, axis=1)


def search_part(
    part: Part, allowed_N: np.ndarray, queries: Descriptors, *, k: int, device: str, prepared: bool
) -> _Answers:
    """The part's *k* best allowed rows."""
    num, num_allowed = len(allowed_N), int(allowed_N.sum())
    if num_allowed * _WORTH_COPYING < num:
        return _search_copies(part, np.flatnonzero(allowed_N), queries, k=k, device=device)
    # Ask for more than k and pass over what is not allowed: the allowed ones among the n best of all are
    # the best allowed ones.  The share allowed says how many to ask for, unless what is not allowed crowds
    # around a query; such a query is answered from copies of the allowed rows.
    asked = min(num, k if num_allowed == num else 16 + k * num * 5 // (num_allowed * 4))
    found = search_exact(queries, part.gallery(prepared=prepared), k=asked, device=device)
    kept = allowed_N[found.positions_QK]
    first_QK = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    fits_QK = np.take_along_axis(kept, first_QK, axis=1)
    position_QK = np.take_along_axis(found.positions_QK, first_QK, axis=1)
    row_QK = np.where(fits_QK, part.segment.row_N[position_QK], NO_ROW)
    score_QK = np.where(fits_QK, np.take_along_axis(found.scores_QK, first_QK, axis=1), np.float32(-np.inf))
    few = np.flatnonzero(fits_QK.sum(axis=1) < min(k, num_allowed))
    if few.size:
        again = Descriptors(
            ids=tuple(queries.ids[query] for query in few),
            rows_ND=queries.rows_ND[few],
            metric=queries.metric,
            normalised=queries.normalised,
        )
        answers = _search_copies(part, np.flatnonzero(allowed_N), again, k=row_QK.shape[1], device=device)
        row_QK[few], score_QK[few] = answers
    return row_QK, score_QK


def _search_copies(part: Part, place_M: np.ndarray, queries: Descriptors, *, k: int, device: str) -> _Answers:
    """The *k* best of some rows of a part, copied to memory a piece at a time."""
    best = no_answers(len(queries), k)
    step = max(1, _COPIED_BYTES // part.segment.facts.row_bytes)
    for start in range(0, len(place_M), step):
        places = place_M[start : start + step]
        gallery = part.copies(places)
        found = search_exact(queries, gallery, k=min(k, len(gallery)), device=device)
        best = merged(best, (part.segment.row_N[places[found.positions_QK]], found.scores_QK), k=k)
    return best
