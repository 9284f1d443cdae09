"""Augmentation: each operation beside a slow oracle, the order of all, and what every preset must keep."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from landseer.photos import resize_square
from landseer.photos.augment import (
    IMAGENET_MEAN,
    PRESETS,
    Augmentation,
    apply,
    decode_side,
    flip,
    jitter,
    pad_crop,
    padding,
    random_crop,
    random_erasing,
    random_rescale,
    random_shear,
)
from landseer.photos.resize import resize_to

AREA, RATIO = (0.02, 0.2), (0.3, 1 / 0.3)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 16)
shares = st.floats(0, 0.99)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Values 1..255: black is never the photo's own."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    return resize_to(noise(5, 4, 8), height, width)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def bar(photo: np.ndarray) -> tuple[int, int, int, int]:
    """(top, left, bottom, right): rows and columns at each side of *photo* that are black throughout."""
    rows = np.flatnonzero(photo.any(axis=(1, 2)))
    columns = np.flatnonzero(photo.any(axis=(0, 2)))
    return rows[0], columns[0], photo.shape[0] - 1 - rows[-1], photo.shape[1] - 1 - columns[-1]


# -- resizing and the identity


@given(sides, sides, st.integers(1, 60), st.integers(1, 60), seeds)
def test_an_augmentation_that_is_off_is_the_plain_resize(height, width, tall, wide, seed):
    photo, rng = noise(height, width, seed), rng_of(seed)
    result = apply(photo, Augmentation(), (tall, wide), rng)
    plain = np.asarray(Image.fromarray(photo).resize((wide, tall), Image.Resampling.BICUBIC))
    assert np.array_equal(result, plain)
    assert rng.bit_generator.state == rng_of(seed).bit_generator.state
    if tall == wide:
        assert np.array_equal(result, resize_square(photo, tall))


@given(seeds)
def test_limits_of_zero_change_nothing_even_where_they_draw(seed):
    photo = noise(23, 31, seed)
    assert np.array_equal(random_crop(photo, 1.0, rng_of(seed)), photo)
    assert np.array_equal(random_shear(photo, 0.0, rng_of(seed)), photo)
    assert np.array_equal(jitter(photo, 0.0, 0.0, rng_of(seed)), photo)
    assert np.array_equal(random_rescale(photo, 0.0, rng_of(seed)), photo)
    assert np.array_equal(pad_crop(photo, 0.0, rng_of(seed)), photo)


def test_a_size_is_height_then_width():
    assert apply(noise(9, 9), Augmentation(), (352, 512), rng_of(0)).shape == (352, 512, 3)
    assert resize_to(noise(9, 9), 3, 4).shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("photo", "size", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), (4, 4), r"uint8 \[H, W, 3\].*float32"),
        (np.zeros((4, 4), np.uint8), (4, 4), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), (4, 4), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), (4, 4), r"\(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), (4, 0), "at least 1 px, not 0"),
        (np.zeros((4, 4, 3), np.uint8), (-2, 4), "at least 1 px, not -2"),
    ],
)
def test_what_is_no_photo_or_no_size_is_refused(photo, size, said):
    with pytest.raises(ValueError, match=said):
        apply(photo, Augmentation(), size, rng_of(0))


# -- flip


@given(sides, sides, seeds)
def test_a_flip_mirrors_left_and_right(height, width, seed):
    photo = noise(height, width, seed)
    mirrored = flip(photo)
    for row in range(height):
        for column in range(width):
            assert np.array_equal(mirrored[row, column], photo[row, width - 1 - column])
    assert np.array_equal(flip(mirrored), photo)


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 1.0])
def test_as_many_photos_are_mirrored_as_asked(probability):
    photo = noise(6, 6)
    flipped = sum(
        np.array_equal(apply(photo, Augmentation(flip=probability), (6, 6), rng_of(seed)), photo[:, ::-1])
        for seed in range(2000)
    )
    # four standard deviations of a coin; none at all where there is no chance
    assert abs(flipped / 2000 - probability) <= 4 * math.sqrt(probability * (1 - probability) / 2000)


# -- crop


@given(sides, sides, st.floats(0.01, 1), seeds)
def test_a_crop_is_a_window_with_shares_in_range(height, width, smallest, seed):
    rows, columns = np.indices((height, width), dtype=np.uint8)
    crop = random_crop(np.dstack([rows, columns, rows]), smallest, rng_of(seed))
    top, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
    for row in range(crop.shape[0]):
        for column in range(crop.shape[1]):
            assert tuple(crop[row, column, :2]) == (top + row, left + column)
    for side, kept in zip((height, width), crop.shape[:2], strict=True):
        assert max(1, side * smallest - 0.5) <= kept <= side


def test_crops_have_independent_sides_and_reach_every_place():
    shapes, corners = set(), set()
    rows, columns = np.indices((4, 4), dtype=np.uint8)
    for seed in range(600):
        crop = random_crop(np.dstack([rows, columns, rows]), 0.5, rng_of(seed))
        shapes.add(crop.shape[:2])
        corners.add((crop.shape[0], crop.shape[1], int(crop[0, 0, 0]), int(crop[0, 0, 1])))
    assert shapes == {(h, w) for h in (2, 3, 4) for w in (2, 3, 4)}
    assert len(corners) == sum((5 - h) * (5 - w) for h, w in shapes)


def test_a_photo_is_decoded_large_enough_for_its_crop():
    assert decode_side(Augmentation(), (224, 224)) == 224
    assert decode_side(Augmentation(crop=0.5), (352, 512)) == 1024
    assert decode_side(Augmentation(crop=0.7), (224, 224)) == 320
    assert decode_side(Augmentation(crop=0.6), (224, 224)) == 374  # 373.3


# -- shear


def slow_shear(photo: np.ndarray, slope: float) -> np.ndarray:
    """Bilinear, pixel by pixel, about the middle row; black outside."""
    height, width = photo.shape[:2]
    result = np.zeros(photo.shape)
    for row in range(height):
        for column in range(width):
            at = column + slope * (row + 0.5 - height / 2)
            if -0.5 <= at < width - 0.5:
                left, share = math.floor(at), at - math.floor(at)
                near, far = photo[row, max(left, 0)], photo[row, min(left + 1, width - 1)]
                result[row, column] = near * (1 - share) + far * share
    return result


@settings(max_examples=25)
@given(st.integers(2, 16), st.integers(2, 16), st.floats(0, 40), seeds)
def test_a_shear_agrees_with_the_slow_oracle(height, width, limit, seed):
    photo = noise(height, width, seed)
    angle = rng_of(seed).uniform(-limit, limit)
    expected = slow_shear(photo, math.tan(math.radians(angle)))
    assert np.abs(random_shear(photo, limit, rng_of(seed)) - expected).max() <= 1


def test_sheared_lines_lean_both_ways_and_no_more_than_the_limit():
    upright = np.zeros((101, 101, 3), dtype=np.uint8)
    upright[:, 50] = 255
    angles = []
    for seed in range(200):
        sheared = random_shear(upright, 4.0, rng_of(seed))[:, :, 0].astype(float)
        top, bottom = ((line * np.arange(101)).sum() / line.sum() for line in (sheared[0], sheared[100]))
        angles.append(math.degrees(math.atan((top - bottom) / 100)))
    assert -4.05 <= min(angles) < -3.8
    assert 3.8 < max(angles) <= 4.05


# -- brightness and contrast


@given(sides, sides, shares, shares, seeds, st.booleans())
def test_jitter_agrees_with_the_float_oracle(height, width, brightness, contrast, seed, turned):
    photo = noise(height, width, seed)[:, :: -1 if turned else 1]
    twin = rng_of(seed)
    gain = 1 - brightness + 2 * brightness * twin.random()
    spread = 1 - contrast + 2 * contrast * twin.random()
    relit = photo.astype(float) * gain
    middle = sum(relit.ravel()) / relit.size
    exact = np.clip((relit - middle) * spread + middle, 0, 255)
    result = jitter(photo, brightness, contrast, rng_of(seed))
    assert result.dtype == np.uint8
    assert np.abs(result - exact).max() <= 0.5 + 1e-9


def test_jitter_keeps_the_mean_under_contrast_and_scales_it_under_brightness():
    photo = np.clip(smooth(60, 60), 60, 180)
    means = [jitter(photo, 0.0, 0.3, rng_of(seed)).mean() / photo.mean() for seed in range(100)]
    assert max(abs(mean - 1) for mean in means) < 0.005
    means = [jitter(photo, 0.1, 0.0, rng_of(seed)).mean() / photo.mean() for seed in range(200)]
    assert 0.898 < min(means) < 0.91
    assert 1.09 < max(means) < 1.102


# -- the window that is squashed back


def slow_window(photo: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    window = np.zeros((height, width, 3), dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            if 0 <= top + row < photo.shape[0] and 0 <= left + column < photo.shape[1]:
                window[row, column] = photo[top + row, left + column]
    return window


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), shares, seeds)
def test_rescaling_is_some_window_in_range_squashed_back(height, width, limit, seed):
    """Tried against every window that the definition allows."""
    photo = noise(height, width, seed)
    result = random_rescale(photo, limit, rng_of(seed))
    twin = rng_of(seed)
    rows, columns = (max(1, round(side * twin.uniform(1 - limit, 1 + limit))) for side in (height, width))
    places = [
        (top, left)
        for top in range(min(0, height - rows), max(0, height - rows) + 1)
        for left in range(min(0, width - columns), max(0, width - columns) + 1)
    ]
    assert any(
        np.array_equal(result, resize_to(slow_window(photo, *place, rows, columns), height, width))
        for place in places
    )


def test_rescaled_windows_have_independent_sides_in_range_and_every_place():
    """A white photo shows its window's size and place where the window is larger: in its black bars."""
    white, side = np.full((100, 100, 3), 255, dtype=np.uint8), 100
    factors, places, kinds = [], [], set()
    for seed in range(400):
        top, left, bottom, right = bar(random_rescale(white, 0.3, rng_of(seed)))
        kinds.add((top + bottom > 0, left + right > 0))
        for before, after in ((top, bottom), (left, right)):
            if before + after > 4:
                factors.append(side / (side - before - after))
                places.append(before / (before + after))
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}
    assert 1.27 < max(factors) < 1.33
    assert min(places) < 0.05
    assert max(places) > 0.95
    assert abs(np.mean(places) - 0.5) < 0.05


