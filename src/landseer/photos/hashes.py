"""A perceptual hash: 64 bits of what a photo looks like from afar, nearly the same after re-encoding and resizing.

The photo is seen in grey at 32 x 32 pixels whatever its aspect, and transformed by a cosine transform (DCT-II).  Each
bit is the sign of one low-frequency coefficient: of rows and columns 0 to 7, and, in the place of the mean (0, 0),
which says nothing, of (8, 8).  Bit 8 i + j, from the lowest, belongs to row i (down) and column j (across).  Published
variants compare with the median (Zauner 2010); signs do as well (docs/check.md), and give the hash of the mirrored
photo for nothing: mirroring turns the signs of the odd columns.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from landseer.photos.decode import decode_resized

HASH_SIDE = 32
"""Pixels of a side of the picture that is hashed."""
LEAST_CONTRAST = 4.0
"""A picture whose grey levels spread less (standard deviation, of 256 levels) has no hash: it would be one of noise."""

_BITS = 8
_Hash = TypeVar("_Hash", int, np.ndarray)


def _cosines() -> np.ndarray:
    """The first rows of the cosine transform, ``[9, 32]``; scale is of no concern to signs."""
    places = (2 * np.arange(HASH_SIDE) + 1) * np.pi / (2 * HASH_SIDE)
    return np.cos(np.arange(_BITS + 1)[:, None] * places)


_COSINES = _cosines()
_WEIGHTS = (np.uint64(1) << np.arange(_BITS * _BITS, dtype=np.uint64)).reshape(_BITS, _BITS)
MIRROR = int(_WEIGHTS[:, 1::2].sum())
"""The bits that change where a photo is mirrored left to right."""


def perceptual_hash(data: bytes) -> int | None:
    """The hash of the photo in *data*, 0 to 2**64 - 1; None where it shows too little to have one.

    Raises ``UnreadablePhoto``.
    """
    small = decode_resized(data, (HASH_SIDE, HASH_SIDE)).convert("L")
    return hash_of_grey(np.asarray(small))


def hash_of_grey(grey: np.ndarray) -> int | None:
    """The hash of a grey picture ``[32, 32]``, levels 0 to 255; None where they hardly differ."""
    if grey.shape != (HASH_SIDE, HASH_SIDE):
        raise ValueError(f"a hash is made of {HASH_SIDE} x {HASH_SIDE} pixels, not {grey.shape}")
    levels = grey.astype(np.float64)
    if levels.std() < LEAST_CONTRAST:
        return None
    transformed = _COSINES @ levels @ _COSINES.T
    low = transformed[:_BITS, :_BITS].copy()
    low[0, 0] = transformed[_BITS, _BITS]
    return int(_WEIGHTS[low > 0].sum())


def mirrored(hashes: _Hash) -> _Hash:
    """The hash of the same photo mirrored left to right; of an array (uint64) of each."""
    if isinstance(hashes, np.ndarray):
        return hashes ^ np.uint64(MIRROR)
    return hashes ^ MIRROR


def distance(a: int, b: int) -> int:
    """Bits in which two hashes differ, 0 to 64: up to 4 after re-encoding, about 32 for two photos."""
    return (a ^ b).bit_count()
