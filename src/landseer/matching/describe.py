"""Photos to local features, side by side, kept as they are made; and what that will take, said before."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from landseer.matching.features import Extractor, LocalFeatures, bytes_a_point
from landseer.matching.shelf import Photo, Shelf
from landseer.photos import UnreadablePhoto, load_sized, shape_of
from landseer.photos.resize import fitted
from landseer.photos.threads import map_in_order

Progress = Callable[[int, int], None]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that the features of some photos can take on disk; photos with fewer points take less."""

    photos: int
    kb_a_photo: float

    @property
    def gb(self) -> float:
        """Of all photos, in 10^9 bytes."""
        return self.photos * self.kb_a_photo / 1e6

    def __str__(self) -> str:
        return f"local features: at most {self.kb_a_photo:.0f} KB a photo, {self.gb:.1f} GB for {self.photos:,} photos"


def budget_of(extractor: Extractor, photos: int) -> Budget:
    """What the features of so many *photos* take at most (KB of 1000 bytes)."""
    # 32 bytes are the photo's row in its shard's table
    return Budget(photos=photos, kb_a_photo=(extractor.keypoints * bytes_a_point(extractor.dim) + 32) / 1000)


def describe_photo(extractor: Extractor, root: Path, path: str) -> LocalFeatures:
    """The features of the photo *path* below *root*.  Raises ``UnreadablePhoto``."""
    # a large JPEG is decoded at a fraction, and nothing larger than this is ever shown to the extractor
    size = fitted(shape_of(root, path), extractor.longest)
    return extractor(load_sized(root, path, size))


def describe_photos(
    photos: Sequence[tuple[Photo, Path]],
    shelf: Shelf,
    extractor: Extractor,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    commit_every: int = 512,
) -> dict[str, str]:
    """Put the features of those *photos* (each with its root) on *shelf* that are not there yet.

    Killed at any moment, the same call goes on after the last shard of *commit_every* photos, and the features are
    the same.  Returns the photos that cannot be read, id -> reason; nothing is kept of these, so that a later call
    tries them again.  At no time are more features in memory than a shard's.  *progress* is called with (photos
    done, photos in all).  Raises ``ValueError`` where another process adds to the shelf, and where no photo at all
    can be read.
    """
    if commit_every < 1:
        raise ValueError(f"commit_every: must be at least 1, not {commit_every}")
    unreadable: dict[str, str] = {}
    with shelf.held():
        missing = [photos[n] for n in shelf.missing([photo for photo, _ in photos])]
        done = len(photos) - len(missing)
        made: dict[Photo, LocalFeatures] = {}
        if progress:
            progress(done, len(photos))
        with one_thread(), closing(in_order(_Task(extractor), missing, workers=workers)) as results:
            for (photo, _), found in zip(missing, results, strict=True):
                done += 1
                if isinstance(found, str):
                    unreadable[photo.id] = found
                else:
                    made[photo] = found
                if len(made) == commit_every:
                    shelf.add(made)
                    made = {}
                if progress:
                    progress(done, len(photos))
        if made:
            shelf.add(made)
    if photos and len(unreadable) == len(photos):
        name, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"none of {len(photos)} photos could be read (the first, {name!r}: {reason}); "
            f"do the photos still lie in {photos[0][1]}?"
        )
    return unreadable


class _Task:
    """Describes a photo; the reason where it cannot be read."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    def __call__(self, item: tuple[Photo, Path]) -> LocalFeatures | str:
        photo, root = item
        try:
            return describe_photo(self.extractor, root, photo.path)
        except UnreadablePhoto as error:
            return error.reason


def in_order(
    task: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int | None
) -> Generator[_Result]:
    """``map`` over threads (default: one a core): results in order, at most ``4 * workers`` under way or waiting."""
    threads = cores() if workers is None else workers
    if threads < 1:
        raise ValueError(f"workers: must be at least 1, not {threads}")
    yield from map_in_order(task, items, threads=threads, ahead=4 * threads)


class _OneThread:
    """How often ``one_thread`` is entered, and what holds outside."""

    def __init__(self) -> None:
        self.lock, self.entered, self.before = threading.Lock(), 0, 0


_inside = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works in the calling thread alone, since photos and pairs stand side by side.

    OpenCV has one such number for the whole process: the last to leave sets it as the first to enter found it.
    """
    with _inside.lock:
        if not _inside.entered:
            _inside.before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside.entered += 1
    try:
        yield
    finally:
        with _inside.lock:
            _inside.entered -= 1
            if not _inside.entered:
                cv2.setNumThreads(_inside.before)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
