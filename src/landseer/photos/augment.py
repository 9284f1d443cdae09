"""Photos changed at random for training: mirrored, cropped, moved, sheared, relit, partly erased.

Every draw comes from the generator that is handed in, so whoever seeds it by (seed, epoch, photo) sees the same
pixels in any number of processes.  An operation that is off draws nothing, and one that may or may not happen draws
one number to decide.  No function changes the photo it is given.  Photos are uint8 ``[H, W, 3]``, RGB; what lies
outside a photo is black.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

from landseer.photos.resize import resize_to

IMAGENET_MEAN = (124, 116, 104)
"""The RGB mean of ImageNet, rounded: erased with it before normalisation, pixels are 0 after it."""
_ERASING_TRIES = 100  # Zhong et al.'s own; a photo in which no box fits stays whole


def _require(holds: bool, key: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{key}: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may happen to a training photo; the fields stand in the order in which it happens.

    The defaults change nothing.  A value that cannot be is a ``ValueError`` that starts with the field's name.
    """

    crop: float = 1.0
    """Smallest share of each side that a random crop keeps, height and width apart; 1 means no crop."""
    flip: float = 0.0
    """Probability of mirroring left and right."""
    shear_deg: float = 0.0
    """Largest angle by which upright lines lean, degrees to either side."""
    shear_probability: float = 1.0
    """Share of the photos that are sheared, where ``shear_deg`` is above 0."""
    brightness: float = 0.0
    """Largest relative change of all values."""
    contrast: float = 0.0
    """Largest relative change of the values' distances from their mean."""
    tone_probability: float = 1.0
    """Share of the photos whose brightness and contrast change, where either limit is above 0."""
    rescale: float = 0.0
    """Largest relative change of the height and, apart, of the width of the window that fills the picture."""
    pad: float = 0.0
    """Black border before a crop back to the size, as a share of the side; 5/128 is 10 px at 256, 20 at 512."""
    erase: float = 0.0
    """Probability that a box is erased."""
    erase_area: tuple[float, float] = (0.02, 0.2)
    """Smallest and largest share of the picture's area that a box covers."""
    erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """Smallest and largest height of a box as a multiple of its width."""
    erase_fill: tuple[int, int, int] = IMAGENET_MEAN
    """RGB of an erased box; the mean that the model subtracts makes it 0."""

    def __post_init__(self) -> None:
        for key in ("flip", "shear_probability", "tone_probability", "erase"):
            share = getattr(self, key)
            _require(0 <= share <= 1, key, f"is a probability and must lie in 0..1, not {share}")
        _require(0 < self.crop <= 1, "crop", f"must be above 0 and at most 1, not {self.crop}")
        _require(
            0 <= self.shear_deg < 90, "shear_deg", f"must be at least 0 and below 90, not {self.shear_deg}"
        )
        for key in ("brightness", "contrast", "rescale", "pad"):
            limit = getattr(self, key)
            _require(0 <= limit < 1, key, f"must be at least 0 and below 1, not {limit}")
        for key in ("erase_area", "erase_ratio"):
            bounds = getattr(self, key)
            ordered = len(bounds) == 2 and 0 < bounds[0] <= bounds[1] < math.inf
            _require(ordered, key, f"needs two numbers above 0, the smaller first, not {bounds}")
        _require(self.erase_area[1] < 1, "erase_area", f"must be below 1, not {self.erase_area[1]}")
        whole = len(self.erase_fill) == 3 and all(value in range(256) for value in self.erase_fill)
        _require(whole, "erase_fill", f"needs three whole numbers (R, G, B) in 0..255, not {self.erase_fill}")


_FLIP = Augmentation(flip=0.5)
PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(),
        "flip": _FLIP,
        "soft": Augmentation(rescale=0.2, brightness=0.1, tone_probability=0.5),
        "middle": Augmentation(
            rescale=0.3,
            shear_deg=4.0,
            shear_probability=0.5,
            brightness=0.1,
            contrast=0.1,
            tone_probability=0.5,
        ),
        "glr2020-1st": _FLIP,
        "glr2021-2nd": Augmentation(flip=0.5, pad=5 / 128, erase=1.0),
    }
)
"""Published policies by name; ``docs/augmentation.md`` has the source of each number."""


