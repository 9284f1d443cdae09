"""Copies among photos, three notions kept apart; nothing is ever deleted.

- *bytes*: the files are equal.
- *picture*: the same picture, re-encoded, resized, mirrored, cropped, framed: laid on each other they agree.
- *scene*: another photo of the same view: points agree, the pictures do not.

Who is compared: photos whose perceptual hashes differ in few bits (exact, whatever the number of photos), also
mirrored; and with descriptors the nearest of each, which alone finds crops and scenes.  Two photos are never called the
same because a third looks like both: a cluster is one photo, the one to keep, and those that were compared with it and
found the same.  So a photo may be the same as a member of a cluster and not stand in it.

Axes: N photos of a pool, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np

from landseer.cleaning.hamming import canonical, near_pairs
from landseer.cleaning.pictures import Comparer, Link, Pair
from landseer.cleaning.pool import Pool
from landseer.cleaning.signatures import Signatures
from landseer.matching.describe import in_order, one_thread
from landseer.recipe.check_options import CheckOptions
from landseer.search import build_approximate
from landseer.types import PADDING, Descriptors

Progress = Callable[[str, int, int | None], None]
Kind = Literal["bytes", "picture", "scene"]
_SEVERAL = 16
"""Of photos of one hash so many are compared with every other of it; pictures that differ and share a hash are rare."""
_RECALL = 0.95
"""Of the nearest by descriptor, where an approximate search is quicker."""
_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A photo of a cluster: its row in the pool, and how it is known to be the same as the one to keep."""

    row: int
    same: Kind
    link: Link | None
    """Between the two, or between files equal to the two; None where the files are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A photo to keep, and those that are the same; ``kind`` is the weakest notion by which one of them is."""

    kind: Kind
    kept: int
    members: tuple[Member, ...]
    """All but the kept one, by kind, then by row."""

    @property
    def rows(self) -> tuple[int, ...]:
        """All photos, the kept one first."""
        return (self.kept, *(member.row for member in self.members))


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """What was found among the photos of a pool.

    ``file_N`` int64: the row of the photo that stands for all of equal bytes, itself for most.  ``links`` join such
    rows.  ``copies`` are clusters of kind *bytes* and *picture*, ``scenes`` those of kind *scene*, each of photos of
    the first collection alone, by kept row.  ``compared`` counts the pairs that were looked at.
    """

    file_N: np.ndarray
    links: tuple[Link, ...]
    copies: tuple[Cluster, ...]
    scenes: tuple[Cluster, ...]
    compared: int


