"""The search structure of a living index: codes that make searches faster, and that nothing depends on.

``structure/`` in the index's folder is an artifact of its own: whole or absent, with checksums.  Any process that
may write the folder builds it; any reader uses it if it is sound and of this index and model, and else
searches exactly.  It knows rows by their row numbers, which mean one descriptor for ever as long as the model
stays; so it outlives changes:

- photos added since are outside of it, and are searched exactly beside it;
- removed photos, and those a filter leaves out, are passed over among the candidates; a query that is left
  with fewer than the tuning asked for is answered exactly;
- compaction moves rows to other segments: a segment that was there when the structure was built is known by
  its number and checksums, a row of any other by its crc32.

Axes: Q queries, C candidates, K answers, P places in the structure, N rows of a segment, D components.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landseer.search.approximate.build import FILE, read_checked, read_codes
from landseer.search.approximate.candidates import best_of, in_parts
from landseer.search.approximate.codes import Codes
from landseer.search.approximate.fitting import Answers, fit
from landseer.search.approximate.plan import MOST_CANDIDATES, Plan, choose
from landseer.search.approximate.tuning import Measured
from landseer.search.living.segments import SegmentFacts
from landseer.search.living.view import NO_ROW, Part, View, merged, no_answers, search_part
from landseer.search.scores import norm_bounds
from landseer.storage import open_artifact, writing
from landseer.types import PADDING, Descriptors

_log = logging.getLogger(__name__)

FOLDER = "structure"
KIND = "index structure"
_ROWS = "rows"
_ROWS_AT_ONCE = 2**14
_SPARE = 1.25
"""So many times the candidates that should remain when those not allowed are passed over."""
_REBUILD_HELPS = 5
"""Once one photo in so many is outside of the structure."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Codes of rows of a living index, by row number."""

    index: str
    """Fingerprint of the index."""
    epoch: int
    """Which of the index's models made the rows."""
    segments: Mapping[str, int]
    """Number (as text) -> checksum, of the segments that held the rows."""
    row_P: np.ndarray
    """Row numbers, ascending int64."""
    crc_P: np.ndarray
    """crc32 of each row, uint32."""
    codes: Codes | None
    plan: Plan
    measured: Measured

    def save(self, path: Path) -> None:
        """Write the artifact, in the place of one that lies there."""
        facts = {
            "index": self.index,
            "epoch": self.epoch,
            "segments": dict(self.segments),
            "plan": asdict(self.plan),
            "measured": asdict(self.measured),
        }
        with writing(path, KIND, made_by=facts, replace=path.exists()) as part:
            content = self.row_P.astype("<i8").tobytes() + self.crc_P.astype("<u4").tobytes()
            (part / _ROWS).write_bytes(content)
            if self.codes is not None:
                (part / FILE).write_bytes(self.codes.to_bytes().data)

    @staticmethod
    def load(path: Path) -> Structure:
        """What ``save`` wrote; ``ValueError`` where a byte of it changed."""
        manifest = open_artifact(path, KIND)
        codes, plan, measured = read_codes(path, manifest)
        content = read_checked(path, manifest, _ROWS)
        num = len(content) // 12
        facts: Mapping[str, Any] = manifest.made_by
        return Structure(
            index=facts["index"],
            epoch=facts["epoch"],
            segments=facts["segments"],
            row_P=np.frombuffer(content, "<i8", count=num),
            crc_P=np.frombuffer(content, "<u4", offset=8 * num),
            codes=codes,
            plan=plan,
            measured=measured,
        )


def build(
    view: View,
    index: str,
    *,
    k: int,
    recall: float,
    queries: Descriptors | None,
    memory_bytes: int | None,
    seed: int,
) -> Structure:
    """Codes of all live rows of *view*, tuned and measured on samples of them or of *queries*."""
    rows = _LiveRows(view, index)
    plan = choose(len(rows), view.state.model.dim, k=k, recall=recall, memory_bytes=memory_bytes)
    codes, plan, measured = fit(rows, plan, queries=queries, seed=seed)
    return rows.structure(codes, plan, measured)