def apply(
    photo: np.ndarray, augmentation: Augmentation, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """*photo* augmented and squashed to *size*, uint8 ``[height, width, 3]`` in memory of its own.

    *size* is (height, width) in pixels, as shapes are; tables of aspect bins have the width first.  The crop sees
    the photo as it is given, everything else the squashed one.  An ``Augmentation()`` gives the plain resize bit for
    bit.  Raises ``ValueError`` for what is not a photo and for a size without pixels.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(f"a photo is uint8 [H, W, 3] with pixels in it, not {photo.dtype} {photo.shape}")
    if augmentation.crop < 1:
        photo = random_crop(photo, augmentation.crop, rng)
    photo = resize_to(photo, *size)
    if _happens(augmentation.flip, rng):
        photo = flip(photo)
    if augmentation.shear_deg and _happens(augmentation.shear_probability, rng):
        photo = random_shear(photo, augmentation.shear_deg, rng)
    relit = augmentation.brightness > 0 or augmentation.contrast > 0
    if relit and _happens(augmentation.tone_probability, rng):
        photo = jitter(photo, augmentation.brightness, augmentation.contrast, rng)
    if augmentation.rescale:
        photo = random_rescale(photo, augmentation.rescale, rng)
    if augmentation.pad:
        photo = pad_crop(photo, augmentation.pad, rng)
    if _happens(augmentation.erase, rng):
        photo = random_erasing(
            photo, augmentation.erase_area, augmentation.erase_ratio, augmentation.erase_fill, rng
        )
    return photo


def decode_side(augmentation: Augmentation, size: tuple[int, int]) -> int:
    """Shorter side in pixels that a photo needs, so that *augmentation* to *size* never enlarges a crop of it."""
    return math.ceil(max(size) / augmentation.crop)


def flip(photo: np.ndarray) -> np.ndarray:
    """*photo* mirrored left and right."""
    return np.ascontiguousarray(photo[:, ::-1])


def random_crop(photo: np.ndarray, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """A window whose height and width are independent shares of the photo's, uniform in *smallest*..1.

    It lies anywhere in the photo, each place as likely as the next, and is a view of it.
    """
    height, width = (max(1, round(side * rng.uniform(smallest, 1.0))) for side in photo.shape[:2])
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    return photo[top : top + height, left : left + width]


def random_shear(photo: np.ndarray, limit_deg: float, rng: np.random.Generator) -> np.ndarray:
    """*photo* with its upright lines leaning by an angle uniform in +-*limit_deg*, about the middle row; bilinear."""
    height, width = photo.shape[:2]
    slope = math.tan(math.radians(rng.uniform(-limit_deg, limit_deg)))
    # output (x, y) shows input (x + slope (y - height / 2), y)
    inverse = (1.0, slope, -slope * height / 2, 0.0, 1.0, 0.0)
    leaning = Image.fromarray(photo).transform(
        (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR
    )
    return np.array(leaning)


def jitter(photo: np.ndarray, brightness: float, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, then contrast about the mean, by factors uniform in 1 +- *brightness* and 1 +- *contrast*."""
    gain = rng.uniform(1 - brightness, 1 + brightness)
    spread = rng.uniform(1 - contrast, 1 + contrast)
    middle = photo.mean() * gain
    # rounding half up, not cutting: a factor of 1 must give the photo back
    table = np.clip((np.arange(256) * gain - middle) * spread + middle + 0.5, 0, 255).astype(np.uint8)
    changed: np.ndarray = table[photo]
    return changed


def random_rescale(photo: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """A window of the photo squashed back to the photo's size.

    Its height and width are independent multiples of the photo's, uniform in 1 +- *limit*.  Where it is smaller, it
    lies anywhere in the photo; where it is larger, the photo lies anywhere in it, with black around.  "Soft" and
    "middle" of Yokoo et al. (2020).
    """
    height, width = photo.shape[:2]
    rows, columns = (max(1, round(side * rng.uniform(1 - limit, 1 + limit))) for side in (height, width))
    top = int(rng.integers(min(0, height - rows), max(0, height - rows) + 1))
    left = int(rng.integers(min(0, width - columns), max(0, width - columns) + 1))
    return resize_to(_window(photo, top, left, rows, columns), height, width)


def pad_crop(photo: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """*photo* with a black border of ``padding(side, share)`` pixels, cropped back to its size anywhere."""
    height, width = photo.shape[:2]
    rows, columns = padding(height, share), padding(width, share)
    top, left = int(rng.integers(2 * rows + 1)), int(rng.integers(2 * columns + 1))
    return _window(photo, top - rows, left - columns, height, width)


def padding(side: int, share: float) -> int:
    """Border in pixels at each end of a side of *side* pixels: *share* of it, half a pixel rounded up.

    A share of 5/128 gives the published 10, 15, 18 and 20 at 256, 384, 448 and 512, and interpolates between them.
    """
    return math.floor(side * share + 0.5)


def random_erasing(
    photo: np.ndarray,
    area: tuple[float, float],
    ratio: tuple[float, float],
    fill: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """*photo* with one box set to *fill* (Zhong et al., Random Erasing Data Augmentation, AAAI 2020).

    Its share of the photo's area is uniform in *area*, its height over its width uniform in *ratio*, before both
    sides are rounded; then its place is uniform.  Draws that do not fit are made anew, 100 times at most.
    """
    height, width = photo.shape[:2]
    erased = photo.copy()
    for _ in range(_ERASING_TRIES):
        pixels = height * width * rng.uniform(*area)
        tall = rng.uniform(*ratio)
        rows, columns = (max(1, round(math.sqrt(pixels * stretch))) for stretch in (tall, 1 / tall))
        if rows < height and columns < width:
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            erased[top : top + rows, left : left + columns] = fill
            break
    return erased


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """A coin, thrown only where both sides are possible."""
    return probability == 1 or (probability > 0 and rng.random() < probability)


def _window(photo: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """``[height, width, 3]`` of *photo* from (*top*, *left*) on, which may lie outside it: black there."""
    seen = photo[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    window = np.zeros((height, width, 3), dtype=np.uint8)
    first_row, first_column = max(0, -top), max(0, -left)
    window[first_row : first_row + seen.shape[0], first_column : first_column + seen.shape[1]] = seen
    return window