def test_a_small_rescaling_window_lies_anywhere_inside_the_photo():
    """Read off two ramps, red downwards and green to the right, of which a window shows a part."""
    ramp = np.linspace(20, 250, 100).astype(np.uint8)
    photo = np.dstack([*np.meshgrid(ramp, ramp, indexing="ij"), np.full((100, 100), 99, dtype=np.uint8)])
    seen, places = [], []
    for seed in range(300):
        result = random_rescale(photo, 0.3, rng_of(seed)).astype(int)
        if result.min() > 15:
            first, last = result[0, 0, :2], result[-1, -1, :2]
            seen.append((last - first) / 230)
            places.append((first - 20) / (230 - last + first).clip(1))
    assert len(seen) > 50
    assert np.all(np.abs(np.min(seen, axis=0) - 0.71) < 0.02)
    cut_twice = np.array(places)[(np.array(seen) < 0.95).all(axis=1)]
    assert np.all(cut_twice.min(axis=0) < 0.1)
    assert np.all(cut_twice.max(axis=0) > 0.9)
    assert abs(np.corrcoef(cut_twice.T)[0, 1]) < 0.3


# -- border and crop


@pytest.mark.parametrize(
    ("side", "border"), [(256, 10), (384, 15), (448, 18), (512, 20), (320, 13), (128, 5)]
)
def test_the_published_borders(side, border):
    assert padding(side, PRESETS["glr2021-2nd"].pad) == border


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.5), seeds)
def test_pad_crop_is_some_crop_of_the_padded_photo(height, width, share, seed):
    photo = noise(height, width, seed)
    rows, columns = math.floor(height * share + 0.5), math.floor(width * share + 0.5)
    padded = np.pad(photo, ((rows, rows), (columns, columns), (0, 0)))
    result = pad_crop(photo, share, rng_of(seed))
    assert any(
        np.array_equal(result, padded[top : top + height, left : left + width])
        for top in range(2 * rows + 1)
        for left in range(2 * columns + 1)
    )


