"""Bytes of a photo: a loose file, or a member of a tar read in place.

A path is relative to the collection's root; ``shard.tar::member`` names a member.  Each process keeps, for
the tars it has read, where every member starts: 24 bytes a member, 100 MB for four million photos.
"""

from __future__ import annotations

import os
import stat
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from landseer.photos.formats import UnreadablePhoto

MAX_FILE_BYTES: Final = 1 << 30
"""Largest file that is read; the largest admitted picture, uncompressed, stays below it."""

MAX_INDEXED_MEMBERS: Final = 8_000_000
"""Members remembered over all tars of a process (192 MB); the tars read longest ago are forgotten first."""

_SEPARATOR: Final = ".tar::"


def read_bytes(root: Path, path: str, *, at_most: int | None = None) -> bytes:
    """The bytes of the photo *path* below *root*: all, or *at_most* so many from its start.

    Raises ``UnreadablePhoto`` ("missing", "a folder", "no permission", "truncated" ...), and ``ValueError``
    where *path* is absolute or leaves *root* by "..".  Links inside *root* are followed.
    """
    shard, separator, member = path.partition(_SEPARATOR)
    if not separator:
        return _read(_below(root, path), offset=0, length=None, at_most=at_most)
    tar = _below(root, f"{shard}.tar")
    offset, length = _positions.find(tar, member)
    return _read(tar, offset=offset, length=length, at_most=at_most)


def list_members(tar: Path) -> list[str]:
    """Names of all files in *tar*, in its order.  Raises ``ValueError`` where it is not a plain tar."""
    try:
        return [name for name, _, _ in _scan(tar)]
    except UnreadablePhoto as error:
        raise ValueError(f"{tar}: {error.reason}; photos are read from plain tar files in place") from error


def _below(root: Path, path: str) -> Path:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"photo path {path!r} leaves its root; give paths relative to {root}")
    return root / pure


def _read(path: Path, *, offset: int, length: int | None, at_most: int | None) -> bytes:
    """*length* bytes from *offset*, or the whole file where *length* is None; of these the first *at_most*."""
    try:
        # not blocking: a named pipe would wait for a writer for ever
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _why_unopened(error) from error
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise UnreadablePhoto("a folder" if stat.S_ISDIR(info.st_mode) else "not a file")
        wanted = info.st_size if length is None else length
        if wanted > MAX_FILE_BYTES:
            raise UnreadablePhoto(f"too large: {wanted / (1 << 30):.1f} GiB")
        wanted = wanted if at_most is None else min(wanted, at_most)
        data = _read_at(handle, offset, wanted)
    except OSError as error:
        raise UnreadablePhoto("read error") from error
    finally:
        os.close(handle)
    if len(data) < wanted:
        raise UnreadablePhoto("truncated")
    return data


def _read_at(handle: int, offset: int, wanted: int) -> bytes:
    data = os.pread(handle, wanted, offset)
    while 0 < len(data) < wanted:  # network file systems may return less than was asked for
        more = os.pread(handle, wanted - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _why_unopened(error: OSError) -> UnreadablePhoto:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UnreadablePhoto("missing")
    if isinstance(error, PermissionError):
        return UnreadablePhoto("no permission")
    if isinstance(error, IsADirectoryError):
        return UnreadablePhoto("a folder")
    return UnreadablePhoto("read error")


def _scan(tar: Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset of the bytes, their number) of every file in *tar*."""
    try:
        with tarfile.open(tar, "r:") as archive:
            while True:
                try:
                    entry = archive.next()
                except tarfile.ReadError:  # cut off in the middle: what stands before the cut is whole
                    return
                if entry is None:
                    return
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every entry
                if entry.isreg() and not entry.issparse():
                    yield entry.name, entry.offset_data, entry.size
    except tarfile.ReadError as error:
        raise UnreadablePhoto("not a plain tar") from error
    except OSError as error:
        raise _why_unopened(error) from error


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class _Members:
    """Where the members of one tar lie, sorted by the hash of their names; M members."""

    keys_M: np.ndarray
    offset_M: np.ndarray
    length_M: np.ndarray
    stamp: tuple[int, int]

    @classmethod
    def of(cls, tar: Path, stamp: tuple[int, int]) -> _Members:
        # a name that occurs twice means its last bytes, as in every tar program
        found = {_key(name): (offset, length) for name, offset, length in _scan(tar)}
        keys = np.fromiter(found, dtype=np.uint64, count=len(found))
        table = np.array(list(found.values()), dtype=np.int64).reshape(-1, 2)
        order = np.argsort(keys)
        return cls(keys[order], table[order, 0].copy(), table[order, 1].copy(), stamp)

    def find(self, name: str) -> tuple[int, int]:
        key = np.uint64(_key(name))
        at = int(np.searchsorted(self.keys_M, key))
        if at == len(self.keys_M) or self.keys_M[at] != key:
            raise UnreadablePhoto("missing")
        return int(self.offset_M[at]), int(self.length_M[at])


class _Positions:
    """The members of the tars read lately, at most *max_members* in all; safe among threads."""

    def __init__(self, max_members: int) -> None:
        self._max_members = max_members
        self._tars: OrderedDict[Path, _Members] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, tar: Path, name: str) -> tuple[int, int]:
        try:
            info = tar.stat()
        except OSError as error:
            raise _why_unopened(error) from error
        stamp = (info.st_mtime_ns, info.st_size)
        with self._lock:
            members = self._tars.get(tar)
            if members is None or members.stamp != stamp:
                members = self._tars[tar] = _Members.of(tar, stamp)
                self._forget()
            self._tars.move_to_end(tar)
        return members.find(name)

    def _forget(self) -> None:
        total = sum(len(members.keys_M) for members in self._tars.values())
        while total > self._max_members and len(self._tars) > 1:
            _, oldest = self._tars.popitem(last=False)
            total -= len(oldest.keys_M)


_positions = _Positions(MAX_INDEXED_MEMBERS)
