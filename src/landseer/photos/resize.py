"""Photos at the size a model wants, and the shape they have before.

Pillow's bicubic filter widens with the reduction, so shrinking does not alias.  It is what the published
preprocessing of most backbones uses; faster filters change the descriptors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from landseer.photos.decode import decode_cropped, decode_resized, size_of
from landseer.photos.formats import UnreadablePhoto
from landseer.photos.source import read_bytes

_HEADER_BYTES = 1 << 16
"""What is read of a JPEG to learn its shape; one with longer tables before its pixels is read in full."""


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
    return load_sized(root, path, (size, size))


def load_sized(root: Path, path: str, size: tuple[int, int]) -> np.ndarray:
    """The photo *path* below *root*, squashed to *size* (width, height in pixels): uint8 ``[height, width, 3]``.

    Large JPEGs are decoded at a fraction, never below *size* on either side as seen.  Raises ``UnreadablePhoto``.
    """
    return np.array(decode_resized(read_bytes(root, path), size))


def load_cropped(root: Path, path: str, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """What *box* (left, top, right, bottom, in pixels as stored) of the photo shows, squashed to *size*.

    uint8 ``[height, width, 3]`` of *size* (width, height), as ``decode_cropped`` has it.  Raises ``UnreadablePhoto``.
    """
    return np.array(decode_cropped(read_bytes(root, path), box, size))


def shape_of(root: Path, path: str) -> tuple[int, int]:
    """(width, height) in pixels of the photo *path* below *root* as seen, its EXIF orientation applied.

    No pixel is decoded, except of a PNG with its EXIF behind them, and of most JPEGs the first 64 KiB alone are read;
    a photo damaged further on has a shape all the same.  Raises ``UnreadablePhoto`` where the header cannot be read,
    for the reasons that ``decode`` gives.
    """
    head = read_bytes(root, path, at_most=_HEADER_BYTES)
    # other formats may keep what turns a picture at their end, or be no picture to their reader unless whole
    if len(head) == _HEADER_BYTES and head.startswith(b"\xff\xd8\xff"):
        try:
            return size_of(head)
        except UnreadablePhoto:
            pass  # cut inside the tables, it seems; the whole file decides, and says why if not
    return size_of(head if len(head) < _HEADER_BYTES else read_bytes(root, path))
