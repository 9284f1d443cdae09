"""The landmarks: how each kind is put together, outside and inside.

A landmark's materials and measures are chance, drawn from its own seed; colours come from few a continent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np

from landseer.datasets.miniworld.solids import Builder, Model
from landseer.datasets.miniworld.textures import (
    Colour,
    Look,
    end_wall,
    facade,
    flooring,
    masonry,
    random_look,
    roofing,
    shifted,
)

GROUND_M = 3000.0


def _bgr(*reds_first: tuple[int, int, int]) -> tuple[Colour, ...]:
    return tuple((float(b), float(g), float(r)) for r, g, b in reds_first)


# Few colours a continent, so that colour alone does not tell two of its landmarks apart.
WALLS: dict[str, tuple[Colour, ...]] = {
    "EU": _bgr((205, 195, 170), (172, 100, 80), (214, 176, 112)),
    "AS": _bgr((170, 75, 60), (222, 214, 200), (120, 132, 124)),
    "AF": _bgr((196, 150, 105), (224, 206, 176)),
    "NA": _bgr((168, 162, 155), (216, 210, 198), (126, 142, 168)),
    "SA": _bgr((222, 190, 110), (226, 220, 210), (210, 140, 122)),
    "OC": _bgr((222, 222, 216), (204, 172, 124)),
}
ROOFS: dict[str, tuple[Colour, ...]] = {
    "EU": _bgr((88, 92, 104), (172, 92, 64)),
    "AS": _bgr((74, 76, 82), (196, 158, 74)),
    "AF": _bgr((92, 140, 140), (186, 140, 96)),
    "NA": _bgr((104, 150, 130), (84, 84, 92)),
    "SA": _bgr((176, 92, 66), (120, 110, 150)),
    "OC": _bgr((150, 66, 56), (196, 198, 200)),
}


class Kit:
    """The materials of one landmark and shorthands to build with them."""

    def __init__(self, rng: np.random.Generator, continent: str) -> None:
        self.rng, self.build = rng, Builder()
        walls, roofs = WALLS[continent], ROOFS[continent]
        self.look: Look = random_look(rng, walls[int(rng.integers(len(walls)))])
        roof = shifted(rng, roofs[int(rng.integers(len(roofs)))], 6)
        self.roof = self.build.add(roofing(rng, roof, str(rng.choice(["tiles", "ribs", "plain"]))))
        self.dome = self.build.add(roofing(rng, roof, str(rng.choice(["ribs", "plain"]))))
        self.stone = self.build.add(self.opaque(masonry(rng, 96, 96, self.look.wall, self.look.masonry)))
        self.trim = self.build.add(self.opaque(masonry(rng, 32, 32, self.look.trim, "plaster")))

    @staticmethod
    def opaque(texture: np.ndarray) -> np.ndarray:
        """A texture without glow."""
        return np.dstack([texture, np.zeros(texture.shape[:2], np.uint8)])

    def wall(self, width: float, height: float, *, portal: bool = False) -> int:
        """A new facade in the landmark's look."""
        return self.build.add(facade(self.rng, self.look, width, height, portal=portal))

    def hall(
        self,
        at: tuple[float, float],
        size: tuple[float, float],
        z: tuple[float, float],
        *,
        portal: bool = False,
    ) -> None:
        """A box with windows on all sides; the front may have the door."""
        height = z[1] - z[0]
        skins = (self.wall(size[0], height, portal=portal), self.wall(size[1], height))
        self.build.frustum(at, size, size, z, skins, lid=self.roof)

    def between(self, low: float, high: float) -> float:
        """A chance length."""
        return float(self.rng.uniform(low, high))

    def one(self, *options: str) -> str:
        """A chance option."""
        return options[int(self.rng.integers(len(options)))]

    def tower(
        self, at: tuple[float, float], width: float, height: float, cap: str, *, round_: bool = False
    ) -> float:
        """A tower with its cap (``spire``, ``hip``, ``flat`` or a profile of dome); returns its top."""
        build = self.build
        if round_:
            build.prism(
                at, (width / 2, width / 2 * 0.94), (0, height), self.wall(width * 0.8, height), sides=10
            )
            build.prism(at, (width * 0.58,) * 2, (height * 0.97, height * 1.04), self.trim, sides=10)
        else:
            skin = self.wall(width, height)
            build.frustum(at, (width, width), (width * 0.96,) * 2, (0, height), (skin,))
            build.frustum(
                at, (width * 1.1,) * 2, (width * 1.1,) * 2, (height * 0.97, height * 1.02), (self.trim,)
            )
        z = height * 1.02
        if cap == "flat":
            for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                spot = (at[0] + i * width * 0.4, at[1] + j * width * 0.4)
                build.frustum(
                    spot, (width * 0.2,) * 2, (width * 0.02,) * 2, (z, z + width * 0.7), (self.stone,)
                )
            return z + width * 0.7
        if cap in ("spire", "hip"):
            rise = width * (2.4 if cap == "spire" else 0.8)
            if round_:
                build.prism(at, (width * 0.6, 0.05), (z, z + rise), self.roof, sides=10)
            else:
                build.frustum(at, (width * 1.1,) * 2, (0.1, 0.1), (z, z + rise), (self.roof,))
            return z + rise
        return build.dome(at, width * 0.5, z, self.dome, {"dome": "round"}.get(cap, cap))


