"""The skins of mini-world buildings: facades, roofs, floors and end walls, drawn flat.

A texture is uint8 ``[H, W, 4]``: blue, green, red and *glow*, the share of a pixel that shines at night.
Row 0 is the top edge.  ``Look`` is what the facades of one landmark have in common, so that a view of the
side still tells whose side it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]
"""Blue, green, red; 0 to 255."""

WINDOWS = ("rect", "arch", "pointed", "round", "slit", "twin", "cross", "trefoil")
ORNAMENTS = ("none", "none", "rose", "diamonds", "checker", "zigzag", "clock", "relief")
CROWNS = ("cornice", "crenels", "dentils", "arcade")
MASONRY = ("ashlar", "brick", "plaster", "plank")


@dataclass(frozen=True, slots=True)
class Look:
    """What all facades of one landmark share."""

    wall: Colour
    trim: Colour
    glass: Colour
    upper_window: str
    lower_window: str
    window_share: float
    """Width of a window as a share of its bay."""
    bay_m: float
    storey_m: float
    pilasters: bool
    courses: bool
    stripes: int
    masonry: str
    crown: str
    ornament: str


def random_look(rng: np.random.Generator, wall: Colour) -> Look:
    """A look over the given wall colour; everything else is chance."""
    return Look(
        wall=shifted(rng, wall, 8),
        trim=_scaled(wall, float(rng.choice([0.55, 0.72, 1.22]))),
        glass=shifted(rng, (62, 50, 42), 14),
        upper_window=str(rng.choice(WINDOWS)),
        lower_window=str(rng.choice(WINDOWS)),
        window_share=rng.uniform(0.3, 0.68),
        bay_m=rng.uniform(2.8, 6.5),
        storey_m=rng.uniform(3.8, 8.5),
        pilasters=bool(rng.random() < 0.45),
        courses=bool(rng.random() < 0.5),
        stripes=int(rng.choice([0, 0, 0, 5, 9, 14])),
        masonry=str(rng.choice(MASONRY)),
        crown=str(rng.choice(CROWNS)),
        ornament=str(rng.choice(ORNAMENTS)),
    )


def shifted(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """*colour* with a little chance on every channel."""
    blue, green, red = np.clip(np.asarray(colour) + rng.normal(0, spread, 3), 8, 250)
    return (float(blue), float(green), float(red))


def _scaled(colour: Colour, factor: float) -> Colour:
    blue, green, red = np.clip(np.asarray(colour) * factor, 6, 252)
    return (float(blue), float(green), float(red))


def blotches(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise, float32 ``[H, W]`` about 0 with spread 1: stains, clouds, foliage."""
    shape = (max(2, cells * height // max(height, width)), max(2, cells * width // max(height, width)))
    noise: np.ndarray = cv2.resize(
        rng.normal(size=shape).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return noise


def masonry(rng: np.random.Generator, height: int, width: int, colour: Colour, kind: str) -> np.ndarray:
    """A bare wall, uint8 ``[H, W, 3]``: stains, grain and the joints of its stones, bricks or boards."""
    grain = 7 * blotches(rng, height, width, 6) + rng.normal(0, 4, (height, width)).astype(np.float32)
    wall: np.ndarray = np.clip(np.asarray(colour, np.float32) + grain[..., None], 0, 255).astype(np.uint8)
    joint = _scaled(colour, 0.82)
    course = {"ashlar": 14, "brick": 7, "plank": 9, "plaster": 0}[kind]
    for row, y in enumerate(range(course, height, course) if course else ()):
        cv2.line(wall, (0, y), (width, y), joint, 1)
        if kind != "plank":
            for x in range((row % 2) * course, width, 2 * course):
                cv2.line(wall, (x, y - course), (x, y), joint, 1)
    return wall


def _window(
    face: np.ndarray, glow: np.ndarray, look: Look, shape: str, box: tuple[int, int, int, int]
) -> None:
    x, y, width, height = box
    if width < 3 or height < 4:
        return
    middle, radius, frame = x + width // 2, width // 2, max(1, width // 7)
    if shape in ("round", "cross", "trefoil"):
        radius = max(2, min(width, height) // 2)
        centre = (middle, y + height // 2)
        petals = {"round": [(0, 0)], "cross": [(0, 0)], "trefoil": [(-1, 1), (1, 1), (0, -1)]}[shape]
        for layer, colour, grow in ((face, look.trim, frame), (face, look.glass, 0), (glow, 255, 0)):
            for dx, dy in petals:
                at = (centre[0] + dx * radius // 2, centre[1] + dy * radius // 2)
                cv2.circle(layer, at, (radius if len(petals) == 1 else radius * 3 // 5) + grow, colour, -1)
        if shape == "cross":
            cv2.line(face, (middle, centre[1] - radius), (middle, centre[1] + radius), look.trim, frame)
            cv2.line(face, (middle - radius, centre[1]), (middle + radius, centre[1]), look.trim, frame)
        return
    if shape == "slit":
        x, width, radius = middle - max(1, width // 6), max(2, width // 3), 0
    rise = {"arch": radius, "twin": radius, "pointed": int(1.5 * radius)}.get(shape, 0)
    rise = min(rise, height - 2)
    for layer, colour, grow in ((face, look.trim, frame), (face, look.glass, 0), (glow, 255, 0)):
        left, right, top = x - grow, x + width + grow, y + rise - (0 if rise else grow)
        cv2.rectangle(layer, (left, top), (right, y + height), colour, -1)
        if shape == "pointed":
            cv2.fillPoly(layer, [np.array([(left, top), (middle, y - 2 * grow), (right, top)])], colour)
        elif rise:
            cv2.ellipse(layer, (middle, top), (radius + grow, rise + grow), 0, 180, 360, colour, -1)
    if shape in ("twin", "rect"):
        cv2.line(face, (middle, y), (middle, y + height), look.trim, frame)
    if shape in ("rect", "pointed"):
        cv2.line(face, (x, y + height // 2), (x + width, y + height // 2), look.trim, max(1, frame // 2))


def _ornament(face: np.ndarray, glow: np.ndarray, look: Look, y: int, size: int) -> None:
    width = face.shape[1]
    centre, radius = (width // 2, y), max(5, size // 2)
    if look.ornament == "rose":
        cv2.circle(face, centre, radius, look.trim, -1)
        for turn in np.arange(8) * np.pi / 4:
            at = (int(centre[0] + 0.62 * radius * np.cos(turn)), int(y + 0.62 * radius * np.sin(turn)))
            cv2.circle(face, at, max(1, radius // 4), look.glass, -1)
            cv2.circle(glow, at, max(1, radius // 4), 255, -1)
        cv2.circle(face, centre, max(1, radius // 4), look.glass, -1)
    elif look.ornament == "clock":
        cv2.circle(face, centre, radius, look.trim, -1)
        cv2.circle(face, centre, int(0.8 * radius), (225, 232, 235), -1)
        cv2.circle(glow, centre, int(0.8 * radius), 180, -1)
        cv2.line(face, centre, (centre[0], y - int(0.7 * radius)), (30, 30, 30), 2)
        cv2.line(face, centre, (centre[0] + radius // 2, y), (30, 30, 30), 2)
    elif look.ornament == "relief":
        for x in range(radius, width - radius // 2, max(4, radius)):
            cv2.circle(face, (x, y - radius // 3), max(2, radius // 5), look.trim, -1)
            cv2.rectangle(face, (x - radius // 5, y), (x + radius // 5, y + radius // 2), look.trim, -1)
    elif look.ornament != "none":
        step = max(6, radius)
        for row, x in enumerate(range(0, width, step)):
            top, bottom = y - step // 2, y + step // 2
            if look.ornament == "diamonds":
                points = [(x, y), (x + step // 2, top), (x + step, y), (x + step // 2, bottom)]
            elif look.ornament == "zigzag":
                points = [(x, bottom), (x + step // 2, top), (x + step, bottom)]
            else:
                edge = top if row % 2 else y
                points = [(x, edge), (x + step, edge), (x + step, edge + step // 2), (x, edge + step // 2)]
            cv2.fillPoly(face, [np.array(points)], look.trim)


def _crown(face: np.ndarray, look: Look, height: int) -> None:
    width, step = face.shape[1], max(5, height)
    cv2.rectangle(face, (0, 0), (width, height // 2), look.trim, -1)
    cv2.line(face, (0, height), (width, height), _scaled(look.wall, 0.6), max(1, height // 6))
    for x in range(0, width, step):
        if look.crown == "dentils":
            cv2.rectangle(face, (x, height // 2), (x + step // 3, height), look.trim, -1)
        elif look.crown == "arcade":
            centre = (x + step // 2, height + step // 3)
            cv2.ellipse(face, centre, (step // 3, step // 2), 0, 180, 360, _scaled(look.wall, 0.5), -1)
        elif look.crown == "crenels":
            cv2.rectangle(face, (x, 0), (x + step // 2, height * 2 // 3), _scaled(look.wall, 0.45), -1)


def facade(
    rng: np.random.Generator, look: Look, width_m: float, height_m: float, *, portal: bool = False
) -> np.ndarray:
    """A wall of the given size in the given *look*; *portal* adds the main door."""
    scale = min(10.0, 224 / max(width_m, height_m))
    width, height = max(12, int(width_m * scale)), max(12, int(height_m * scale))
    face = masonry(rng, height, width, look.wall, look.masonry)
    glow = np.zeros((height, width), np.uint8)
    if look.stripes:
        band = max(3, height // (2 * look.stripes))
        for y in range(0, height, 2 * band):
            face[y : y + band] = (0.7 * face[y : y + band]).astype(np.uint8)
    columns, rows = max(1, round(width_m / look.bay_m)), max(1, round(height_m / look.storey_m))
    head, foot = int(0.07 * height), int(0.05 * height)
    ornate = look.ornament != "none" and rows > 1
    bay, storey = width / columns, (height - head - foot) / rows
    if portal and columns % 2 == 0:
        columns, bay = columns + 1, width / (columns + 1)
    for row in range(rows):
        top = int(head + row * storey)
        if look.courses and row:
            cv2.line(face, (0, top), (width, top), look.trim, max(2, int(storey / 12)))
        if ornate and row == 0:
            _ornament(face, glow, look, top + int(storey * 0.5), int(0.8 * min(storey, width)))
            continue
        shape = look.lower_window if row == rows - 1 else look.upper_window
        for column in range(columns):
            if portal and row == rows - 1 and column == columns // 2:
                continue
            opening = max(3, int(bay * look.window_share))
            left = int((column + 0.5) * bay - opening / 2)
            _window(face, glow, look, shape, (left, top + int(0.2 * storey), opening, int(0.62 * storey)))
    if look.pilasters:
        for column in range(columns + 1):
            x, half = int(column * bay), max(1, int(bay / 12))
            cv2.rectangle(face, (x - half, head), (x + half, height), look.trim, -1)
    if portal:
        rise, opening = int(min(storey * 1.15, 0.45 * height)), int(max(bay * 0.8, 8))
        _window(face, glow, look, look.lower_window if look.lower_window in ("arch", "pointed") else "arch",
                (width // 2 - opening // 2, height - rise, opening, rise))  # fmt: skip
        glow[height - rise :, width // 2 - opening // 2 : width // 2 + opening // 2] //= 2
    _crown(face, look, max(3, head))
    cv2.rectangle(face, (0, height - foot), (width, height), _scaled(look.wall, 0.7), -1)
    # the foot of a wall is darker than its head: it sees less of the sky
    face = (face * np.linspace(1.08, 0.82, height)[:, None, None]).clip(0, 255).astype(np.uint8)
    return np.dstack([face, glow])


def roofing(rng: np.random.Generator, colour: Colour, kind: str) -> np.ndarray:
    """A roof skin: ``tiles`` in rows, ``ribs`` down the slope, or ``plain``."""
    roof = np.full((96, 96, 3), colour, np.float32) + (8 * blotches(rng, 96, 96, 5))[..., None]
    if kind == "tiles":
        roof[::8] *= 0.72
        roof[1::8] *= 1.12
    elif kind == "ribs":
        roof[:, ::12] *= 0.62
        roof[:, 1::12] *= 1.2
    return np.dstack([roof.clip(0, 255), np.zeros((96, 96))]).astype(np.uint8)


def flooring(rng: np.random.Generator, kind: str, colour: Colour, other: Colour) -> np.ndarray:
    """A ground or floor skin that may repeat: ``paving``, ``checker``, ``lawn`` or ``sand``."""
    size = 96
    floor = np.full((size, size, 3), colour, np.float32)
    if kind == "checker":
        half = size // 2
        floor[:half, :half] = floor[half:, half:] = other
    elif kind == "paving":
        floor[::24] = floor[:, ::32] = np.asarray(other, np.float32) * 0.9
    grain = rng.normal(0, 14 if kind == "lawn" else 5, (size, size)).astype(np.float32)
    floor += cv2.GaussianBlur(grain, (0, 0), 0.8)[..., None]
    return np.dstack([floor.clip(0, 255), np.zeros((size, size))]).astype(np.uint8)


def end_wall(rng: np.random.Generator, look: Look, kind: str) -> np.ndarray:
    """The wall a visitor looks at inside: ``altar``, coloured ``glass``, ``painting`` or ``organ``."""
    size = 224
    face = masonry(rng, size, size, look.wall, look.masonry)
    glow = np.zeros((size, size), np.uint8)
    bright = [(70, 90, 220), (200, 120, 50), (60, 190, 220), (90, 160, 60), (180, 60, 150)]
    colours = [bright[i] for i in rng.permutation(len(bright))]
    count = int(rng.integers(3, 6))
    if kind == "glass":
        for i in range(count):
            left, width = int((i + 0.2) * size / count), int(0.6 * size / count)
            tall = int(size * (0.5 + 0.25 * (1 - abs(2 * i + 1 - count) / count)))
            for y in range(size - 30 - tall, size - 30, 14):
                cv2.rectangle(face, (left, y), (left + width, y + 13), colours[(y // 14 + i) % count], -1)
            cv2.rectangle(face, (left, size - 30 - tall), (left + width, size - 30), (20, 20, 20), 2)
            cv2.rectangle(glow, (left, size - 30 - tall), (left + width, size - 30), 200, -1)
    elif kind == "painting":
        cv2.rectangle(face, (20, 50), (204, 180), (60, 140, 190), -1)
        face[60:170, 30:194] = np.clip(
            90 + 60 * np.dstack([blotches(rng, 110, 164, 5) for _ in range(3)]), 0, 255
        )
    elif kind == "organ":
        for x in range(16, size - 16, 10):
            top = int(60 + 40 * abs(np.cos(count * np.pi * x / size)))
            cv2.rectangle(face, (x, top), (x + 7, 150), (150, 190, 205), -1)
        cv2.rectangle(face, (10, 150), (size - 10, size), (35, 55, 85), -1)
    else:
        for i in range(count, 0, -1):
            half, top = 22 * i, 150 - 26 * i
            cv2.rectangle(face, (112 - half, top + half // 2), (112 + half, size), colours[i % 5], -1)
            cv2.ellipse(face, (112, top + half // 2), (half, half // 2), 0, 180, 360, colours[i % 5], -1)
        cv2.rectangle(glow, (96, 120), (128, 190), 160, -1)
    return np.dstack([face, glow])
