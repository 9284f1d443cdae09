"""One photo: who stands where, in what light, with what in the way, and what the lens and the encoder add.

Every photo draws its chance from (seed, photo number) alone, so the order and number of processes do not
matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from landseer.datasets.miniworld.buildings import exterior, interior
from landseer.datasets.miniworld.props import fall, occlude, other_subject, person
from landseer.datasets.miniworld.render import Camera, Light, render
from landseer.datasets.miniworld.solids import Model
from landseer.datasets.miniworld.textures import shifted
from landseer.datasets.miniworld.world import Photo

SHAPES = ((4, 3), (3, 2), (1, 1), (16, 9), (3, 4), (2, 3))
OVERSAMPLING = 2
WEATHERS = ("clear", "cloudy", "golden", "haze", "rain", "night", "snow")
WEATHER_SHARES = (0.48, 0.26, 0.08, 0.04, 0.05, 0.06, 0.03)


@dataclass(frozen=True, slots=True)
class Shot:
    """How a photo was taken; what cannot be said is None."""

    azimuth_deg: float | None = None
    distance_m: float | None = None
    weather: str | None = None
    subject: str | None = None
    crop_px: tuple[int, int, int, int] | None = None
    """Of a near-duplicate: left, top, right, bottom within its source."""


def draw_photo(photo: Photo, *, seed: int, size_px: int) -> tuple[bytes, Shot]:
    """The JPEG bytes of *photo* and how it was taken."""
    rng = np.random.default_rng([seed, 1, photo.number])
    if photo.source is not None:
        return _near_duplicate(rng, photo.source, seed=seed, size_px=size_px)
    wide, high = SHAPES[int(rng.choice(len(SHAPES), p=(0.34, 0.22, 0.1, 0.1, 0.16, 0.08)))]
    scale = size_px * OVERSAMPLING / max(wide, high)
    size = (round(wide * scale), round(high * scale))
    if photo.landmark is None:
        image, subject = other_subject(rng, size, _weather(rng, 0.0))
        shot = Shot(subject=subject)
    else:
        key = (seed, 2, photo.landmark.number)
        if photo.view == "interior":
            image, shot = _inside(rng, interior((*key, 1)), size)
        else:
            model = exterior((*key, 0), photo.landmark.continent, photo.landmark.kind)
            image, shot = _outside(rng, model, size)
    return _develop(rng, image, size_px), shot


def _near_duplicate(
    rng: np.random.Generator, source: Photo, *, seed: int, size_px: int
) -> tuple[bytes, Shot]:
    encoded, shot = draw_photo(source, seed=seed, size_px=size_px)
    image = _decode(encoded)
    height, width = image.shape[:2]
    w, h = int(width * rng.uniform(0.78, 0.95)), int(height * rng.uniform(0.78, 0.95))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    crop = image[y : y + h, x : x + w]
    factor = size_px * rng.uniform(0.8, 1.0) / max(w, h)
    crop = cv2.resize(
        crop, (max(1, round(w * factor)), max(1, round(h * factor))), interpolation=cv2.INTER_AREA
    )
    quality = int(rng.integers(55, 90))
    return _encode(crop, quality), Shot(
        shot.azimuth_deg, shot.distance_m, shot.weather, shot.subject, (x, y, x + w, y + h)
    )


def _weather(rng: np.random.Generator, facing_rad: float) -> Light:
    """A chance light; *facing_rad* is the azimuth of the photographer, whom the sun prefers at the back."""
    weather = str(rng.choice(WEATHERS, p=WEATHER_SHARES))
    high = np.radians(rng.uniform(6, 18) if weather == "golden" else rng.uniform(22, 65))
    turn = facing_rad + rng.normal(0, 1.1)
    sun = np.array([np.sin(turn) * np.cos(high), -np.cos(turn) * np.cos(high), np.sin(high)])
    strong, weak = rng.uniform(0.65, 0.95), rng.uniform(0.4, 0.62)
    table = {
        # weather: sun colour, ambient, zenith, horizon, haze in metres, glow, clouds
        "clear": (
            strong * np.array([0.88, 0.97, 1.04]),
            weak,
            (205, 125, 58),
            (232, 205, 172),
            1800.0,
            0.0,
            -0.6,
        ),
        "cloudy": (np.full(3, 0.22), weak + 0.3, (205, 198, 190), (226, 222, 218), 900.0, 0.05, 0.4),
        "golden": (
            strong * np.array([0.42, 0.78, 1.2]),
            weak * 0.75,
            (150, 105, 92),
            (95, 160, 238),
            900.0,
            0.3,
            -0.2,
        ),
        "haze": (
            np.full(3, 0.2),
            weak + 0.22,
            (212, 212, 210),
            (214, 216, 216),
            rng.uniform(150, 350),
            0.0,
            0.0,
        ),
        "rain": (
            np.full(3, 0.08),
            weak + 0.06,
            (125, 118, 110),
            (150, 146, 140),
            rng.uniform(160, 400),
            0.4,
            0.5,
        ),
        "night": (np.full(3, 0.0), rng.uniform(0.2, 0.36), (42, 20, 14), (78, 44, 34), 2500.0, 1.0, -1.2),
        "snow": (np.full(3, 0.2), weak + 0.3, (222, 214, 206), (238, 234, 230), 420.0, 0.1, 0.3),
    }
    colour, ambient, zenith, horizon, haze, glow, clouds = table[weather]
    tint = np.array([1.25, 1.0, 0.8]) if weather == "night" else np.array([1.06, 1.0, 0.95])
    if weather == "night" and rng.random() < 0.75:  # floodlights, from below and in front
        sun = np.array([np.sin(facing_rad) * 0.8, -np.cos(facing_rad) * 0.8, -0.35])
        colour = rng.uniform(0.5, 0.9) * np.array(
            [(0.5, 0.8, 1.1), (1.0, 0.75, 0.6), (0.7, 0.95, 0.8)][int(rng.integers(3))]
        )
    return Light(
        weather=weather,
        sun=sun / np.linalg.norm(sun),
        sun_colour=np.asarray(colour, np.float32),
        ambient=(ambient * tint).astype(np.float32),
        zenith=shifted(rng, zenith, 9),
        horizon=shifted(rng, horizon, 9),
        haze_m=haze,
        glow=glow,
        clouds=clouds + float(rng.normal(0, 0.25)),
    )


def _outside(rng: np.random.Generator, model: Model, size: tuple[int, int]) -> tuple[np.ndarray, Shot]:
    azimuth = float(rng.normal(0, 0.4)) if rng.random() < 0.95 else float(rng.uniform(-np.pi, np.pi))
    extent = max(model.size_m, model.height_m)
    distance = extent * float(np.exp(rng.uniform(np.log(0.95), np.log(2.3))))
    eye = 1.7 if rng.random() < 0.75 else float(rng.uniform(4, 0.5 * extent))
    position = np.array([distance * np.sin(azimuth), -distance * np.cos(azimuth), eye])
    target = np.array([0.0, 0.0, model.height_m * 0.42]) + rng.normal(0, 0.05, 3) * extent
    fill = float(rng.uniform(0.75, 1.1))
    if rng.random() < 0.07:  # a detail: the photographer zooms in on a part
        target = np.array(
            [rng.uniform(-0.25, 0.25) * model.size_m, 0.0, model.height_m * rng.uniform(0.3, 0.75)]
        )
        fill *= float(rng.uniform(1.3, 1.7))
    angle = 2 * np.arctan(0.55 * model.height_m / distance), 2 * np.arctan(0.5 * model.size_m / distance)
    focal = fill * min(size[1] / np.tan(angle[0] / 2), size[0] / np.tan(angle[1] / 2)) / 2
    focal = float(np.clip(focal, 0.45 * max(size), 4 * max(size)))
    camera = Camera.looking(position, target, float(rng.normal(0, 0.03)), focal, size)
    light = _weather(rng, azimuth)
    image = render(rng, model, camera, light, outdoors=True)
    occlude(rng, image, camera, light, distance)
    if light.weather in ("rain", "snow"):
        fall(rng, image, light.weather)
    return image, Shot(round(float(np.degrees(azimuth)), 2), round(distance, 2), light.weather)


def _inside(rng: np.random.Generator, model: Model, size: tuple[int, int]) -> tuple[np.ndarray, Shot]:
    length = model.size_m
    turned = rng.random() < 0.15
    azimuth = float(rng.normal(0, 0.3)) + (np.pi if turned else 0.0)
    start = float(rng.uniform(-0.45, -0.05)) * length * (-1 if turned else 1)
    position = np.array([rng.uniform(-2, 2), start, 1.7])
    ahead = np.array([np.sin(azimuth), np.cos(azimuth), rng.uniform(-0.02, 0.28)])
    camera = Camera.looking(
        position, position + ahead, float(rng.normal(0, 0.02)), rng.uniform(0.6, 1.1) * max(size), size
    )
    strength = rng.uniform(0.5, 0.85)
    lamp = np.array([rng.normal(0, 0.3), rng.uniform(-0.6, -0.2), 0.8])
    warm = np.array([(0.72, 0.9, 1.1), (1.0, 1.0, 0.97), (0.85, 0.98, 1.0)][int(rng.integers(3))])
    light = Light(
        weather="inside",
        sun=lamp / np.linalg.norm(lamp),
        sun_colour=(0.35 * warm).astype(np.float32),
        ambient=(strength * warm).astype(np.float32),
        zenith=(20, 20, 20),
        horizon=(18, 24, 30),
        haze_m=length * float(rng.uniform(2, 6)),
        glow=float(rng.uniform(0.3, 1.0)),
        clouds=0.0,
    )
    image = render(rng, model, camera, light, outdoors=False)
    for _ in range(int(rng.choice([0, 1, 2, 4]))):
        person(rng, image, camera, float(rng.uniform(4, 14)), 0.6)
    return image, Shot(
        round(float(np.degrees(azimuth)), 2), round(float(abs(start - length / 2)), 2), "inside"
    )


def _develop(rng: np.random.Generator, image: np.ndarray, size_px: int) -> bytes:
    """Lens, sensor and encoder: white balance, exposure, contrast, saturation, blur, noise, JPEG."""
    height, width = image.shape[:2]
    small = (max(1, round(width / OVERSAMPLING)), max(1, round(height / OVERSAMPLING)))
    photo = cv2.resize(np.clip(image, 0, 300).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    warmth = rng.normal(0, 0.06)
    balance = np.exp(np.array([-warmth, rng.normal(0, 0.03), warmth]) + rng.normal(-0.02, 0.09))
    photo = photo * balance.astype(np.float32)
    photo = 255 * np.clip(photo / 255, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.09)))
    gray = photo.mean(axis=2, keepdims=True)
    film = rng.random()
    saturation = 0.0 if film < 0.04 else float(rng.uniform(0.75, 1.2))
    photo = gray + (photo - gray) * saturation
    if film < 0.02:
        photo = photo * np.array([0.72, 0.92, 1.06], np.float32)
    photo = 128 + (photo - 128) * float(rng.uniform(0.85, 1.12))
    if rng.random() < 0.12:
        photo = cv2.GaussianBlur(photo, (0, 0), float(rng.uniform(0.5, 1.1)) * size_px / 160)
    photo = photo + rng.normal(0, rng.uniform(0.5, 5), photo.shape)
    pixels = photo.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:  # a copy of a copy
        pixels = _decode(_encode(pixels, int(rng.integers(30, 60))))
    return _encode(pixels, int(rng.integers(60, 95)))


def _encode(pixels: np.ndarray, quality: int) -> bytes:
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(encoded)


def _decode(encoded: bytes) -> np.ndarray:
    pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels
