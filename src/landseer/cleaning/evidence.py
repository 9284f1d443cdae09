"""Who of a photo's label shows the same points: pairs verified in rounds, landmark by landmark, each pair once.

The rule of Yokoo et al. 2020: a photo is proven by ``least_neighbours`` of its listed neighbours that share enough
inliers with it.  Only a photo's own list counts, but a pair that stands in two lists is verified once, since inliers
are the same from both sides.  A photo is left alone as soon as it is proven, or can no longer be: in every round each
open photo asks for just as many pairs as it still lacks, so none is verified in vain.

Neighbours share a label, so landmarks are worked on one after another, some thousand photos at a time; memory does not
grow with the collection but for what is returned.  What is asked for depends on the answers alone, not on what is known
already: stopped and resumed work gives the same result to the bit.

Axes: N photos, E edges (a photo, one of its neighbours), P pairs (two photos, in any order), F best neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from landseer.cleaning.neighbours import Neighbours
from landseer.cleaning.store import PairStore, pair_keys

VerifyPairs = Callable[[Sequence[tuple[str, str]]], tuple[np.ndarray, np.ndarray]]
"""Pairs of ids -> inliers of each, and whether that may be kept: false where a photo could not be read."""
Watch = Callable[[int, int, int, int], None]
"""Told photos decided, photos in all, pairs verified, and pairs that so many photos would have without early exit."""
NUM_BEST = 10
"""Neighbours with most inliers that are remembered of each photo, for other thresholds and for its page."""
_PHOTOS_AT_ONCE = 4096
_PAIRS_AT_ONCE = 8192
"""So many pairs are verified between two looks at the clock and the store."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inliers:
    """The neighbours of each photo with most inliers, most first; equal ones: the nearer.

    ``best_NF`` int32, 0 where there is none; ``position_NF`` int32, -1 there.  ``possible`` pairs stand in the lists,
    ``listed`` of them counted once from each side that lists them; ``verified`` were matched now, ``known`` before.
    """

    best_NF: np.ndarray
    position_NF: np.ndarray
    listed: int
    possible: int
    verified: int
    known: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """The photos, and how two of them are compared.  ``key_N`` uint64 stands for each photo in the store."""

    ids: Sequence[str]
    label_N: np.ndarray
    key_N: np.ndarray
    verify_pairs: VerifyPairs
    store: PairStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When a photo is proven: so many ``neighbours`` with so many ``inliers``; ``every_pair``: go on all the same."""

    neighbours: int
    inliers: int
    every_pair: bool = False


def gather(
    neighbours: Neighbours,
    photos: Compared,
    goal: Goal,
    *,
    asked_N: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Inliers:
    """Verify as many pairs as it takes to prove the photos *asked_N* (bool, default: all), or to give them up."""
    num = len(photos.label_N)
    asked_N = np.ones(num, bool) if asked_N is None else asked_N
    num_best = max(NUM_BEST, goal.neighbours)
    best_NF = np.zeros((num, num_best), np.int32)
    position_NF = np.full((num, num_best), -1, np.int32)
    done = listed = possible = 0
    with photos.store.held():
        desk = _Desk(photos)
        for photos_B in _batches(photos.label_N):
            batch = _Batch(photos_B, neighbours, asked_N, goal)
            listed, possible = listed + len(batch.neighbour_E), possible + len(batch.photos_P2)
            for wanted in batch.rounds():
                for start in range(0, len(wanted), _PAIRS_AT_ONCE):
                    pairs = wanted[start : start + _PAIRS_AT_ONCE]
                    batch.inliers_P[pairs] = desk.inliers(batch.photos_P2[pairs])
                    if watch:
                        watch(done + batch.decided(), num, desk.verified, possible)
            best_NF[photos_B], position_NF[photos_B] = batch.best(num_best)
            done += len(photos_B)
    if watch:
        watch(done, num, desk.verified, possible)
    return Inliers(
        best_NF=best_NF,
        position_NF=position_NF,
        listed=listed,
        possible=possible,
        verified=desk.verified,
        known=desk.known,
    )


def _batches(label_N: np.ndarray) -> Iterator[np.ndarray]:
    """Photos by label, whole labels at a time; those without one come last, in pieces."""
    order = np.argsort(np.where(label_N < 0, np.iinfo(np.int64).max, label_N), kind="stable")
    labels = label_N[order]
    ends = np.flatnonzero((labels[1:] != labels[:-1]) | (labels[1:] < 0)) + 1
    start = 0
    while start < len(order):
        after = np.searchsorted(ends, start + _PHOTOS_AT_ONCE)
        stop = int(ends[after]) if after < len(ends) else len(order)
        yield order[start:stop]
        start = stop


class _Desk:
    """Answers how many inliers pairs have: from the store, or by verifying them."""

    def __init__(self, photos: Compared) -> None:
        self._photos = photos
        self.verified = self.known = 0

    def inliers(self, photos_P2: np.ndarray) -> np.ndarray:
        photos = self._photos
        keys_P = pair_keys(photos.key_N[photos_P2[:, 0]], photos.key_N[photos_P2[:, 1]])
        inliers_P = photos.store.known(keys_P)
        new = np.flatnonzero(inliers_P < 0)
        if len(new):
            pairs = [(photos.ids[a], photos.ids[b]) for a, b in photos_P2[new].tolist()]
            inliers_P[new], lasting = photos.verify_pairs(pairs)
            photos.store.add(keys_P[new][lasting], inliers_P[new][lasting])
        self.verified += len(new)
        self.known += len(inliers_P) - len(new)
        return inliers_P


class _Batch:
    """Some labels' photos, their edges and pairs, and what is known of these so far (-1: nothing yet)."""

    def __init__(self, photos_B: np.ndarray, neighbours: Neighbours, asked_N: np.ndarray, goal: Goal) -> None:
        counts_B = neighbours.offsets_N1[photos_B + 1] - neighbours.offsets_N1[photos_B]
        self.photo_E = np.repeat(np.arange(len(photos_B)), counts_B)
        """Row in the batch; the edges of a photo stand together, nearest first."""
        lists = [neighbours.of(photo) for photo in photos_B]
        self.neighbour_E = np.concatenate([np.empty(0, np.int32), *lists])
        own_E = photos_B[self.photo_E]
        low_E, high_E = np.minimum(own_E, self.neighbour_E), np.maximum(own_E, self.neighbour_E)
        number_E = low_E.astype(np.int64) * len(asked_N) + high_E
        number_P, self.pair_E = np.unique(number_E, return_inverse=True)
        self.photos_P2 = np.stack(np.divmod(number_P, len(asked_N)), axis=1)
        self.inliers_P = np.full(len(number_P), -1, np.int64)
        self._asked_B, self._goal, self._size = asked_N[photos_B], goal, len(photos_B)

    def rounds(self) -> Iterator[np.ndarray]:
        """The pairs to verify next, until every photo is decided."""
        while True:
            inliers_E = self.inliers_P[self.pair_E]
            found_B, open_E = self._counts(inliers_E)
            lacking_B = np.where(self._undecided(found_B, open_E), self._goal.neighbours - found_B, 0)
            if self._goal.every_pair:
                lacking_B = np.where(self._asked_B, len(self.pair_E), 0)
            wanted = np.unique(self.pair_E[open_E & (self._place_among(open_E) < lacking_B[self.photo_E])])
            if not len(wanted):
                return
            yield wanted

    def decided(self) -> int:
        """How many photos are proven or given up."""
        found_B, open_E = self._counts(self.inliers_P[self.pair_E])
        return self._size - int(self._undecided(found_B, open_E).sum())

    def _counts(self, inliers_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours that prove each photo, and the edges not verified yet."""
        proving_E = inliers_E >= self._goal.inliers
        return np.bincount(self.photo_E[proving_E], minlength=self._size), inliers_E < 0

    def _undecided(self, found_B: np.ndarray, open_E: np.ndarray) -> np.ndarray:
        left_B = np.bincount(self.photo_E[open_E], minlength=self._size)
        need = self._goal.neighbours
        open_B = (found_B < need) & (found_B + left_B >= need)
        if self._goal.every_pair:
            open_B = left_B > 0
        undecided: np.ndarray = self._asked_B & open_B
        return undecided

    def _place_among(self, open_E: np.ndarray) -> np.ndarray:
        """How many open edges of the same photo come before each."""
        before_E = np.cumsum(open_E) - open_E
        first_E = np.flatnonzero(np.r_[True, self.photo_E[1:] != self.photo_E[:-1]][: len(self.photo_E)])
        start_B = np.zeros(self._size, np.int64)
        start_B[self.photo_E[first_E]] = before_E[first_E]
        place_E: np.ndarray = before_E - start_B[self.photo_E]
        return place_E

    def best(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Inliers and positions of the *num* neighbours of each photo with most."""
        inliers_E = np.maximum(self.inliers_P[self.pair_E], 0)
        order = np.lexsort((np.arange(len(inliers_E)), -inliers_E, self.photo_E))
        photo_E = self.photo_E[order]
        starts_B = np.searchsorted(photo_E, np.arange(self._size))
        place_E = np.arange(len(order)) - starts_B[photo_E]
        kept = (place_E < num) & (inliers_E[order] > 0)
        best_BF = np.zeros((self._size, num), np.int32)
        position_BF = np.full((self._size, num), -1, np.int32)
        best_BF[photo_E[kept], place_E[kept]] = inliers_E[order][kept]
        position_BF[photo_E[kept], place_E[kept]] = self.neighbour_E[order][kept]
        return best_BF, position_BF
