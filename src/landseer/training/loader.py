"""Training batches: photos decoded and augmented by threads ahead of the step that needs them.

What a photo looks like in an epoch depends on (seed, epoch, its place in the subset) alone, whatever the number
of threads.  Axes: B photos of a batch, S side in pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from landseer.datasets.samplers import ContinentAware, IdUniform, Sampler, Shuffle
from landseer.photos import UnreadablePhoto, decode, load_square, read_bytes
from landseer.photos.augment import IMAGENET_MEAN, Augmentation, apply, decode_side
from landseer.recipe import AugmentationOptions, StageOptions
from landseer.training.subset import Subset

Load = Callable[[int], np.ndarray]
"""Position in the subset -> pixels uint8 ``[S, S, 3]``."""
_AHEAD = 3  # batches decoded before they are needed: enough to hide a slow photo, little memory


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos uint8 ``[B, S, S, 3]``, where they stand in the subset, the head rows of their landmarks.

    Those that could not be read are listed, not held.
    """

    photos_BSS3: np.ndarray
    position_B: np.ndarray
    row_B: np.ndarray
    unreadable: dict[str, str]


def sampler_of(subset: Subset, stage: StageOptions) -> Sampler:
    """Which photos stand in which batch, as *stage* says."""
    if stage.sampler == "id-uniform":
        landmarks = stage.batch // stage.photos_each
        if landmarks > len(subset.landmark_C):
            raise ValueError(
                f"stages.{stage.name}.batch: {landmarks} landmarks a step of {stage.photos_each} photos each are "
                f"more than the {len(subset.landmark_C)} there are; lower batch or raise photos_each"
            )
        return IdUniform(landmark_N=subset.row_N, landmarks=landmarks, photos=stage.photos_each)
    if stage.sampler == "continents":
        if subset.continent_N is None or subset.clean_N is None:
            raise ValueError(
                f'stages.{stage.name}.sampler: "continents" needs to know the countries; '
                "make the subset with continents=True"
            )
        return ContinentAware(
            continent_N=subset.continent_N,
            clean_N=subset.clean_N,
            batch=min(stage.batch, len(subset)),
        )
    return Shuffle(num_photos=len(subset), batch=stage.batch)


def augmentation_of(
    options: AugmentationOptions, *, fill: tuple[int, int, int] = IMAGENET_MEAN
) -> Augmentation:
    """What the recipe's table asks for; erased boxes are filled with *fill*."""
    return Augmentation(
        crop=options.crop,
        flip=options.flip,
        shear_deg=options.shear_deg,
        shear_probability=options.shear_probability,
        brightness=options.brightness,
        contrast=options.contrast,
        tone_probability=options.tone_probability,
        rescale=options.rescale,
        pad=options.pad,
        erase=options.erase,
        erase_area=(options.erase_smallest, options.erase_largest),
        erase_ratio=(options.erase_ratio, 1 / options.erase_ratio),
        erase_fill=fill,
    )


def epoch_batches(
    subset: Subset,
    stage: StageOptions,
    *,
    seed: int,
    epoch: int,
    workers: int,
    start: int = 0,
    fill: tuple[int, int, int] = IMAGENET_MEAN,
) -> Iterator[Batch]:
    """The batches of one epoch from number *start* on, as the stage's sampler and augmentation say."""
    augmentation = augmentation_of(stage.augmentation, fill=fill)
    picks = sampler_of(subset, stage).batches(seed=seed, epoch=epoch, start=start)
    yield from _ahead(
        lambda position: _augmented(subset, augmentation, stage.size, position, seed=seed, epoch=epoch),
        subset,
        picks,
        workers,
    )


def plain_batches(subset: Subset, *, size_px: int, batch: int, workers: int) -> Iterator[Batch]:
    """Every photo once, in order, as extraction would see it."""
    picks = (np.arange(start, min(start + batch, len(subset))) for start in range(0, len(subset), batch))
    yield from _ahead(
        lambda position: load_square(subset.root, subset.paths[position], size_px), subset, picks, workers
    )


def _ahead(load: Load, subset: Subset, picks: Iterable[np.ndarray], workers: int) -> Iterator[Batch]:
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
    photos, positions, unreadable = [], [], {}
    for position, photo in zip(pick, loaded, strict=True):
        try:
            photos.append(photo.result())
            positions.append(position)
        except UnreadablePhoto as error:
            unreadable[subset.ids[position]] = error.reason
    stacked = np.stack(photos) if photos else np.empty((0, 1, 1, 3), dtype=np.uint8)
    position_B = np.array(positions, dtype=np.int64)
    return Batch(
        photos_BSS3=stacked, position_B=position_B, row_B=subset.row_N[position_B], unreadable=unreadable
    )


def _augmented(
    subset: Subset, augmentation: Augmentation, size: int, position: int, *, seed: int, epoch: int
) -> np.ndarray:
    # seeds are padded with zeros, so [seed, epoch] alone would be the stream of a photo at position 0
    rng = np.random.default_rng([seed, epoch, position + 1])
    path = subset.paths[position]
    if augmentation.crop < 1:
        # the crop keeps at least this share of a side, so the photo must be decoded that much larger
        photo = decode(read_bytes(subset.root, path), min_side=decode_side(augmentation, (size, size)))
    else:
        photo = load_square(subset.root, path, size)
    return apply(photo, augmentation, (size, size), rng)
