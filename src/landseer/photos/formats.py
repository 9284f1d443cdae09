"""Which kind of picture some bytes are, and a lazily opened picture whose header alone has been read.

The kind comes from the bytes and never from a file name.  Pillow's readers are called directly and not
through ``Image.open``: that would try readers nobody asked for, and needs process-wide settings.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Final, Literal

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS: Final = 200_000_000
"""Largest picture that is decoded; the largest phone sensors write as much."""

MAX_JPEG_SCANS: Final = 200
"""A progressive JPEG has about ten scans; thousands of them turn a small file into minutes of work."""

ORIENTATION_TAG: Final = 0x0112

_HEIF_BRANDS: Final = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
)
_AVIF_BRANDS: Final = frozenset((b"avif", b"avis"))
_FOREIGN: Final = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
)


class UnreadablePhoto(Exception):  # noqa: N818 - a photo that cannot be read is a finding, not a fault of the program
    """A photo that cannot be turned into pixels.  ``reason`` is short, plain and the same every time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def kind_of(data: bytes) -> str:
    """Kind of picture *data* begins like: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIF or AVIF.

    Raises ``UnreadablePhoto``: "empty file", "not an image", or "unsupported format: ...".
    """
    if not data:
        raise UnreadablePhoto("empty file")
    head = data[:16]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")):
        return "TIFF"
    if head[4:8] == b"ftyp":
        return _kind_by_brand(data)
    # two letters prove little: a BMP header also has a known length and reserved zeros
    if head.startswith(b"BM") and data[6:10] == bytes(4) and data[14:18] in _BMP_HEADERS:
        return "BMP"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise UnreadablePhoto(f"unsupported format: {name}")
    raise UnreadablePhoto("not an image")


_BMP_HEADERS: Final = frozenset(struct.pack("<I", length) for length in (12, 40, 52, 56, 64, 108, 124))


def _kind_by_brand(data: bytes) -> str:
    # "mif1" alone says only "a picture in this container"; the compatible brands name the codec
    length = int.from_bytes(data[:4], "big")
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, min(length, len(data), 256), 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    raise UnreadablePhoto("not an image")


def _heif(stream: BytesIO) -> ImageFile.ImageFile:
    from pillow_heif import HeifImageFile

    picture: ImageFile.ImageFile = HeifImageFile(stream)
    return picture


_READERS: Final[dict[str, Callable[[BytesIO], ImageFile.ImageFile]]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "HEIF": _heif,
}


def open_lazily(data: bytes) -> ImageFile.ImageFile:
    """The picture with its header read and no pixel decoded.  Of several pages or frames it is the first.

    Raises ``UnreadablePhoto``, also for more than ``MAX_PIXELS``.
    """
    kind = kind_of(data)
    if kind == "WebP":
        _refuse_large(*_webp_canvas(data))  # its reader allocates the canvas as soon as it is made
    try:
        picture = _READERS[kind](BytesIO(data))
    except Exception as error:  # damaged bytes surface as any exception in these parsers
        raise why_unreadable(data, kind, error) from error
    _refuse_large(*picture.size)
    if kind == "JPEG" and picture.info.get("progressive") and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise UnreadablePhoto("too many scans")
    return picture


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadablePhoto(f"too large: {width} x {height} px")


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """(width, height) from a WebP's first chunk, extended, lossless or lossy; (0, 0) where it is none."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def orientation_of(picture: ImageFile.ImageFile, data: bytes) -> int:
    """EXIF orientation 1 to 8 still to be applied; 1 where it is absent, broken or already applied."""
    # the TIFF and HEIF readers turn the picture themselves, and report the turned size
    if picture.format in ("TIFF", "HEIF"):
        return 1
    if not has_exif(picture, data) and not picture.info.keys() & _XMP_KEYS:
        return 1
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF says nothing about the pixels, which may be fine
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def has_exif(picture: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether there is any EXIF to read.  Asking Pillow would decode every PNG that has none."""
    if picture.format == "PNG":  # the chunk may follow the pixels
        return b"eXIf" in data or bool(picture.info.keys() & _EXIF_KEYS)
    return picture.format in ("TIFF", "HEIF") or bool(picture.info.keys() & _EXIF_KEYS)


_EXIF_KEYS: Final = frozenset(("exif", "Raw profile type exif"))
_XMP_KEYS: Final = frozenset(("xmp", "XML:com.adobe.xmp"))


def why_unreadable(
    data: bytes, kind: str, error: Exception, size: tuple[int, int] | None = None
) -> UnreadablePhoto:
    """The reason behind *error*, told by the structure of *data* rather than by a library's wording.

    *size* is the picture's (width, height) where it is known.
    """
    if isinstance(error, UnreadablePhoto):
        return error
    if isinstance(error, MemoryError):
        return UnreadablePhoto("out of memory")
    if isinstance(error, Image.DecompressionBombError):
        # Pillow's own limit for one frame or tile, a little below MAX_PIXELS
        size = _webp_canvas(data) if kind == "WebP" else size
        return UnreadablePhoto(f"too large: {size[0]} x {size[1]} px" if size else "too large")
    return UnreadablePhoto("truncated" if _is_cut(data, kind, error) else "damaged")


def _is_cut(data: bytes, kind: str, error: Exception) -> bool:
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind == "GIF":
        return not data.rstrip(b"\x00").endswith(b";")
    if kind == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind in ("HEIF", "AVIF"):
        return _boxes_end(data) > len(data) or b"meta" not in data
    # a TIFF is laid out in any order: its directory may lie beyond the cut, else only the reader knows
    return _directory_is_cut(data) or "truncated" in str(error).lower()


def _directory_is_cut(data: bytes) -> bool:
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    at = int.from_bytes(data[4:8], order)
    return at + 2 + 12 * int.from_bytes(data[at : at + 2], order) >= len(data)


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box of an ISO media file says it ends."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length == 0:  # "to the end of the file"
            return len(data)
        if length < 8:
            break
        at += length
    return at
