"""Bytes of a photo to upright RGB pixels, or a plain reason why not.

Colour: ICC profiles are not applied, so a wide-gamut picture comes out slightly flat and CMYK is converted
by the plain formula.  Transparency lies over white.  Of several pages or frames the first counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageFile

from landseer.photos.formats import (
    MAX_PIXELS,
    UnreadablePhoto,
    kind_of,
    open_lazily,
    orientation_of,
    why_unreadable,
)

__all__ = ["MAX_PIXELS", "UnreadablePhoto", "decode", "decode_cropped", "decode_resized", "size_of"]

_TURN: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, min_side: int | None = None) -> np.ndarray:
    """Pixels of the photo in *data*: RGB uint8 ``[H, W, 3]``, upright by its EXIF orientation.

    JPEG, PNG, WebP, HEIC/HEIF, AVIF, TIFF, GIF and BMP, known by content.  With *min_side* (pixels) a JPEG
    is decoded at 1/2, 1/4 or 1/8 of its size, the smallest whose shorter side is at least *min_side*; other
    formats come out in full.  Raises ``UnreadablePhoto`` and nothing else, whatever *data* is; pictures above
    ``MAX_PIXELS`` are refused before any pixel is decoded.  At that limit 2 GB of memory are needed for RGB
    and 3.3 GB with transparency, less in proportion.
    """
    if min_side is not None and min_side < 1:
        raise ValueError(f"min_side must be at least 1 px, not {min_side}")
    picture = open_lazily(data)
    try:
        if min_side is not None:
            _draft(picture, (min_side, min_side))
        picture.load()
        orientation = orientation_of(picture, data)
        upright = _turned(_to_rgb(picture), orientation)
    except Exception as error:  # damaged bytes surface as any exception in these parsers
        raise why_unreadable(data, kind_of(data), error, picture.size) from error
    return np.array(upright)


def decode_resized(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The photo in *data* upright at *size* (width, height in pixels), bicubic, as a Pillow RGB image.

    A JPEG is decoded at a fraction, on no side below *size*.  Raises ``UnreadablePhoto``.
    """
    if min(size) < 1:
        raise ValueError(f"a picture needs at least 1 px, not {min(size)}")
    picture = open_lazily(data)
    try:
        lying = picture.format == "JPEG" and orientation_of(picture, data) >= 5
        # 77 rows at 1/4 are 19.25, stored as 20: resizing all 20 would stretch the picture
        extent = _draft(picture, size[::-1] if lying else size)
        picture.load()
        orientation = orientation_of(picture, data)
        stored_size = size[::-1] if orientation >= 5 else size
        resized = _to_rgb(picture).resize(stored_size, Image.Resampling.BICUBIC, box=extent)
    except Exception as error:  # damaged bytes surface as any exception in these parsers
        raise why_unreadable(data, kind_of(data), error, picture.size) from error
    return _turned(resized, orientation)


def decode_cropped(data: bytes, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """What *box* (left, top, right, bottom) of the photo in *data* shows, at *size* (width, height), bicubic.

    The box counts pixels as they are stored, and the photo is not turned by its EXIF orientation, as who drew the box
    saw it (Revisited Oxford and Paris).  What of it lies outside the picture is left out.  Raises
    ``UnreadablePhoto``, also where nothing is left.
    """
    picture = open_lazily(data)
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(picture.size[0], box[2]), min(picture.size[1], box[3])
    if left >= right or top >= bottom:
        raise UnreadablePhoto(
            f"its crop {list(box)} lies outside its {picture.size[0]} x {picture.size[1]} pixels"
        )
    try:
        picture.load()
        part = _to_rgb(picture).crop((left, top, right, bottom))
        return part.resize(size, Image.Resampling.BICUBIC)
    except Exception as error:  # damaged bytes surface as any exception in these parsers
        raise why_unreadable(data, kind_of(data), error, picture.size) from error


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as shown upright, from the header alone.  Raises ``UnreadablePhoto``."""
    picture = open_lazily(data)
    width, height = picture.size
    return (height, width) if orientation_of(picture, data) >= 5 else (width, height)


def _draft(picture: ImageFile.ImageFile, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Ask for a fraction still at least *size* as stored; returns the part of it that is picture, if scaled."""
    # only JPEG scales while decoding; a HEIF would hand out its embedded thumbnail, which is another picture
    drafted = picture.draft(None, size) if picture.format == "JPEG" else None
    return drafted[1] if drafted else None


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    return picture if orientation == 1 else picture.transpose(_TURN[orientation])


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # 257 maps 65535 to 255 exactly; Pillow's own conversion clips everything above 255
        values = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        return Image.fromarray(_to_bytes(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        over_white = Image.new("RGB", picture.size, "white")
        over_white.paste(with_alpha.convert("RGB"), mask=with_alpha.getchannel("A"))
        return over_white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Floats and 32-bit integers to bytes by the smallest usual full scale that holds them: 1, 255 or 65535.

    Values beyond all of these, or below zero, are stretched between their extremes.  NaN is black.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape, np.uint8)
    low, high = float(values[known].min()), float(values[known].max())
    scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    full = next((scale for scale in scales if low >= 0 and high <= scale), None)
    offset, span = (0.0, full) if full else (low, (high - low) or 1.0)
    scaled = (np.where(known, values, low).astype(np.float32) - offset) * (255.0 / span)
    return np.where(known, np.clip(np.rint(scaled), 0, 255), 0).astype(np.uint8)
