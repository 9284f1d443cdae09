"""From faces in space to pixels: a camera, the light of the moment and a depth buffer.

Camera space has x right, y down, z forward; H, W are the pixels of the image, F the faces of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from landseer.datasets.miniworld.solids import Model
from landseer.datasets.miniworld.textures import Colour, blotches

NEAR_M = 0.3


@dataclass(frozen=True)
class Camera:
    """Where the photographer stands and looks."""

    position: np.ndarray
    axes: np.ndarray
    """Rows: right, down and forward of the camera in world space."""
    focal_px: float
    width_px: int
    height_px: int

    @staticmethod
    def looking(
        position: np.ndarray, target: np.ndarray, roll_rad: float, focal_px: float, size_px: tuple[int, int]
    ) -> Camera:
        """The camera at *position* with *target* in the middle of an image of ``(width, height)`` pixels."""
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        turned = np.cos(roll_rad) * right + np.sin(roll_rad) * down
        return Camera(
            position, np.stack([turned, np.cross(forward, turned), forward]), focal_px, size_px[0], size_px[1]
        )

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points ``[..., 3]`` in camera space."""
        seen: np.ndarray = (points - self.position) @ self.axes.T
        return seen

    def to_pixels(self, seen: np.ndarray) -> np.ndarray:
        """Camera-space points in front of the camera -> pixel coordinates ``[..., 2]``."""
        centre = np.array([self.width_px / 2, self.height_px / 2])
        pixels: np.ndarray = seen[..., :2] / seen[..., 2:] * self.focal_px + centre
        return pixels

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Image coordinates of every pixel at unit depth, float32 ``[1, W]`` and ``[H, 1]``."""
        x = (np.arange(self.width_px, dtype=np.float32) + 0.5 - self.width_px / 2) / self.focal_px
        y = (np.arange(self.height_px, dtype=np.float32) + 0.5 - self.height_px / 2) / self.focal_px
        return x[None, :], y[:, None]


@dataclass(frozen=True)
class Light:
    """What sun, sky and air do to a photo."""

    weather: str
    sun: np.ndarray
    """Unit vector towards the sun."""
    sun_colour: np.ndarray
    ambient: np.ndarray
    zenith: Colour
    horizon: Colour
    haze_m: float
    """Distance at which 63 % of the colour is the air's."""
    glow: float
    """How strongly windows shine."""
    clouds: float


def _clipped(corners: np.ndarray) -> np.ndarray:
    """The part of a polygon in camera space that lies beyond the near plane."""
    if (corners[:, 2] >= NEAR_M).all():
        return corners
    kept = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _polygon(camera: Camera, corners: np.ndarray) -> np.ndarray | None:
    """Pixels of a camera-space polygon, 1/16 px fixed point, or None where nothing of it is seen."""
    inside = _clipped(corners)
    if len(inside) < 3:
        return None
    pixels = camera.to_pixels(inside)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    if high[0] < 0 or high[1] < 0 or low[0] > camera.width_px or low[1] > camera.height_px:
        return None
    fixed: np.ndarray = np.rint(np.clip(pixels, -2e5, 2e5) * 16 - 8).astype(np.int32)
    return fixed