def test_pad_crop_reaches_every_place_alike():
    photo, counts = noise(16, 8), {}
    for seed in range(1500):
        key = bar(pad_crop(photo, 1 / 8, rng_of(seed)))
        counts[key] = counts.get(key, 0) + 1
    assert set(counts) == {
        (max(-dy, 0), max(-dx, 0), max(dy, 0), max(dx, 0)) for dy in range(-2, 3) for dx in range(-1, 2)
    }
    assert all(60 <= count <= 140 for count in counts.values())  # 100 +- 4 standard deviations


# -- erasing


def counted_box(before: np.ndarray, after: np.ndarray, fill: tuple[int, int, int]) -> tuple[int, int] | None:
    """(height, width) of what changed, pixel by pixel; fails unless it is one box full of *fill*."""
    changed = [
        (row, column)
        for row in range(before.shape[0])
        for column in range(before.shape[1])
        if tuple(before[row, column]) != tuple(after[row, column])
    ]
    if not changed:
        return None
    assert {tuple(int(value) for value in after[place]) for place in changed} == {fill}
    rows, columns = {row for row, _ in changed}, {column for _, column in changed}
    height, width = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
    assert len(changed) == height * width
    return height, width


@settings(max_examples=60)
@given(
    st.integers(16, 32),
    st.integers(16, 32),
    st.tuples(st.floats(0.02, 0.2), st.floats(0.02, 0.2)).map(sorted).map(tuple),
    st.tuples(st.floats(0.3, 3.33), st.floats(0.3, 3.33)).map(sorted).map(tuple),
    seeds,
)
def test_one_box_is_erased_with_area_and_ratio_in_range(height, width, area, ratio, seed):
    photo, fill = noise(height, width, seed), (0, 200, 30)  # without a 0, so that every erased pixel changes
    erased = random_erasing(photo, area, ratio, fill, rng_of(seed))
    box = counted_box(photo, erased, fill)
    if box is None:
        fits = math.sqrt(area[1] * height * width * ratio[1]) < height - 0.5
        assert not fits or math.sqrt(area[1] * height * width / ratio[0]) > width - 0.5
        return
    # sides are rounded after the draw, so half a pixel each way
    smallest, largest = ((box[0] + step) * (box[1] + step) for step in (-0.5, 0.5))
    assert smallest <= area[1] * height * width
    assert largest >= area[0] * height * width
    assert (box[0] - 0.5) / (box[1] + 0.5) <= ratio[1]
    assert (box[0] + 0.5) / (box[1] - 0.5) >= ratio[0]