def _church(kit: Kit) -> tuple[float, float]:
    width, depth, height = kit.between(14, 24), kit.between(30, 50), kit.between(12, 22)
    kit.hall((0, 0), (width, depth), (0, height), portal=True)
    kit.build.gable(
        (0, 0), (width * 1.04, depth), height, width * kit.between(0.35, 0.7), (kit.roof, kit.stone)
    )
    if kit.rng.random() < 0.6:
        wing = kit.between(0.6, 1.0) * height
        kit.hall((0, depth * 0.12), (width * kit.between(1.6, 2.1), width * 0.7), (0, wing))
    cap, tall = kit.one("spire", "dome", "bell", "flat", "hip", "onion"), height * kit.between(1.3, 2.3)
    plan, thick = kit.one("pair", "left", "middle", "crossing"), kit.between(0.3, 0.45) * width
    spots = {
        "pair": [(-width / 2 - thick * 0.2, -depth / 2), (width / 2 + thick * 0.2, -depth / 2)],
        "left": [(-width / 2 - thick * 0.5, -depth / 2 + thick)],
        "middle": [(0.0, -depth / 2 - thick * 0.3)],
        "crossing": [(0.0, depth * 0.12)],
    }[plan]
    top = max(kit.tower(spot, thick, tall, cap) for spot in spots)
    return depth * 0.8, top


def _castle(kit: Kit) -> tuple[float, float]:
    width, depth, height = kit.between(36, 60), kit.between(26, 40), kit.between(9, 15)
    kit.hall((0, 0), (width, depth), (0, height), portal=True)
    cap, thick, round_ = kit.one("spire", "hip", "flat"), kit.between(7, 11), bool(kit.rng.random() < 0.6)
    tall = height * kit.between(1.2, 1.9)
    top = 0.0
    for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        top = max(top, kit.tower((i * width / 2, j * depth / 2), thick, tall, cap, round_=round_))
    if kit.rng.random() < 0.7:
        spot = (kit.between(-0.25, 0.25) * width, 0.0)
        top = max(
            top, kit.tower(spot, thick * 1.5, height * kit.between(1.9, 2.8), kit.one("hip", "flat", "spire"))
        )
    return width * 0.9, top


