"""Whether two pictures are the same: likeness, one laid on the other, and what a comparison says of two photos."""

import math
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from landseer.cleaning.pictures import SIDE, Comparer, Pair, is_crop, laid_on, likeness
from landseer.cleaning.pool import Pool
from landseer.matching import Matcher
from landseer.recipe.check_options import CheckOptions
from landseer.recipe.matching_options import MatchingOptions
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection


def scene(seed, width=256, height=192, num=220):
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(num):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(n) for n in rng.integers(4, 40, size=2))
        cv2.rectangle(picture, (x, y), (x + w, y + h), [int(n) for n in rng.integers(0, 256, 3)], -1)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def grey(picture):
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def small(picture):
    return cv2.resize(grey(picture), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def slow_likeness(a, b):
    """Part by part: covariance over spreads, of parts that show something; a spread below one level counts as one."""
    found = []
    for y in range(0, SIDE, 12):
        for x in range(0, SIDE, 12):
            one, other = (p[y : y + 12, x : x + 12].astype(float).ravel() for p in (a, b))
            if max(one.std(), other.std()) >= 4:
                found.append(np.cov(one, other, ddof=0)[0, 1] / (max(one.std(), 1) * max(other.std(), 1)))
    return float(np.mean(found))


def test_likeness_is_the_mean_correlation_of_the_parts():
    a, b = small(scene(0)), small(scene(1))
    assert likeness(a, b) == pytest.approx(slow_likeness(a, b), abs=1e-5)
    mixed = (0.7 * a + 0.3 * b).astype(np.uint8)
    assert likeness(a, mixed) == pytest.approx(slow_likeness(a, mixed), abs=1e-5)


def test_brightness_and_contrast_do_not_count_and_a_caption_only_where_it_stands():
    a = small(scene(0))
    assert likeness(a, a) == pytest.approx(1.0, abs=1e-3)
    assert likeness(a, (40 + a * 0.5).astype(np.uint8)) > 0.99
    assert likeness(a, 255 - a) == pytest.approx(-1.0, abs=1e-3)
    written = a.copy()
    written[84:, :] = 255 - written[84:, :]
    assert likeness(a, written) == pytest.approx(6 / 8, abs=0.03)


def test_a_flat_part_agrees_with_nothing_that_is_not():
    a = small(scene(0))
    half = a.copy()
    half[:, 48:] = 128
    assert likeness(a, half) == pytest.approx(0.5, abs=0.02)


def test_pictures_that_show_too_little_are_not_judged():
    flat = np.full((SIDE, SIDE), 77, np.uint8)
    spot = flat.copy()
    spot[:12, :36] = np.random.default_rng(0).integers(0, 256, (12, 36))
    assert math.isnan(likeness(flat, flat))
    assert math.isnan(likeness(spot, spot)), "three parts of 64"
    a = small(scene(0))
    assert math.isnan(likeness(a, a, np.zeros((SIDE, SIDE), bool)))


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.5])
def test_a_crop_laid_on_its_whole_is_like_it(scale):
    whole = grey(scene(0))
    x, y, w, h = 60, 40, 120, 96
    part = cv2.resize(whole[y : y + h, x : x + w], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    model = np.array([[1 / scale, 0, x], [0, 1 / scale, y]])
    found, overlap, of_smaller = laid_on(part, whole, model)
    assert found > 0.9
    assert overlap == pytest.approx(w * h / whole.size, rel=0.03)
    assert of_smaller == pytest.approx(1.0, abs=0.03)
    back = laid_on(whole, part, cv2.invertAffineTransform(model))
    assert back == pytest.approx((found, overlap, of_smaller), abs=0.03)


def test_laid_on_another_picture_or_beside_it_there_is_no_likeness():
    a, b = grey(scene(0)), grey(scene(1))
    found, overlap, _ = laid_on(a, b, np.eye(2, 3))
    assert found < 0.3
    assert overlap == 1.0
    found, overlap, of_smaller = laid_on(a, a, np.array([[1.0, 0, 250], [0, 1.0, 0]]))
    assert math.isnan(found)
    assert overlap == of_smaller == pytest.approx(6 / 256, abs=0.01)


@pytest.mark.parametrize(
    ("model", "holds"),
    [
        ([[1, 0, 5], [0, 1, 9]], True),
        ([[0.3, 0, 0], [0, 0.3, 0]], True),
        ([[1.4, 0, 0], [0, 1.0, 0]], True),
        ([[1.6, 0, 0], [0, 1.0, 0]], False),
        ([[1, 0.03, 0], [0, 1, 0]], False),
        ([[math.cos(0.05), -math.sin(0.05), 0], [math.sin(0.05), math.cos(0.05), 0]], False),
        ([[0, -1, 0], [1, 0, 0]], False),
        ([[1, 0.01, 0], [-0.01, 1, 0]], True),
    ],
)
def test_a_crop_is_moved_and_resized_and_nothing_else(model, holds):
    assert is_crop(np.array(model, float)) is holds


@pytest.fixture
def compare(tmp_path):
    """Compares the first two of some pictures."""

    def compared(*pictures, options=None, **how):
        for n, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / f"{n}.png")
        rows = [
            {"id": str(n), "path": f"{n}.png", "kind": "unknown", "clean": False, "split": "index"}
            for n in range(len(pictures))
        ]
        photos = pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA)
        collection = Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=tmp_path)
        pool = Pool.of(collection, {})
        comparer = Comparer(pool, Matcher(collection), options or CheckOptions())
        return comparer.compare(Pair(first=0, second=1, **how))

    return compared


