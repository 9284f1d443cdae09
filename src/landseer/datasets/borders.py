"""The country at a position, from a table of polygons that travels with the program.

The table is Natural Earth 1:50m as world-atlas packs it (``data/LICENSE.txt``).  A line at that scale may
lie a few kilometres off, so a position close to another country's line gets no country: a country is never
guessed.  ``docs/decisions/country-borders.md`` has the measurements behind the two distances.

Axes: N positions, E edges of polygons, C countries near by.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from landseer.datasets.geography import code_of_number

BORDER_KM = 3.0
"""A position nearer than this to a second country gets none."""
COAST_KM = 5.0
"""A position in no polygon belongs to the one country whose line is at most this far away."""

_KM_PER_DEGREE = 111.195
_BAND_DEG = 0.1
"""Edges are kept by bands of latitude and of longitude; a band of latitude (11 km) is wider than what
matters."""
_LATITUDES = round(180 / _BAND_DEG) + 1
_LONGITUDES = round(360 / _BAND_DEG)
_CHUNK = 256
_BOTTOM_DEG = -89.9
"""The map ends just short of the South Pole; the line that closes it there is no border."""

_WITHOUT_NUMBER = {"Kosovo": "XK"}
"""Natural Earth's countries without an ISO number.  The others (Somaliland, Northern Cyprus, ...) are
disputed."""
_DISPUTED = ""
_PARTS: dict[str, tuple[tuple[str, float, float, float, float], ...]] = {
    "FR": (
        ("GF", -55.0, 2.0, -51.0, 6.0),
        ("GP", -62.0, 15.8, -61.0, 16.6),
        ("MQ", -61.3, 14.3, -60.7, 15.0),
        ("RE", 55.0, -21.5, 56.0, -20.8),
        ("YT", 44.9, -13.1, 45.4, -12.5),
    ),
    "NL": (("BQ", -69.0, 11.9, -62.9, 17.8),),
    "NO": (("SJ", -10.0, 70.5, 36.0, 81.0),),
    "RU": ((_DISPUTED, 32.3, 44.3, 36.7, 46.3),),
}
"""Polygons inside a box (west, south, east, north) that ISO 3166-1 lists apart, or that two states claim
(Crimea)."""

_DOUBTED: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "ES": ((-5.37, 36.10, -5.33, 36.16),),
    "MA": ((-5.40, 35.86, -5.27, 35.93), (-2.98, 35.25, -2.91, 35.33), (-17.2, 20.7, -8.66, 27.67)),
    "IL": ((35.62, 32.68, 35.95, 33.35),),
}
"""Where the table would be wrong or take sides: too small to be drawn (Gibraltar, Ceuta, Melilla), Western
Sahara west of the berm, the Golan Heights.  A position there gets no country."""


@dataclass(frozen=True)
class _Bands:
    """Edges by (band, country); an edge stands in every band it touches."""

    order: np.ndarray
    starts: np.ndarray

    def edges(self, first: int, last: int) -> np.ndarray:
        """Edges that touch bands *first* to *last*."""
        return self.order[self.starts[max(first, 0)] : self.starts[min(last + 1, len(self.starts) - 1)]]


@dataclass(frozen=True)
class _Borders:
    codes: tuple[str, ...]
    country_E: np.ndarray
    edges_E4: np.ndarray
    """lon, lat of one end, lon, lat of the other, degrees; always the short way round, 179 to -179 is two
    degrees."""
    by_latitude: _Bands
    by_longitude: _Bands


def countries_at(latitude_N: np.ndarray, longitude_N: np.ndarray) -> list[str | None]:
    """The alpha-2 country at each position (degrees, WGS 84), None where it is not certain.

    None means: at sea more than ``COAST_KM`` from land, within ``BORDER_KM`` of a second country, on disputed
    land, or not a position at all (NaN, or outside -90..90 and -180..180).
    """
    latitude_N = np.asarray(latitude_N, dtype=np.float64)
    longitude_N = np.asarray(longitude_N, dtype=np.float64)
    if latitude_N.shape != longitude_N.shape or latitude_N.ndim != 1:
        raise ValueError(f"positions must be two equal rows, not {latitude_N.shape} and {longitude_N.shape}")
    found: list[str | None] = [None] * len(latitude_N)
    with np.errstate(invalid="ignore"):
        (valid,) = np.nonzero((np.abs(latitude_N) <= 90) & (np.abs(longitude_N) <= 180))
    if not len(valid):
        return found
    lat_N, lon_N = latitude_N[valid], _wrapped(longitude_N[valid])
    borders = _load()
    inside = _inside(borders, lat_N, lon_N)
    near = _distances_km(borders, lat_N, lon_N)
    for row, position in enumerate(valid):
        code = _decide(borders.codes, inside[row], near[row])
        found[position] = None if _doubted(code, lat_N[row], lon_N[row]) else code
    return found


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    """The same angles in -180..180 (180 excluded)."""
    return (degrees + 180) % 360 - 180


def _doubted(code: str | None, lat: float, lon: float) -> bool:
    boxes = _DOUBTED.get(code or "", ())
    return any(west <= lon <= east and south <= lat <= north for west, south, east, north in boxes)


def _decide(codes: tuple[str, ...], inside: list[int], km: dict[int, float]) -> str | None:
    if len(inside) > 1:
        return None
    if inside:
        home = inside[0]
        alone = all(away >= BORDER_KM for country, away in km.items() if country != home)
    else:
        if not km:
            return None
        home = min(km, key=lambda country: km[country])
        alone = km[home] <= COAST_KM and all(
            away >= km[home] + BORDER_KM for country, away in km.items() if country != home
        )
    return (codes[home] or None) if alone else None


def _by_band(degrees_N: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Chunks of positions that lie in one band, and the band."""
    band_N = np.floor(degrees_N / _BAND_DEG).astype(np.int64)
    order = np.argsort(band_N, kind="stable")
    bands, starts = np.unique(band_N[order], return_index=True)
    for band, members in zip(bands, np.split(order, starts[1:]), strict=True):
        for start in range(0, len(members), _CHUNK):
            yield members[start : start + _CHUNK], int(band)


