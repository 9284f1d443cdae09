"""Write the explorer's world map, ``src/landseer/server/static/world.json``, from the borders that travel with the
program (Natural Earth 1:50m, ``src/landseer/datasets/data``).

Run ``python docs/make_world_map.py`` when those borders change.  Lines are made simpler where two countries meet, once
for both, so that no gap opens between them; rings that cross the antimeridian are cut there.  The map is drawn in the
Natural Earth projection (Savric, Jenny et al., 2011), whose formula stands in ``map.js``, too: answers are placed by
it.

Axes: P points of a line, 2 its longitude and latitude, degrees.
"""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from landseer.datasets.geography import code_of_number

SOURCE = Path(__file__).parents[1] / "src/landseer/datasets/data/countries-50m.json.gz"
TARGET = Path(__file__).parents[1] / "src/landseer/server/static/world.json"

UNITS_PER_RADIAN = 400.0
"""The map is 2 x 2.736 x this wide: 2,189 units."""
TOLERANCE = 0.55
"""A point is left out where the line moves by less, in units of the map."""
SMALLEST = 1.2
"""An island is left out where its area is less, in square units, but for the largest of its country."""
WITHOUT_NUMBER = {"Kosovo": "XK"}


def main() -> None:
    """Write the map and say how large it is."""
    topology: dict[str, Any] = json.loads(gzip.decompress(SOURCE.read_bytes()))
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = [simpler(np.cumsum(np.array(arc), axis=0) * scale + shift) for arc in topology["arcs"]]
    countries = []
    for geometry in topology["objects"]["countries"]["geometries"]:
        name = geometry["properties"]["name"]
        code = code_of_number().get(geometry.get("id", "")) or WITHOUT_NUMBER.get(name, "")
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        rings = [part for polygon in polygons for ring in polygon for part in cut(joined(arcs, ring))]
        countries.append({"code": code, "name": name, "path": path_of([project(ring) for ring in rings])})
    outline = path_of([project(frame())])
    world = {"radius": 10 * UNITS_PER_RADIAN, "outline": outline, "countries": countries}
    TARGET.write_text(json.dumps(world, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(countries)} countries, {TARGET.stat().st_size / 1024:.0f} kB")


def project(points_P2: np.ndarray) -> np.ndarray:
    """Units east and south of where the equator meets Greenwich."""
    lon, lat = np.radians(points_P2).T
    two, four = lat**2, lat**4
    x = lon * (0.8707 - 0.131979 * two + four * (-0.013791 + four * (0.003971 * two - 0.001529 * four)))
    y = lat * (1.007226 + two * (0.015085 + four * (-0.044475 + 0.028874 * two - 0.005916 * four)))
    return np.stack([x, -y], axis=1) * UNITS_PER_RADIAN


def simpler(points_P2: np.ndarray) -> np.ndarray:
    """The line with fewer points (Douglas and Peucker, 1973), its ends as they were."""
    # measured on a plane around each line: the projection would tear one that crosses the antimeridian
    plane = np.unwrap(points_P2, period=360, axis=0) * [np.cos(np.radians(points_P2[:, 1].mean())), 1.0]
    plane = plane * np.radians(UNITS_PER_RADIAN)
    keep = np.zeros(len(plane), dtype=bool)
    keep[[0, -1]] = True
    spans = [(0, len(plane) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        away = _away(plane[first + 1 : last], plane[first], plane[last])
        farthest = int(away.argmax())
        if away[farthest] > TOLERANCE:
            middle = first + 1 + farthest
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return points_P2[keep]


def _away(points_P2: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of each point from the segment."""
    run = end - start
    length = float(run @ run)
    along = np.clip((points_P2 - start) @ run / length, 0, 1) if length else np.zeros(len(points_P2))
    return np.hypot(*(points_P2 - start - along[:, None] * run).T)


def joined(arcs: list[np.ndarray], ring: list[int]) -> np.ndarray:
    """The ring that these arcs make (``~i``: reversed), its longitudes without jumps."""
    lines = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
    points = np.concatenate([line[:-1] for line in lines] + [lines[-1][-1:]])
    return np.stack([np.unwrap(points[:, 0], period=360), points[:, 1]], axis=1)


def cut(ring_P2: np.ndarray) -> list[np.ndarray]:
    """The ring as parts that each lie within -180..180."""
    turn = ring_P2[-1, 0] - ring_P2[0, 0]
    if abs(turn) > 180:  # around the South Pole: closed below the map
        ring_P2 = np.concatenate([ring_P2, [[ring_P2[-1, 0], -90.0], [ring_P2[0, 0], -90.0]], ring_P2[:1]])
    parts = []
    for turns in (-1, 0, 1):
        moved = ring_P2 + np.array([360.0 * turns, 0.0])
        part = _within(_within(moved, -180.0, 1.0), 180.0, -1.0)
        if len(part) > 3:
            parts.append(_along_the_edge(part))
    return parts


def _within(ring_P2: np.ndarray, edge: float, side: float) -> np.ndarray:
    """The part of the ring on one side of a meridian (Sutherland and Hodgman, 1974)."""
    found: list[np.ndarray] = []
    for start, end in pairwise(ring_P2):
        a, b = side * (start[0] - edge), side * (end[0] - edge)
        if a >= 0:
            found.append(start)
        if a * b < 0:
            crossing = start + (end - start) * a / (a - b)
            found.append(np.array([edge, crossing[1]]))
    return np.array([*found, found[0]]) if found else ring_P2[:0]


def _along_the_edge(ring_P2: np.ndarray) -> np.ndarray:
    """The ring with a point every few degrees where it follows the edge of the map, which is curved."""
    points = [ring_P2[0]]
    for start, end in pairwise(ring_P2):
        on_edge = (start[0] == end[0] and abs(start[0]) == 180) or start[1] == end[1] == -90
        steps = int(np.abs(end - start).max() // 5) + 1 if on_edge else 1
        points += [start + (end - start) * (step + 1) / steps for step in range(steps)]
    return np.array(points)


def frame() -> np.ndarray:
    """The edge of the world."""
    lats = np.linspace(-90, 90, 73)
    east, west = np.full(73, 180.0), np.full(73, -180.0)
    return np.concatenate([np.stack([east, lats], axis=1), np.stack([west, lats[::-1]], axis=1)])


def path_of(rings: list[np.ndarray]) -> str:
    """An SVG path in tenths of a unit, of rings large enough to be seen."""
    areas = [_area(ring) for ring in rings]
    large = max(areas, default=0.0)
    return "".join(
        _subpath(ring) for ring, area in zip(rings, areas, strict=True) if area >= min(SMALLEST, large)
    )


def _area(ring_P2: np.ndarray) -> float:
    x, y = ring_P2.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _subpath(ring_P2: np.ndarray) -> str:
    steps = np.diff(np.round(ring_P2 * 10).astype(int), axis=0, prepend=0)
    steps = steps[np.any(steps != 0, axis=1)] if len(steps) > 4 else steps
    text = " ".join(f"{x} {y}" for x, y in steps[1:]).replace(" -", "-")
    return f"M{steps[0][0]} {steps[0][1]}l{text}z"


if __name__ == "__main__":
    main()
