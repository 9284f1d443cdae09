"""Describe every photo of a collection: fixed batches side by side, blocks kept as they finish, one artifact.

Axes: N photos of the collection, B of a batch, D components, S side of the square input in pixels.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from landseer.extraction.plan import THREADS, Plan, difference, plan_of
from landseer.extraction.work import Block, WorkFolder, opened, work_path
from landseer.photos import UnreadablePhoto, load_square
from landseer.recipe import DescriptorOptions
from landseer.storage import load_descriptors, open_artifact, writing_descriptors
from landseer.types import Collection, Descriptors

if TYPE_CHECKING:
    from landseer.models import Embedder

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


def extract(
    embedder: Embedder,
    collection: Collection,
    out: Path,
    *,
    options: DescriptorOptions,
    workers: int | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    commit_every: int = 512,
) -> Descriptors:
    """Describe every photo of *collection* and write the rows, in its order, to the descriptors folder *out*.

    Killed at any moment, the same call continues where the last finished block of about *commit_every*
    photos ends, and the result is the same to the bit: batches are cut by position alone, and a photo that
    cannot be read keeps its place in its batch.  Such photos are listed with the reason and have no row.
    Where *out* is there already with the same settings, it is returned as it is.  At no time are more than a
    few batches of photos and one block of rows in memory; the rows returned are a memory map.

    *workers* threads (default: one a core) each decode and describe whole batches; on an accelerator they
    decode, and one at a time describes.  *progress* is called with (photos done, photos in all), from this
    thread.  *embedder* is moved to *device* and put in evaluation mode.

    Raises ``ValueError`` where *out*, or an unfinished extraction beside it, has other settings, where no
    photo at all can be read, and where the model gives rows that are not finite.
    """
    place = _device(device)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: must be at least 1, not {workers}")
    if commit_every < 1:
        raise ValueError(f"commit_every: must be at least 1, not {commit_every}")
    plan = plan_of(embedder, collection, options, place)
    block_photos = -(-commit_every // options.batch) * options.batch
    if not out.exists():
        with opened(out, plan, block_photos=block_photos) as work:
            embedder.to(place).eval()
            task = _Describer(embedder, collection, options, place)
            finished = _describe_missing(task, work, workers or _cores(), progress or _silent)
            _assemble(finished, task, work, out=out, plan=plan)
            work.remove()
        return load_descriptors(out, mmap=True, check=False)
    return _finished(out, plan)


class _Describer:
    """Decodes and describes batches; safe to call from several threads at once."""

    def __init__(
        self, embedder: Embedder, collection: Collection, options: DescriptorOptions, device: torch.device
    ) -> None:
        self.embedder = embedder
        self.ids, self.paths, self.root = collection.ids, collection.paths, collection.root
        self.options = options
        self.dtype = np.dtype(options.dtype)
        # a CPU runs batches side by side; an accelerator has one queue, and one batch in it bounds its memory
        self._turn: AbstractContextManager = nullcontext() if device.type == "cpu" else threading.Lock()

    def __call__(self, photos: range) -> Block:
        """Rows of the photos at these positions."""
        side = self.options.size
        pixels_BSS3 = np.zeros((len(photos), side, side, 3), dtype=np.uint8)
        unreadable: dict[str, str] = {}
        for place, position in enumerate(photos):
            try:
                pixels_BSS3[place] = load_square(self.root, self.paths[position], side)
            except UnreadablePhoto as error:
                unreadable[self.ids[position]] = error.reason
        if len(unreadable) == len(photos):
            return Block(rows_BD=np.empty((0, self.embedder.dim), self.dtype), unreadable=unreadable)
        with self._turn:
            rows_BD = self.embedder.describe(pixels_BSS3, scales=self.options.scales)
        readable_B = np.array([self.ids[position] not in unreadable for position in photos])
        rows_BD = rows_BD[readable_B]
        if not np.isfinite(rows_BD).all():
            raise ValueError(
                f"the model gives a row that is not finite in the batch of photo {self.ids[photos[0]]!r}; "
                "its weights are damaged, or its training diverged"
            )
        return Block(rows_BD=rows_BD.astype(self.dtype, copy=False), unreadable=unreadable)


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """What is kept in memory of the finished blocks."""

    num_blocks: int
    unreadable: Mapping[str, str]


def _describe_missing(task: _Describer, work: WorkFolder, workers: int, progress: Progress) -> _Finished:
    """Make every block that is absent or damaged."""
    total, size = len(task.ids), work.block_photos
    unreadable: dict[str, str] = {}
    missing: list[range] = []
    done = 0
    for number, start in enumerate(range(0, total, size)):
        photos = range(start, min(start + size, total))
        block = work.read(number)
        if block is None:
            missing.append(photos)
        else:
            unreadable.update(block.unreadable)
            done += len(photos)
    progress(done, total)
    batches = (batch for photos in missing for batch in _batches(photos, task.options.batch))
    with _repeatable(), closing(_in_order(task, batches, workers=workers)) as results:
        for photos in missing:
            parts = []
            # the batches come first in the zip, so that at their end no result of the next block is drawn
            for batch, part in zip(_batches(photos, task.options.batch), results, strict=False):
                parts.append(part)
                done += len(batch)
                progress(done, total)
            bad = {photo: reason for part in parts for photo, reason in part.unreadable.items()}
            work.write(
                photos.start // size,
                Block(rows_BD=np.concatenate([part.rows_BD for part in parts]), unreadable=bad),
            )
            unreadable.update(bad)
    return _Finished(num_blocks=-(-total // size), unreadable=unreadable)


def _assemble(finished: _Finished, task: _Describer, work: WorkFolder, *, out: Path, plan: Plan) -> None:
    """Join the blocks, one at a time, into the artifact."""
    unreadable = finished.unreadable
    if task.ids and len(unreadable) == len(task.ids):
        work.remove()  # blocks that say "unreadable" must not outlive the mistake
        photo, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"none of {len(task.ids)} photos could be read (the first, {photo!r}: {reason}); "
            f"do the photos still lie in {task.root}?"
        )
    with writing_descriptors(
        out,
        ids=tuple(photo for photo in task.ids if photo not in unreadable),
        dim=task.embedder.dim,
        dtype=task.dtype,
        unreadable=unreadable,
        made_by={"settings": plan.settings, "machine": plan.machine},
        parents={"model": plan.settings["model"], "collection": plan.settings["collection"]},
        fingerprint=plan.fingerprint(unreadable),
    ) as append:
        for number in range(finished.num_blocks):
            block = work.read(number)
            if block is None:
                raise ValueError(f"block {number} in {work.path} was damaged meanwhile; run this again")
            append(block.rows_BD)


def _finished(out: Path, plan: Plan) -> Descriptors:
    """The artifact that is there already, if it is the one asked for."""
    theirs = open_artifact(out, "descriptors").made_by.get("settings", {})
    other = difference(theirs, plan.settings)
    if other:
        raise ValueError(f"{out} holds descriptors of other settings ({other}); choose another --out")
    found = load_descriptors(out, mmap=True)
    shutil.rmtree(work_path(out), ignore_errors=True)  # there if a kill fell between the two last steps
    return found


def _in_order(task: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Generator[Result]:
    """``map`` over threads: results in the order of *items*, at most ``2 * workers`` under way or waiting."""
    items = iter(items)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(THREADS,))
    try:
        under_way: deque[Future[Result]] = deque(
            pool.submit(task, item) for item in islice(items, 2 * workers)
        )
        while under_way:
            result = under_way.popleft().result()
            under_way.extend(pool.submit(task, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Torch settings under which equal input gives equal bits; as they were before when left."""
    threads = torch.get_num_threads()
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    try:
        with cudnn if torch.cuda.is_available() else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)  # a worker's setting is also the default of threads begun later


def _batches(photos: range, size: int) -> Iterator[range]:
    for start in range(photos.start, photos.stop, size):
        yield range(start, min(start + size, photos.stop))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: {name!r} is not a device; say cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {name!r} was asked for, but torch finds no CUDA device here; say cpu")
    return device


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _silent(done: int, total: int) -> None:
    """Report nothing."""
