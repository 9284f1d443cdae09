"""Solid bodies: faces in space and the textures on them, packed for the renderer.

Metres; x to the right and z up as seen by someone in front, who looks along +y.  A face lists its corners
bottom left, bottom right, top right, top left as seen from the side it is to be seen from.  F faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np


@dataclass(frozen=True)
class Model:
    """A landmark ready to be photographed."""

    corners_F43: np.ndarray
    texture_F: np.ndarray
    """Row of ``places`` for each face."""
    repeat_F: np.ndarray
    """How often the texture repeats along both edges of the face."""
    atlas: np.ndarray
    """All textures with two coarser copies each, uint8 ``[H, W, 4]``."""
    places_T34: np.ndarray
    """Texture, level -> x, y, width, height in the atlas."""
    size_m: float
    height_m: float
    num_own: int
    """Faces of the landmark proper: ground and neighbours come after them."""


class Builder:
    """Collects faces and textures."""

    def __init__(self) -> None:
        self.faces: list[np.ndarray] = []
        self.skins: list[int] = []
        self.repeats: list[float] = []
        self.textures: list[np.ndarray] = []

    def add(self, texture: np.ndarray) -> int:
        """Keep *texture* and return its number."""
        self.textures.append(texture)
        return len(self.textures) - 1

    def face(self, corners: np.ndarray, skin: int, repeat: float = 1.0) -> None:
        """One face, flat, with four corners (the last two may coincide)."""
        self.faces.append(np.asarray(corners, np.float64))
        self.skins.append(skin)
        self.repeats.append(repeat)

    def frustum(
        self,
        at: tuple[float, float],
        bottom: tuple[float, float],
        top: tuple[float, float],
        z: tuple[float, float],
        skins: tuple[int, ...],
        *,
        lid: int | None = None,
    ) -> None:
        """Four walls from a *bottom* to a *top* rectangle: box, hipped roof, pyramid.  Skins: front, side."""
        (x, y), signs = at, ((-1, -1), (1, -1), (1, 1), (-1, 1))
        low, high = (
            np.array([(x + i * w / 2, y + j * d / 2, level) for i, j in signs])
            for (w, d), level in zip((bottom, top), z, strict=True)
        )
        for side in range(4):
            following = (side + 1) % 4
            self.face(
                np.stack([low[side], low[following], high[following], high[side]]),
                skins[side % 2 % len(skins)],
            )
        if lid is not None:
            self.face(high, lid)

    def prism(
        self,
        at: tuple[float, float],
        radii: tuple[float, float],
        z: tuple[float, float],
        skin: int,
        sides: int = 12,
    ) -> None:
        """A round or many-sided body whose radius changes from bottom to top: drum, tower, cone, column."""
        turn = (np.arange(sides) + 0.5) * 2 * np.pi / sides
        ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        low, high = (
            np.column_stack([np.asarray(at) + ring * radius, np.full(sides, level)])
            for radius, level in zip(radii, z, strict=True)
        )
        for i in range(sides):
            j = (i + 1) % sides
            self.face(np.stack([low[i], low[j], high[j], high[i]]), skin)

    def dome(self, at: tuple[float, float], radius: float, z: float, skin: int, profile: str) -> float:
        """A dome and its finial; returns the height of the top."""
        points = {
            "round": [(1, 0), (0.93, 0.36), (0.72, 0.7), (0.4, 0.93), (0.05, 1.02)],
            "onion": [(0.8, 0), (1.12, 0.4), (1.05, 0.75), (0.6, 1.15), (0.2, 1.5), (0.02, 1.9)],
            "pointed": [(1, 0), (0.95, 0.5), (0.7, 1.0), (0.35, 1.4), (0.02, 1.75)],
            "bell": [(1.15, 0), (0.85, 0.25), (0.8, 0.7), (0.45, 1.05), (0.12, 1.25), (0.05, 1.9)],
        }[profile]
        for (r0, z0), (r1, z1) in pairwise(points):
            self.prism(at, (r0 * radius, r1 * radius), (z + z0 * radius, z + z1 * radius), skin)
        top = z + points[-1][1] * radius
        self.frustum(at, (0.12 * radius,) * 2, (0.04 * radius,) * 2, (top, top + 0.5 * radius), (skin,))
        return float(top + 0.5 * radius)

    def gable(
        self,
        at: tuple[float, float],
        size: tuple[float, float],
        z: float,
        rise: float,
        skins: tuple[int, int],
    ) -> None:
        """A saddle roof with its ridge along y.  Skins: slope, gable end."""
        (x, y), (width, depth) = at, (size[0] / 2, size[1] / 2)
        a, b, c, d = (
            np.array([x + i * width, y + j * depth, z]) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        )
        front, back = np.array([x, y - depth, z + rise]), np.array([x, y + depth, z + rise])
        self.face(np.stack([b, c, back, front]), skins[0])
        self.face(np.stack([d, a, front, back]), skins[0])
        self.face(np.stack([a, b, front, front]), skins[1])
        self.face(np.stack([c, d, back, back]), skins[1])

    def model(self, size_m: float, height_m: float, num_own: int) -> Model:
        """Pack the textures into one atlas."""
        widest = max(texture.shape[1] for texture in self.textures)
        rows, places, y = [], [], 0
        for texture in self.textures:
            height, width = texture.shape[:2]
            row = np.zeros((height, 2 * widest, 4), np.uint8)
            levels, x = [], 0
            for level in range(3):
                w, h = max(2, width >> level), max(2, height >> level)
                row[:h, x : x + w] = cv2.resize(texture, (w, h), interpolation=cv2.INTER_AREA)
                levels.append((x, y, w, h))
                x += max(2, widest >> level)
            rows.append(row)
            places.append(levels)
            y += height
        return Model(
            np.stack(self.faces), np.array(self.skins), np.array(self.repeats), np.concatenate(rows),
            np.array(places, np.float32), size_m, height_m, num_own,
        )  # fmt: skip
