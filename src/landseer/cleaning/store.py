"""Inliers of pairs of photos on disk, kept as they are found.

A folder of shards, each an artifact with a table of (key of the pair, inliers).  A pair's key follows from the ids and
paths of its photos, whichever comes first, so versions of a collection share one folder.  Keys have 64 bits: among two
hundred million pairs two agree once in a thousand collections.  In memory a known pair takes 10 bytes.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from landseer.storage.artifact import fingerprint_of, open_artifact, read_array, verify, writing

KIND = "inliers"
MOST_INLIERS = 65535
_TABLE, _PREFIX = "table.npy", "shard-"
_ROW = np.dtype([("key", "<u8"), ("inliers", "<u2")])

logger = logging.getLogger(__name__)


class PairStore:
    """Inliers found under one way of matching, in a folder of its own below *folder*; without one in memory alone.

    *settings* are all that decides the inliers.  At most *commit_every* pairs are lost when the process is killed.
    """

    def __init__(
        self, folder: Path | None, settings: Mapping[str, Any], *, commit_every: int = 16384
    ) -> None:
        if commit_every < 1:
            raise ValueError(f"commit_every: must be at least 1, not {commit_every}")
        self.settings = dict(settings)
        name = f"inliers-{fingerprint_of(KIND, self.settings)}"
        self.path = None if folder is None else folder / name
        self._commit_every = commit_every
        self._fresh: list[np.ndarray] = []
        self._keys, self._inliers = np.empty(0, np.uint64), np.empty(0, np.uint16)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Read what is there and let nobody else add; on the way out keep what was added, whatever the reason.

        Raises ``ValueError`` where another process adds, and where the folder cannot be written.
        """
        if self.path is None:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{self.path} cannot be made ({error.strerror}); choose another folder"
            ) from None
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is adding pairs to {self.path}; wait for it or choose another folder"
                ) from None
            self._open()
            try:
                yield
            finally:
                self._commit()
        finally:
            os.close(handle)

    def known(self, keys_P: np.ndarray) -> np.ndarray:
        """Inliers of each pair, int64, -1 where they were not known when the store was opened."""
        if not len(self._keys):
            return np.full(len(keys_P), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys_P), len(self._keys) - 1)
        return np.where(self._keys[at] == keys_P, self._inliers[at].astype(np.int64), -1)

    def add(self, keys_P: np.ndarray, inliers_P: np.ndarray) -> None:
        """Keep these pairs; to be called within ``held``."""
        if self.path is None:
            return
        table = np.empty(len(keys_P), _ROW)
        table["key"], table["inliers"] = keys_P, np.minimum(inliers_P, MOST_INLIERS)
        self._fresh.append(table)
        if sum(map(len, self._fresh)) >= self._commit_every:
            self._commit()

    def _commit(self) -> None:
        table = np.concatenate([np.empty(0, _ROW), *self._fresh])
        if self.path is None or not len(table):
            return
        number = max([-1, *self._numbers()]) + 1  # a damaged shard keeps its number
        with writing(self.path / f"{_PREFIX}{number:08d}", KIND, made_by=self.settings) as part:
            np.save(part / _TABLE, table, allow_pickle=False)
        self._fresh = []

    def _numbers(self) -> list[int]:
        assert self.path is not None
        names = [shard.name.removeprefix(_PREFIX) for shard in self.path.glob(f"{_PREFIX}*")]
        return sorted(int(name) for name in names if name.isdigit())

    def _open(self) -> None:
        tables = [np.empty(0, _ROW)]
        assert self.path is not None
        for number in self._numbers():
            shard = self.path / f"{_PREFIX}{number:08d}"
            try:
                verify(shard, open_artifact(shard, KIND))
                tables.append(read_array(shard / _TABLE))
            except ValueError as error:
                logger.warning("%s; its pairs are matched again", error)
        table = np.concatenate(tables)
        order = np.argsort(table["key"], kind="stable")
        self._keys, self._inliers = table["key"][order], table["inliers"][order]


def pair_keys(key_a_P: np.ndarray, key_b_P: np.ndarray) -> np.ndarray:
    """One uint64 a pair of photos' keys (uint64), the same for both orders; splitmix64 over the two."""
    low, high = np.minimum(key_a_P, key_b_P), np.maximum(key_a_P, key_b_P)
    return _mixed(_mixed(low) + high)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection of 64 bits in which each depends on all."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return found
