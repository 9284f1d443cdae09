"""Photos at the size a model wants.

Pillow's bicubic filter widens with the reduction, so shrinking does not alias.  It is what the published
preprocessing of most backbones uses; faster filters change the descriptors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from landseer.photos.decode import decode_resized
from landseer.photos.source import read_bytes


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """*image* (uint8 ``[H, W, 3]``) squashed to uint8 ``[size, size, 3]`` whatever its aspect; bicubic."""
    return resize_to(image, size, size)


def resize_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """*image* (uint8 ``[H, W, 3]``) squashed to uint8 ``[height, width, 3]`` whatever its aspect; bicubic."""
    if min(height, width) < 1:
        raise ValueError(f"a picture needs at least 1 px, not {min(height, width)}")
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resize_longest(image: np.ndarray, size: int) -> np.ndarray:
    """*image* (uint8 ``[H, W, 3]``) shrunk so that its longer side has *size* pixels, aspect kept.

    A smaller picture is returned as it is: enlarging adds nothing to describe.
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= size:
        return image
    target = fitted((width, height), size)
    return np.array(Image.fromarray(image).resize(target, Image.Resampling.BICUBIC))


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height) of *size* shrunk until its longer side is *longest*; no side vanishes, none grows."""
    if longest < 1:
        raise ValueError(f"a picture needs at least 1 px, not {longest}")
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def load_square(root: Path, path: str, size: int) -> np.ndarray:
    """The photo *path* below *root*, squashed to uint8 ``[size, size, 3]``.

    Large JPEGs are decoded at a fraction, never below *size* on either side.  Raises ``UnreadablePhoto``.
    """
    return np.array(decode_resized(read_bytes(root, path), (size, size)))
