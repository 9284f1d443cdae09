"""What is not a landmark: things in the way, falling weather, and photos of something else altogether."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from landseer.datasets.miniworld.render import Camera, Light, sky
from landseer.datasets.miniworld.textures import Colour, blotches, shifted

OTHER_SUBJECTS = ("landscape", "sea", "portrait", "flower", "meal", "page", "animal")
SKINS: tuple[Colour, ...] = ((120, 155, 205), (70, 100, 145), (45, 65, 95))
LEAVES: tuple[Colour, ...] = ((55, 105, 70), (45, 85, 60), (60, 130, 120), (50, 110, 165))
DARK: Colour = (32, 32, 35)


class Brush:
    """Paints flat shapes in units of its own, x to the right and y up from a point of the image."""

    def __init__(
        self, image: np.ndarray, x_px: float, y_px: float, unit_px: float, bright: float = 1.0
    ) -> None:
        self.image, self.x_px, self.y_px, self.unit_px, self.bright = image, x_px, y_px, unit_px, bright

    def _fixed(self, x: float, y: float) -> tuple[int, int]:
        return (int(16 * (self.x_px + x * self.unit_px)), int(16 * (self.y_px - y * self.unit_px)))

    def _paint(self, colour: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(channel * self.bright) for channel in colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Sequence[float]) -> None:
        """A filled convex polygon."""
        corners = np.array([self._fixed(x, y) for x, y in points], np.int32)
        cv2.fillConvexPoly(self.image, corners, self._paint(colour), cv2.LINE_AA, 4)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Sequence[float]) -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Sequence[float],
        *,
        turn_deg: float = 0.0,
        end_deg: int = 360,
    ) -> None:
        """A filled ellipse, or the first *end_deg* of it, clockwise from the right."""
        radii = (max(8, int(16 * rx * self.unit_px)), max(8, int(16 * ry * self.unit_px)))
        cv2.ellipse(
            self.image,
            self._fixed(x, y),
            radii,
            turn_deg,
            0,
            end_deg,
            self._paint(colour),
            -1,
            cv2.LINE_AA,
            4,
        )


def _standing(
    rng: np.random.Generator,
    image: np.ndarray,
    camera: Camera,
    depth_m: float,
    *,
    bright: float = 1.0,
    unit_m: float = 1.0,
) -> Brush:
    """A brush at a chance point on the ground this far away, whose unit is *unit_m*."""
    scale_px = camera.focal_px / depth_m
    horizon_px = camera.height_px / 2 + camera.focal_px * camera.axes[2, 2]
    ground_px = horizon_px + camera.position[2] * scale_px
    return Brush(image, float(rng.uniform(0, camera.width_px)), ground_px, scale_px * unit_m, bright)


def person(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, depth_m: float, bright: float
) -> None:
    """Someone standing about."""
    brush = _standing(rng, image, camera, depth_m, bright=bright, unit_m=float(rng.uniform(1.5, 1.85)))
    coat, trousers = (shifted(rng, (grey, grey, grey), 28) for grey in rng.uniform(40, 190, 2).tolist())
    for x in (-0.075, 0.015):
        brush.box(x, 0.0, x + 0.06, 0.5, trousers)
    brush.polygon([(-0.12, 0.82), (0.12, 0.82), (0.13, 0.42), (-0.13, 0.42)], coat)
    brush.oval(0.0, 0.91, 0.07, 0.08, SKINS[int(rng.integers(len(SKINS)))])


def tree(rng: np.random.Generator, image: np.ndarray, camera: Camera, depth_m: float, light: Light) -> None:
    """A broad tree or a slender one, in the colours of some season."""
    bright = float(np.mean(light.ambient + 0.5 * light.sun_colour))
    brush = _standing(rng, image, camera, depth_m, bright=bright, unit_m=float(rng.uniform(5, 11)))
    leaf = np.asarray(LEAVES[int(rng.integers(len(LEAVES)))])
    if light.weather == "snow":
        leaf = leaf * 0.4 + 120
    brush.box(-0.025, 0.0, 0.025, 0.5, (35, 50, 65))
    broad = rng.random() < 0.5
    for high in rng.uniform(0.25, 1.0, 60).tolist():
        reach = 0.3 * max(0.02, 1 - (2 * high - 1.25) ** 2) ** 0.5 if broad else 0.28 * (1.03 - high)
        radius = 0.07 if broad else 0.08 * (1.15 - high)
        shade = leaf * (0.65 + 0.5 * high + rng.normal(0, 0.1))
        brush.oval(float(rng.uniform(-reach, reach)), high, radius, radius, shade.tolist())


def _car(rng: np.random.Generator, image: np.ndarray, camera: Camera, depth_m: float, bright: float) -> None:
    brush = _standing(rng, image, camera, depth_m, bright=bright)
    brush.polygon([(-1.3, 0.9), (-0.8, 1.5), (0.7, 1.5), (1.4, 0.9)], DARK)
    brush.box(-2.1, 0.3, 2.1, 0.95, shifted(rng, (120, 115, 120), 55))
    for x in (-1.3, 1.3):
        brush.oval(x, 0.33, 0.36, 0.36, DARK)


def _lamp(rng: np.random.Generator, image: np.ndarray, camera: Camera, depth_m: float, light: Light) -> None:
    brush = _standing(rng, image, camera, depth_m)
    brush.box(-0.06, 0.0, 0.06, 4.6, DARK)
    brush.oval(0.0, 4.8, 0.3, 0.3, (150, 215, 250) if light.glow > 0.3 else (150, 155, 155))


def occlude(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, light: Light, distance_m: float
) -> None:
    """Put trees, cars, people and lamp posts between the photographer and the landmark, far ones first."""
    bright = float(np.clip(np.mean(light.ambient + 0.6 * light.sun_colour), 0.15, 1.1))
    things: list[tuple[float, str]] = []
    for what, share, most in (("tree", 0.5, 3), ("car", 0.25, 2), ("person", 0.6, 6), ("lamp", 0.2, 2)):
        count = int(rng.integers(1, most + 1)) if rng.random() < share else 0
        nearest, farthest = (
            (0.25 * distance_m, 0.65 * distance_m) if what in ("tree", "car") else (7, 0.6 * distance_m + 8)
        )
        things += [(depth, what) for depth in rng.uniform(nearest, farthest, count).tolist()]
    for depth_m, what in sorted(things, reverse=True):
        if what == "tree":
            tree(rng, image, camera, depth_m, light)
        elif what == "lamp":
            _lamp(rng, image, camera, depth_m, light)
        else:
            (person if what == "person" else _car)(rng, image, camera, depth_m, bright)


def fall(rng: np.random.Generator, image: np.ndarray, weather: str) -> None:
    """Rain or snow in the air."""
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.float32)
    slant = int(rng.integers(-5, 6))
    for x, y in rng.integers(0, (width, height), (160, 2)).tolist():
        if weather == "rain":
            cv2.line(layer, (x, y), (x + slant, y + int(rng.integers(8, 18))), 0.3, 1, cv2.LINE_AA)
        else:
            cv2.circle(layer, (x, y), int(rng.integers(1, 3)), 0.8, -1, cv2.LINE_AA)
    image += (225 - image) * layer[..., None]


def other_subject(rng: np.random.Generator, size_px: tuple[int, int], light: Light) -> tuple[np.ndarray, str]:
    """A photo of no landmark, float32 ``[H, W, 3]``, and of what it is one; *size_px* is width and height."""
    subject = OTHER_SUBJECTS[int(rng.integers(len(OTHER_SUBJECTS)))]
    width, height = size_px
    colours = [shifted(rng, (120, 120, 130), 55) for _ in range(4)]
    spot = (float(rng.uniform(0.38, 0.62)) * width, float(rng.uniform(0.42, 0.58)) * height)
    unit_px = float(rng.uniform(0.2, 0.33)) * min(size_px)
    if subject in ("landscape", "sea"):
        return _open_air(rng, size_px, light, subject, colours[0]), subject
    cast = np.dstack([blotches(rng, height, width, 3) for _ in range(3)])
    image = np.asarray(shifted(rng, (120, 125, 125), 28), np.float32) + 5 * cast
    image += 20 * blotches(rng, height, width, 4)[..., None]
    brush = Brush(image, *spot, unit_px)
    if subject == "portrait":
        brush.oval(0, -2.4, 1.5, 1.5, colours[0])
        brush.oval(0, 0.1, 0.95, 1.15, (30, 45, 70))
        brush.oval(0, -0.1, 0.75, 1.0, SKINS[int(rng.integers(len(SKINS)))])
        for x in (-0.3, 0.3):
            brush.oval(x, 0.05, 0.08, 0.08, DARK)
        brush.oval(0, -0.5, 0.3, 0.12, (70, 60, 160), end_deg=180)
    elif subject == "flower":
        brush.polygon([(-0.06, 0), (0.06, 0), (0.4, -5), (0.28, -5)], (50, 110, 60))
        count = int(rng.integers(5, 12))
        for turn in (np.arange(count) * 2 * np.pi / count).tolist():
            brush.oval(
                0.75 * np.cos(turn),
                -0.75 * np.sin(turn),
                0.6,
                0.3,
                colours[1],
                turn_deg=float(np.degrees(turn)),
            )
        brush.oval(0, 0, 0.4, 0.4, (40, 170, 220))
    elif subject == "meal":
        brush.oval(0, 0, 1.35, 1.35, (235, 238, 240))
        brush.oval(0, 0, 1.0, 1.0, (215, 220, 224))
        for x, y, radius in rng.uniform((-0.6, -0.6, 0.12), (0.6, 0.6, 0.35), (10, 3)).tolist():
            brush.oval(x, y, radius, radius, colours[int(rng.integers(4))])
    elif subject == "page":
        brush.box(-1.6, -2, 1.6, 2, (222, 230, 234))
        for y in np.arange(-1.7, 1.8, 0.28).tolist():
            brush.box(-1.35, y, float(rng.uniform(0.3, 1.35)), y + 0.09, (60, 60, 65))
    else:
        brush.oval(0.2, -0.4, 1.2, 0.7, colours[2])
        brush.oval(-0.9, 0.5, 0.55, 0.55, colours[2])
        for x in (-0.7, -0.1, 0.5, 1.0):
            brush.box(x, -1.7, x + 0.18, -0.6, colours[2])
        for x in (-1.25, -0.65):
            brush.polygon([(x - 0.15, 0.85), (x + 0.2, 0.9), (x, 1.4)], colours[2])
        brush.oval(-1.05, 0.55, 0.07, 0.07, DARK)
    return image, subject


def _open_air(
    rng: np.random.Generator,
    size_px: tuple[int, int],
    light: Light,
    subject: str,
    colour: Colour,
) -> np.ndarray:
    width, height = size_px
    aim = np.array([0.0, 10.0, 2.0 + rng.uniform(-1, 2)])
    camera = Camera.looking(
        np.array([0.0, 0.0, 2.0]), aim, float(rng.normal(0, 0.03)), 0.9 * max(size_px), size_px
    )
    rise = 0.06 if subject == "landscape" else 0.0
    image = sky(rng, camera, light, rng.uniform((0, 0), (rise, 6.28), (5, 2)))
    edge = int(np.clip(height / 2 + camera.focal_px * camera.axes[2, 2], 5, height - 5))
    plain = (
        np.asarray((75, 120, 95) if subject == "landscape" else (140, 105, 60)) * np.mean(light.ambient) * 1.3
    )
    image[edge:] = (
        plain + cv2.resize(10 * blotches(rng, height - edge, 40, 30), (width, height - edge))[..., None]
    )
    if subject == "landscape":
        for depth_m in rng.uniform(9, 40, int(rng.integers(0, 6))).tolist():
            tree(rng, image, camera, depth_m, light)
    else:
        brush = Brush(
            image, float(rng.uniform(0.3, 0.7)) * width, edge, float(rng.uniform(0.2, 0.33)) * min(size_px)
        )
        brush.polygon([(-1, 0), (1, 0), (0.6, -0.4), (-0.6, -0.4)], colour)
        brush.polygon([(0, 2), (0.9, 0.1), (0, 0.1)], (225, 225, 230))
    return image