def find_duplicates(
    pool: Pool,
    signatures: Signatures,
    comparer: Comparer,
    *,
    options: CheckOptions,
    descriptors: Descriptors | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Find copies in *pool*, whose photos' *signatures* are given row by row.

    *descriptors* are of some or all of its photos, by ids of the pool.  Pairs of photos that are both of other
    collections than the first are not looked at.  *progress* is called with what is being done, how much, and of how
    much.
    """
    order_N = keep_order(pool, signatures)
    file_N = equal_files(signatures, order_N)
    ours_N = pool.source_N == 0

    def tell(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    hashed = _hash_pairs(
        signatures,
        file_N,
        order_N,
        radius=options.radius,
        workers=workers,
        progress=tell("comparing hashes"),
    )
    near = _near_pairs(
        pool, file_N, descriptors, neighbours=options.neighbours, progress=tell("finding neighbours")
    )
    pairs = _pairs(hashed, near, pool.source_N)
    links = _compared(pairs, comparer, workers=workers, progress=tell("comparing photos"))
    copies, scenes = clusters(file_N, order_N, np.flatnonzero(ours_N).tolist(), links)
    return Duplicates(file_N=file_N, links=links, copies=copies, scenes=scenes, compared=len(pairs))


def keep_order(pool: Pool, signatures: Signatures) -> np.ndarray:
    """The place of each photo, int64 ``[N]``, in the order in which one would keep it.

    Photos of a query before those of the index, validation and training, as removing one changes what is measured;
    then clean labels before others, more pixels, more bytes, the earlier row.
    """
    by = (-signatures.bytes_N, -signatures.pixels_N, ~pool.clean_N, -pool.split_N, pool.source_N != 0)
    place_N = np.empty(len(pool), np.int64)
    place_N[np.lexsort(by)] = np.arange(len(pool))
    return place_N


def equal_files(signatures: Signatures, order_N: np.ndarray) -> np.ndarray:
    """Of each photo the row that one would keep of those with equal bytes (size and checksum); int64 ``[N]``."""
    rows = np.argsort(order_N)
    known = np.zeros(len(rows), np.bool_)
    known[list(signatures.unreadable)] = True
    readable = rows[~known[rows]]
    file_N = np.arange(len(rows))
    what = np.empty((len(readable), 3), np.uint64)
    what[:, 0] = signatures.bytes_N[readable]
    what[:, 1:] = signatures.checksum_N[readable].view("<u8").reshape(-1, 2)
    grouped = np.lexsort(what.T)  # stable: of equal files the first to keep stands first
    begins = np.ones(len(readable), np.bool_)
    begins[1:] = np.any(what[grouped[1:]] != what[grouped[:-1]], axis=1)
    number = np.cumsum(begins) - 1
    file_N[readable[grouped]] = readable[grouped[begins][number]]
    return file_N


def _hash_pairs(
    signatures: Signatures,
    file_N: np.ndarray,
    order_N: np.ndarray,
    *,
    radius: int,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> set[tuple[int, int, bool]]:
    """(row, row, mirrored) of files whose hashes are near, the lower row first."""
    files = np.flatnonzero((file_N == np.arange(len(file_N))) & signatures.hashed_N)
    files = files[np.argsort(order_N[files])]
    form_F, turned_F = canonical(signatures.hash_N[files])
    hash_U, number_F = np.unique(form_F, return_inverse=True)
    grouped = np.argsort(number_F, kind="stable")
    ends = np.searchsorted(number_F[grouped], np.arange(len(hash_U) + 1))
    found: set[tuple[int, int, bool]] = set()

    def join(a: int, b: int, mirrored: bool) -> None:
        group_a, group_b = (grouped[ends[n] : ends[n + 1]] for n in (a, b))
        for x, y in _some_of(group_a, group_b):
            row_x, row_y = int(files[x]), int(files[y])
            across = bool(turned_F[x] != turned_F[y]) != mirrored
            found.add((min(row_x, row_y), max(row_x, row_y), across))

    for n in np.flatnonzero(np.diff(ends) > 1).tolist():
        join(n, n, False)
    near = near_pairs(hash_U, radius, mirrored=True, workers=workers, progress=progress)
    for a, b, mirrored in zip(near.first_P, near.second_P, near.mirrored_P, strict=True):
        join(int(a), int(b), bool(mirrored))
    return found


def _some_of(group_a: np.ndarray, group_b: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs of a member of each: all, or where there are many the first of each group with all of the other."""
    pairs = {(x, y) for x in group_a[:_SEVERAL].tolist() for y in group_b.tolist()}
    pairs |= {(x, y) for x in group_a.tolist() for y in group_b[:_SEVERAL].tolist()}
    if group_a is group_b or np.array_equal(group_a, group_b):
        pairs = {(x, y) for x, y in pairs if x < y}
    return pairs


def _near_pairs(
    pool: Pool,
    file_N: np.ndarray,
    descriptors: Descriptors | None,
    *,
    neighbours: int,
    progress: Callable[[int, int], None] | None,
) -> set[tuple[int, int]]:
    """Pairs of files, the lower row first, of which one is among the nearest of the other by descriptor."""
    if descriptors is None or len(descriptors) < 2:
        return set()
    row_of = {photo: row for row, photo in enumerate(pool.ids)}
    row_D = np.array([row_of[photo] for photo in descriptors.ids], np.int64)
    # files are searched, not photos: copies of equal bytes would fill the lists
    files = np.flatnonzero(file_N[row_D] == row_D)
    searched = descriptors.take([descriptors.ids[n] for n in files.tolist()])
    if progress:
        progress(0, 1)
    # a photo finds itself, too
    found = build_approximate(searched, k=min(neighbours + 1, len(searched)), recall=_RECALL).search(searched)
    if progress:
        progress(1, 1)
    row_F = row_D[files]
    first = np.repeat(row_F, found.positions_QK.shape[1])
    answered = found.positions_QK.ravel()
    kept = answered != PADDING
    first, second = first[kept], row_F[answered[kept]]
    pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)[first != second]
    return {(int(a), int(b)) for a, b in np.unique(pairs, axis=0)}


def _pairs(
    hashed: set[tuple[int, int, bool]], near: set[tuple[int, int]], source_N: np.ndarray
) -> list[Pair]:
    """All that are to be compared, in order: of two photos of other collections than the first, none."""
    keys = hashed | {(first, second, False) for first, second in near}
    found = [
        Pair(
            first=first,
            second=second,
            mirrored=mirrored,
            hashed=(first, second, mirrored) in hashed,
            described=not mirrored and (first, second) in near,
        )
        for first, second, mirrored in keys
        if source_N[first] == 0 or source_N[second] == 0
    ]
    return sorted(found)


