"""Reading a living index: one committed state after the other, each whole.

Any number of processes may read.  A reader looks for a newer state at each call, which costs microseconds
where there is none, and keeps what it has open as long as it needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from landseer.search.approximate import Measured
from landseer.search.living import structure
from landseer.search.living.catalogue import Catalogue
from landseer.search.living.checks import Problem, open_manifest, problems_of
from landseer.search.living.filters import Filter
from landseer.search.living.segments import FOLDER, Segment
from landseer.search.living.state import FIXED, ModelFacts
from landseer.search.living.structure import StructureFolder, build
from landseer.search.living.view import View
from landseer.storage.artifact import fingerprint_of
from landseer.types import Descriptors, Ranking

_ATTEMPTS = 20
_RECENT = 8
"""So many filters keep what they selected, a byte a row number, until the index changes."""


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What an index holds."""

    path: str
    photos: int
    removed: int
    """Removed photos whose room ``compact`` would give back."""
    segments: int
    bytes: int
    model: str
    dim: int
    metric: str
    normalised: bool
    dtype: str
    columns: tuple[str, ...]
    generation: int
    """Number of changes so far."""
    rebuild: str | None
    """The model a rebuild is under way for."""
    staged: int
    """Photos that have a descriptor of that model already."""
    structure: str | None
    """What searches with a recall go by: how well it does, and how; None where there is none."""


