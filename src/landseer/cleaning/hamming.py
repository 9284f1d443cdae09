"""All pairs of 64-bit hashes that differ in at most so many bits: exact, by sorting.

The bits are cut into m blocks.  Two hashes that differ in at most r bits differ in at most r blocks, so they agree in
some m - r of them.  For each choice of m - r blocks the hashes are sorted with those blocks in front: whoever agrees in
them now stands together, and only these are compared (after Manku, Jain and Das Sarma 2007, who look up one query at a
time).  m is chosen so that few stand together and few sorts are needed.

A pair that agrees in more blocks would be met in many sorts.  It is told of in one: there, of the blocks left out,
those in which it agrees all stand before every chosen one.

Mirroring a photo turns fixed bits of its hash (``landseer.photos.hashes.MIRROR``).  So that mirrored pairs meet in the
same sorts, each hash is turned, in each sort, to that of its two forms whose first such bit is 0.

Axes: N hashes, P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from landseer.matching.describe import cores
from landseer.photos.hashes import MIRROR
from landseer.photos.threads import map_in_order

Progress = Callable[[int, int], None]

HASH_BITS = 64
MOST_RADIUS = 8
"""The number of sorts grows steeply: for ten million hashes about 80 at a radius of 6, 500 at 8."""
_AT_ONCE = 1 << 18
"""Hashes that are compared with their neighbours at a time; their arrays stay in the processor's cache."""
_SORT_COST, _PAIR_COST = 10.0, 12.0
"""Nanoseconds to sort a hash, by the logarithm of their number's tenth, and to compare a pair; measured, roughly."""
_FIRST = 1 << 1
"""The lowest bit that mirroring turns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NearPairs:
    """Pairs of positions, ``first_P < second_P`` (int64), and in how many bits they differ (``distance_P``, uint8).

    ``mirrored_P`` says which of them do so once one is mirrored.  Ordered by first, second, mirrored.
    """

    first_P: np.ndarray
    second_P: np.ndarray
    distance_P: np.ndarray
    mirrored_P: np.ndarray

    def __len__(self) -> int:
        return len(self.first_P)


@dataclass(frozen=True, kw_only=True)
class _Sort:
    """One choice of blocks: how bits move so that the chosen stand in front, and which pairs are told of here."""

    moves: tuple[tuple[int, int, int], ...]
    """Of each block: lowest bit before, lowest bit after, mask of so many ones."""
    rest_bits: int
    """Bits of the blocks that were not chosen."""
    must_differ: tuple[int, ...]
    """Masks, after the move, of the blocks left out that stand behind a chosen one."""


def canonical(hash_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each hash (uint64) that of its two mirror forms which has bit 1 at 0, and whether it was turned for that."""
    turned_N = (hash_N & np.uint64(_FIRST)) != 0
    return np.where(turned_N, hash_N ^ np.uint64(MIRROR), hash_N), turned_N


