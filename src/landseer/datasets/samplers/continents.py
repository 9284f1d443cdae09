"""Photos drawn by continent, and by clean or noisy label within each.

Zhang et al., 2nd place of the Google Landmark Retrieval challenge 2021.  Axes: N photos, L photos of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from landseer.datasets.geography import CONTINENTS, continent_of
from landseer.datasets.samplers.base import (
    Stream,
    WholeBatches,
    exact_shares,
    require,
    require_column,
    require_count,
    require_shares,
    stream,
)
from landseer.types import Collection

OTHER = "OTHER"
"""The pool of photos whose country is not known."""

POOLS = (*CONTINENTS, OTHER)
"""The names that codes of ``continents_in`` stand for."""

RATIOS: Mapping[str, float] = MappingProxyType(
    {
        "Asia": 0.50,
        "Europe": 0.20,
        "Africa": 0.15,
        "North America": 0.10,
        "South America": 0.02,
        "Antarctica": 0.01,
        "Oceania": 0.01,
        OTHER: 0.01,
    }
)
"""What the winners drew: the share of each continent in an epoch."""

CLEAN_SHARE = 0.66
"""What the winners drew: the share of clean photos of each continent."""


def continents_in(collection: Collection) -> np.ndarray:
    """The continent of each photo by its country, int8 ``[N]``: a place in ``POOLS``.

    A photo without a country is in ``OTHER``.  Raises ``ValueError`` for a country that ISO 3166 does not know.
    """
    encoded = collection.photos["country"].combine_chunks().dictionary_encode()
    names = [continent_of(country) for country in encoded.dictionary.to_pylist()]
    # the last entry is what -1, no country, points to
    codes = np.array([POOLS.index(name) for name in (*names, OTHER)], dtype=np.int8)
    return np.asarray(codes[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How many photos of a continent an epoch holds."""

    clean: int
    noisy: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ContinentAware(WholeBatches):
    """An epoch of L photos in which each continent has its share, and clean photos theirs of each continent.

    A continent's photos, n, are its share of L rounded by the largest remainder, so that they sum to L; the
    winners rounded down, which leaves the epoch a few photos short.  Of these floor(clean_share x n) are clean
    and the rest noisy.  All are drawn with replacement, then shuffled.  A continent without clean photos gives
    noisy ones instead and the reverse; one without any leaves its share to the others, in proportion.  An uneven
    last batch is dropped.
    """

    continent_N: np.ndarray
    """The continent of each photo, a place in ``POOLS``, as ``continents_in`` tells it."""
    clean_N: np.ndarray
    """bool: whether the photo's label is clean."""
    batch: int
    """Photos a step, all ranks together."""
    length: int | None = None
    """L: photos of an epoch, all ranks together; None: N."""
    ratios: Mapping[str, float] = field(default_factory=lambda: RATIOS)
    """The share of each of ``POOLS``; one that is not named has none.  Their sum is 1."""
    clean_share: float = CLEAN_SHARE
    """The share of clean photos; 0 draws no clean photo at all, 1 no noisy one."""

    def __post_init__(self) -> None:
        require_column("continent_N", self.continent_N)
        num = len(self.continent_N)
        require(
            self.clean_N.shape == (num,) and self.clean_N.dtype == np.bool_,
            f"clean_N: must have one bool for each of {num} photos, "
            f"not {self.clean_N.dtype} {self.clean_N.shape}",
        )
        require(
            int(self.continent_N.min()) >= 0 and int(self.continent_N.max()) < len(POOLS),
            f"continent_N: must lie in 0..{len(POOLS) - 1}, the places of {', '.join(POOLS)}",
        )
        require_count("batch", self.batch)
        require_count("length", self.epoch_photos)
        require(
            self.batch <= self.epoch_photos,
            f"batch: {self.batch} photos are more than the {self.epoch_photos} of an epoch",
        )
        strange = [name for name in self.ratios if name not in POOLS]
        require(
            not strange, f"ratios: unknown continent {strange[0] if strange else ''!r} ({', '.join(POOLS)})"
        )
        require_shares("ratios", tuple(self.ratios.values()))
        require(0 <= self.clean_share <= 1, f"clean_share: must lie in 0..1, not {self.clean_share}")
        require(
            any(self._weight(place) for place in range(len(POOLS))),
            "ratios: none of the continents with a ratio above 0 has a photo that may be drawn",
        )

    @property
    def num_photos(self) -> int:
        """N."""
        return len(self.continent_N)

    @property
    def epoch_photos(self) -> int:
        """L: photos drawn for an epoch."""
        return len(self.continent_N) if self.length is None else self.length

    @property
    def batch_photos(self) -> int:
        """Photos of a whole batch."""
        return self.batch

    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self.epoch_photos // self.batch

    def drawn(self) -> dict[str, Drawn]:
        """How many photos of each of ``POOLS`` an epoch holds; their sum is L."""
        weights = [self._weight(place) for place in range(len(POOLS))]
        counts = exact_shares(self.epoch_photos, weights)
        return {name: self._split(place, counts[place]) for place, name in enumerate(POOLS)}

    def draw(self, *, seed: int, epoch: int) -> np.ndarray:
        """The whole epoch, int64 ``[L]``, before it is cut into batches."""
        rng = stream(seed, Stream.CONTINENTS, epoch)
        pieces = []
        for place, count in enumerate(self.drawn().values()):
            for clean, num in ((True, count.clean), (False, count.noisy)):
                if num:
                    pool = self._pools[place, clean]
                    pieces.append(pool[rng.integers(len(pool), size=num)])
        return rng.permutation(np.concatenate(pieces))

    def _whole_batches(self, *, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        drawn_L = self.draw(seed=seed, epoch=epoch)
        for number in range(start, self.num_batches()):
            yield drawn_L[number * self.batch : (number + 1) * self.batch]

    @cached_property
    def _pools(self) -> dict[tuple[int, bool], np.ndarray]:
        """(place in ``POOLS``, clean) -> positions that may be drawn."""
        share = {True: self.clean_share, False: 1 - self.clean_share}
        return {
            (place, clean): np.flatnonzero((self.continent_N == place) & (self.clean_N == clean))
            if share[clean] > 0
            else np.empty(0, dtype=np.int64)
            for place in range(len(POOLS))
            for clean in (True, False)
        }

    def _weight(self, place: int) -> float:
        """The continent's ratio, 0 where it has nothing to draw."""
        some = len(self._pools[place, True]) or len(self._pools[place, False])
        return self.ratios.get(POOLS[place], 0.0) if some else 0.0

    def _split(self, place: int, num: int) -> Drawn:
        if not len(self._pools[place, False]):
            return Drawn(clean=num, noisy=0)
        if not len(self._pools[place, True]):
            return Drawn(clean=0, noisy=num)
        # 0.29 x 100 is a hair below 29 in binary
        clean = math.floor(round(self.clean_share * num, 6))
        return Drawn(clean=clean, noisy=num - clean)