def _palace(kit: Kit) -> tuple[float, float]:
    width, depth, height = kit.between(40, 70), kit.between(18, 28), kit.between(11, 18)
    kit.hall((0, 0), (width, depth), (0, height))
    build, middle = kit.build, kit.between(0.25, 0.4) * width
    front = -depth / 2 - 4
    columns, porch = int(kit.rng.integers(4, 9)), height * kit.between(0.95, 1.15)
    for x in np.linspace(-middle / 2 + 1, middle / 2 - 1, columns):
        build.prism((float(x), front), (0.9, 0.75), (1.5, porch), kit.trim, sides=6)
    build.frustum((0, front + 2), (middle, 7), (middle, 7), (0, 1.5), (kit.trim,), lid=kit.stone)
    build.frustum((0, front + 2), (middle, 7), (middle, 7), (porch, porch + 1.5), (kit.trim,))
    build.gable(
        (0, front + 2),
        (middle * 1.05, 7),
        porch + 1.5,
        middle * kit.between(0.12, 0.25),
        (kit.roof, kit.trim),
    )
    top = height * 1.4
    if kit.rng.random() < 0.7:
        radius, drum = kit.between(0.2, 0.38) * depth, height * kit.between(1.3, 1.8)
        build.prism((0, 0), (radius, radius), (height, drum), kit.wall(radius * 0.6, drum - height), sides=14)
        top = build.dome((0, 0), radius * 1.05, drum, kit.dome, kit.one("round", "pointed", "bell"))
    if kit.rng.random() < 0.6:
        cap, tall = kit.one("dome", "hip", "flat", "bell"), height * kit.between(1.1, 1.5)
        for side in (-1, 1):
            top = max(top, kit.tower((side * width / 2, 0), depth * kit.between(0.4, 0.6), tall, cap))
    return width * 0.85, top


def _pagoda(kit: Kit) -> tuple[float, float]:
    width, tiers = kit.between(12, 24), int(kit.rng.integers(2, 8))
    shrink, storey, eaves = kit.between(0.78, 0.92), kit.between(4.5, 7), kit.between(1.2, 1.55)
    long = kit.between(1.0, 2.2) if tiers < 4 else 1.0
    build, z = kit.build, kit.between(1, 4)
    base = (width * long * 1.5, width * 1.5)
    build.frustum((0, 0), base, base, (0, z), (kit.stone,), lid=kit.stone)
    for tier in range(tiers):
        w = width * shrink**tier
        skins = (kit.wall(w * long, storey, portal=tier == 0), kit.wall(w, storey))
        build.frustum((0, 0), (w * long, w), (w * long, w), (z, z + storey), skins)
        wide, mid, end = w * eaves, w * 1.02, w * (shrink if tier < tiers - 1 else 0.3)
        z += storey
        build.frustum((0, 0), (w * long, w), (wide * long, wide), (z - 0.5, z), (kit.trim,))
        build.frustum((0, 0), (wide * long, wide), (mid * long, mid), (z, z + storey * 0.3), (kit.roof,))
        build.frustum(
            (0, 0),
            (mid * long, mid),
            (end * long, end),
            (z + storey * 0.3, z + storey * 0.8),
            (kit.roof,),
            lid=kit.roof,
        )
        z += storey * 0.6
    build.frustum((0, 0), (1.2, 1.2), (0.2, 0.2), (z, z + width * 0.5), (kit.dome,))
    return width * long * 1.2, z + width * 0.5


def _mausoleum(kit: Kit) -> tuple[float, float]:
    width, height = kit.between(22, 36), kit.between(12, 20)
    kit.hall((0, 0), (width, width), (2, height), portal=True)
    base = (width * 1.5, width * 1.5)
    kit.build.frustum((0, 0), base, base, (0, 2), (kit.stone,), lid=kit.stone)
    profile = kit.one("onion", "round", "pointed")
    radius, drum = width * kit.between(0.24, 0.36), height * kit.between(1.05, 1.35)
    kit.build.prism((0, 0), (radius, radius), (height, drum), kit.wall(radius * 0.6, drum - height))
    top = kit.build.dome((0, 0), radius, drum, kit.dome, profile)
    if kit.rng.random() < 0.6:
        for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            kit.build.dome((i * width * 0.36, j * width * 0.36), radius * 0.36, height, kit.dome, profile)
    slim, tall, cap = (
        width * kit.between(0.1, 0.16),
        height * kit.between(1.3, 2.4),
        kit.one("onion", "spire", "dome"),
    )
    spots = [(-1, -1), (1, -1), (1, 1), (-1, 1)][: int(kit.rng.choice([0, 1, 2, 4]))]
    for i, j in spots:
        spot = (i * width * 0.72, j * width * 0.72)
        top = max(top, kit.tower(spot, slim, tall, cap, round_=True))
    return width * 1.3, top