def _compared(
    pairs: Sequence[Pair],
    comparer: Comparer,
    *,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Link, ...]:
    """What they have in common, in their order; of two photos the best link."""

    def task(chunk: Sequence[Pair]) -> list[Link | None]:
        return [comparer.compare(pair) for pair in chunk]

    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    best: dict[tuple[int, int], Link] = {}
    done = 0
    with one_thread(), closing(in_order(task, chunks, workers=workers)) as results:
        for chunk, links in zip(chunks, results, strict=True):
            done += len(chunk)
            for link in links:
                if link is None:
                    continue
                before = best.get((link.first, link.second))
                if before is None or _rank(link) > _rank(before):
                    best[link.first, link.second] = link
            if progress:
                progress(done, len(pairs))
    return tuple(best.values())


def _rank(link: Link) -> tuple[bool, float]:
    return link.kind == "picture", link.likeness if link.kind == "picture" else float(link.inliers or 0)


def clusters(
    file_N: np.ndarray, order_N: np.ndarray, rows: Sequence[int], links: Sequence[Link]
) -> tuple[tuple[Cluster, ...], tuple[Cluster, ...]]:
    """Clusters of copies, and clusters of scenes, among the photos *rows*.

    In the order of keeping, each photo that is in no cluster yet opens one with those not yet in one that are linked
    to it.  Files of equal bytes go together.  A scene's members are photos to keep of copies, or without any.
    """
    photos_of = photos_of_files(file_N, np.asarray(rows, np.int64), links)
    files = sorted(photos_of, key=lambda file: int(order_N[file]))
    inside = [link for link in links if link.first in photos_of and link.second in photos_of]
    star_of = stars(files, _neighbours_of(link for link in inside if link.kind == "picture"))
    copies = []
    for centre, leaves in star_of.items():
        # a file stands for those of equal bytes because it comes first in the order of keeping
        members = [Member(row=row, same="bytes", link=None) for row in photos_of[centre] if row != centre]
        pictures = [(row, link) for file, link in leaves.items() for row in photos_of[file]]
        members += [Member(row=row, same="picture", link=link) for row, link in sorted(pictures, key=_row_of)]
        if members:
            copies.append(Cluster(kind="picture" if leaves else "bytes", kept=centre, members=tuple(members)))
    seen = _neighbours_of(link for link in inside if link.kind == "scene")
    scenes = []
    for centre, leaves in stars(list(star_of), seen).items():
        members = [
            Member(row=row, same="scene", link=link) for row, link in sorted(leaves.items(), key=_row_of)
        ]
        if members:
            scenes.append(Cluster(kind="scene", kept=centre, members=tuple(members)))
    return _by_row(copies), _by_row(scenes)


def photos_of_files(file_N: np.ndarray, rows: np.ndarray, links: Sequence[Link]) -> dict[int, list[int]]:
    """File -> those of the photos *rows* that are equal to it; of files with several, or with a link, alone."""
    concerned = np.bincount(file_N[rows], minlength=len(file_N)) > 1
    concerned[[row for link in links for row in (link.first, link.second)]] = True
    found: dict[int, list[int]] = {}
    for row in rows[concerned[file_N[rows]]].tolist():
        found.setdefault(int(file_N[row]), []).append(row)
    return found


def _row_of(entry: tuple[int, Link]) -> int:
    return entry[0]


def _by_row(found: list[Cluster]) -> tuple[Cluster, ...]:
    return tuple(sorted(found, key=lambda cluster: cluster.kept))


def _neighbours_of(links: Iterable[Link]) -> dict[int, dict[int, Link]]:
    found: dict[int, dict[int, Link]] = {}
    for link in links:
        found.setdefault(link.first, {})[link.second] = link
        found.setdefault(link.second, {})[link.first] = link
    return found


def stars(
    files: Sequence[int], neighbours_of: Mapping[int, Mapping[int, Link]]
) -> dict[int, dict[int, Link]]:
    """Each of *files* in one star: centre -> its leaves, each linked to it.

    Taken in the order of *files*, one that is in no star becomes the centre of all its neighbours that are in none.
    """
    taken: set[int] = set()
    known = set(files)
    found: dict[int, dict[int, Link]] = {}
    for centre in files:
        if centre in taken:
            continue
        near = neighbours_of.get(centre, {})
        leaves = {file: link for file, link in near.items() if file in known and file not in taken}
        taken |= {centre, *leaves}
        found[centre] = leaves
    return found