class IndexReader:
    """An index open for reading.  Threads may share it; use it as a context manager, or ``close`` it."""

    def __init__(self, path: Path) -> None:
        """Check the manifest, the catalogue's state and the segments' sizes and heads.

        Raises ``ValueError`` where *path* is no index, or is damaged.
        """
        self.path = path
        self._mutex = threading.RLock()
        self._catalogue: Catalogue | None = None
        self._view: View | None = None
        self._staged: dict[int, Segment] = {}
        self._recent: dict[Filter, tuple[int, np.ndarray]] = {}
        self._prepared = False
        self._version = -1
        self._identity = open_manifest(path).fingerprint
        self._structure = StructureFolder(path / structure.FOLDER, self._identity)
        if not (path / FOLDER).is_dir():
            raise ValueError(f"{path / FOLDER} is missing; restore it or build the index anew")
        try:
            self._catalogue = Catalogue(path, write=self._writes)
            self.refresh()
        except BaseException:
            self.close()
            raise

    @property
    def _writes(self) -> bool:
        return False

    def refresh(self) -> bool:
        """See what was committed since; returns whether anything was.  Every call does so by itself."""
        with self._mutex:
            catalogue = self._open_catalogue()
            version = catalogue.version()
            if version == self._version:
                return False
            before, missing = self._view, -1
            for _ in range(_ATTEMPTS):
                snapshot = catalogue.snapshot()
                if before is not None and snapshot.state.generation == before.state.generation:
                    break
                try:
                    self._view = View.open(self.path, snapshot, before)
                    break
                except FileNotFoundError as error:
                    # compacted away since the snapshot, unless the catalogue goes on naming it
                    if snapshot.state.generation == missing:
                        raise ValueError(
                            f"{error.filename} is missing; restore it or build the index anew"
                        ) from None
                    missing = snapshot.state.generation
            else:
                raise ValueError(f"{self.path} changes faster than it can be opened; try again")
            self._version = version
            return self._view is not before

    def search(
        self,
        queries: Descriptors,
        *,
        k: int,
        where: Filter | str | None = None,
        model: str | None = None,
        device: str = "cpu",
        recall: float | None = None,
    ) -> Ranking:
        """The *k* best photos of each query, exactly, among those that *where* selects.

        With *recall*, by the structure that ``build_structure`` made, if it was made for that recall or more:
        then some of the best may be missing.  Else, and where it cannot be used (the log says why), exactly.

        Positions are row numbers, which are never reused; ``gallery_ids`` has an entry for every row number
        ever given, empty where the photo is no longer there.  Where fewer than *k* photos are selected the
        rows end in padding.  Raises ``ValueError`` where queries and index do not fit, a filter is wrong,
        or what it reads is damaged.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        view, chosen_R = self._selected(where)
        check_fit(queries, view.state.model, model=model, what="the queries")
        found = self._by_structure(view, queries, k=k, recall=recall, chosen_R=chosen_R)
        if found is None:
            found = view.search(queries, k=k, chosen_R=chosen_R, device=device, prepared=self._prepared)
        return replace(found, gallery_fingerprint=fingerprint_of(self._identity, view.state.generation))

    def _by_structure(
        self, view: View, queries: Descriptors, *, k: int, recall: float | None, chosen_R: np.ndarray | None
    ) -> Ranking | None:
        """What the structure finds; None where all are to be searched exactly."""
        if recall is None or not len(queries):
            return None
        cover = self._structure.cover(view, k=k, recall=recall)
        if cover is None:
            return None
        found = cover.search(view, queries, k=k, chosen_R=chosen_R, prepared=self._prepared)
        return None if found is None else view.ranking_of(queries, found)

    def build_structure(
        self,
        *,
        k: int = 100,
        recall: float = 0.95,
        queries: Descriptors | None = None,
        memory_bytes: int | None = None,
        seed: int = 0,
    ) -> Measured:
        """Build what ``search(recall=...)`` uses, for up to *k* answers; returns the recall that was measured.

        As ``landseer.search.build_approximate`` builds it, from the photos that are in now.  Needs permission to write
        the folder but not to be its writer; what lay there before gives way.
        """
        view = self._current()
        if queries is not None:
            check_fit(queries, view.state.model, model=None, what="the queries")
        built = build(
            view, self._identity, k=k, recall=recall, queries=queries, memory_bytes=memory_bytes, seed=seed
        )
        built.save(self._structure.path)
        return built.measured

    def prepare(self) -> None:
        """Spend a byte a component of memory from now on, and torch, so that searches answer sooner.

        Worth its time from some fifty queries on; the answers are the same.
        """
        self._prepared = True
        for part in self._current().parts.values():
            part.gallery(prepared=True)

    def ids_where(self, where: Filter | str | None = None) -> tuple[str, ...]:
        """The ids of the photos that *where* selects (all by default), oldest first."""
        view, chosen_R = self._selected(where)
        rows = range(view.state.next_row) if chosen_R is None else np.flatnonzero(chosen_R).tolist()
        return tuple(view.ids[row] for row in rows if view.ids[row])

    def page(
        self, where: Filter | str | None = None, *, after: int = -1, limit: int
    ) -> tuple[tuple[str, ...], int | None, int]:
        """Ids of at most *limit* photos that *where* selects, oldest first, from behind row number *after*.

        With the row number to go on behind (None: that was all) and how many are selected in all.
        """
        view, chosen_R = self._selected(where)
        row_M = self._live_rows(view)
        if chosen_R is not None:
            row_M = row_M[chosen_R[row_M]]
        start = int(np.searchsorted(row_M, after, side="right"))
        rows = row_M[start : start + limit].tolist()
        following = rows[-1] if rows and start + limit < len(row_M) else None
        return tuple(view.ids[row] for row in rows), following, len(row_M)

    def groups(
        self, by: str, *, any_of: Sequence[str] = (), mean_of: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The photos put together by their value of the column *by*, those without one left out.

        For each value, in rising order: itself under the name *by*, ``photos`` (how many), ``cover`` (the id of the
        oldest), some value of each column of *any_of* and the mean of each of *mean_of* (None: no photo has one).
        Raises ``ValueError`` where there is no column *by*.
        """
        state = self._current().state
        if by not in self.columns():
            raise ValueError(f"no column {by!r} (known: {', '.join(self.columns())})")
        names = (by, "photos", "cover", *any_of, *mean_of)
        found = self._open_catalogue().groups(state, by, any_of=any_of, mean_of=mean_of)
        return [dict(zip(names, each, strict=True)) for each in found]

    def photos(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What is known of those of *ids* that are in the index: id -> column -> value."""
        catalogue = self._open_catalogue()
        rows = catalogue.live_rows(list(ids))
        found = catalogue.photos(rows.values())
        return {photo: found[row] for photo, row in rows.items() if row in found}

    def holds(self, ids: Iterable[str]) -> list[bool]:
        """For each of *ids*, whether the index has it."""
        asked = list(ids)
        there = self._open_catalogue().live_rows(asked)
        return [photo in there for photo in asked]

    def descriptors(self, ids: Sequence[str]) -> Descriptors:
        """The stored rows of *ids*, in that order.  Raises ``ValueError`` for one that is not there."""
        rows = self._open_catalogue().live_rows(ids)
        view = self._current()  # after the rows, so that it has all of them
        facts = view.state.model
        rows_MD = np.empty((len(ids), facts.dim), facts.dtype)
        lacking = np.ones(len(ids), np.bool_)
        row_M = np.array([rows.get(photo, -1) for photo in ids], np.int64)
        for part in view.parts.values():
            place_M = np.minimum(np.searchsorted(part.segment.row_N, row_M), part.segment.facts.num_rows - 1)
            here_M = part.segment.row_N[place_M] == row_M
            rows_MD[here_M] = part.segment.take(place_M[here_M])
            lacking &= ~here_M
        if lacking.any():
            raise ValueError(f"no photo {ids[int(np.argmax(lacking))]!r} in {self.path}")
        return Descriptors(
            ids=tuple(ids),
            rows_ND=rows_MD,
            metric=facts.metric,  # type: ignore[arg-type]
            normalised=facts.normalised,
            fingerprint=fingerprint_of(self._identity, view.state.generation, list(ids)),
        )

    def columns(self) -> tuple[str, ...]:
        """The columns a filter may name."""
        return (*FIXED, *self._current().state.columns)

    def info(self) -> IndexInfo:
        """What the index holds."""
        with self._mutex:
            view = self._current()
            state, model = view.state, view.state.model
            return IndexInfo(
                path=str(self.path),
                photos=state.num_photos,
                removed=state.num_removed,
                segments=len(view.parts),
                bytes=_bytes_under(self.path),
                columns=self.columns(),
                generation=state.generation,
                rebuild=None if state.rebuild is None else state.rebuild.model,
                staged=int(np.isin(self._live_rows(view), self._staged_rows(view)).sum()),
                structure=self._structure.told(view),
                **{key: value for key, value in asdict(model).items() if key != "settings"},
            )

    def verify(self) -> list[Problem]:
        """Read everything and name what is broken; an empty list means all is well."""
        return problems_of(self.path)

    def __len__(self) -> int:
        return self._current().state.num_photos

    @property
    def model(self) -> str:
        """Fingerprint of what made the descriptors."""
        return self._current().state.model.model

    @property
    def dim(self) -> int:
        """Number of components of a descriptor."""
        return self._current().state.model.dim

    @property
    def generation(self) -> int:
        """Number of changes so far: equal numbers, equal content."""
        return self._current().state.generation

    @property
    def settings(self) -> Mapping[str, Any]:
        """What was kept with the model when the index, or its rebuild, was begun."""
        return self._current().state.model.settings

    def close(self) -> None:
        """Let go of the files; the index cannot be used after that."""
        with self._mutex:
            if self._catalogue is not None:
                self._catalogue.close()
                self._catalogue = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_catalogue(self) -> Catalogue:
        if self._catalogue is None:
            raise ValueError(f"{self.path} is closed; open it again")
        return self._catalogue

    def _current(self) -> View:
        self.refresh()
        assert self._view is not None
        return self._view

    def _selected(self, where: Filter | str | None) -> tuple[View, np.ndarray | None]:
        """A view, and the row numbers that *where* selects in the very same state: bool ``[next_row]``."""
        if where is None:
            return self._current(), None
        where = Filter(where) if isinstance(where, str) else where
        for _ in range(_ATTEMPTS):
            view = self._current()
            generation, chosen_R = self._recent.get(where, (-1, None))
            if chosen_R is None or generation != view.state.generation:
                row_M = self._open_catalogue().rows_where(where, generation=view.state.generation)
                if row_M is None:
                    continue
                chosen_R = np.zeros(view.state.next_row, np.bool_)
                chosen_R[row_M] = True
                with self._mutex:
                    self._recent = dict(
                        [*self._recent.items(), (where, (view.state.generation, chosen_R))][-_RECENT:]
                    )
            return view, chosen_R
        raise ValueError(f"{self.path} changes faster than a filter can be read; try again")

    def _rebuild_facts(self, view: View) -> ModelFacts:
        if view.state.rebuild is None:
            raise ValueError(f"no rebuild of {self.path} is under way; begin one")
        return view.state.rebuild

    def _live_rows(self, view: View) -> np.ndarray:
        rows = [part.segment.row_N[view.live[number]] for number, part in view.parts.items()]
        return np.sort(np.concatenate([np.empty(0, np.int64), *rows]))

    def _staged_rows(self, view: View) -> np.ndarray:
        """Row numbers that have a descriptor of the new model, ascending."""
        facts = [facts for facts in view.snapshot.segments if facts.epoch == view.state.epoch + 1]
        try:
            self._staged = {
                each.number: self._staged.get(each.number) or Segment(self.path / FOLDER, each)
                for each in facts
            }
        except FileNotFoundError as error:
            if self.refresh():  # the writer has joined segments meanwhile
                return self._staged_rows(self._current())
            raise ValueError(f"{error.filename} is missing; abandon the rebuild and begin it again") from None
        rows = [segment.row_N for segment in self._staged.values()]
        return np.sort(np.concatenate([np.empty(0, np.int64), *rows]))


def _bytes_under(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a compaction or a checkpoint took it away
            total += file.stat().st_size if file.is_file() else 0
    return total


def check_fit(rows: Descriptors, facts: ModelFacts, *, model: str | None, what: str) -> None:
    """Refuse rows that another model made, or that are compared otherwise."""
    if model is not None and model != facts.model:
        raise ValueError(
            f"{what} are of model {model} and the index of model {facts.model}; extract with that one"
        )
    if rows.dim != facts.dim:
        raise ValueError(
            f"{what} have {rows.dim} components and the index {facts.dim}; extract with its model"
        )
    for name in ("metric", "normalised"):
        if getattr(rows, name) != getattr(facts, name):
            raise ValueError(
                f"{what} have {name} {getattr(rows, name)} and the index {getattr(facts, name)}; extract with its model"
            )