def _pyramid(kit: Kit) -> tuple[float, float]:
    width, steps = kit.between(40, 64), int(kit.rng.integers(3, 10))
    rise, slope, build = kit.between(3, 6), kit.between(0.86, 0.98), kit.build
    top_share = kit.between(0.25, 0.5)
    for step in range(steps):
        w = width * (1 - (1 - top_share) * step / steps)
        skin = kit.wall(w, rise) if step % 2 == 0 and kit.look.pilasters else kit.stone
        build.frustum(
            (0, 0), (w, w), (w * slope, w * slope), (step * rise, (step + 1) * rise), (skin,), lid=kit.stone
        )
    stairs, z = width * kit.between(0.12, 0.22), steps * rise
    ramp = build.add(np.rot90(roofing(kit.rng, kit.look.trim, "ribs")).copy())
    reach = -width / 2 * 1.12
    build.face(
        np.array([(-stairs / 2, reach, 0), (stairs / 2, reach, 0),
                  (stairs / 2, -width * top_share / 2, z), (-stairs / 2, -width * top_share / 2, z)]), ramp
    )  # fmt: skip
    temple = width * top_share * kit.between(0.5, 0.8)
    kit.hall((0, 0), (temple, temple * 0.8), (z, z + temple * 0.5), portal=True)
    if kit.rng.random() < 0.6:
        size = (temple * 0.6, temple * 0.5)
        build.frustum(
            (0, 0), size, (size[0], size[1] * 0.7), (z + temple * 0.5, z + temple * 1.1), (kit.trim,)
        )
    return width, z + temple * 1.1


def _skyscraper(kit: Kit) -> tuple[float, float]:
    width, levels, z = kit.between(20, 30), int(kit.rng.integers(2, 6)), 0.0
    long = kit.between(0.8, 1.5)
    for level in range(levels):
        w, rise = width * (1 - 0.8 * level / (levels + 0.5)), kit.between(14, 34) / (1 + 0.3 * level)
        kit.hall((0, 0), (w * long, w), (z, z + rise), portal=level == 0)
        z += rise
    cap, w = kit.one("spire", "dome", "flat", "slope"), width * (1 - 0.8 * (levels - 0.5) / (levels + 0.5))
    if cap == "dome":
        return width * 1.2, kit.build.dome((0, 0), w * 0.5, z, kit.dome, "round")
    rise = {"spire": 22.0, "flat": 3.0, "slope": w}[cap]
    end = {"spire": 0.1, "flat": w * 0.8, "slope": w * 0.05}[cap]
    kit.build.frustum((0, 0), (w, w), (end, w if cap == "slope" else end), (z, z + rise), (kit.dome,))
    return width * 1.2, z + rise


def _mud_mosque(kit: Kit) -> tuple[float, float]:
    width, depth, height = kit.between(34, 54), kit.between(18, 28), kit.between(9, 14)
    kit.hall((0, 0), (width, depth), (0, height), portal=True)
    count, tall = int(kit.rng.integers(2, 6)), height * kit.between(1.3, 2.1)
    thick = width / count * kit.between(0.25, 0.45)
    for i, x in enumerate(np.linspace(-width / 2, width / 2, count)):
        peak = tall * (1.0 if i in (0, count - 1) else kit.between(0.7, 1.3))
        spot = (float(x), -depth / 2)
        kit.build.frustum(spot, (thick, thick), (thick * 0.4,) * 2, (0, peak), (kit.wall(thick, peak),))
        kit.build.dome(spot, thick * 0.22, peak, kit.dome, "pointed")
    for x in np.linspace(-width / 2, width / 2, 3 * count):
        kit.build.frustum((float(x), -depth / 2), (1.2, 1.6), (0.4, 0.4), (0, height * 1.15), (kit.stone,))
    return width * 0.9, tall * 1.3