def _visible(model: Model, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Faces that look at the camera, and for each what turns a pixel's ray into s/z, t/z and 1/z."""
    faces = model.corners_F43
    along = faces[:, 1] - faces[:, 0]
    up = faces[:, 3] - faces[:, 0]
    normal = np.cross(along, up)
    towards = np.einsum("fi,fi->f", normal, camera.position - faces[:, 0]) > 1e-6
    houses = faces[model.num_own + 1 :].reshape(-1, 8, 4, 3).mean(axis=(1, 2))
    # a photographer finds a spot where no house stands before the landmark
    behind = houses @ camera.position < 0.25 * model.size_m * np.linalg.norm(camera.position)
    towards[model.num_own + 1 :] &= np.repeat(behind, 8)
    chosen = np.flatnonzero(towards)
    along, up = along[chosen], up[chosen]
    length2 = np.einsum("fi,fi->f", along, along)
    up = up - along * (np.einsum("fi,fi->f", up, along) / length2)[:, None]
    basis = np.stack([along, up, faces[chosen, 0] - camera.position], axis=2)
    return chosen, np.linalg.inv(camera.axes @ basis)


def _rasterise(
    model: Model, camera: Camera, chosen: np.ndarray, rows_F33: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the *chosen* faces each pixel shows (-1: none) and the coarseness of texture each needs."""
    width, height = camera.width_px, camera.height_px
    nearest = np.zeros((height, width), np.float32)
    shown = np.full((height, width), -1, np.int32)
    level = np.zeros(len(chosen), np.int64)
    x, y = camera.rays()
    seen = camera.to_camera(model.corners_F43[chosen])
    for i, corners in enumerate(seen):
        polygon = _polygon(camera, corners)
        if polygon is None:
            continue
        x0, y0 = np.maximum(polygon.min(axis=0) // 16, 0)
        x1, y1 = np.minimum(polygon.max(axis=0) // 16 + 2, (width, height))
        if x1 <= x0 or y1 <= y0:
            continue
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [polygon - np.array([x0 * 16, y0 * 16])], 1, cv2.LINE_8, 4)
        a, b, c = rows_F33[i, 2].astype(np.float32)
        inverse_z = a * x[:, x0:x1] + b * y[y0:y1] + c
        hit = (mask > 0) & (inverse_z > nearest[y0:y1, x0:x1])
        np.copyto(nearest[y0:y1, x0:x1], inverse_z, where=hit)
        np.copyto(shown[y0:y1, x0:x1], i, where=hit)
        texels = model.places_T34[model.texture_F[chosen[i]], 0, 2:].prod()
        ratio = texels * model.repeat_F[chosen[i]] ** 2 / max(1.0, abs(cv2.contourArea(polygon)) / 256)
        level[i] = min(2, max(0, round(0.5 * np.log2(ratio) - 0.3)))
    return shown, level


def sky(rng: np.random.Generator, camera: Camera, light: Light, hills: np.ndarray | None) -> np.ndarray:
    """The background, float32 ``[H, W, 3]``: sky by elevation, clouds, stars at night and a line of *hills*.

    *hills* holds height and phase of each wave of the line, ``[waves, 2]``.  All is smooth, so it is made at
    half the size.
    """
    x, y = (rays.reshape(-1)[::2] for rays in camera.rays())
    x, y = x[None, :], y[:, None]
    right, down, forward = camera.axes.astype(np.float32)
    up = x * right[2] + y * down[2] + forward[2]
    elevation = up / np.sqrt(x**2 + y**2 + 1)
    share = np.sqrt(np.clip(elevation * 1.6, 0, 1))[..., None]
    horizon, zenith = np.asarray(light.horizon, np.float32), np.asarray(light.zenith, np.float32)
    image = horizon + (zenith - horizon) * share
    height, width = elevation.shape
    cloud = (
        blotches(rng, height, width, 5) + 0.5 * blotches(rng, height, width, 14) + np.float32(light.clouds)
    )
    white = horizon * 0.4 + 140 * np.minimum(light.ambient, 1)
    image += (white - image) * (0.75 * np.clip(cloud, 0, 1) * np.clip(elevation * 6, 0, 1))[..., None]
    if light.weather == "night":
        image += 120 * ((rng.random((height, width), np.float32) > 0.998) & (elevation > 0.1))[..., None]
    if hills is not None:
        around = np.arctan2(x * right[0] + y * down[0] + forward[0], x * right[1] + y * down[1] + forward[1])
        line = np.full_like(around, 0.045)
        for k, (size, phase) in enumerate(hills.astype(np.float32)):
            line += size * np.sin((k + 2) * around + phase)
        hill = np.asarray((40, 48, 38), np.float32) * light.ambient + 0.5 * horizon
        np.copyto(image, hill, where=(elevation < line)[..., None])
    full: np.ndarray = cv2.resize(image, (camera.width_px, camera.height_px))
    return full


def _shadows(model: Model, camera: Camera, light: Light) -> np.ndarray:
    """Where the landmark keeps the sun off the ground, float32 ``[H, W, 1]`` in 0..1."""
    mask = np.zeros((camera.height_px, camera.width_px), np.uint8)
    faces = model.corners_F43[: model.num_own]
    fallen = faces - light.sun * (faces[..., 2:] / max(0.12, float(light.sun[2])))
    for corners in camera.to_camera(fallen):
        polygon = _polygon(camera, corners)
        if polygon is not None:
            cv2.fillConvexPoly(mask, cv2.convexHull(polygon), 1, cv2.LINE_8, 4)
    soft: np.ndarray = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    return soft[..., None]


def render(
    rng: np.random.Generator, model: Model, camera: Camera, light: Light, *, outdoors: bool
) -> np.ndarray:
    """The photo before people, trees and the lens: float32 ``[H, W, 3]``, blue green red, about 0 to 255."""
    chosen, rows_F33 = _visible(model, camera)
    shown, level = _rasterise(model, camera, chosen, rows_F33)
    hills = (
        np.random.default_rng(int(model.size_m * 1e6)).uniform((0, 0), (0.02, 6.28), (5, 2))
        if outdoors
        else None
    )
    image = sky(rng, camera, light, hills) if outdoors else np.zeros((*shown.shape, 3), np.float32)

    face = np.maximum(shown, 0)
    x, y = camera.rays()
    rows = rows_F33.astype(np.float32)
    s, t, inverse_z = (
        np.take(rows[:, k, 0].copy(), face) * x
        + np.take(rows[:, k, 1].copy(), face) * y
        + np.take(rows[:, k, 2].copy(), face)
        for k in range(3)
    )
    inverse_z = np.maximum(inverse_z, 1e-5)
    places = model.places_T34[model.texture_F[chosen], level]
    repeat = np.take(model.repeat_F[chosen].astype(np.float32), face)
    left, top, width, height = (np.take(places[:, k], face) for k in range(4))
    u, v = s / inverse_z * repeat, 1 - t / inverse_z * repeat
    # a texture ends half a texel from its edge, or its neighbour in the atlas would shine through
    map_x = left + np.clip((u - np.floor(u)) * width - 0.5, 0, width - 1.01)
    map_y = top + np.clip((v - np.floor(v)) * height - 0.5, 0, height - 1.01)
    texel = cv2.remap(model.atlas, map_x, map_y, cv2.INTER_LINEAR).astype(np.float32)

    corners = model.corners_F43[chosen]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])
    normal = (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32)
    lit = np.clip(normal @ light.sun.astype(np.float32), 0, 1)[:, None] * light.sun_colour
    shade = np.maximum(lit + light.ambient * (0.82 + 0.18 * normal[:, 2:]), 0.02)
    brightness = np.take(shade, face, axis=0)
    colour = texel[..., :3]
    if outdoors:
        on_ground = int(np.searchsorted(chosen, model.num_own))
        ground = (face == on_ground)[..., None]
        skin = model.places_T34[model.texture_F[model.num_own], 0].astype(int)
        mean = model.atlas[skin[1] : skin[1] + skin[3], : skin[2], :3].mean(axis=(0, 1), dtype=np.float32)
        # far paving is finer than a pixel: fade to its mean colour
        far = ground * (1 - np.minimum(inverse_z * 22, 1))[..., None]
        colour = colour + (mean - colour) * far
        if light.sun_colour.max() > 0.15 and light.sun[2] > 0:
            brightness -= ground * _shadows(model, camera, light) * (0.8 * lit[on_ground])
        if light.weather == "snow":
            white = np.clip(normal[:, 2] - 0.3, 0, 0.7) / np.float32(0.7)
            colour = colour + (235 - colour) * np.take(white, face)[..., None]
    colour *= brightness
    if light.glow > 0:
        lamps = texel[..., 3:] * np.float32(light.glow / 255)
        colour += (np.asarray((120, 205, 250), np.float32) - colour) * lamps
    air = (1 - np.exp(-1 / (inverse_z * np.float32(light.haze_m))))[..., None]
    colour += (np.asarray(light.horizon, np.float32) - colour) * air
    np.copyto(image, colour, where=(shown >= 0)[..., None])
    return image
