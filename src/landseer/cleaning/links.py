"""Which photos may be of one place: each among the nearest of the other, with what speaks for it.

Axes: N photos, B of them in a block, K neighbours, M links, D components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landseer.recipe.grouping_options import GroupingOptions
from landseer.search import prepare, search_exact
from landseer.types import Descriptors

Progress = Callable[[int, int], None]
_BLOCK = 4096
_SAMPLE = 100_000
_EARTH_KM = 6371.0
_LOWER_SIXTH = 0.1587
"""The share of a normal distribution below one standard deviation under its middle."""


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """The cosines of photos that have nothing to do with each other: their middle, and how far they spread."""

    cosine: float
    spread: float

    def likeness(self, cosine: np.ndarray) -> np.ndarray:
        """Cosines above that of strangers, in spreads."""
        found: np.ndarray = (cosine - self.cosine) / self.spread
        return found


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where and when photos were taken: unit vectors float64 ``[N, 3]``, minutes float64 ``[N]``; NaN: not known."""

    point_N3: np.ndarray
    minute_N: np.ndarray

    def __post_init__(self) -> None:
        num = len(self.minute_N)
        if self.point_N3.shape != (num, 3) or self.minute_N.shape != (num,):
            raise ValueError(f"{num} times need positions [{num}, 3], not {self.point_N3.shape}")

    def km(self, a_M: np.ndarray, b_M: np.ndarray) -> np.ndarray:
        """Kilometres between pairs of photos as the crow flies; NaN where a position is not known."""
        return km_of_chord(np.linalg.norm(self.point_N3[a_M] - self.point_N3[b_M], axis=1))


def km_of_chord(chord: np.ndarray) -> np.ndarray:
    """Kilometres on the ground between points of the unit sphere that are *chord* apart."""
    found: np.ndarray = 2 * _EARTH_KM * np.arcsin(np.clip(chord / 2, 0, 1))
    return found


def places_of(latitude_N: np.ndarray, longitude_N: np.ndarray, minute_N: np.ndarray) -> Places:
    """Degrees (NaN: not known) and minutes to places."""
    lat, lon = np.radians(latitude_N.astype(np.float64)), np.radians(longitude_N.astype(np.float64))
    point_N3 = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return Places(point_N3=point_N3, minute_N=minute_N.astype(np.float64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """Pairs of positions, a < b, sorted; what speaks for each: bool ``[M]``."""

    a_M: np.ndarray
    b_M: np.ndarray
    proven_M: np.ndarray
    near_M: np.ndarray

    def __len__(self) -> int:
        return len(self.a_M)


def strangers_of(descriptors: Descriptors) -> Strangers:
    """The cosines of random pairs; the same whatever the order of the photos.

    Half of them lie above the middle, so pairs of one place do little to it as long as no place has most photos.
    """
    num = len(descriptors)
    order_N = np.array(sorted(range(num), key=descriptors.ids.__getitem__), np.int64)
    rng = np.random.default_rng(0)
    if num * (num - 1) // 2 <= _SAMPLE:
        a_M, b_M = np.triu_indices(num, k=1)
    else:
        a_M, b_M = rng.integers(0, num, (2, _SAMPLE))
        a_M, b_M = a_M[a_M != b_M], b_M[a_M != b_M]
    if not len(a_M):
        return Strangers(cosine=0.0, spread=1.0)
    cosine_M = cosines(descriptors.rows_ND, order_N[a_M], order_N[b_M])
    middle = float(np.median(cosine_M))
    spread = middle - float(np.quantile(cosine_M, _LOWER_SIXTH))
    return Strangers(cosine=middle, spread=max(spread, 1e-3))


def cosines(rows_ND: np.ndarray, a_M: np.ndarray, b_M: np.ndarray) -> np.ndarray:
    """Dot products of pairs of rows, float64 ``[M]``."""
    found_M = np.empty(len(a_M))
    for start in range(0, len(a_M), _BLOCK):
        part = slice(start, start + _BLOCK)
        left, right = rows_ND[a_M[part]].astype(np.float64), rows_ND[b_M[part]].astype(np.float64)
        found_M[part] = np.einsum("md,md->m", left, right)
    return found_M


def mutual_neighbours(
    descriptors: Descriptors,
    k: int,
    *,
    new_N: np.ndarray | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions (a < b, sorted) of photos that are each among the *k* nearest others of the other.

    With *new_N* (bool ``[N]``) only pairs with a photo where it holds: those, and the photos that they name, are
    searched for, the rest is not.  A photo's equals count as its nearest, in any order among themselves.
    """
    num = len(descriptors)
    everyone_N = np.arange(num, dtype=np.int64)
    asked = everyone_N if new_N is None else np.flatnonzero(new_N)
    gallery = prepare(descriptors, device=device) if num else None
    of_M, named_M = np.empty(0, np.int64), np.empty(0, np.int64)
    for which in ("asked", "named"):
        photos = asked if which == "asked" else np.setdiff1d(named_M, asked)
        for start in range(0, len(photos), _BLOCK):
            block = photos[start : start + _BLOCK]
            queries = Descriptors(
                ids=tuple(descriptors.ids[n] for n in block), rows_ND=np.asarray(descriptors.rows_ND[block])
            )
            assert gallery is not None
            found_BK = search_exact(queries, gallery, k=min(k + 1, num), device=device).positions_QK
            others_BK = found_BK != block[:, None]
            others_BK &= np.cumsum(others_BK, axis=1) <= k  # where equals crowd the photo itself out
            row_M, column_M = np.nonzero(others_BK)
            of_M = np.concatenate([of_M, block[row_M]])
            named_M = np.concatenate([named_M, found_BK[row_M, column_M]])
            if progress:
                progress(min(start + len(block), len(photos)), len(photos))
        if new_N is None:
            break
    ways = np.intersect1d(of_M * num + named_M, named_M * num + of_M)  # what is named from both sides
    a_M, b_M = np.divmod(ways, max(num, 1))
    chosen = a_M < b_M
    if new_N is not None:
        chosen &= new_N[a_M] | new_N[b_M]
    return a_M[chosen], b_M[chosen]


def near_each_other(
    places: Places, a_M: np.ndarray, b_M: np.ndarray, options: GroupingOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs were taken at one place or one time, and which too far apart to be one: bool ``[M]`` each."""
    km_M = places.km(a_M, b_M)
    minutes_M = np.abs(places.minute_N[a_M] - places.minute_N[b_M])
    with np.errstate(invalid="ignore"):  # what is not known is neither near nor far
        far_M = km_M > options.far_km
        near_M = (km_M * 1000 <= options.near_m) | (minutes_M <= options.near_minutes)
    return near_M & ~far_M, far_M
