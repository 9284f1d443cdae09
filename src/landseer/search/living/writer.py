"""How a living index is written: segments first, then one transaction that names them."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from landseer.search.living.catalogue import Change
from landseer.search.living.checks import open_manifest
from landseer.search.living.reader import IndexReader
from landseer.search.living.segments import FOLDER, Segment, SegmentFacts, write_segment
from landseer.search.living.state import ModelFacts
from landseer.search.living.view import View

_log = logging.getLogger(__name__)

LOCK = "writer.lock"
SMALL_BYTES = 2**26
ROWS_AT_ONCE = 4096
_MOST_SMALL = 16
"""So many small segments are joined into one as photos are added."""
_SEGMENT_BYTES = 2**30


class IndexWriter(IndexReader):
    """What changes have in common.  The writer holds a lock, which the system drops with the process."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Open for reading, or with *write* as the one writer; ``ValueError`` where there is another."""
        self._lock_handle: int | None = None
        if write:
            open_manifest(path)  # nothing is made in a folder that is no index
            self._lock_handle = _lock(path)
        try:
            super().__init__(path)
            if write:
                self._clear_leftovers()
        except BaseException:
            self.close()
            raise

    @property
    def _writes(self) -> bool:
        return self._lock_handle is not None

    def close(self) -> None:
        """Let go of the files, and of the lock; the index cannot be used after that."""
        super().close()
        if self._lock_handle is not None:
            os.close(self._lock_handle)
            self._lock_handle = None

    def _for_writing(self) -> View:
        self._open_catalogue()
        if self._lock_handle is None:
            raise ValueError(f"{self.path} is open for reading; open it with write=True")
        return self._current()

    @contextmanager
    def _change(self) -> Iterator[Change]:
        self._version = -1  # our own commit does not change the number that tells of those of others
        with self._open_catalogue().change() as change:
            yield change

    def _write(
        self,
        pieces: Iterator[np.ndarray],
        row_N: np.ndarray,
        ids: Sequence[str],
        *,
        facts: ModelFacts,
        epoch: int,
        number: int | None = None,
    ) -> SegmentFacts:
        assert self._view is not None
        return write_segment(
            self.path / FOLDER,
            pieces,
            number=self._view.state.next_segment if number is None else number,
            row_N=row_N,
            ids=ids,
            dim=facts.dim,
            dtype=facts.dtype,
            epoch=epoch,
        )

    def _join_small(self, epoch: int) -> None:
        """Keep the number of segments low, so that adding photos one by one does not slow searches down."""
        view = self._current()
        small = [
            facts
            for facts in view.snapshot.segments
            if facts.epoch == epoch and facts.num_bytes < SMALL_BYTES
        ]
        if len(small) < _MOST_SMALL:
            return
        try:
            self._rewrite([Segment(self.path / FOLDER, facts) for facts in small], epoch=epoch, forget=False)
        except ValueError as error:  # what was asked for is done already, and must not look undone
            _log.warning("small segments stay as they are: %s", error)

    def _rewrite(self, old: Sequence[Segment], *, epoch: int, forget: bool) -> None:
        """Write the live rows of *old* into new segments, in order of row number."""
        view = self._current()
        source_M = np.repeat(np.arange(len(old)), [segment.facts.num_rows for segment in old])
        place_M = np.concatenate([np.empty(0, np.int64), *(np.arange(s.facts.num_rows) for s in old)])
        row_M = np.concatenate([np.empty(0, np.int64), *(segment.row_N for segment in old)])
        live = np.flatnonzero(~np.isin(row_M, view.snapshot.removed_R))
        order = live[np.argsort(row_M[live])]
        source_M, place_M, row_M = source_M[order], place_M[order], row_M[order]
        id_of: dict[int, str] = {}
        for segment in old:
            id_of.update(zip(segment.row_N.tolist(), segment.ids(), strict=True))

        def pieces(start: int, end: int) -> Iterator[np.ndarray]:
            for low in range(start, end, ROWS_AT_ONCE):
                part = slice(low, min(low + ROWS_AT_ONCE, end))
                rows = np.empty((part.stop - low, facts.dim), facts.dtype)
                for source in np.unique(source_M[part]):
                    mine = source_M[part] == source
                    rows[mine] = old[source].take(place_M[part][mine])
                yield rows

        facts = view.state.model if epoch == view.state.epoch else self._rebuild_facts(view)
        step = max(1, _SEGMENT_BYTES // (facts.dim * np.dtype(facts.dtype).itemsize))
        new = [
            self._write(
                pieces(start, min(start + step, len(order))),
                row_M[start : start + step],
                [id_of[row] for row in row_M[start : start + step].tolist()],
                facts=facts,
                epoch=epoch,
                number=view.state.next_segment + count,
            )
            for count, start in enumerate(range(0, len(order), step))
        ]
        with self._change() as change:
            change.exchange_segments((segment.facts.number for segment in old), new)
            if forget:
                change.forget_removed()
        self._delete(segment.path for segment in old)

    def _delete(self, files: Iterable[Path]) -> None:
        for file in files:  # what is left here by a kill is cleared by the next writer
            with suppress(OSError):
                file.unlink()

    def _clear_leftovers(self) -> None:
        """Delete the files that no committed step names."""
        assert self._view is not None
        named = {facts.name for facts in self._view.snapshot.segments}
        self._delete(file for file in (self.path / FOLDER).iterdir() if file.name not in named)


def _lock(path: Path) -> int:
    """Make this process the writer until the handle is closed, by us or by our end."""
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ValueError(f"another process is writing to {path}; an index has one writer at a time") from None
    except OSError as error:
        os.close(handle)
        raise ValueError(f"{path} cannot be locked for writing ({error.strerror})") from None
    return handle