def test_erased_areas_and_ratios_are_uniform_and_lie_anywhere():
    photo, areas, ratios, hits = noise(100, 100), [], [], np.zeros((100, 100))
    for seed in range(1500):
        gone = (random_erasing(photo, AREA, RATIO, (0, 0, 0), rng_of(seed)) == 0).all(axis=2)
        rows, columns = gone.any(axis=1).sum(), gone.any(axis=0).sum()
        areas.append(rows * columns / 1e4)
        ratios.append(rows / columns)
        hits += gone
    for values, (low, high) in ((areas, AREA), (ratios, RATIO)):
        assert np.allclose(np.quantile(values, [0.25, 0.5, 0.75]), np.linspace(low, high, 5)[1:4], rtol=0.1)
    assert all(edge.any() for edge in (hits[0], hits[-1], hits[:, 0], hits[:, -1]))
    assert np.abs(hits - hits[::-1, ::-1]).max() < 0.2 * hits.max()


def test_a_box_that_never_fits_leaves_the_photo_whole():
    photo, rng = noise(1, 50), rng_of(3)
    assert np.array_equal(random_erasing(photo, AREA, RATIO, (0, 0, 0), rng), photo)
    twin = rng_of(3)
    twin.random(200)  # area and ratio, a hundred times
    assert rng.random() == twin.random()
    # a box as wide as the photo does not fit either: something of every row and column stays
    photo = noise(40, 3)
    for seed in range(100):
        erased = random_erasing(photo, AREA, RATIO, (0, 0, 0), rng_of(seed))
        assert erased.any(axis=(0, 2)).all()


