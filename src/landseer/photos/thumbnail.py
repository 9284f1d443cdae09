"""Small pictures for reports and pages."""

from __future__ import annotations

from io import BytesIO

from landseer.photos.decode import decode_resized, size_of
from landseer.photos.resize import fitted

_QUALITY = 82


def thumbnail(data: bytes, *, longest: int) -> bytes:
    """The photo in *data* as a JPEG of at most *longest* pixels a side, upright, with no metadata.

    Raises ``UnreadablePhoto``.
    """
    small = decode_resized(data, fitted(size_of(data), longest))
    small.info.clear()  # Pillow would carry comments and profiles over
    stream = BytesIO()
    small.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()
