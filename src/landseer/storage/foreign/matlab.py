"""Matrices of MATLAB files of version 5 to 7.2, the kind ``save`` and scipy write.

A reader of our own: scipy's crashes on damaged files and takes the process with it.  Only real full matrices of
numbers are read; cells, texts, structures and sparse matrices are listed and left alone.  Source: MathWorks,
*MAT-File Format*, chapter 1, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of a data element -> how its numbers are stored, which may be narrower than what they stand for."""
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Class of a full matrix of numbers -> its numbers."""
_COMPLEX = 0x0800
_ENOUGH = 4096
"""Bytes that surely hold a matrix's flags, shape and name, and the tag of its numbers."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One variable.  ``read`` is None for what is no real full matrix of numbers."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray] | None


@dataclass(frozen=True, kw_only=True)
class _Tag:
    kind: int
    num_bytes: int
    start: int
    """Where the data begin."""
    end: int
    """Where the next element begins."""


def matrices_of(path: Path) -> list[Matrix]:
    """The variables of a file, none read yet; ``ValueError``, ``struct.error`` or ``zlib.error`` for damage."""
    size = path.stat().st_size
    found = []
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if len(header) < _HEADER or header[126:] not in (b"IM", b"MI"):
            raise ValueError("it has no header of MATLAB 5 or later; save it anew with -v7 or -v7.3")
        order = "<" if header[126:] == b"IM" else ">"
        at = _HEADER
        while at + 8 <= size:
            file.seek(at)
            kind, num_bytes = struct.unpack(f"{order}II", file.read(8))
            if at + 8 + num_bytes > size:
                raise ValueError(f"a variable of {num_bytes:,} bytes does not fit in the file")
            if kind in (_MATRIX, _COMPRESSED):
                packed = kind == _COMPRESSED
                head = file.read(min(num_bytes, _ENOUGH))
                if packed:
                    head = zlib.decompressobj().decompress(head, _ENOUGH)[8:]
                found.append(_matrix(path, head, order, place=(at + 8, num_bytes), packed=packed))
            at += 8 + num_bytes
    return found


def _tag(data: bytes, at: int, order: str) -> _Tag:
    """The element at byte *at*; one of up to four bytes may stand inside its tag."""
    first, second = struct.unpack_from(f"{order}II", data, at)
    if first >> 16:
        return _Tag(kind=first & 0xFFFF, num_bytes=first >> 16, start=at + 4, end=at + 8)
    return _Tag(kind=first, num_bytes=second, start=at + 8, end=at + 8 + -(-second // 8) * 8)


def _matrix(path: Path, head: bytes, order: str, *, place: tuple[int, int], packed: bool) -> Matrix:
    flags = _tag(head, 0, order)
    (word,) = struct.unpack_from(f"{order}I", head, flags.start)
    shape_tag = _tag(head, flags.end, order)
    name_tag = _tag(head, shape_tag.end, order)
    num_sides = shape_tag.num_bytes // 4
    shape = struct.unpack_from(f"{order}{num_sides}i", head, shape_tag.start)
    name = head[name_tag.start : name_tag.start + name_tag.num_bytes].decode("latin1")
    if word & 0xFF not in _CLASSES or word & _COMPLEX:
        return Matrix(name=name, shape=shape, read=None)
    numbers = _tag(head, name_tag.end, order)
    if numbers.kind not in _STORED or min(shape, default=-1) < 0:
        raise ValueError(f"matrix {name!r} holds no numbers of a known kind")
    stored = np.dtype(order + _STORED[numbers.kind])
    if math.prod(shape) * stored.itemsize != numbers.num_bytes:
        raise ValueError(f"matrix {name!r} declares {list(shape)} and holds {numbers.num_bytes:,} bytes")
    fill = _unpacked if packed else _mapped
    flat = partial(fill, path, place, numbers, stored)
    meant = np.dtype(_CLASSES[word & 0xFF])
    return Matrix(name=name, shape=shape, read=lambda: _shaped(flat(), shape, meant))


def _shaped(flat: np.ndarray, shape: tuple[int, ...], meant: np.dtype[Any]) -> np.ndarray:
    return flat.reshape(shape, order="F").astype(meant, copy=False)


def _mapped(path: Path, place: tuple[int, int], numbers: _Tag, stored: np.dtype[Any]) -> np.ndarray:
    count = numbers.num_bytes // stored.itemsize
    if numbers.start + numbers.num_bytes > place[1]:
        raise ValueError(f"{path} is damaged: a matrix is longer than its variable")
    if not count:
        return np.empty(0, stored)
    return np.memmap(path, dtype=stored, mode="r", offset=place[0] + numbers.start, shape=(count,))


def _unpacked(path: Path, place: tuple[int, int], numbers: _Tag, stored: np.dtype[Any]) -> np.ndarray:
    """The numbers of a compressed variable; its first 8 bytes are the tag of the matrix."""
    skipped, content = 8 + numbers.start, bytearray()
    for piece in _decompressed(path, place, at_most=skipped + numbers.num_bytes):
        content += piece
    return np.frombuffer(content, stored, offset=skipped, count=numbers.num_bytes // stored.itemsize)


def _decompressed(path: Path, place: tuple[int, int], *, at_most: int) -> Iterator[bytes]:
    packer, left = zlib.decompressobj(), at_most
    with path.open("rb") as file:
        file.seek(place[0])
        waiting = file.read(place[1])
    while left and waiting:
        piece = packer.decompress(waiting, min(left, 1 << 24))
        waiting, left = packer.unconsumed_tail, left - len(piece)
        yield piece
