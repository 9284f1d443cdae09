"""Describe every photo of a collection: fixed batches side by side, blocks kept as they finish, one artifact.

Axes: N photos of the collection, B of a batch, G of a batch in one size, H and W of that size in pixels, D
components.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from landseer.datasets.samplers import bin_of
from landseer.extraction.plan import THREADS, Plan, crops_of, plan_of, require_sizes
from landseer.extraction.shards import Shard
from landseer.extraction.work import Block, WorkFolder, existing, opened
from landseer.photos import UnreadablePhoto, load_cropped, load_sized, shape_of
from landseer.photos.threads import map_in_order
from landseer.recipe import DescriptorOptions
from landseer.storage import load_descriptors, writing_descriptors
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
    shard: Shard | None = None,
) -> Descriptors:
    """Describe every photo of *collection* and write the rows, in its order, to the descriptors folder *out*.

    Killed at any moment, the same call continues where the last finished block of about *commit_every*
    photos ends, and the result is the same to the bit: batches are cut by position alone, and a photo that
    cannot be read keeps its place in its batch.  Such photos are listed with the reason and have no row.

    Where ``options.aspects`` has sizes, the photos of a batch are grouped by their bin of shapes and each group
    goes through the model at its own size.  A photo whose pixels cannot be read keeps its place in its group; one
    whose shape cannot be read has none, so the last bits of its group, if any, may differ from those with it.

    Where *out* is there already with the same settings, it is returned as it is.  At no time are more than a
    few batches of photos and one block of rows in memory; the rows returned are a memory map.

    With *shard* only that part of the photos is described; ``merge_shards`` joins the parts to what this call would
    have written without.

    *workers* threads (default: one a core) each decode and describe whole batches; on an accelerator they
    decode, and one at a time describes.  *progress* is called with (photos done, photos in all), from this
    thread.  *embedder* is moved to *device* and put in evaluation mode.

    Raises ``ValueError`` where *out*, or an unfinished extraction beside it, has other settings, where the
    backbone cannot take a size, where no photo at all can be read, and where the model gives rows that are not
    finite.
    """
    place = device_of(device)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: must be at least 1, not {workers}")
    if commit_every < 1:
        raise ValueError(f"commit_every: must be at least 1, not {commit_every}")
    require_sizes(embedder, options)
    part = collection if shard is None else shard.of_collection(collection, [options.batch])
    plan = plan_of(embedder, part, options, place)
    if shard is not None:
        plan = shard.mark(plan, collection)
    block_photos = -(-commit_every // options.batch) * options.batch
    if not out.exists():
        with opened(out, plan, block_photos=block_photos) as work:
            embedder.to(place).eval()
            task = _Describer(embedder, part, options, place)
            finished = _describe_missing(task, work, workers or _cores(), progress or _silent)
            _assemble(finished, task, work, out=out, plan=plan)
            work.remove()
        return load_descriptors(out, mmap=True, check=False)
    return existing(out, plan)


class _Describer:
    """Decodes and describes batches; safe to call from several threads at once."""

    def __init__(
        self, embedder: Embedder, collection: Collection, options: DescriptorOptions, device: torch.device
    ) -> None:
        self.embedder = embedder
        self.ids, self.paths, self.root = collection.ids, collection.paths, collection.root
        self.crops = crops_of(collection)
        self.options = options
        self.dtype = np.dtype(options.dtype)
        # a CPU runs batches side by side; an accelerator has one queue, and one batch in it bounds its memory
        self._turn: AbstractContextManager = nullcontext() if device.type == "cpu" else threading.Lock()

    def __call__(self, photos: range) -> Block:
        """Rows of the photos at these positions."""
        rows: dict[int, np.ndarray] = {}
        unreadable: dict[str, str] = {}
        for size, group in self._groups(photos, unreadable):
            rows.update(self._described(size, group, unreadable))
        rows_BD = [rows[position] for position in photos if position in rows]
        stacked = np.stack(rows_BD) if rows_BD else np.empty((0, self.embedder.dim), np.float32)
        if not np.isfinite(stacked).all():
            raise ValueError(
                f"the model gives a row that is not finite in the batch of photo {self.ids[photos[0]]!r}; "
                "its weights are damaged, or its training diverged"
            )
        return Block(rows_BD=stacked.astype(self.dtype, copy=False), unreadable=unreadable)

    def _groups(
        self, photos: range, unreadable: dict[str, str]
    ) -> Iterator[tuple[tuple[int, int], Sequence[int]]]:
        """(width, height) and the positions seen at it; photos without a shape are put in *unreadable*."""
        aspects = self.options.aspects
        if not aspects.sizes:
            yield (self.options.size, self.options.size), photos
            return
        group_of: list[list[int]] = [[] for _ in aspects.sizes]
        for position in photos:
            try:
                width, height = self._shape(position)
            except UnreadablePhoto as error:
                unreadable[self.ids[position]] = error.reason
            else:
                group_of[int(bin_of(aspects, np.array(height / width)))].append(position)
        for (width, height), group in zip(aspects.sizes, group_of, strict=True):
            if group:
                yield (width, height), group

    def _shape(self, position: int) -> tuple[int, int]:
        """(width, height) of what is seen of a photo."""
        box = self.crops[position]
        if box is None:
            return shape_of(self.root, self.paths[position])
        return max(1, box[2] - box[0]), max(1, box[3] - box[1])

    def _pixels(self, position: int, size: tuple[int, int]) -> np.ndarray:
        box = self.crops[position]
        if box is None:
            return load_sized(self.root, self.paths[position], size)
        return load_cropped(self.root, self.paths[position], box, size)

    def _described(
        self, size: tuple[int, int], group: Sequence[int], unreadable: dict[str, str]
    ) -> Mapping[int, np.ndarray]:
        """Position -> row of those that can be read; the others are put in *unreadable*, black in their place."""
        width, height = size
        pixels_GHW3 = np.zeros((len(group), height, width, 3), dtype=np.uint8)
        read: list[int] = []
        for place, position in enumerate(group):
            try:
                pixels_GHW3[place] = self._pixels(position, size)
                read.append(place)
            except UnreadablePhoto as error:
                unreadable[self.ids[position]] = error.reason
        if not read:
            return {}
        with self._turn:
            rows_GD = self.embedder.describe(
                pixels_GHW3,
                scales=self.options.scales,
                scale_average=self.options.scale_average,
                scale_multiple=self.options.scale_multiple,
                flip=self.options.flip,
            )
        return {group[place]: rows_GD[place] for place in read}


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
    if task.ids and len(unreadable) == len(task.ids) and not plan.is_part:
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


def _in_order(task: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Generator[Result]:
    """``map`` over threads of as many of torch's threads as a row depends on, at most ``2 * workers`` items ahead."""
    setup = partial(torch.set_num_threads, THREADS)
    return map_in_order(task, items, threads=workers, ahead=2 * workers, setup=setup)


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


def device_of(name: str) -> torch.device:
    """The device called *name*.  Raises ``ValueError`` where there is none."""
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
