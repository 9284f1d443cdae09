"""A descriptor segment: the rows that one step added, in a file that is never changed.

``NNNNNNNN.rows`` holds a head and, from the next multiple of 4096 bytes, the rows.  The head is the magic, the row
numbers (int64, ascending) and the photo ids (UTF-8, a NUL after each).  What a file must hold to (sizes,
the crc32 of its head and of each 1 MiB block of its rows) stands in the catalogue, so that a file that no
committed step names is nothing.

A reader maps the file and checks a block the first time it touches it; crc32 finds every flipped bit and
every burst up to 32 bits, at the speed of memory.

Axes: N rows of the segment, D components.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

FOLDER = "segments"
BLOCK_BYTES = 2**20
_MAGIC = b"LANDSEG1"
_PAGE = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class SegmentFacts:
    """What the catalogue knows of a segment."""

    number: int
    num_rows: int
    dim: int
    dtype: str
    epoch: int
    """Which model made the rows: the index counts its models from 0."""
    head_bytes: int
    head_crc: int
    block_crcs: bytes
    """crc32 of each block, uint32, little endian."""

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.number:08d}.rows"

    @property
    def data_start(self) -> int:
        """Where the rows begin."""
        return -(-self.head_bytes // _PAGE) * _PAGE

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return self.dim * np.dtype(self.dtype).itemsize

    @property
    def num_bytes(self) -> int:
        """Size of the whole file."""
        return self.data_start + self.num_rows * self.row_bytes


def write_segment(
    folder: Path,
    pieces: Iterator[np.ndarray],
    *,
    number: int,
    row_N: np.ndarray,
    ids: Sequence[str],
    dim: int,
    dtype: str,
    epoch: int,
) -> SegmentFacts:
    """Write and sync a segment; *pieces* yields its rows as arrays ``[M, D]`` in turn.

    On any failure the file is removed.  Raises ``ValueError`` where the disk is full.
    """
    head = _MAGIC + row_N.astype("<i8").tobytes() + b"".join(photo.encode() + b"\0" for photo in ids)
    facts = SegmentFacts(
        number=number,
        num_rows=len(ids),
        dim=dim,
        dtype=dtype,
        epoch=epoch,
        head_bytes=len(head),
        head_crc=zlib.crc32(head),
        block_crcs=b"",
    )
    path = folder / facts.name
    crcs: list[int] = []
    block_crc = filled = 0
    try:
        with path.open("wb") as file:
            file.write(head.ljust(facts.data_start, b"\0"))
            for rows_MD in pieces:
                rest = np.ascontiguousarray(rows_MD, np.dtype(dtype)).data.cast("B")
                while rest:
                    part, rest = rest[: BLOCK_BYTES - filled], rest[BLOCK_BYTES - filled :]
                    block_crc, filled = zlib.crc32(part, block_crc), filled + len(part)
                    if filled == BLOCK_BYTES:
                        crcs.append(block_crc)
                        block_crc = filled = 0
                    file.write(part)
            if filled:
                crcs.append(block_crc)
            file.flush()
            os.fsync(file.fileno())
            assert file.tell() == facts.num_bytes, f"{file.tell()} bytes for {facts.num_rows} rows"
        sync_folder(folder)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise ValueError(f"no room for {path} ({error.strerror}); free some and try again") from None
        raise
    return SegmentFacts(**{**vars(facts), "block_crcs": np.array(crcs, "<u4").tobytes()})


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Segment:
    """An open segment.  It stays readable when its file is deleted, as compaction does."""

    def __init__(self, folder: Path, facts: SegmentFacts) -> None:
        """Map the file and check its size and its head; the rows are checked as they are touched.

        Raises ``FileNotFoundError`` where it is gone and ``ValueError`` where it is damaged.
        """
        self.facts = facts
        self.path = folder / facts.name
        self._lock = threading.Lock()
        self._checked_B = np.zeros(-(-facts.num_rows * facts.row_bytes // BLOCK_BYTES), np.bool_)
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != facts.num_bytes:
                raise ValueError(f"{self._damaged()}: it has {size} bytes, not {facts.num_bytes}; {ADVICE}")
            self._bytes = np.memmap(file, np.uint8, mode="r")
        head = self._head
        if zlib.crc32(head) != facts.head_crc or head[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{self._damaged()}: its head (row numbers and ids) changed; {ADVICE}")

    def _damaged(self) -> str:
        return f"{self.path} is damaged"

    @property
    def _head(self) -> bytes:
        return self._bytes[: self.facts.head_bytes].tobytes()

    @cached_property
    def row_N(self) -> np.ndarray:
        """Row numbers, ascending int64 ``[N]``."""
        return np.frombuffer(self._head, "<i8", count=self.facts.num_rows, offset=len(_MAGIC))

    def ids(self) -> list[str]:
        """Photo ids of the rows."""
        return self._head[len(_MAGIC) + 8 * self.facts.num_rows :].decode().split("\0")[:-1]

    @cached_property
    def unchecked_ND(self) -> np.ndarray:
        """The rows as they lie on disk, whatever happened to them; call ``check`` before you use them."""
        data = self._bytes[self.facts.data_start :]
        return data.view(np.dtype(self.facts.dtype)).reshape(self.facts.num_rows, self.facts.dim)

    def check(self, place_M: np.ndarray | None = None) -> None:
        """Check the blocks that hold these rows (all of them by default), each only once.

        Raises ``ValueError`` that names the first damaged block.
        """
        if self._checked_B.all():
            return
        bad = next(self.damaged_blocks(self._blocks_of(place_M)), None)
        if bad is not None:
            raise ValueError(f"{self._damaged()}: block {bad} of its rows changed; {ADVICE}")

    def damaged_blocks(self, blocks: Sequence[int] | np.ndarray | None = None) -> Iterator[int]:
        """Numbers of those of *blocks* (default: all, again) that are not what was written."""
        again = blocks is None
        crcs = np.frombuffer(self.facts.block_crcs, "<u4")
        for block in range(len(self._checked_B)) if blocks is None else blocks:
            if self._checked_B[block] and not again:
                continue
            start = self.facts.data_start + int(block) * BLOCK_BYTES
            if block >= len(crcs) or zlib.crc32(self._bytes[start : start + BLOCK_BYTES].data) != crcs[block]:
                yield int(block)
            else:
                with self._lock:
                    self._checked_B[block] = True

    def _blocks_of(self, place_M: np.ndarray | None) -> np.ndarray:
        if place_M is None:
            return np.flatnonzero(~self._checked_B)
        first_M = place_M * self.facts.row_bytes // BLOCK_BYTES
        last_M = ((place_M + 1) * self.facts.row_bytes - 1) // BLOCK_BYTES
        needed_B = np.zeros(len(self._checked_B) + 1, np.int64)  # +1 where a row's span begins, -1 after it
        np.add.at(needed_B, first_M, 1)
        np.add.at(needed_B, last_M + 1, -1)
        return np.flatnonzero((np.cumsum(needed_B)[:-1] > 0) & ~self._checked_B)

    def places_in(self, block: int) -> slice:
        """Which rows have bytes in *block*."""
        first = block * BLOCK_BYTES // self.facts.row_bytes
        return slice(first, -(-(block + 1) * BLOCK_BYTES // self.facts.row_bytes))

    def take(self, place_M: np.ndarray) -> np.ndarray:
        """Copies of these rows, checked."""
        self.check(place_M)
        return self.unchecked_ND[place_M]

    def copy_to(self, folder: Path) -> None:
        """Write the same file to *folder*, synced, also where this one was deleted meanwhile; all of it is checked."""
        self.check()
        with (folder / self.facts.name).open("wb") as file:
            for start in range(0, len(self._bytes), BLOCK_BYTES):
                file.write(self._bytes[start : start + BLOCK_BYTES].data)
            file.flush()
            os.fsync(file.fileno())


ADVICE = "`landseer index verify` names the photos concerned"
