"""Photos without labels put together by place: groups that grow while their members are alike in the mean.

Links (``links.py``) say which photos may be one place.  Groups, at first single photos, are joined along links, the
most alike first.  One link never suffices: the *mean* cosine over all pairs of the two groups must be high (average
linkage, Sokal and Michener 1958), so a chain of photos each like the next does not glue two places.  Points that agree
lower what is asked, see ``GroupingOptions``; and two groups that both hold such a proof are joined by nothing less.

The mean over all pairs is the product of the groups' summed rows, whatever their size.  Links fall into parts that
nothing connects, and each part is worked on alone.  With M links and D components: M log M steps of D products.
Memory: the rows, 18 bytes a link, and about 1 KB a link of the largest part.

Axes: N photos, M links, G groups, D components.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landseer.cleaning.links import (
    Links,
    Places,
    Strangers,
    cosines,
    km_of_chord,
    mutual_neighbours,
    near_each_other,
    strangers_of,
)
from landseer.recipe.grouping_options import GroupingOptions
from landseer.types import Descriptors

CountInliers = Callable[[Sequence[tuple[str, str]]], np.ndarray]
"""Points on which each pair of photos agrees, by id; ``Matcher.verify_pairs`` does it."""
Watch = Callable[[str, int, int], None]
_PAIRS = 4096
ALONE = -1
"""The group of a photo that fits none."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One place."""

    number: int
    members: tuple[str, ...]
    """Ids, the medoid first, then those most like the group."""
    spread: float
    """Mean of 1 - cosine between the medoid and the others."""
    confidence: float
    """Mean over the members of the share of their nearest photos that are members, too."""
    proven: float
    """Share of the members with a point-by-point proof that joins them to another member."""

    @property
    def medoid(self) -> str:
        """The member most like all others."""
        return self.members[0]

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True, kw_only=True)
class Given:
    """Photos, where and when they were taken, what strangers are like, and what is asked."""

    photos: Descriptors
    places: Places
    scale: Strangers
    options: GroupingOptions


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """The groups of some photos, the largest first, and what strangers were taken to be."""

    groups: tuple[Group, ...]
    alone: tuple[str, ...]
    """Photos that fit no group, by id."""
    strangers: Strangers