def near_pairs(
    hash_N: np.ndarray,
    radius: int,
    *,
    mirrored: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NearPairs:
    """All pairs of *hash_N* (uint64, strictly rising) that differ in at most *radius* bits.

    With *mirrored* also those that do once one of them is mirrored; the hashes must be ``canonical`` then, and a pair
    near in both ways is there twice.  Memory: 16 bytes a hash, 8 more for each worker, and the pairs.  *progress* is
    called with (sorts done, sorts in all).  Many hashes that differ in few bits only, all near each other, make many
    pairs; nothing can make that cheap.
    """
    _require(hash_N, radius, mirrored=mirrored)
    sorts = _sorts(_num_blocks(len(hash_N), radius), radius)
    found = []

    def task(sort: _Sort) -> tuple[np.ndarray, np.ndarray]:
        return _near_in(sort, hash_N, radius, mirrored=mirrored)

    threads = min(len(sorts), cores() if workers is None else workers)
    with closing(map_in_order(task, sorts, threads=threads, ahead=threads)) as results:
        for done, pairs in enumerate(results, start=1):
            found.append(pairs)
            if progress:
                progress(done, len(sorts))
    a, b = (np.concatenate([part[side] for part in found]) for side in (0, 1))
    return _told(hash_N, a, b, mirrored=mirrored)


def _require(hash_N: np.ndarray, radius: int, *, mirrored: bool) -> None:
    if not 0 <= radius <= MOST_RADIUS:
        raise ValueError(f"radius: must lie between 0 and {MOST_RADIUS} bits, not {radius}")
    if hash_N.dtype != np.uint64 or np.any(hash_N[1:] <= hash_N[:-1]):
        raise ValueError("hashes must be uint64 and strictly rising; group equal ones before")
    if mirrored and np.any(hash_N & np.uint64(_FIRST)):
        raise ValueError("to find mirrored pairs, hashes must be canonical")


def _num_blocks(num: int, radius: int) -> int:
    """The m of least cost for *num* hashes spread evenly."""

    def cost(blocks: int) -> float:
        pairs = num * num / 2 * 2.0 ** -(HASH_BITS * (blocks - radius) / blocks)
        sorting = _SORT_COST * num * math.log2(num + 2) / 10
        return float(math.comb(blocks, radius) * (sorting + _PAIR_COST * pairs))

    return min(range(radius + 1, 2 * radius + 5), key=cost)


def _sorts(num_blocks: int, radius: int) -> list[_Sort]:
    ends = [round(HASH_BITS * n / num_blocks) for n in range(num_blocks + 1)]
    return [
        _sort_of(ends, set(left_out)) for left_out in combinations(range(num_blocks), min(radius, num_blocks))
    ]


def _sort_of(ends: Sequence[int], left_out: set[int]) -> _Sort:
    chosen = [n for n in range(len(ends) - 1) if n not in left_out]
    moves, masks, top = [], {}, HASH_BITS
    for block in [*chosen, *sorted(left_out)]:
        size = ends[block + 1] - ends[block]
        top -= size
        ones = (1 << size) - 1
        moves.append((ends[block], top, ones))
        masks[block] = ones << top
    return _Sort(
        moves=tuple(moves),
        rest_bits=sum(ends[n + 1] - ends[n] for n in left_out),
        must_differ=tuple(masks[n] for n in sorted(left_out) if n > chosen[0]),
    )


def _near_in(
    sort: _Sort, hash_N: np.ndarray, radius: int, *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Both hashes of each near pair that this sort tells of; with *mirrored* in either form, as they were compared."""
    moved_N = np.empty_like(hash_N)
    mask = _moved(np.array([MIRROR], np.uint64), sort.moves)[0]
    first = np.uint64(1 << (int(mask).bit_length() - 1))
    for part in _parts(len(hash_N)):
        moved = _moved(hash_N[part], sort.moves)
        if mirrored:
            moved ^= np.where(moved & first, mask, np.uint64(0))
        moved_N[part] = moved
    moved_N.sort()
    back = tuple((after, before, ones) for before, after, ones in sort.moves)
    pairs = [(_moved(a, back), _moved(b, back)) for a, b in _neighbours(moved_N, sort, radius)]
    none = np.empty(0, np.uint64)
    return (
        np.concatenate([none, *(a for a, _ in pairs)]),
        np.concatenate([none, *(b for _, b in pairs)]),
    )


def _neighbours(moved_N: np.ndarray, sort: _Sort, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Near pairs among those that stand together in *moved_N* (sorted), part by part."""
    limit = (1 << sort.rest_bits) - 1
    for part in _parts(len(moved_N)):
        at = np.arange(part.start, part.stop)
        step = 0
        while len(at):
            step += 1
            at = at[: np.searchsorted(at, len(moved_N) - step)]  # the others have no such neighbour
            left, right = moved_N[at], moved_N[at + step]
            differ = left ^ right
            together = differ <= limit
            near = together & (np.bitwise_count(differ) <= radius)
            for mask in sort.must_differ:
                near &= (differ & np.uint64(mask)) != 0
            if near.any():
                yield left[near], right[near]
            at = at[together]


def _parts(num: int) -> Iterator[slice]:
    for start in range(0, num, _AT_ONCE):
        yield slice(start, min(start + _AT_ONCE, num))


def _moved(hashes: np.ndarray, moves: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Each block of bits in its new place."""
    moved = np.zeros_like(hashes)
    for before, after, ones in moves:
        moved |= ((hashes >> np.uint64(before)) & np.uint64(ones)) << np.uint64(after)
    return moved


def _told(hash_N: np.ndarray, a_P: np.ndarray, b_P: np.ndarray, *, mirrored: bool) -> NearPairs:
    """Positions for hashes, in order."""
    distance_P = np.bitwise_count(a_P ^ b_P)
    mirrored_P = np.zeros(len(a_P), np.bool_)
    if mirrored:
        (a_P, turned_a), (b_P, turned_b) = canonical(a_P), canonical(b_P)
        mirrored_P = turned_a != turned_b
    at_P2 = np.stack([np.searchsorted(hash_N, a_P), np.searchsorted(hash_N, b_P)], axis=1)
    at_P2.sort(axis=1)
    order = np.lexsort((mirrored_P, at_P2[:, 1], at_P2[:, 0]))
    return NearPairs(
        first_P=at_P2[order, 0],
        second_P=at_P2[order, 1],
        distance_P=distance_P[order],
        mirrored_P=mirrored_P[order],
    )
