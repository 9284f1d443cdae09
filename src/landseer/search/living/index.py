"""The living index: one folder, one writer, many readers, answers that are exact at every moment.

``manifest.json`` says what the folder is; ``catalogue.sqlite`` holds the truth; ``segments/`` the rows.
A change writes and syncs its segment first and then commits one transaction that names it: what a killed
process leaves behind is a file that nothing names, and the next writer clears it away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa

from landseer.search.living.appearing import appearing
from landseer.search.living.catalogue import Catalogue
from landseer.search.living.checks import Problem, problems_of
from landseer.search.living.copies import Progress, copy_into
from landseer.search.living.filters import Filter
from landseer.search.living.reader import check_fit
from landseer.search.living.records import changed, records_of
from landseer.search.living.segments import FOLDER
from landseer.search.living.state import ModelFacts
from landseer.search.living.writer import ROWS_AT_ONCE, SMALL_BYTES, IndexWriter
from landseer.types import Descriptors

_ABANDON = "landseer index rebuild INDEX --abandon"


def open_index(uri: str | Path, *, write: bool = False) -> LivingIndex:
    """The index at *uri*, a path or ``file:PATH``; with *write* as its one writer.

    Raises ``ValueError`` where there is none, it is damaged, or another process is writing.
    """
    return LivingIndex(_path_of(uri), write=write)


def verify_index(uri: str | Path) -> list[Problem]:
    """Read everything and name what is broken, even where the index does not open."""
    return problems_of(_path_of(uri))


def _path_of(uri: str | Path) -> Path:
    if isinstance(uri, Path) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri) or Path(uri).exists():
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise ValueError(f"{uri}: there is no index behind {parts.scheme}: yet (known: a path, file:PATH)")
    return Path(unquote(uri.partition(":")[2].removeprefix(f"//{parts.netloc}")))


class LivingIndex(IndexWriter):
    """An open index.  Threads may share it; use it as a context manager, or ``close`` it."""

    @staticmethod
    def create(
        path: str | Path,
        *,
        model: str,
        dim: int,
        metric: str = "cosine",
        normalised: bool = True,
        dtype: str = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> LivingIndex:
        """An empty index, open for writing; it appears whole or not at all.

        *model* is the fingerprint of what makes the descriptors; *settings* any JSON object to keep with
        it.  Raises ``ValueError`` where *path* exists.
        """
        path = _path_of(path)
        facts = _facts(settings, model=model, dim=dim, metric=metric, normalised=normalised, dtype=dtype)
        with appearing(path) as folder:
            Catalogue.create(folder, facts)
        return LivingIndex(path, write=True)

    def copy(self, path: str | Path, *, progress: Progress | None = None) -> None:
        """Put a copy of one committed state at *path*, also while another process writes; whole or not at all.

        The copy is an index of its own.  Within one file system it shares the bytes of the segments, which
        nobody changes.  Files that others keep in the folder, as its model, are copied, hidden ones left out.
        Raises ``ValueError`` where *path* exists or cannot be written, and where the index is damaged.
        """
        with appearing(_path_of(path)) as folder:
            copy_into(self.path, self._open_catalogue(), folder, progress=progress)

    def check_filter(self, where: Filter | str, *, hidden: Sequence[str] = ()) -> None:
        """Raise the ``ValueError`` that a search with this filter would, without the search.

        Also for a filter that names a column of *hidden*, as if there were none.
        """
        where = Filter(where) if isinstance(where, str) else where
        known = self._open_catalogue().columns(self._current().state)
        where.compile({name: column for name, column in known.items() if name not in hidden})

    def add(
        self,
        descriptors: Descriptors,
        photos: pa.Table | Iterable[Mapping[str, Any]],
        *,
        model: str,
        replace: bool = False,
    ) -> int:
        """Add every descriptor with its record of *photos*; once this returns they are on disk.

        Records have at least ``id``; those without a descriptor are passed over.  *model* must be the
        index's.  With *replace*, photos that are there already give way in the same step; else they are a
        ``ValueError`` and nothing is added.  Returns how many were added.
        """
        with self._mutex:
            view = self._for_writing()
            state = view.state
            check_fit(descriptors, state.model, model=model, what="the descriptors")
            _check_finite(descriptors, state.model.dtype)
            there = self._open_catalogue().live_rows(descriptors.ids)
            if there and not replace:
                first = next(photo for photo in descriptors.ids if photo in there)
                raise ValueError(
                    f"{len(there)} of {len(descriptors)} photos are in {self.path} already, the first is {first!r}; "
                    "replace them (--replace) or leave them out"
                )
            records = records_of(descriptors.ids, photos)
            if not records:
                return 0
            segment = self._write(
                _pieces(descriptors.rows_ND, np.arange(len(records))),
                np.arange(state.next_row, state.next_row + len(records)),
                descriptors.ids,
                facts=state.model,
                epoch=state.epoch,
            )
            with self._change() as change:
                change.remove(there)
                change.add_photos(state.next_row, records)
                change.exchange_segments((), (segment,))
            self._join_small(state.epoch)
            return len(records)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove photos: no search that begins after this finds them.  Returns how many.

        Raises ``ValueError``, and removes none, where one is not in the index.
        """
        with self._mutex:
            self._for_writing()
            there = self._rows_of(list(dict.fromkeys(ids)))
            if there:
                with self._change() as change:
                    change.remove(there)
            return len(there)

    def update(self, changes: Mapping[str, Mapping[str, Any]]) -> int:
        """Change what is known of photos: id -> column -> value, None to forget one.  Returns how many photos.

        Columns that are not named stay.  Descriptors and row numbers stay, too.  All changes are one step, and on disk
        once this returns.  Raises ``ValueError``, and changes nothing, where a photo is not in the index or a value
        cannot be kept.
        """
        with self._mutex:
            self._for_writing()
            rows = self._rows_of(list(changes))
            known = self._open_catalogue().photos(rows.values())
            records = {row: changed(known[row], changes[photo]) for photo, row in rows.items()}
            if records:
                with self._change() as change:
                    change.change_photos(records)
            return len(records)

    def _rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Row numbers by id.  Raises ``ValueError`` where one is not in the index."""
        there = self._open_catalogue().live_rows(ids)
        if len(there) < len(ids):
            unknown = [photo for photo in ids if photo not in there]
            raise ValueError(f"{len(unknown)} photos are not in {self.path}, the first is {unknown[0]!r}")
        return there

    def compact(self) -> None:
        """Give back the room of removed photos, forget their records, join small segments.

        Readers go on with what they have open.  Raises ``ValueError`` while a rebuild is under way.
        """
        with self._mutex:
            view = self._for_writing()
            if view.state.rebuild is not None:
                raise ValueError(
                    f"{self.path} is being rebuilt; finish that before compacting, or forget it ({_ABANDON})"
                )
            old = [
                number
                for number, part in view.parts.items()
                if not view.live[number].all() or part.segment.facts.num_bytes < SMALL_BYTES
            ]
            if view.state.num_removed or len(old) > 1:
                self._rewrite(
                    [view.parts[number].segment for number in old], epoch=view.state.epoch, forget=True
                )

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Keep these settings in the place of those that are there: any JSON object; on disk once this returns."""
        with self._mutex:
            facts = self._for_writing().state.model
            with self._change() as change:
                plain = json.loads(json.dumps(dict(settings)))
                change.state = replaced(change.state, model=replaced(facts, settings=plain))

    def begin_rebuild(
        self,
        *,
        model: str,
        dim: int,
        metric: str = "cosine",
        normalised: bool = True,
        dtype: str = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Start to rebuild with another model, or go on with the rebuild that was begun.

        The old model answers until ``finish_rebuild``; photos may be added (with the old model) and removed
        meanwhile.  Raises ``ValueError`` while a rebuild with other facts is under way.
        """
        facts = _facts(settings, model=model, dim=dim, metric=metric, normalised=normalised, dtype=dtype)
        with self._mutex:
            state = self._for_writing().state
            if state.rebuild is None and model == state.model.model:
                raise ValueError(f"{self.path} is of model {model} already")
            if state.rebuild not in (None, facts):
                assert state.rebuild is not None
                raise ValueError(
                    f"{self.path} is being rebuilt with model {state.rebuild.model} and its settings, not {model}; "
                    f"finish that, or forget it ({_ABANDON})"
                )
            if state.rebuild is None:
                with self._change() as change:
                    change.state = replaced(change.state, rebuild=facts)

    def unstaged(self, limit: int | None = None, *, skip: int = 0) -> list[dict[str, Any]]:
        """Records of photos that lack a descriptor of the new model, oldest first: at most *limit* after *skip*."""
        with self._mutex:
            view = self._current()
            self._rebuild_facts(view)
            lacking_M = np.setdiff1d(self._live_rows(view), self._staged_rows(view))[skip:]
            row_M = lacking_M[:limit].tolist()
            found = self._open_catalogue().photos(row_M)
            return [found[row] for row in row_M if row in found]

    def stage(self, descriptors: Descriptors, *, model: str) -> int:
        """Keep descriptors of the new model; once this returns they are on disk.  Returns how many.

        Raises ``ValueError`` where a photo is not in the index or is staged already.
        """
        with self._mutex:
            view = self._for_writing()
            facts = self._rebuild_facts(view)
            check_fit(descriptors, facts, model=model, what="the descriptors")
            _check_finite(descriptors, facts.dtype)
            rows = self._rows_of(descriptors.ids)
            row_M = np.array([rows[photo] for photo in descriptors.ids], np.int64)
            again = np.flatnonzero(np.isin(row_M, self._staged_rows(view)))
            if again.size:
                raise ValueError(
                    f"{len(again)} photos are staged already, the first is {descriptors.ids[again[0]]!r}"
                )
            if not len(descriptors):
                return 0
            order = np.argsort(row_M)
            segment = self._write(
                _pieces(descriptors.rows_ND, order),
                row_M[order],
                [descriptors.ids[place] for place in order],
                facts=facts,
                epoch=view.state.epoch + 1,
            )
            with self._change() as change:
                change.exchange_segments((), (segment,))
            self._join_small(view.state.epoch + 1)
            return len(descriptors)

    def finish_rebuild(self, *, drop: Iterable[str] = ()) -> None:
        """Let the new model answer from now on, in one step; the old descriptors are deleted.

        Raises ``ValueError`` while photos lack a descriptor, except those of *drop*, which are removed.
        """
        with self._mutex:
            view = self._for_writing()
            facts = self._rebuild_facts(view)
            row_M = np.setdiff1d(self._live_rows(view), self._staged_rows(view))
            lacking = {view.ids[row]: row for row in row_M.tolist()}
            dropped = {photo: lacking.pop(photo) for photo in set(drop) if photo in lacking}
            if lacking:
                raise ValueError(
                    f"{len(lacking)} of {view.state.num_photos} photos have no descriptor of model {facts.model} yet, "
                    f"the first is {next(iter(lacking))!r}; stage or drop them"
                )
            old = list(view.parts)
            with self._change() as change:
                change.remove(dropped)
                change.exchange_segments(old, ())
                change.state = replaced(change.state, model=facts, rebuild=None, epoch=change.state.epoch + 1)
            self._delete(view.parts[number].segment.path for number in old)
            self._staged.clear()

    def abandon_rebuild(self) -> None:
        """Forget the rebuild that is under way and what was staged for it."""
        with self._mutex:
            view = self._for_writing()
            self._rebuild_facts(view)
            staged = [facts for facts in view.snapshot.segments if facts.epoch == view.state.epoch + 1]
            with self._change() as change:
                change.exchange_segments((facts.number for facts in staged), ())
                change.state = replaced(change.state, rebuild=None)
            self._delete(self.path / FOLDER / facts.name for facts in staged)
            self._staged.clear()


def _facts(settings: Mapping[str, Any] | None, **others: Any) -> ModelFacts:
    """With the settings as a reader will find them: JSON knows no tuples."""
    return ModelFacts(settings=json.loads(json.dumps(dict(settings or {}))), **others)


def _pieces(rows_ND: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in that order, a few at a time."""
    for start in range(0, len(order), ROWS_AT_ONCE):
        yield rows_ND[order[start : start + ROWS_AT_ONCE]]


def _check_finite(rows: Descriptors, dtype: str) -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        with np.errstate(over="ignore"):
            stored = rows.rows_ND[start : start + ROWS_AT_ONCE].astype(dtype, copy=False)
        bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
        if bad.size:
            raise ValueError(
                f"the descriptor of {rows.ids[start + int(bad[0])]!r} holds a NaN or an infinity as {dtype}; "
                "extract it again"
            )