def _shells(kit: Kit) -> tuple[float, float]:
    width, count = kit.between(36, 60), int(kit.rng.integers(3, 7))
    build, podium = kit.build, kit.between(3, 7)
    build.frustum((0, 0), (width * 1.2, width * 0.6), (width * 1.15, width * 0.55), (0, podium),
                  (kit.wall(width, podium), kit.wall(width / 2, podium)), lid=kit.stone)  # fmt: skip
    lean, top = kit.between(-0.5, 0.5), podium
    for i, x in enumerate(np.linspace(-width * 0.42, width * 0.42, count)):
        tall, half = kit.between(10, 24), width / count * kit.between(0.5, 0.7)
        peak = np.array([x + lean * half, 0.0, podium + tall])
        ring = [(-1, -1), (0, -1.35), (1, -1), (1, 1), (0, 1.35), (-1, 1)]
        points = [np.array([x + a * half, b * width * 0.16, podium]) for a, b in ring]
        for k in range(6):
            skin = kit.wall(half, tall) if k in (0, 1) and i % 2 == 0 else kit.dome
            build.face(np.stack([points[k], points[(k + 1) % 6], peak, peak]), skin)
        top = max(top, podium + tall)
    return width, top


def _lighthouse(kit: Kit) -> tuple[float, float]:
    width, height = kit.between(8, 13), kit.between(30, 48)
    build, sides = kit.build, int(kit.rng.choice([4, 6, 8, 12]))
    levels, z = int(kit.rng.integers(1, 4)), 0.0
    if kit.rng.random() < 0.7:
        kit.hall(
            (kit.between(-1, 1) * width, width * 0.4),
            (width * kit.between(1.5, 3), width * 1.4),
            (0, 7),
            portal=True,
        )
    for level in range(levels):
        w, rise = width * (0.5 - 0.1 * level), height / levels
        build.prism((0, 0), (w, w * 0.85), (z, z + rise), kit.wall(w * 5 / sides + 1, rise), sides)
        z += rise
        build.prism((0, 0), (w * 1.15,) * 2, (z - 0.8, z + 0.4), kit.trim, sides)
    return width * 2.4, build.dome(
        (0, 0), width * 0.24, z + 0.4, kit.dome, kit.one("round", "onion", "pointed", "bell")
    )


Style = Callable[[Kit], tuple[float, float]]
STYLES: dict[str, dict[str, Style]] = {
    "EU": {"church": _church, "castle": _castle, "palace": _palace},
    "AS": {"pagoda": _pagoda, "mausoleum": _mausoleum},
    "AF": {"mosque": _mud_mosque, "fort": _castle, "tomb": _mausoleum},
    "NA": {"skyscraper": _skyscraper, "capitol": _palace, "pyramid": _pyramid},
    "SA": {"church": _church, "pyramid": _pyramid},
    "OC": {"concert hall": _shells, "lighthouse": _lighthouse, "town hall": _palace},
}
"""Continent -> kind of landmark -> how it is built."""