def test_a_hashed_pair_is_the_same_picture_without_points(compare):
    picture = scene(0)
    found = compare(picture, cv2.resize(picture, (128, 96), interpolation=cv2.INTER_AREA), hashed=True)
    assert (found.kind, found.mirrored, found.overlap, found.inliers) == ("picture", False, 1.0, None)
    assert found.likeness > 0.9


def test_a_mirrored_pair_is_the_same_picture_in_the_mirror_alone(compare):
    picture = scene(0)
    turned = np.ascontiguousarray(picture[:, ::-1])
    found = compare(picture, turned, hashed=True, mirrored=True)
    assert (found.kind, found.mirrored) == ("picture", True)
    assert compare(picture, turned, hashed=True) is None
    assert compare(picture, scene(1), hashed=True, mirrored=True) is None


@pytest.mark.parametrize("framed", [False, True])
def test_a_crop_or_a_frame_is_found_by_points(compare, framed):
    picture = scene(0)
    if framed:
        other = cv2.copyMakeBorder(picture, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(20, 20, 20))
        share = picture.size / other.size
    else:
        other = picture[30:150, 40:200]
        share = other.size / picture.size
    found = compare(picture, np.ascontiguousarray(other), described=True)
    assert found.kind == "picture"
    assert found.overlap == pytest.approx(share, abs=0.02)
    assert found.likeness > 0.9
    assert found.inliers >= 6


def test_another_photo_of_a_scene_is_a_scene_where_that_is_asked(compare):
    picture = scene(0)
    tilt = np.array([[0.9, -0.2, 30.0], [0.15, 0.95, 12.0], [1e-4, 2e-4, 1.0]])
    other = cv2.warpPerspective(picture, tilt, (256, 192), borderValue=(128, 128, 128))
    found = compare(picture, other, described=True)
    assert found.kind == "scene"
    assert found.inliers >= 30
    assert compare(picture, other, hashed=True) is None
    strict = CheckOptions(scene_inliers=1000)
    assert compare(picture, other, options=strict, described=True) is None


def test_a_logo_on_two_pictures_makes_no_copy(compare):
    logo = scene(5, 90, 60, 200)
    a, b = scene(0), scene(1)
    a[10:70, 10:100], b[10:70, 10:100] = logo, logo
    found = compare(a, b, described=True)
    assert found is None or found.kind == "scene"


@pytest.mark.parametrize(
    "pictures",
    [
        (np.full((1, 1, 3), 9, np.uint8), np.full((1, 1, 3), 9, np.uint8)),
        (np.full((200, 200, 3), 9, np.uint8), np.full((100, 100, 3), 9, np.uint8)),
        (np.full((3, 900, 3), 9, np.uint8), scene(0)),
    ],
)
def test_photos_that_show_nothing_are_no_copies(compare, pictures):
    assert compare(*pictures, hashed=True, described=True) is None


def test_a_photo_that_has_gone_is_no_copy(tmp_path, compare):
    compare(scene(0), scene(0), hashed=True)
    (tmp_path / "1.png").unlink()
    rows = [
        {"id": str(n), "path": f"{n}.png", "kind": "unknown", "clean": False, "split": "index"}
        for n in range(2)
    ]
    photos = pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA)
    collection = Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=Path(tmp_path))
    comparer = Comparer(Pool.of(collection, {}), Matcher(collection), CheckOptions())
    assert comparer.compare(Pair(first=0, second=1, hashed=True)) is None


def test_models_with_which_pictures_cannot_be_laid_are_refused(tmp_path):
    photos = PHOTO_SCHEMA.empty_table()
    empty = Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=tmp_path)
    matcher = Matcher(empty, options=MatchingOptions(model="homography"))
    with pytest.raises(ValueError, match="affine models, not homography"):
        Comparer(Pool.of(empty, {}), matcher, CheckOptions())