def _inside(borders: _Borders, lat_N: np.ndarray, lon_N: np.ndarray) -> list[list[int]]:
    """Countries whose polygons hold each position.

    The meridian from a position in a polygon to the North Pole, which is in none, crosses its edges an odd
    number of times.  (A ray along a parallel would not end: polygons run across the antimeridian.)
    """
    inside: list[list[int]] = [[] for _ in lat_N]
    for chosen, band in _by_band(lon_N + 180):
        edges = borders.by_longitude.edges(band, band)
        if not len(edges):
            continue
        lon0, lat0, lon1, lat1 = borders.edges_E4[edges].T
        lat, lon = lat_N[chosen, None], lon_N[chosen, None]
        # both ends from their own longitudes, so that two edges agree on the side of the end they share
        x0, x1 = _wrapped(lon0 - lon), _wrapped(lon1 - lon)
        spans = ((x0 <= 0) != (x1 <= 0)) & (np.abs(x1 - x0) < 180)
        crossing = spans & (lat0 - x0 * (lat1 - lat0) / np.where(spans, x1 - x0, 1.0) > lat)
        countries, starts = np.unique(borders.country_E[edges], return_index=True)
        odd = np.add.reduceat(crossing.astype(np.int32), starts, axis=1) & 1
        for row, column in zip(*np.nonzero(odd), strict=True):
            inside[chosen[row]].append(int(countries[column]))
    return inside