@lru_cache(maxsize=4)
def exterior(seed: tuple[int, ...], continent: str, kind: str) -> Model:
    """The landmark that *seed* says, on its ground and among its neighbours."""
    rng = np.random.default_rng(seed)
    kit = Kit(rng, continent)
    size, height = STYLES[continent][kind](kit)
    own, build = len(kit.build.faces), kit.build
    ground = str(rng.choice(["paving", "lawn", "sand", "paving"]))
    colour = {"paving": (150, 155, 160), "lawn": (70, 125, 95), "sand": (140, 175, 200)}[ground]
    soil = build.add(flooring(rng, ground, shifted(rng, colour, 8), (120, 125, 130)))
    reach = GROUND_M
    build.face(
        np.array([(-reach, -reach, 0), (reach, -reach, 0), (reach, reach, 0), (-reach, reach, 0)]),
        soil,
        750.0,
    )
    plain = random_look(rng, shifted(rng, (165, 175, 185), 14))
    skins = tuple(build.add(facade(rng, plain, 16, 10)) for _ in range(2))
    for turn in rng.uniform(0, 2 * np.pi, 9):
        away, w, h = size * rng.uniform(1.3, 2.6), rng.uniform(12, 22), rng.uniform(6, 13)
        spot = (float(away * np.sin(turn)), float(away * np.cos(turn)))
        build.frustum(spot, (w, w), (w, w), (0, h), skins)
        build.frustum(spot, (w * 1.08, w * 1.08), (w * 0.4, 0.2), (h, h + w * 0.35), (kit.roof,))
    return build.model(size, height, own)


@lru_cache(maxsize=4)
def interior(seed: tuple[int, ...]) -> Model:
    """The hall inside a landmark.  It shares no colour, pattern or shape with the exterior but the seed."""
    rng = np.random.default_rng(seed)
    build = Builder()
    wall = shifted(
        rng, [(95, 150, 190), (170, 190, 205), (80, 95, 130), (120, 160, 140)][int(rng.integers(4))], 12
    )
    look = random_look(rng, wall)
    width, length, height = rng.uniform(10, 18), rng.uniform(26, 44), rng.uniform(8, 16)
    x, y = width / 2, length / 2
    end = build.add(end_wall(rng, look, str(rng.choice(["altar", "glass", "painting", "organ"]))))
    back = build.add(facade(rng, look, width, height, portal=True))
    sides = build.add(facade(rng, look, length, height))
    dark, light = shifted(rng, (60, 65, 80), 14), shifted(rng, (165, 182, 195), 12)
    floor = build.add(flooring(rng, str(rng.choice(["checker", "paving"])), light, dark))
    vault = build.add(roofing(rng, shifted(rng, wall, 25), str(rng.choice(["ribs", "tiles", "plain"]))))
    rise = float(rng.choice([0.0, 0.25, 0.5])) * width
    peak = height + rise  # the vault hides the upper corners
    build.face(np.array([(-x, y, 0), (x, y, 0), (x, y, peak), (-x, y, peak)]), end)
    build.face(np.array([(x, -y, 0), (-x, -y, 0), (-x, -y, peak), (x, -y, peak)]), back)
    build.face(np.array([(-x, -y, 0), (-x, y, 0), (-x, y, height), (-x, -y, height)]), sides)
    build.face(np.array([(x, y, 0), (x, -y, 0), (x, -y, height), (x, y, height)]), sides)
    build.face(np.array([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)]), floor, float(rng.integers(3, 7)))
    turns = np.linspace(np.pi, 0, 6 if rise else 2)
    arch = [(x * np.cos(turn), height + rise * np.sin(turn)) for turn in turns]
    for (x0, z0), (x1, z1) in pairwise(arch):
        build.face(np.array([(x0, -y, z0), (x0, y, z0), (x1, y, z1), (x1, -y, z1)]), vault, 2.0)
    shaft = build.add(roofing(rng, shifted(rng, look.trim, 15), str(rng.choice(["ribs", "tiles", "plain"]))))
    thick, count = rng.uniform(0.35, 0.8), int(rng.integers(0, 6))
    for spot in np.linspace(-y + 4, y - 4, count):
        for side in (-1, 1):
            build.prism((side * x * 0.62, float(spot)), (thick, thick * 0.9), (0, height), shaft, sides=8)
            build.prism(
                (side * x * 0.62, float(spot)), (thick, thick * 2.2), (height - 1.5, height), shaft, sides=8
            )
    return build.model(length, height, len(build.faces))
