"""An index changes its model: photos are read again and described by the new one while the old one answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landseer.pipeline.indexing.model import (
    IndexModel,
    Progress,
    Work,
    clear_models,
    describing,
    lines_of,
    model_named,
)
from landseer.pipeline.indexing.photos import ROOT_COLUMN, collection_at, root_of
from landseer.search import LivingIndex, open_index

_NOWHERE = "the index does not say where it lies"


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What ``rebuild_index`` did."""

    path: Path
    described: int
    """Photos that this call described."""
    finished: bool
    """Whether the new model answers now."""
    dropped: int
    """Photos that were removed since they could not be read."""
    unreadable: tuple[str, ...]
    """``'id': reason``, one each."""
    photos: int
    """Photos in the index now."""


def rebuild_index(
    index: str | Path,
    *,
    model: Path | None,
    weights: Path | None = None,
    drop_unreadable: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    commit_every: int = 1000,
    progress: Progress | None = None,
) -> Rebuilt:
    """Describe every photo of the index again, by what *model* names (as in ``open_model``), and change over to it.

    The photos are read where they lay when they were added.  The old model answers until all are described;
    then the new one does, in one step, and the old one is deleted.  Stopped or killed at any moment, the same
    call goes on with what is kept.  Where photos cannot be read the old model stays, and the same call tries
    those again; *drop_unreadable* removes them from the index instead.

    Where the index is of that model already nothing is done.  Raises ``ValueError`` while a rebuild with another
    model is under way.
    """
    work = Work(workers=workers, device=device, commit_every=commit_every, progress=progress)
    with open_index(index, write=True) as opened:
        new = model_named(model, weights, work)
        described, unreadable = 0, dict[str, str]()
        if opened.model != new.fingerprint or opened.info().rebuild is not None:
            new.keep_in(opened)  # the model lies there before anything names it
            opened.begin_rebuild(**new.rows, settings={**opened.settings, "model": new.name})
            described, unreadable = _describe(opened, new, work)
        finished = drop_unreadable or not unreadable
        if opened.info().rebuild is not None and finished:
            opened.finish_rebuild(drop=unreadable)
            opened.compact()
        clear_models(opened)
        return Rebuilt(
            path=opened.path,
            described=described,
            finished=finished,
            dropped=len(unreadable) if finished else 0,
            unreadable=lines_of(unreadable),
            photos=len(opened),
        )


def abandon_rebuild(index: str | Path) -> int:
    """Forget the rebuild that is under way; how many photos had been described.  ``ValueError`` where none is."""
    with open_index(index, write=True) as opened:
        staged = opened.info().staged
        opened.abandon_rebuild()
        clear_models(opened)
        return staged


def _describe(index: LivingIndex, new: IndexModel, work: Work) -> tuple[int, dict[str, str]]:
    """Describe and keep what lacks a descriptor of *new*; how many, and id -> reason of those that cannot be read."""
    total, before = len(index), index.info().staged
    described, unreadable = 0, dict[str, str]()
    for start, size in work.parts(total - before):
        # those that could not be read still lack one, and are the oldest that do
        records = index.unstaged(size, skip=len(unreadable))
        done = start
        for root, paths in _by_root(index, records, unreadable).items():
            with describing(index) as folder:
                collection = collection_at(root, paths, split="index")
                rows, bad = new.describe(collection, folder / "part", work, before=before + done, total=total)
                unreadable.update(bad)
                if rows is not None:
                    described += index.stage(rows, model=new.fingerprint)
            done += len(paths)
    return described, unreadable


def _by_root(
    index: LivingIndex, records: Sequence[Mapping[str, Any]], unreadable: dict[str, str]
) -> dict[Path, dict[str, str]]:
    """Root -> id -> path below it; photos whose place is not known are put in *unreadable*."""
    found: dict[Path, dict[str, str]] = {}
    for record in records:
        path, root = record.get("path"), record.get(ROOT_COLUMN)
        if path is not None and root is None and Path(path).is_absolute():
            root = Path(path).anchor
            path = Path(path).relative_to(root).as_posix()
        if path is None or root is None:
            unreadable[record["id"]] = _NOWHERE
        else:
            found.setdefault(root_of(index, root), {})[record["id"]] = path
    return found
