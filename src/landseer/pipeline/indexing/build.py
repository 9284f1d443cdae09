"""A folder of photos becomes a living index that answers from the first part on, and grows."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np

from landseer.pipeline.indexing.model import (
    IndexModel,
    Progress,
    Work,
    describing,
    lines_of,
    model_named,
    model_of,
)
from landseer.pipeline.indexing.photos import Labels, Photos, read_photos, require_folder
from landseer.pipeline.indexing.settings import kept_of, without_kept
from landseer.search import LivingIndex, open_index


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """What ``build_index`` or ``add_to_index`` did."""

    path: Path
    added: int
    """Photos described and added, those that replaced others among them."""
    replaced: int
    there_already: int
    """Photos of the folder that the index had before, and that were passed over."""
    num_unreadable: int
    unreadable: tuple[str, ...]
    """``'id': reason``, one each; of files that are broken from the first byte on, only the first few."""
    photos: int
    """Photos in the index now."""


def build_index(
    photos: Path,
    out: Path,
    *,
    model: Path | None = None,
    weights: Path | None = None,
    recipe: Path | None = None,
    labels: Labels = "auto",
    workers: int | None = None,
    device: str = "cpu",
    commit_every: int = 1000,
    progress: Progress | None = None,
) -> Indexed:
    """Make the index *out* of *photos*, a plain folder or a collection folder, described by what *model* names.

    Photos are described and added at most *commit_every* at a time, so others can search while it grows.
    Stopped or killed at any moment, the same call goes on: it describes only what the index lacks.  A photo
    that cannot be read is tried again then.  *model* and *weights* are those of ``open_model``, an ensemble as
    well as a single model; *labels* is that of ``import_folder``.  The index keeps ``[[reranking]]`` and
    ``[recognition]`` of *recipe*; one that exists keeps those of this call instead of its own.

    Raises ``ValueError`` where *out* is no index or one of another model or other photos, and for what
    importing and describing refuse.
    """
    work = Work(workers=workers, device=device, commit_every=commit_every, progress=progress)
    require_folder(photos)
    kept = kept_of(recipe)
    source = str(photos.resolve())
    if out.exists():
        with open_index(out, write=True) as index:
            if index.settings.get("photos") != source:
                raise ValueError(
                    f"{out} was built from {index.settings.get('photos')}, not {source}; "
                    "add photos with landseer index add, or choose another --out"
                )
            chosen = model_named(model, weights, work)
            if index.model != chosen.fingerprint:
                raise ValueError(
                    f"{out} exists already and has another model; name the one it was built with, or another --out"
                )
            if kept:
                index.keep({**without_kept(index.settings), **kept})
            return _fill(index, read_photos(photos, labels, progress), chosen, work)
    chosen = model_named(model, weights, work)
    read = read_photos(photos, labels, progress)
    settings = {"model": chosen.name, "photos": source, **kept}
    with LivingIndex.create(out, **chosen.rows, settings=settings) as index:
        return _fill(index, read, chosen, work)


def add_to_index(
    index: str | Path,
    photos: Path,
    *,
    prefix: str = "",
    replace: bool = False,
    labels: Labels = "auto",
    workers: int | None = None,
    device: str = "cpu",
    commit_every: int = 1000,
    progress: Progress | None = None,
) -> Indexed:
    """Add those of *photos*, a plain folder or a collection folder, that the index lacks, with its own model.

    A photo's id is the one a collection gives it, in a plain folder its path; *prefix* and a slash stand before
    it.  Photos the index has from the same folder are passed over; where it has one of the ids from another
    folder it is a ``ValueError``, and nothing is added.  With *replace* all are described, and each takes the
    place of the one of its id; one that cannot be read leaves that as it is.
    """
    work = Work(workers=workers, device=device, commit_every=commit_every, progress=progress)
    require_folder(photos)
    with open_index(index, write=True) as opened:
        work.tell("loading the model", 0, 1)
        model = model_of(opened)
        read = read_photos(photos, labels, progress).named(prefix)
        return _fill(opened, read, model, work, replacing=replace)


def _fill(
    index: LivingIndex, photos: Photos, model: IndexModel, work: Work, *, replacing: bool = False
) -> Indexed:
    """Describe and add what *index* lacks, or all of *photos*, part by part; its model is put in place first."""
    model.keep_in(index)
    there_N = photos.in_index(index)
    if not replacing:
        photos.refuse_strangers(index)
    due = photos.chosen(np.ones_like(there_N) if replacing else ~there_N, index)
    unreadable: dict[str, str] = {}
    before, added = len(index), 0
    for start, size in work.parts(len(due)):
        part = replaced(due, photos=due.photos.slice(start, size), truth=None)
        with describing(index) as folder:
            rows, bad = model.describe(part, folder / "part", work, before=start, total=len(due))
            unreadable.update(bad)
            if rows is not None:
                added += index.add(rows, part.photos, model=index.model, replace=replacing)
    if added and index.info().rebuild is None:
        index.compact()
    return Indexed(
        path=index.path,
        added=added,
        replaced=before + added - len(index),
        there_already=0 if replacing else int(there_N.sum()),
        num_unreadable=photos.num_refused + len(unreadable),
        unreadable=(*photos.refused, *lines_of(unreadable)),
        photos=len(index),
    )