class Cover:
    """Where the rows of a structure are in the segments of a view."""

    def __init__(self, structure: Structure, view: View) -> None:
        self.structure = structure
        self.inside: dict[int, np.ndarray] = {}
        """For each part, which of its rows the structure has: bool ``[N]``."""
        num = len(structure.row_P)
        self._part_P, self._place_P = np.full(num, -1, np.int64), np.zeros(num, np.int64)
        for number, part in view.parts.items():
            place_N = self._places_of(part)
            here = np.flatnonzero(place_N >= 0)
            self._part_P[place_N[here]], self._place_P[place_N[here]] = number, here
            self.inside[number] = place_N >= 0

    def _places_of(self, part: Part) -> np.ndarray:
        """The place of each row of *part* in the structure, -1 where it has none."""
        known, row_N = self.structure, part.segment.row_N
        place_N = np.minimum(np.searchsorted(known.row_P, row_N), len(known.row_P) - 1)
        place_N = np.where(known.row_P[place_N] == row_N, place_N, -1)
        facts = part.segment.facts
        if known.segments.get(str(facts.number)) != checksum(facts):
            here = np.flatnonzero(place_N >= 0)
            same = _crcs(part, here) == known.crc_P[place_N[here]]
            place_N[here[~same]] = -1
        return place_N

    def search(
        self, view: View, queries: Descriptors, *, k: int, chosen_R: np.ndarray | None, prepared: bool
    ) -> Answers | None:
        """Row numbers and scores ``[Q, k]``; None where searching all exactly takes less."""
        plan, codes = self.structure.plan, self.structure.codes
        assert codes is not None
        allowed = {
            number: mask if chosen_R is None else mask & chosen_R[view.parts[number].segment.row_N]
            for number, mask in view.live.items()
        }
        within = {number: mask & self.inside[number] for number, mask in allowed.items()}
        num_within = sum(int(mask.sum()) for mask in within.values())
        wanted = max(plan.num_candidates, k)
        num = (
            wanted
            if num_within == len(codes)
            else int(_SPARE * wanted * len(codes) / max(num_within, 1)) + 16
        )
        if num > MOST_CANDIDATES * plan.k:
            return None
        best, left_Q, all_Q = self._found(view, within, queries, num=min(num, len(codes)), k=k)
        # lists that hold fewer rows than were asked for have given all they have, as they did in the tuning
        crowded = np.flatnonzero(left_Q < np.where(all_Q < num, min(k, num_within), min(wanted, num_within)))
        for number, part in view.parts.items():
            outside_N = allowed[number] & ~within[number]
            if outside_N.any():
                best = merged(
                    best, search_part(part, outside_N, queries, k=k, device="cpu", prepared=prepared), k=k
                )
        if crowded.size:
            again = queries.take([queries.ids[query] for query in crowded])
            exact = view.search(again, k=k, chosen_R=chosen_R, prepared=prepared)
            best[0][crowded] = np.where(exact.positions_QK == PADDING, NO_ROW, exact.positions_QK)
            best[1][crowded] = exact.scores_QK
        return best

    def _found(
        self,
        view: View,
        within: Mapping[int, np.ndarray],
        queries: Descriptors,
        *,
        num: int,
        k: int,
    ) -> tuple[Answers, np.ndarray, np.ndarray]:
        """The best of the candidates that are allowed, how many of these each query has, and how many in all."""
        plan, codes = self.structure.plan, self.structure.codes
        assert codes is not None
        norm_Q = norm_bounds(queries.rows_ND, queries.ids)
        row_QK, score_QK = no_answers(len(queries), k)
        left_Q, all_Q = np.zeros((2, len(queries)), np.int64)
        norms = {number: part.norm_N for number, part in view.parts.items()}

        def answer(asked: slice) -> None:
            found_QC = codes.find(queries.rows_ND[asked], num=num, num_probes=plan.num_probes)
            all_Q[asked] = (found_QC >= 0).sum(axis=1)
            part_QC = np.where(found_QC >= 0, self._part_P[found_QC], -1)
            place_QC = self._place_P[found_QC]
            best = no_answers(len(found_QC), k)
            for number, part in view.parts.items():
                here_QC = part_QC == number
                here_QC[here_QC] = within[number][place_QC[here_QC]]
                if here_QC.any():
                    left_Q[asked] += here_QC.sum(axis=1)
                    places = np.where(here_QC, place_QC, -1)
                    rows = part.segment.unchecked_ND
                    place_QK, score = best_of(
                        places, queries.rows_ND[asked], norm_Q[asked], rows, norms[number], k=k
                    )
                    row = np.where(place_QK >= 0, part.segment.row_N[place_QK], NO_ROW)
                    best = merged(best, (row, score), k=k)
            row_QK[asked], score_QK[asked] = best

        in_parts(answer, len(queries))
        return (row_QK, score_QK), left_Q, all_Q