def test_the_erased_value_is_zero_after_normalisation():
    # PyTorch's and Keras' ImageNet means x 255, as every published system has them
    assert np.abs(np.array(IMAGENET_MEAN) - (123.675, 116.28, 103.53)).max() < 0.5
    erased = apply(noise(64, 64), Augmentation(erase=1.0), (64, 64), rng_of(0))
    assert (erased == np.array(IMAGENET_MEAN)).all(axis=2).sum() >= 0.015 * 64 * 64


# -- all together


@given(seeds)
def test_operations_come_in_the_order_of_the_fields(seed):
    every = Augmentation(
        crop=0.6, flip=0.5, shear_deg=9.0, shear_probability=0.5, brightness=0.2, contrast=0.3,
        tone_probability=0.5, rescale=0.3, pad=0.1, erase=0.5, erase_fill=(1, 2, 3),
    )  # fmt: skip
    photo, rng = noise(50, 70, seed), rng_of(seed)
    expected = resize_to(random_crop(photo, 0.6, rng), 33, 44)
    if rng.random() < 0.5:
        expected = expected[:, ::-1]
    if rng.random() < 0.5:
        expected = random_shear(expected, 9.0, rng)
    if rng.random() < 0.5:
        expected = jitter(expected, 0.2, 0.3, rng)
    expected = pad_crop(random_rescale(expected, 0.3, rng), 0.1, rng)
    if rng.random() < 0.5:
        expected = random_erasing(expected, AREA, RATIO, (1, 2, 3), rng)
    assert np.array_equal(apply(photo, every, (33, 44), rng_of(seed)), expected)
    fields = [field.name for field in dataclasses.fields(Augmentation)]
    order = ["crop", "flip", "shear_deg", "brightness", "rescale", "pad", "erase"]
    assert sorted(order, key=fields.index) == order


@pytest.mark.parametrize("off", ["shear_deg", "brightness"])
def test_a_share_of_the_photos_is_left_alone(off):
    share = {"shear_deg": "shear_probability", "brightness": "tone_probability"}[off]
    photo = smooth(30, 30)
    augmentation = Augmentation(**{off: 0.5 if off == "brightness" else 20.0, share: 0.3})
    changed = sum(
        not np.array_equal(apply(photo, augmentation, (30, 30), rng_of(seed)), photo) for seed in range(1000)
    )
    assert 240 <= changed <= 360


def test_contrast_alone_is_enough_to_change_a_photo():
    photo = smooth(30, 30)
    assert not np.array_equal(apply(photo, Augmentation(contrast=0.5), (30, 30), rng_of(0)), photo)


NUMBERS = {
    "none": {},
    "flip": {"flip": 0.5},
    "soft": {"rescale": 0.2, "brightness": 0.1, "tone_probability": 0.5},
    "middle": {
        "rescale": 0.3, "shear_deg": 4.0, "shear_probability": 0.5,
        "brightness": 0.1, "contrast": 0.1, "tone_probability": 0.5,
    },
    "glr2020-1st": {"flip": 0.5},
    "glr2021-2nd": {"flip": 0.5, "pad": 0.0390625, "erase": 1.0},
}  # fmt: skip
"""What the published systems say, and nothing besides."""


