"""The perceptual hash: against the definition written out, under every change a copy may have gone through."""

import io
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from landseer.photos import UnreadablePhoto
from landseer.photos.hashes import MIRROR, distance, hash_of_grey, mirrored, perceptual_hash


def by_definition(grey):
    """The cosine transform as two sums over all pixels, bit after bit."""
    found = 0
    for i in range(8):
        for j in range(8):
            u, v = (i, j) if i or j else (8, 8)
            total = sum(
                float(grey[y, x])
                * math.cos((2 * y + 1) * u * math.pi / 64)
                * math.cos((2 * x + 1) * v * math.pi / 64)
                for y in range(32)
                for x in range(32)
            )
            found |= (total > 0) << (8 * i + j)
    return found


def scene(seed, width=240, height=180):
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(40):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(n) for n in rng.integers(10, 90, size=2))
        colour = [int(n) for n in rng.integers(0, 256, 3)]
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return Image.fromarray(picture)


def saved(picture, form="PNG", **how):
    stream = io.BytesIO()
    picture.save(stream, form, **how)
    return stream.getvalue()


def test_the_hash_is_its_definition():
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    assert hash_of_grey(grey) == by_definition(grey)


def test_the_hash_is_that_of_opencv_s_transform():
    grey = np.random.default_rng(1).integers(0, 256, (32, 32)).astype(np.float32)
    low = cv2.dct(grey)
    low[0, 0] = low[8, 8]
    signs = (low[:8, :8] > 0).ravel()
    assert hash_of_grey(grey) == sum(1 << int(n) for n in np.flatnonzero(signs))


@given(st.integers(0, 2**32 - 1))
def test_the_mirrored_picture_has_the_mirrored_hash(seed):
    grey = np.random.default_rng(seed).integers(0, 256, (32, 32)).astype(np.uint8)
    assert hash_of_grey(grey[:, ::-1]) == mirrored(hash_of_grey(grey))


@given(st.integers(0, 2**64 - 1))
def test_mirroring_twice_is_nothing(value):
    assert mirrored(mirrored(value)) == value
    assert distance(value, mirrored(value)) == MIRROR.bit_count() == 32
    array = np.array([value], np.uint64)
    assert int(mirrored(array)[0]) == mirrored(value)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda p: saved(p, "JPEG", quality=50), 4),
        (lambda p: saved(p, "JPEG", quality=20), 6),
        (lambda p: saved(p, "WEBP", quality=50), 6),
        (lambda p: saved(p.resize((120, 90))), 4),
        (lambda p: saved(p.resize((60, 45))), 6),
        (lambda p: saved(p.resize((480, 360))), 4),
        (lambda p: saved(p.resize((200, 200))), 4),  # squashed
        (lambda p: saved(p.convert("L")), 4),
        (lambda p: saved(p.point(lambda level: 30 + level * 0.7)), 4),
    ],
)
def test_a_saved_copy_is_near(change, most):
    distances = [
        distance(perceptual_hash(saved(scene(n))), perceptual_hash(change(scene(n)))) for n in range(12)
    ]
    assert max(distances) <= most


def test_other_pictures_are_far():
    hashes = [perceptual_hash(saved(scene(n))) for n in range(20)]
    assert min(distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]) > 8


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (300, 200), (90, 120, 60)),
        Image.new("RGB", (1, 1), (255, 0, 0)),
        Image.fromarray(np.random.default_rng(0).integers(126, 130, (64, 64), dtype=np.uint8)),
    ],
)
def test_what_shows_nothing_has_no_hash(picture):
    assert perceptual_hash(saved(picture)) is None


def test_a_tiny_picture_that_shows_something_has_one():
    pixels = np.array([[0, 255], [255, 0], [0, 0]], np.uint8)
    assert perceptual_hash(saved(Image.fromarray(pixels))) is not None


def test_what_is_no_photo_is_refused():
    with pytest.raises(UnreadablePhoto):
        perceptual_hash(b"no photo")
    whole = saved(scene(0), "JPEG")
    with pytest.raises(UnreadablePhoto, match="truncated"):
        perceptual_hash(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="32 x 32"):
        hash_of_grey(np.zeros((8, 8)))
