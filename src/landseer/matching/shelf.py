"""Local features on disk: a folder of shards, each an artifact of some hundred photos, whole or absent.

Photos are added and never changed, so one shelf serves every version of a collection: a photo is known by its id and
path.  A shard holds ``table.npy`` (a row a photo) and ``points.bin`` (their small forms, one after another); its
manifest has the sha256 of both.  When a shelf is opened the tables are checked, and every photo's bytes carry a CRC-32
that is checked whenever they are read.  What is damaged counts as absent and is described again into another shard; the
damaged one stays where it is.

In memory a shelf holds 48 bytes a photo (200 MB for four million), and half as much again while photos are added.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from landseer.matching.features import Extractor, LocalFeatures, bytes_a_point, unpacked
from landseer.storage.artifact import fingerprint_of, open_artifact, read_array, verify, writing

KIND = "local features"
_TABLE, _POINTS = "table.npy", "points.bin"
_PREFIX = "shard-"
_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<u8"),
        ("points", "<u4"),
        ("crc", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
    ]
)
_Place = tuple[int, int]
"""Number of a shard, row in it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo by what it is called and where it lies below its collection's root."""

    id: str
    path: str

    @property
    def key(self) -> int:
        """Eight bytes that stand for it; among four million photos two agree in one case of two million."""
        text = f"{self.id}\0{self.path}".encode("utf-8", "surrogateescape")
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class Shelf:
    """The features made by one extractor, in the folder *path*, which appears with the first shard.

    Raises ``ValueError`` where the folder holds features of other settings.  Reading is safe among threads, also
    while one of them adds.
    """

    def __init__(self, path: Path, extractor: Extractor) -> None:
        self.path = path
        self.settings = dict(extractor.settings)
        self.fingerprint = fingerprint_of(KIND, self.settings)
        self._dim, self._dtype = extractor.dim, np.dtype(extractor.dtype)
        self._lock = threading.Lock()
        self._tables: dict[int, np.ndarray] = {}
        self._keys = np.empty(0, np.uint64)
        self._places = np.empty((0, 2), np.uint32)
        self._lately: dict[int, _Place] = {}
        self._damaged: set[int] = set()
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is not a folder; local features need one of their own")
        self._open()

    def __len__(self) -> int:
        """Photos that have features here."""
        with self._lock:
            self._sort()
            return len(np.unique(self._keys)) - len(self._damaged)

    def missing(self, photos: Sequence[Photo]) -> list[int]:
        """Positions of the photos that have no features here, rising."""
        return [n for n, photo in enumerate(photos) if self._place_of(photo.key) is None]

    def read(self, photo: Photo) -> LocalFeatures | None:
        """The features of a photo; None where there are none, or they are damaged."""
        place = self._place_of(photo.key)
        if place is None:
            return None
        row = self._tables[place[0]][place[1]]
        num, start = int(row["points"]), int(row["offset"])
        file = self._shard(place[0]) / _POINTS
        try:
            small = _part_of(file, start, num * bytes_a_point(self._dim))
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror})") from None
        if zlib.crc32(small) != row["crc"]:
            logger.warning("the features of photo %r in %s are damaged; they are made again", photo.id, file)
            with self._lock:
                self._damaged.add(photo.key)
            return None
        size = (int(row["width"]), int(row["height"]))
        return unpacked(small, num=num, dim=self._dim, dtype=self._dtype, size=size)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The right to add, for this process alone.  Raises ``ValueError`` where another process has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{self.path} cannot be made ({error.strerror}); choose another folder"
            ) from None
        handle = os.open(self.path, os.O_RDONLY)  # a lock on it ends with the process, however that ends
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is adding features to {self.path}; wait for it or choose another folder"
                ) from None
            self._open()  # what another process added until now
            yield
        finally:
            os.close(handle)

    def add(self, made: Mapping[Photo, LocalFeatures]) -> None:
        """Keep the features of these photos as one shard; once this returns they survive a kill.

        To be called within ``held``.
        """
        table = np.zeros(len(made), _ROW)
        offset, parts = 0, []
        for row, (photo, features) in zip(table, made.items(), strict=True):
            small = features.packed()
            row["key"], row["offset"], row["points"] = photo.key, offset, len(features)
            row["crc"], (row["width"], row["height"]) = zlib.crc32(small), features.size
            offset += len(small)
            parts.append(small)
        number = max([-1, *self._numbers()]) + 1  # a damaged shard keeps its number: nothing is deleted here
        made_by = {"settings": self.settings}
        with writing(self._shard(number), KIND, made_by=made_by) as folder:
            np.save(folder / _TABLE, table, allow_pickle=False)
            with (folder / _POINTS).open("wb") as file:
                file.writelines(parts)
        with self._lock:
            self._admit(number, table)

    def _shard(self, number: int) -> Path:
        return self.path / f"{_PREFIX}{number:08d}"

    def _numbers(self) -> list[int]:
        """Of the shards in the folder, whole or damaged, rising."""
        names = (shard.name.removeprefix(_PREFIX) for shard in self.path.glob(f"{_PREFIX}*"))
        return sorted(int(name) for name in names if name.isdigit()) if self.path.is_dir() else []

    def _open(self) -> None:
        """Take in the shards that are not known yet."""
        with self._lock:
            for number in self._numbers():
                if number not in self._tables:
                    table = self._checked(self._shard(number))
                    if table is not None:
                        self._admit(number, table)
            self._sort()

    def _checked(self, shard: Path) -> np.ndarray | None:
        """A shard's table; None where it is damaged.  Raises ``ValueError`` where it is of other settings."""
        try:
            manifest = open_artifact(shard, KIND)
            verify(shard, manifest, _TABLE)
            table = read_array(shard / _TABLE)
        except ValueError as error:
            logger.warning("%s; its photos are described again", error)
            return None
        other = _difference(manifest.made_by["settings"], self.settings)
        if other:
            raise ValueError(f"{self.path} holds features of other settings ({other}); choose another folder")
        return table

    def _admit(self, number: int, table: np.ndarray) -> None:
        self._tables[number] = table
        for position, key in enumerate(table["key"].tolist()):
            self._lately[key] = (number, position)
            self._damaged.discard(key)
        if len(self._lately) > len(self._keys) // 8 + 65536:  # a few dozen times up to millions of photos
            self._sort()

    def _sort(self) -> None:
        """Move what came lately into the sorted tables; of two places of a photo the later shard's stands last."""
        if self._lately:
            keys = np.fromiter(self._lately, np.uint64, count=len(self._lately))
            places = np.array(list(self._lately.values()), np.uint32)
            self._keys = np.concatenate([self._keys, keys])
            self._places = np.concatenate([self._places, places])
            order = np.argsort(self._keys, kind="stable")
            self._keys, self._places = self._keys[order], self._places[order]
            self._lately = {}

    def _place_of(self, key: int) -> _Place | None:
        with self._lock:
            if key in self._damaged:
                return None
            if key in self._lately:
                return self._lately[key]
            keys, places = self._keys, self._places
        at = int(np.searchsorted(keys, np.uint64(key), side="right")) - 1
        if at < 0 or keys[at] != key:
            return None
        return int(places[at, 0]), int(places[at, 1])


def _part_of(file: Path, start: int, length: int) -> bytes:
    """Bytes of a file; fewer where it is shorter."""
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(handle, length, start)
    finally:
        os.close(handle)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first setting in which two differ, as ``name: theirs, not ours``; empty where none does."""
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            return f"{name}: {theirs.get(name)}, not {ours.get(name)}"
    return ""