def test_every_preset_has_the_published_numbers():
    assert {name: Augmentation(**numbers) for name, numbers in NUMBERS.items()} == dict(PRESETS)
    assert (Augmentation().erase_area, Augmentation().erase_fill) == ((0.02, 0.2), (124, 116, 104))
    assert Augmentation().erase_ratio == pytest.approx((0.3, 3.33), abs=0.004)


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=15)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 60), st.integers(1, 60), seeds)
def test_every_preset_keeps_the_contract(name, height, width, tall, wide, seed):
    photo = noise(height, width, seed)
    kept = photo.copy()
    photo.setflags(write=False)
    result = apply(photo, PRESETS[name], (tall, wide), rng_of(seed))
    assert (result.dtype, result.shape) == (np.uint8, (tall, wide, 3))
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.shares_memory(result, photo)
    assert np.array_equal(photo, kept)
    assert np.array_equal(result, apply(photo, PRESETS[name], (tall, wide), rng_of(seed)))


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"none"}))
def test_every_preset_but_none_changes_photos(name):
    photo = noise(64, 64)
    results = {apply(photo, PRESETS[name], (64, 64), rng_of(seed)).tobytes() for seed in range(30)}
    assert len(results) == 2 if PRESETS[name] == PRESETS["flip"] else len(results) == 30


def pixels_of(position: int) -> list[bytes]:
    photo = smooth(48, 64)
    return [
        apply(photo, preset, (40, 56), np.random.default_rng([0, 3, position])).tobytes()
        for preset in PRESETS.values()
    ]


def test_other_processes_see_the_same():
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("fork")) as pool:
        assert list(pool.map(pixels_of, range(6))) == [pixels_of(position) for position in range(6)]


def test_the_page_runs_and_names_every_field_and_preset():
    page = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert (names["square"].shape, names["oblong"].shape) == ((512, 512, 3), (352, 512, 3))
    for name in [*PRESETS, *(field.name for field in dataclasses.fields(Augmentation))]:
        assert f"`{name}`" in page, f"docs/augmentation.md does not say what {name} is"


# -- values that cannot be


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, value) for key in ("flip", "shear_probability", "tone_probability", "erase")
          for value in (-0.1, 1.1, math.nan)],
        *[(key, value) for key in ("brightness", "contrast", "rescale", "pad") for value in (-0.1, 1.0, math.nan)],
        ("crop", 0.0), ("crop", 1.01), ("crop", math.nan),
        ("shear_deg", -1.0), ("shear_deg", 90.0), ("shear_deg", math.nan),
        ("erase_area", (0.0, 0.2)), ("erase_area", (0.3, 0.2)), ("erase_area", (0.1, 1.0)), ("erase_area", (0.1,)),
        ("erase_ratio", (0.0, 3.0)), ("erase_ratio", (3.0, 0.3)), ("erase_ratio", (1.0, math.inf)),
        ("erase_ratio", (0.3, 1.0, 3.0)), ("erase_ratio", (0.3, math.nan)),
        ("erase_fill", (0, 0)), ("erase_fill", (0, 0, 256)), ("erase_fill", (-1, 0, 0)), ("erase_fill", (0.5, 0, 0)),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_by_its_name(key, value):
    with pytest.raises(ValueError, match=f"^{key}: ") as refused:
        Augmentation(**{key: value})
    assert str(value[-1] if key == "erase_area" and value[-1] == 1.0 else value) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_last_possible_values_are_taken():
    Augmentation(
        crop=0.01, flip=1.0, shear_deg=89.0, brightness=0.99, contrast=0.99, rescale=0.99, pad=0.99,
        erase=1.0, erase_area=(0.5, 0.5), erase_ratio=(1.0, 1.0), erase_fill=(0, 255, 0),
    )  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["none"].flip = 1.0
    with pytest.raises(TypeError):
        PRESETS["mine"] = Augmentation()