def group_photos(
    descriptors: Descriptors,
    options: GroupingOptions,
    *,
    count: CountInliers | None = None,
    inliers: int = 6,
    places: Places | None = None,
    known: Mapping[str, int] | None = None,
    seen: frozenset[str] = frozenset(),
    strangers: Strangers | None = None,
    first: int = 1,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Grouping:
    """Put the photos of *descriptors* (unit rows) together by place.

    *count* gives the points on which pairs agree; *inliers* of them prove a link.  Without it nothing is proven.
    *places* says where and when each photo was taken.  *known* gives the groups of photos that have one already (id ->
    number); these stay as they are and may gain photos.  *seen* names photos that were asked about before: only what
    another photo links is worked on.  *strangers* are those of before, that groups stay comparable.  New groups are
    numbered from *first*, the largest first.  The order of the photos makes no difference.
    """
    order_N = np.array(sorted(range(len(descriptors)), key=descriptors.ids.__getitem__), np.int64)
    placed = places or Places(
        point_N3=np.full((len(order_N), 3), np.nan), minute_N=np.full(len(order_N), np.nan)
    )
    # by id from here on, so that ties fall alike however the photos stand
    photos = descriptors.take([descriptors.ids[n] for n in order_N])
    placed = Places(point_N3=placed.point_N3[order_N], minute_N=placed.minute_N[order_N])
    scale = strangers or strangers_of(photos)
    tell = watch or (lambda *_: None)
    known_N = np.array([(known or {}).get(photo, ALONE) for photo in photos.ids], np.int64)
    new_N = np.array([photo not in seen for photo in photos.ids], bool)
    a_M, b_M = mutual_neighbours(
        photos,
        options.neighbours,
        new_N=new_N if seen else None,
        device=device,
        progress=lambda done, total: tell("finding neighbours", done, total),
    )
    given = Given(photos=photos, places=placed, scale=scale, options=options)
    links = _supported(given, a_M, b_M, (lambda pairs: count(pairs) >= inliers) if count else None, tell)
    label_N = join_photos(given, links, known_N=known_N)
    inside = _share_inside(a_M, b_M, label_N, options.neighbours)
    proven_N = np.zeros(len(photos), bool)
    joined_M = links.proven_M & (label_N[links.a_M] == label_N[links.b_M])
    proven_N[links.a_M[joined_M]] = proven_N[links.b_M[joined_M]] = True
    groups = _numbered(photos, label_N, inside, proven_N, first=max([first - 1, *known_N.tolist()]) + 1)
    alone = tuple(photos.ids[n] for n in np.flatnonzero(label_N == ALONE))
    return Grouping(groups=groups, alone=alone, strangers=scale)


def _supported(
    given: Given, a_M: np.ndarray, b_M: np.ndarray, prove: CountInliers | None, tell: Watch
) -> Links:
    """The pairs that could ever join two groups by themselves: alike enough for what speaks for them."""
    photos, options = given.photos, given.options
    near_M, far_M = near_each_other(given.places, a_M, b_M, options)
    likeness_M = given.scale.likeness(cosines(photos.rows_ND, a_M, b_M))
    able_M = ~far_M & (likeness_M >= min(options.proven, options.likeness - options.near))
    a_M, b_M, near_M, likeness_M = a_M[able_M], b_M[able_M], near_M[able_M], likeness_M[able_M]
    proven_M = np.zeros(len(a_M), bool)
    if prove is not None:
        for start in range(0, len(a_M), _PAIRS):
            part = slice(start, start + _PAIRS)
            pairs = [(photos.ids[a], photos.ids[b]) for a, b in zip(a_M[part], b_M[part], strict=True)]
            proven_M[part] = prove(pairs)
            tell("matching photos", min(start + _PAIRS, len(a_M)), len(a_M))
    kept_M = likeness_M >= _asked(proven_M, near_M, options)
    return Links(a_M=a_M[kept_M], b_M=b_M[kept_M], proven_M=proven_M[kept_M], near_M=near_M[kept_M])


def _asked(proven: np.ndarray, near: np.ndarray, options: GroupingOptions) -> np.ndarray:
    """The mean likeness that groups need which such a link joins."""
    usual = options.likeness - np.where(near, options.near, 0.0)
    found: np.ndarray = np.where(proven, np.minimum(options.proven, usual), usual)
    return found


def join_photos(given: Given, links: Links, *, known_N: np.ndarray) -> np.ndarray:
    """Group of each photo, int64 ``[N]``: a number that its members share, ``ALONE`` where it has none.

    The groups of *known_N* (int64 ``[N]``, ``ALONE``: none) keep their numbers and members, may gain photos, and are
    never joined with each other.  Other groups have numbers below ``ALONE``; those of fewer than ``options.least``
    photos are none.
    """
    first_of: dict[int, int] = {}
    for position, number in enumerate(known_N.tolist()):
        if number != ALONE:
            first_of.setdefault(number, position)
    unit_N = np.array(
        [position if n == ALONE else first_of[n] for position, n in enumerate(known_N.tolist())], np.int64
    )
    members_of: dict[int, list[int]] = {}
    for position in np.flatnonzero(known_N != ALONE).tolist():
        members_of.setdefault(int(unit_N[position]), []).append(position)
    root_N = np.arange(len(given.photos))
    for part in _parts(unit_N, links):
        _Part(given, links, part, unit_N, members_of).join(root_N)
    root_N = _roots(root_N)[unit_N]
    number_of = {position: number for number, position in first_of.items()}
    _, of_N, size_N = np.unique(root_N, return_inverse=True, return_counts=True)
    label_N = np.where(size_N[of_N] >= given.options.least, -2 - root_N, ALONE)
    for root in np.unique(root_N[known_N != ALONE]).tolist():
        label_N[root_N == root] = number_of[root]
    return label_N


def _parts(unit_N: np.ndarray, links: Links) -> Iterator[np.ndarray]:
    """Numbers of links, by the part of the graph that they are in; the smallest unit of a part comes first."""
    if not len(links):
        return
    parent_N = np.arange(len(unit_N))
    for a, b in zip(unit_N[links.a_M].tolist(), unit_N[links.b_M].tolist(), strict=True):
        left, right = sorted((_root(parent_N, a), _root(parent_N, b)))
        parent_N[right] = left
    part_M = np.array([_root(parent_N, unit) for unit in unit_N[links.a_M].tolist()])
    order_M = np.argsort(part_M, kind="stable")
    yield from np.split(order_M, np.flatnonzero(np.diff(part_M[order_M])) + 1)


def _root(parent_N: np.ndarray, unit: int) -> int:
    while parent_N[unit] != unit:
        parent_N[unit] = parent_N[parent_N[unit]]  # halves the way for the next who asks
        unit = int(parent_N[unit])
    return unit


def _roots(parent_N: np.ndarray) -> np.ndarray:
    """The last parent of each."""
    while not np.array_equal(above_N := parent_N[parent_N], parent_N):
        parent_N = above_N
    return parent_N


class _Part:
    """Groups of one part of the graph, as they grow.  A group is called by one of its members."""

    def __init__(
        self,
        given: Given,
        links: Links,
        part_L: np.ndarray,
        unit_N: np.ndarray,
        members_of: Mapping[int, list[int]],
    ) -> None:
        self._scale, self._options = given.scale, given.options
        self._known = set(members_of)
        self._links: dict[int, dict[int, tuple[bool, bool]]] = {}
        for link in part_L.tolist():
            a, b = int(unit_N[links.a_M[link]]), int(unit_N[links.b_M[link]])
            if a != b:
                self._connect(a, b, (bool(links.proven_M[link]), bool(links.near_M[link])))
        self._sum: dict[int, np.ndarray] = {}
        self._size: dict[int, int] = {}
        self._point: dict[int, np.ndarray] = {}
        """Sum of the known positions, and their number."""
        for unit in self._links:
            members = members_of.get(unit, [unit])
            self._sum[unit] = given.photos.rows_ND[members].sum(axis=0, dtype=np.float64)
            self._size[unit] = len(members)
            points = given.places.point_N3[members]
            points = points[~np.isnan(points[:, 0])]
            self._point[unit] = np.append(points.sum(axis=0), len(points))
        # of a known group nobody counted the proofs; it is taken to have some
        self._has_proof = {unit: unit in self._known for unit in self._links}
        self._age = dict.fromkeys(self._links, 0)
        self._queue: list[tuple[float, int, int, int, int]] = []

    def join(self, root_N: np.ndarray) -> None:
        """Join until nothing is alike enough; *root_N* is told which group went into which."""
        for a, others in self._links.items():
            for b in others:
                if a < b:
                    self._consider(a, b)
        while self._queue:
            _, a, b, age_a, age_b = heapq.heappop(self._queue)
            if (self._age.get(a), self._age.get(b)) == (age_a, age_b):  # else one has changed since
                keep, gone = (b, a) if b in self._known else (a, b)
                root_N[gone] = keep
                self._merge(keep, gone)

    def _connect(self, a: int, b: int, support: tuple[bool, bool]) -> None:
        proven, near = self._links.setdefault(a, {}).get(b, (False, False))
        both = (proven or support[0], near or support[1])
        self._links[a][b] = both
        self._links.setdefault(b, {})[a] = both

    def _consider(self, a: int, b: int) -> None:
        """Queue two groups if they may be joined: what exceeds the asked likeness most comes first."""
        if (a in self._known and b in self._known) or self._far(a, b):
            return
        mean = float(self._sum[a] @ self._sum[b]) / (self._size[a] * self._size[b])
        proven, near = self._links[a][b]
        if not proven and self._has_proof[a] and self._has_proof[b]:
            return  # points agree within each, and not between them: two places, or two sides of one
        asked = float(_asked(np.array(proven), np.array(near), self._options))
        over = (mean - self._scale.cosine) / self._scale.spread - asked
        if over >= 0:
            a, b = min(a, b), max(a, b)
            heapq.heappush(self._queue, (-over, a, b, self._age[a], self._age[b]))

    def _far(self, a: int, b: int) -> bool:
        """Whether the middles of the known positions are too far apart."""
        left, right = self._point[a], self._point[b]
        if not (left[3] and right[3]):
            return False
        chord = np.linalg.norm(left[:3] / left[3] - right[:3] / right[3])
        return bool(km_of_chord(np.array(chord)) > self._options.far_km)

    def _merge(self, keep: int, gone: int) -> None:
        self._sum[keep] = self._sum[keep] + self._sum.pop(gone)
        self._size[keep] += self._size.pop(gone)
        self._point[keep] = self._point[keep] + self._point.pop(gone)
        proven, _ = self._links[keep][gone]
        self._has_proof[keep] = self._has_proof.pop(gone) or self._has_proof[keep] or proven
        self._age[keep] += 1
        del self._age[gone]
        for other, support in self._links.pop(gone).items():
            del self._links[other][gone]
            if other != keep:
                self._connect(keep, other, support)
        for other in self._links[keep]:
            self._consider(keep, other)


def _share_inside(a_M: np.ndarray, b_M: np.ndarray, label_N: np.ndarray, neighbours: int) -> np.ndarray:
    """Of each photo the share of its mutual neighbours that are in its group, float64 ``[N]``.

    Of a group with fewer members than a photo has mutual neighbours as many count as there are others.
    """
    num = len(label_N)
    same_M = label_N[a_M] == label_N[b_M]
    all_N = np.bincount(a_M, minlength=num) + np.bincount(b_M, minlength=num)
    same_N = np.bincount(a_M[same_M], minlength=num) + np.bincount(b_M[same_M], minlength=num)
    _, of_N, size_N = np.unique(label_N, return_inverse=True, return_counts=True)
    most_N = np.clip(np.minimum(size_N[of_N] - 1, all_N), 1, neighbours)
    share_N: np.ndarray = np.minimum(same_N / most_N, 1.0)
    return share_N


def _numbered(
    photos: Descriptors, label_N: np.ndarray, inside_N: np.ndarray, proven_N: np.ndarray, *, first: int
) -> tuple[Group, ...]:
    """The groups, the largest first; those that have no number yet get one from *first*, in that order."""
    order_N = np.argsort(label_N, kind="stable")
    runs = np.split(order_N, np.flatnonzero(np.diff(label_N[order_N])) + 1) if len(order_N) else []
    runs = sorted((run for run in runs if label_N[run[0]] != ALONE), key=lambda run: (-len(run), run[0]))
    groups = []
    for run in runs:
        number = int(label_N[run[0]])
        if number < ALONE:
            number, first = first, first + 1
        groups.append(_group(number, run, photos, inside_N, proven_N))
    return tuple(groups)


def _group(
    number: int, run: np.ndarray, photos: Descriptors, inside_N: np.ndarray, proven_N: np.ndarray
) -> Group:
    rows_MD = photos.rows_ND[run].astype(np.float64)
    towards_M = rows_MD @ rows_MD.sum(axis=0)
    order_M = np.argsort(-towards_M, kind="stable")
    to_medoid_M = rows_MD @ rows_MD[order_M[0]]
    others = max(1, len(run) - 1)
    return Group(
        number=number,
        members=tuple(photos.ids[run[n]] for n in order_M),
        spread=float((1 - to_medoid_M[order_M[1:]]).sum() / others),
        confidence=float(inside_N[run].mean()),
        proven=float(proven_N[run].mean()),
    )
