"""What is kept of each photo to find its copies: size, checksum and perceptual hash; made once, resumable.

Every photo is read and decoded once, so the checksum of all of them costs no second reading.  A photo is known by its
place and by the size and time of its file (of a tar, the tar's): a changed file is read again.  What was read is kept
in a folder of shards, each an artifact, whole or absent.  In memory a photo takes about 100 bytes.

Axes: N photos.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landseer.matching.describe import cores
from landseer.photos import UnreadablePhoto, read_bytes, size_of
from landseer.photos.hashes import perceptual_hash
from landseer.photos.threads import map_in_order
from landseer.storage.artifact import open_artifact, read_array, verify, writing

KIND = "signatures"
_VERSION = {"hash": "sign of DCT, 32 x 32, 8 x 8", "checksum": "sha256, 16 bytes"}
_TABLE, _PREFIX = "table.npy", "shard-"
_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("bytes", "<u8"),
        ("checksum", "V16"),
        ("hash", "<u8"),
        ("hashed", "?"),
        ("width", "<u4"),
        ("height", "<u4"),
    ]
)
Place = tuple[Path, str]
"""Root, and path below it."""
Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Signatures:
    """Of each photo what is kept; zeros where it cannot be read.

    ``bytes_N`` and ``pixels_N`` int64; ``checksum_N`` the first 16 bytes of the sha256 (numpy ``V16``); ``hash_N``
    uint64, meaningless where ``hashed_N`` is false: there the photo shows too little to have one.  ``unreadable``:
    position -> reason.
    """

    bytes_N: np.ndarray
    checksum_N: np.ndarray
    hash_N: np.ndarray
    hashed_N: np.ndarray
    pixels_N: np.ndarray
    unreadable: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.bytes_N)


def read_signatures(
    places: Sequence[Place],
    *,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    commit_every: int = 4096,
) -> Signatures:
    """The signatures of the photos at *places*.

    With a *folder* those read before are taken from there; killed at any moment, the same call goes on after the last
    shard of *commit_every* photos.  Photos that cannot be read are tried again by a later call.  *progress* is called
    with (photos done, photos in all).  Raises ``ValueError`` where no photo at all can be read, where *folder* cannot
    be written, and where another process adds to it.
    """
    keys_N = np.fromiter((_key(*place) for place in places), np.uint64, count=len(places))
    table_N = np.zeros(len(places), _ROW)
    unreadable: dict[int, str] = {}
    with _held(folder):
        known_N = _fill(table_N, keys_N, folder)
        missing = np.flatnonzero(~known_N)
        done = len(places) - len(missing)
        threads = cores() if workers is None else workers
        fresh: list[int] = []
        if progress:
            progress(done, len(places))
        tasks = (places[n] for n in missing.tolist())
        with closing(map_in_order(_signature, tasks, threads=threads, ahead=4 * threads)) as results:
            for n, found in zip(missing.tolist(), results, strict=True):
                done += 1
                if isinstance(found, str):
                    unreadable[n] = found
                else:
                    table_N[n] = (keys_N[n], *found)
                    fresh.append(n)
                if len(fresh) == commit_every:
                    _commit(folder, table_N[fresh])
                    fresh = []
                if progress:
                    progress(done, len(places))
        if fresh:
            _commit(folder, table_N[fresh])
    if places and len(unreadable) == len(places):
        raise ValueError(
            f"none of {len(places)} photos could be read (the first, {places[0][1]!r}: {unreadable[0]}); "
            f"do the photos still lie in {places[0][0]}?"
        )
    return Signatures(
        bytes_N=table_N["bytes"].astype(np.int64),
        checksum_N=table_N["checksum"].copy(),
        hash_N=table_N["hash"].copy(),
        hashed_N=table_N["hashed"].copy(),
        pixels_N=table_N["width"].astype(np.int64) * table_N["height"],
        unreadable=unreadable,
    )


def _signature(place: Place) -> tuple[int, bytes, int, bool, int, int] | str:
    """Bytes, checksum, hash, whether it has one, width and height; the reason where it cannot be read."""
    try:
        data = read_bytes(*place)
        hashed = perceptual_hash(data)
        width, height = size_of(data)
    except UnreadablePhoto as error:
        return error.reason
    checksum = hashlib.sha256(data).digest()[:16]
    return len(data), checksum, hashed or 0, hashed is not None, width, height


def _key(root: Path, path: str) -> int:
    """Eight bytes that stand for a photo and the state of its file."""
    shard, separator, _ = path.partition(".tar::")
    file = root / (f"{shard}.tar" if separator else path)
    try:
        info = file.stat()
        stamp = f"{info.st_size} {info.st_mtime_ns}"
    except (OSError, ValueError):  # read_bytes says why it cannot be read
        stamp = "-"
    text = f"{root.absolute()}\0{path}\0{stamp}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@contextmanager
def _held(folder: Path | None) -> Iterator[None]:
    """The right to add to *folder*, for this process alone."""
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made ({error.strerror}); choose another --out") from None
    handle = os.open(folder, os.O_RDONLY)  # a lock on it ends with the process, however that ends
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is checking into {folder.parent}; wait for it") from None
        yield
    finally:
        os.close(handle)


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"))


def _fill(table_N: np.ndarray, keys_N: np.ndarray, folder: Path | None) -> np.ndarray:
    """Put the rows that are in *folder* into the table; says which they are."""
    known_N = np.zeros(len(keys_N), np.bool_)
    order = np.argsort(keys_N)
    sorted_keys = keys_N[order]
    for shard in () if folder is None else _shards(folder):
        try:
            manifest = open_artifact(shard, KIND)
            verify(shard, manifest, _TABLE)
            rows = read_array(shard / _TABLE)
        except ValueError as error:
            logger.warning("%s; its photos are read again", error)
            continue
        if manifest.made_by["version"] != _VERSION:
            continue
        left = np.searchsorted(sorted_keys, rows["key"], side="left")
        right = np.searchsorted(sorted_keys, rows["key"], side="right")
        once = right == left + 1
        table_N[order[left[once]]] = rows[once]
        known_N[order[left[once]]] = True
        for row in np.flatnonzero(right > left + 1):  # a photo that stands in two collections
            where = order[left[row] : right[row]]
            table_N[where] = rows[row]
            known_N[where] = True
    return known_N


def _commit(folder: Path | None, rows: np.ndarray) -> None:
    if folder is None:
        return
    numbers = [int(shard.name.removeprefix(_PREFIX)) for shard in _shards(folder)]
    path = folder / f"{_PREFIX}{max([-1, *numbers]) + 1:08d}"
    with writing(path, KIND, made_by={"version": _VERSION}) as part:
        np.save(part / _TABLE, rows, allow_pickle=False)