@dataclass
class StructureFolder:
    """The structure that lies with an index, read when it is needed; damage is a line in the log."""

    path: Path
    index: str
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _seen: tuple[int, ...] = ()
    _structure: Structure | None = None
    _cover: tuple[tuple[int, ...], Cover] | None = None
    _told: set[str] = field(default_factory=set)

    def told(self, view: View) -> str | None:
        """What it says of itself, or why searches pass it over; None where there is none.  Its codes are not read."""
        if not self.path.exists():
            return None
        try:
            made_by = open_artifact(self.path, KIND).made_by
        except ValueError as error:
            return f"of no use: {error}"
        if made_by["index"] != self.index or made_by["epoch"] != view.state.epoch:
            return "of no use: built for other descriptors; build it again"
        return f"{Measured(**made_by['measured'])}; {Plan(**made_by['plan'])}"

    def cover(self, view: View, *, k: int, recall: float) -> Cover | None:
        """The structure over *view*, if it may answer a search of this kind."""
        with self._lock:
            structure = self._current()
            if structure is None:
                return None
            why = self._refusal(structure, view, k=k, recall=recall)
            if why:
                self._tell(f"searching exactly: {why}")
            if why or structure.codes is None:  # without codes exact search was the plan
                return None
            numbers = tuple(view.parts)
            if self._cover is None or self._cover[0] != numbers:
                self._cover = numbers, Cover(structure, view)
            cover = self._cover[1]
            outside = sum(int((view.live[number] & ~mask).sum()) for number, mask in cover.inside.items())
            if outside * _REBUILD_HELPS > view.state.num_photos:
                self._tell(
                    f"{self.path} lacks {outside} of {view.state.num_photos} photos, which are searched exactly; "
                    "build it again",
                    about="outside",
                )
            return cover

    def _refusal(self, structure: Structure, view: View, *, k: int, recall: float) -> str:
        if structure.index != self.index or structure.epoch != view.state.epoch:
            return f"{self.path} was built for other descriptors; build it again"
        if k > structure.plan.k or recall > structure.plan.recall:
            return (
                f"{self.path} was built for recall@{structure.plan.k} of {structure.plan.recall:g}, "
                f"not recall@{k} of {recall:g}; build it again"
            )
        return ""

    def _current(self) -> Structure | None:
        """What lies in the folder now; None where there is nothing sound."""
        try:
            facts = (self.path / "manifest.json").stat()
        except OSError:
            self._structure, self._cover, self._seen = None, None, ()
            self._tell(
                f"searching exactly: {self.path} is not there; landseer index rebuild --recall builds it"
            )
            return None
        seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if seen != self._seen:
            self._structure, self._cover, self._seen = None, None, seen
            self._told.clear()
            try:
                self._structure = Structure.load(self.path)
            except ValueError as error:
                self._tell(f"searching exactly: {error}")
        return self._structure

    def _tell(self, line: str, about: str = "") -> None:
        """Once for each structure, and thing it is *about*."""
        if (about or line) not in self._told:
            _log.warning("%s", line)
            self._told.add(about or line)


class _LiveRows:
    """The live rows of a view, in order of their row numbers, as a source of codes."""

    def __init__(self, view: View, index: str) -> None:
        self._view, self._index = view, index
        model = view.state.model
        self.metric: Literal["cosine", "euclidean"] = model.metric  # type: ignore[assignment]
        self.normalised = model.normalised
        live = {number: np.flatnonzero(mask) for number, mask in view.live.items()}
        nothing = [np.empty(0, np.int64)]
        row_P = np.concatenate([*nothing, *(view.parts[n].segment.row_N[place] for n, place in live.items())])
        part_P = np.concatenate([*nothing, *(np.full(len(place), n) for n, place in live.items())])
        place_P = np.concatenate([*nothing, *live.values()])
        order = np.argsort(row_P)
        self._row_P, self._part_P, self._place_P = row_P[order], part_P[order], place_P[order]

    def __len__(self) -> int:
        return len(self._row_P)

    def take(self, place_M: np.ndarray) -> np.ndarray:
        model = self._view.state.model
        rows_MD = np.empty((len(place_M), model.dim), model.dtype)
        for number, part in self._view.parts.items():
            here_M = self._part_P[place_M] == number
            rows_MD[here_M] = part.segment.take(self._place_P[place_M][here_M])
        return rows_MD

    def pieces(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self.take(np.arange(start, min(start + _ROWS_AT_ONCE, len(self))))

    def exact(self, queries: Descriptors, *, k: int) -> Answers:
        found = self._view.search(queries, k=k)
        return np.searchsorted(self._row_P, found.positions_QK), found.scores_QK

    def approximate(self, codes: Codes, plan: Plan, queries: Descriptors, *, k: int) -> Answers:
        unmeasured = Measured(name="", value=0.0, low=0.0, high=0.0, num_queries=0)
        cover = Cover(self.structure(codes, plan, unmeasured), self._view)
        found = cover.search(self._view, queries, k=k, chosen_R=None, prepared=False)
        assert found is not None
        return np.searchsorted(self._row_P, found[0]), found[1]

    def scanned(self, queries: Descriptors, *, k: int) -> Answers | None:
        """None: bytes of the rows are kept by whoever holds the index open, not with the structure."""

    def structure(self, codes: Codes | None, plan: Plan, measured: Measured) -> Structure:
        """What is kept of all this."""
        crc_P = np.zeros(len(self), np.uint32)
        for number, part in self._view.parts.items() if codes is not None else ():
            mine = self._part_P == number
            crc_P[mine] = _crcs(part, self._place_P[mine])
        return Structure(
            index=self._index,
            epoch=self._view.state.epoch,
            segments={str(n): checksum(part.segment.facts) for n, part in self._view.parts.items()},
            row_P=self._row_P,
            crc_P=crc_P,
            codes=codes,
            plan=plan,
            measured=measured,
        )


def checksum(facts: SegmentFacts) -> int:
    """Of all that a segment holds."""
    return zlib.crc32(facts.block_crcs, facts.head_crc)


def _crcs(part: Part, place_M: np.ndarray) -> np.ndarray:
    """crc32 of some rows: uint32."""
    found = np.empty(len(place_M), np.uint32)
    for start in range(0, len(place_M), _ROWS_AT_ONCE):
        rows = part.segment.take(place_M[start : start + _ROWS_AT_ONCE])
        found[start : start + len(rows)] = [zlib.crc32(row) for row in rows]
    return found
