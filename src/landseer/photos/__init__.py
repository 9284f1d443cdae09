"""Photos: their bytes, pixels, sizes, small forms, and what they say about themselves."""

from landseer.photos.decode import MAX_PIXELS, UnreadablePhoto, decode, size_of
from landseer.photos.exif import PhotoFacts, read_facts
from landseer.photos.resize import (
    load_cropped,
    load_sized,
    load_square,
    resize_longest,
    resize_square,
    shape_of,
)
from landseer.photos.source import list_members, read_bytes
from landseer.photos.thumbnail import thumbnail

__all__ = [
    "MAX_PIXELS",
    "PhotoFacts",
    "UnreadablePhoto",
    "decode",
    "list_members",
    "load_cropped",
    "load_sized",
    "load_square",
    "read_bytes",
    "read_facts",
    "resize_longest",
    "resize_square",
    "shape_of",
    "size_of",
    "thumbnail",
]