def _distances_km(borders: _Borders, lat_N: np.ndarray, lon_N: np.ndarray) -> list[dict[int, float]]:
    """Country -> km to its nearest line, for lines that may matter (on a plane around each position)."""
    near: list[dict[int, float]] = [{} for _ in lat_N]
    for chosen, band in _by_band(lat_N + 90):
        edges = np.unique(borders.by_latitude.edges(band - 1, band + 1))
        if not len(edges):
            continue
        edges = edges[np.argsort(borders.country_E[edges], kind="stable")]
        lon0, lat0, lon1, lat1 = borders.edges_E4[edges].T
        lat, lon = lat_N[chosen, None], lon_N[chosen, None]
        km_east = np.cos(np.radians(lat)) * _KM_PER_DEGREE
        x0, y0 = _wrapped(lon0 - lon) * km_east, (lat0 - lat) * _KM_PER_DEGREE
        dx, dy = _wrapped(lon1 - lon0) * km_east, (lat1 - lat0) * _KM_PER_DEGREE
        along = np.clip(-(x0 * dx + y0 * dy) / np.maximum(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
        away = np.hypot(x0 + along * dx, y0 + along * dy)
        countries, starts = np.unique(borders.country_E[edges], return_index=True)
        away = np.minimum.reduceat(away, starts, axis=1)
        for row, column in zip(*np.nonzero(away <= COAST_KM + BORDER_KM), strict=True):
            near[chosen[row]][int(countries[column])] = float(away[row, column])
    return near


@cache
def _load() -> _Borders:
    packed = files("landseer.datasets").joinpath("data/countries-50m.json.gz").read_bytes()
    topology: dict[str, Any] = json.loads(gzip.decompress(packed))
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]
    numbers: dict[str, int] = {}
    edges, countries = [], []
    for geometry in topology["objects"]["countries"]["geometries"]:
        name = geometry["properties"]["name"]
        code = code_of_number().get(geometry.get("id", "")) or _WITHOUT_NUMBER.get(name, _DISPUTED)
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        for polygon in polygons:
            # parity needs neither the order nor the direction of a ring, so arcs are taken as
            # they lie (~i: reversed)
            lines = [arcs[i if i >= 0 else ~i] for ring in polygon for i in ring]
            part = _part(code, np.concatenate(lines))
            # each disputed area is a country of its own, so that it also keeps its distance from the others
            number = numbers.setdefault(part or f"disputed {name}", len(numbers))
            for line in lines:
                edges.append(np.concatenate([line[:-1], line[1:]], axis=1))
                countries.append(np.full(len(line) - 1, number))
    codes = tuple(_DISPUTED if key.startswith("disputed ") else key for key in numbers)
    return _indexed(codes, np.concatenate(edges), np.concatenate(countries))


def _part(code: str, points: np.ndarray) -> str:
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    for part, box_west, box_south, box_east, box_north in _PARTS.get(code, ()):
        if west >= box_west and south >= box_south and east <= box_east and north <= box_north:
            return part
    return code


def _indexed(codes: tuple[str, ...], edges_E4: np.ndarray, country_E: np.ndarray) -> _Borders:
    edges_E4[:, [0, 2]] = _wrapped(edges_E4[:, [0, 2]])
    border = np.maximum(edges_E4[:, 1], edges_E4[:, 3]) > _BOTTOM_DEG
    edges_E4, country_E = edges_E4[border], country_E[border]
    lon0, lat0, lon1, lat1 = edges_E4.T
    return _Borders(
        codes=codes,
        country_E=country_E,
        edges_E4=edges_E4,
        by_latitude=_banded(lat0 + 90, lat1 - lat0, country_E, _LATITUDES),
        by_longitude=_banded(lon0 + 180, _wrapped(lon1 - lon0), country_E, _LONGITUDES),
    )


def _banded(start_E: np.ndarray, run_E: np.ndarray, country_E: np.ndarray, num: int) -> _Bands:
    first = np.floor(np.minimum(start_E, start_E + run_E) / _BAND_DEG).astype(np.int64)
    last = np.floor(np.maximum(start_E, start_E + run_E) / _BAND_DEG).astype(np.int64)
    times = last - first + 1
    edge = np.repeat(np.arange(len(first)), times)
    band = np.repeat(first, times) + np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    band %= num  # longitudes go round; no latitude reaches the end of its bands
    order = np.lexsort((country_E[edge], band))
    return _Bands(order=edge[order], starts=np.searchsorted(band[order], np.arange(num + 1)))
