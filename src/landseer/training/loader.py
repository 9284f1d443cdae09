"""Training batches: photos decoded and augmented by threads ahead of the step that needs them.

What a photo looks like in an epoch depends on (seed, epoch, its place in the subset) alone, whatever the number
of threads.  Axes: B photos of a batch, S side in pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from landseer.photos import UnreadablePhoto, decode, load_square, read_bytes, resize_square
from landseer.recipe import StageOptions
from landseer.training.subset import Subset

Load = Callable[[int], np.ndarray]
"""Position in the subset -> pixels uint8 ``[S, S, 3]``."""
_AHEAD = 3  # batches decoded before they are needed: enough to hide a slow photo, little memory


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos uint8 ``[B, S, S, 3]``, the head rows of their landmarks, and those that could not be read."""

    photos_BSS3: np.ndarray
    row_B: np.ndarray
    unreadable: dict[str, str]


def epoch_batches(
    subset: Subset, stage: StageOptions, *, seed: int, epoch: int, workers: int
) -> Iterator[Batch]:
    """The batches of one epoch in shuffled order; an uneven last one is dropped unless it is the only one."""
    # seeds are padded with zeros, so [seed, epoch] alone would be the stream of a photo at position 0
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(subset))
    size = min(stage.batch, len(subset))
    picks = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    yield from _ahead(
        lambda position: _augmented(subset, stage, position, seed, epoch), subset, picks, workers
    )


def plain_batches(subset: Subset, *, size_px: int, batch: int, workers: int) -> Iterator[Batch]:
    """Every photo once, in order, as extraction would see it."""
    picks = [np.arange(start, min(start + batch, len(subset))) for start in range(0, len(subset), batch)]
    yield from _ahead(
        lambda position: load_square(subset.root, subset.paths[position], size_px), subset, picks, workers
    )


def _ahead(load: Load, subset: Subset, picks: list[np.ndarray], workers: int) -> Iterator[Batch]:
    """The batches of *picks* in order, each photo a task of its own, so that every thread has work."""
    waiting: deque[tuple[np.ndarray, list[Future[np.ndarray]]]] = deque()
    if workers < 1:
        raise ValueError(f"workers: must be at least 1, not {workers}")
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        try:
            for pick in picks:
                waiting.append((pick, [pool.submit(load, int(position)) for position in pick]))
                if len(waiting) > _AHEAD:
                    yield _batch(subset, *waiting.popleft())
            while waiting:
                yield _batch(subset, *waiting.popleft())
        finally:
            for photo in (photo for _, photos in waiting for photo in photos):
                photo.cancel()


def _batch(subset: Subset, pick: np.ndarray, loaded: list[Future[np.ndarray]]) -> Batch:
    photos, rows, unreadable = [], [], {}
    for position, photo in zip(pick, loaded, strict=True):
        try:
            photos.append(photo.result())
            rows.append(subset.row_N[position])
        except UnreadablePhoto as error:
            unreadable[subset.ids[position]] = error.reason
    stacked = np.stack(photos) if photos else np.empty((0, 1, 1, 3), dtype=np.uint8)
    return Batch(photos_BSS3=stacked, row_B=np.array(rows, dtype=np.int64), unreadable=unreadable)


def _augmented(subset: Subset, stage: StageOptions, position: int, seed: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([seed, epoch, position + 1])
    path = subset.paths[position]
    if stage.crop < 1:
        # the crop keeps at least this share of a side, so the photo must be decoded that much larger
        needed = int(np.ceil(stage.size / stage.crop))
        photo = _random_crop(decode(read_bytes(subset.root, path), min_side=needed), stage.crop, rng)
        photo = resize_square(photo, stage.size)
    else:
        photo = load_square(subset.root, path, stage.size)
    if stage.flip and rng.random() < 0.5:
        photo = photo[:, ::-1]
    return _jittered(photo, stage.jitter, rng) if stage.jitter else photo


def _random_crop(photo: np.ndarray, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """A window whose height and width are independent shares of the photo's, uniform in ``smallest``..1."""
    height, width = (max(1, round(side * rng.uniform(smallest, 1.0))) for side in photo.shape[:2])
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    return photo[top : top + height, left : left + width]


def _jittered(photo: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, then contrast about the mean, each by a factor uniform in 1 +- *most*."""
    brightness, contrast = rng.uniform(1 - most, 1 + most, size=2)
    values = photo.astype(np.float32) * brightness
    middle = values.mean()
    # rounding half up, not cutting: a factor of 1 must give the photo back
    return np.clip((values - middle) * contrast + middle + 0.5, 0, 255).astype(np.uint8)
