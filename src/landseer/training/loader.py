"""Training batches: photos decoded and augmented by threads ahead of the step that needs them.

What a photo looks like in an epoch depends on (seed, epoch, its place in the subset) alone, whatever the number
of threads and of processes.  Axes: B photos of a batch, H and W of the input in pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from landseer.datasets.samplers import AspectGrouped, ContinentAware, IdUniform, Sampler, Shuffle, bin_of
from landseer.photos import UnreadablePhoto, decode, load_sized, read_bytes, shape_of
from landseer.photos.augment import IMAGENET_MEAN, Augmentation, apply, decode_side
from landseer.recipe import AspectOptions, AugmentationOptions, StageOptions
from landseer.training import distributed
from landseer.training.subset import Subset

Load = Callable[[int], np.ndarray]
"""Position in the subset -> pixels uint8 ``[H, W, 3]``."""
_AHEAD = 3  # batches decoded before they are needed: enough to hide a slow photo, little memory


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photos uint8 ``[B, H, W, 3]``, where they stand in the subset, the head rows of their landmarks.

    Those that could not be read are listed, not held.
    """

    photos_BHW3: np.ndarray
    position_B: np.ndarray
    row_B: np.ndarray
    unreadable: dict[str, str]


def with_ratios(subset: Subset, *, workers: int) -> Subset:
    """*subset* with the shape of each photo, from the files' headers; an unreadable one counts as square."""

    def ratio(path: str) -> float:
        try:
            width, height = shape_of(subset.root, path)
        except UnreadablePhoto:
            return 1.0  # it is listed where its pixels are asked for
        return height / width

    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="shapes") as pool:
        ratios = list(pool.map(ratio, subset.paths, chunksize=256))
    return replace(subset, ratio_N=np.array(ratios, dtype=np.float64))


def sampler_of(subset: Subset, stage: StageOptions) -> Sampler:
    """Which photos stand in which batch, as *stage* says."""
    if stage.aspects.sizes:
        assert subset.ratio_N is not None, "train_stage reads the shapes first"
        return AspectGrouped(ratio_N=subset.ratio_N, aspects=stage.aspects, batch=stage.batch)
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
    """The part for this process of each batch of an epoch, from number *start* on, as sampler and augmentation say."""
    augmentation = augmentation_of(stage.augmentation, fill=fill)
    sizes = _sizes(subset, stage.size, stage.aspects)
    picks = sampler_of(subset, stage).batches(
        seed=seed, epoch=epoch, start=start, rank=distributed.rank(), world=distributed.world()
    )
    yield from _ahead(
        lambda position: _augmented(subset, augmentation, sizes(position), position, seed=seed, epoch=epoch),
        subset,
        picks,
        workers,
    )


def plain_batches(
    subset: Subset,
    *,
    size_px: int,
    batch: int,
    workers: int,
    aspects: AspectOptions | None = None,
    everywhere: bool = False,
) -> Iterator[Batch]:
    """Every photo once, as extraction would see it: this process's part of each batch, or all *everywhere*.

    In order, or bin by bin where *aspects* gives each shape its size.
    """
    aspects = aspects or AspectOptions()
    sizes = _sizes(subset, size_px, aspects)
    world = 1 if everywhere else distributed.world()
    picks = (
        np.array_split(pick, world)[0 if everywhere else distributed.rank()]
        for group in _by_shape(subset, aspects)
        for pick in np.split(group, range(batch, len(group), batch))
    )
    yield from _ahead(
        lambda position: load_sized(subset.root, subset.paths[position], sizes(position)),
        subset,
        picks,
        workers,
    )


def _by_shape(subset: Subset, aspects: AspectOptions) -> list[np.ndarray]:
    """The positions of each bin of shapes, in order."""
    position_N = np.arange(len(subset))
    if not aspects.sizes:
        return [position_N]
    assert subset.ratio_N is not None, "train_stage reads the shapes first"
    bin_N = bin_of(aspects, subset.ratio_N)
    return [position_N[bin_N == number] for number in range(len(aspects.sizes))]


def _sizes(subset: Subset, size_px: int, aspects: AspectOptions) -> Callable[[int], tuple[int, int]]:
    """Position -> (width, height) of its input."""
    if not aspects.sizes:
        return lambda _: (size_px, size_px)
    assert subset.ratio_N is not None, "train_stage reads the shapes first"
    bin_N = bin_of(aspects, subset.ratio_N)

    def size(position: int) -> tuple[int, int]:
        width, height = aspects.sizes[bin_N[position]]
        return width, height

    return size


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
        photos_BHW3=stacked, position_B=position_B, row_B=subset.row_N[position_B], unreadable=unreadable
    )


def _augmented(
    subset: Subset,
    augmentation: Augmentation,
    size: tuple[int, int],
    position: int,
    *,
    seed: int,
    epoch: int,
) -> np.ndarray:
    # seeds are padded with zeros, so [seed, epoch] alone would be the stream of a photo at position 0
    rng = np.random.default_rng([seed, epoch, position + 1])
    path = subset.paths[position]
    high = size[::-1]  # (height, width), as shapes are
    if augmentation.crop < 1:
        # the crop keeps at least this share of a side, so the photo must be decoded that much larger
        photo = decode(read_bytes(subset.root, path), min_side=decode_side(augmentation, high))
    else:
        photo = load_sized(subset.root, path, size)
    return apply(photo, augmentation, high, rng)
