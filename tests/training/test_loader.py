"""Batches: what each augmentation does, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from landseer.photos import load_square
from landseer.training.loader import epoch_batches, plain_batches

STRONG = {"crop": 0.5, "brightness": 0.5, "contrast": 0.5}


def epoch(subset, stage, *, seed=0, number=0, workers=2):
    return list(epoch_batches(subset, stage, seed=seed, epoch=number, workers=workers))


def photos_by_id(subset, stage, order=None, **how):
    """id -> pixels of one epoch; needs one batch for the whole subset."""
    (batch,) = epoch(subset, stage, **how)
    seed, number = how.get("seed", 0), how.get("number", 0)
    places = np.random.default_rng([seed, number, 0]).permutation(len(subset))
    assert np.array_equal(subset.row_N[places], batch.row_B)
    return {subset.ids[place]: photo for place, photo in zip(places, batch.photos_BHW3, strict=True)}


def squares(subset, size):
    return {
        photo: load_square(subset.root, path, size)
        for photo, path in zip(subset.ids, subset.paths, strict=True)
    }


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_without_augmentation_a_photo_is_what_extraction_sees(toy, stage):
    plain = stage(batch=18, augmentation={"flip": 0})
    assert same(photos_by_id(toy, plain), squares(toy, 32))


def test_large_photos_without_augmentation_are_what_extraction_sees(tmp_path, toy, stage):
    """Decoded at a fraction whose last row and column are not whole."""
    rng = np.random.default_rng(0)
    for photo in toy.ids:
        noise = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
        noise.resize((389, 301), Image.Resampling.BICUBIC).save(tmp_path / f"{photo}.png", "JPEG")
    large = replace(toy, root=tmp_path)
    assert same(photos_by_id(large, stage(batch=18, augmentation={"flip": 0})), squares(large, 32))


def test_a_flip_mirrors_about_half_of_the_photos(toy, stage):
    straight, mirrored = squares(toy, 32), 0
    for number in range(10):
        for photo, pixels in photos_by_id(toy, stage(batch=18), number=number).items():
            flipped = np.array_equal(pixels, straight[photo][:, ::-1])
            assert flipped or np.array_equal(pixels, straight[photo])
            mirrored += flipped
    assert 60 < mirrored < 120  # of 180


def test_a_crop_shows_part_of_the_photo(tmp_path, toy, stage):
    ramp = np.broadcast_to(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], (128, 128, 3))
    for photo in toy.ids:
        Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / f"{photo}.png")
    found = photos_by_id(replace(toy, root=tmp_path), stage(batch=18, augmentation={"crop": 0.4, "flip": 0}))
    spans = [int(pixels.max()) - int(pixels.min()) for pixels in found.values()]
    assert 0.38 * 255 < min(spans) < 0.6 * 255 and max(spans) > 0.8 * 255


def test_a_photo_depends_on_seed_epoch_and_itself_alone(toy, stage):
    strong = stage(batch=18, augmentation=STRONG)
    first = photos_by_id(toy, strong, workers=1)
    assert same(first, photos_by_id(toy, strong, workers=5))
    for other in (photos_by_id(toy, strong, seed=1), photos_by_id(toy, strong, number=1)):
        assert not any(np.array_equal(first[photo], other[photo]) for photo in first)
    in_batches = np.concatenate(
        [batch.photos_BHW3 for batch in epoch(toy, stage(batch=6, augmentation=STRONG))]
    )
    assert np.array_equal(in_batches, np.stack(list(first.values())))  # batches are cut from one order


def test_the_order_is_not_drawn_from_the_stream_of_a_photo(toy, stage):
    order = np.random.default_rng([0, 0, 0]).permutation(18)
    assert not np.array_equal(order, np.random.default_rng([0, 0, 1]).permutation(18))
    rows = [np.concatenate([b.row_B for b in epoch(toy, stage(), number=n)]).tolist() for n in range(3)]
    assert len({tuple(row) for row in rows}) == 3


@pytest.mark.parametrize(
    ("batch", "sizes"), [(18, [18]), (6, [6, 6, 6]), (7, [7, 7]), (17, [17]), (1, [1] * 18), (99, [18])]
)
def test_an_uneven_last_batch_is_dropped_unless_it_is_the_only_one(toy, stage, batch, sizes):
    assert [len(found.row_B) for found in epoch(toy, stage(batch=batch))] == sizes


def test_plain_batches_hold_every_photo_once_in_order(toy):
    batches = list(plain_batches(toy, size_px=24, batch=7, workers=3))
    assert [len(batch.row_B) for batch in batches] == [7, 7, 4]
    assert np.array_equal(np.concatenate([batch.row_B for batch in batches]), toy.row_N)
    expected = np.stack(list(squares(toy, 24).values()))
    assert np.array_equal(np.concatenate([batch.photos_BHW3 for batch in batches]), expected)


def test_unreadable_photos_are_left_out_and_listed(tmp_path, toy):
    for number, photo in enumerate(toy.ids):
        if number % 2:
            (tmp_path / f"{photo}.png").write_bytes((toy.root / f"{photo}.png").read_bytes())
    (tmp_path / f"{toy.ids[0]}.png").write_bytes(b"no picture")
    batches = list(plain_batches(replace(toy, root=tmp_path), size_px=24, batch=6, workers=2))
    assert [len(batch.row_B) for batch in batches] == [3, 3, 3]
    assert np.array_equal(np.concatenate([batch.row_B for batch in batches]), toy.row_N[1::2])
    unreadable = {photo: reason for batch in batches for photo, reason in batch.unreadable.items()}
    assert set(unreadable) == set(toy.ids[::2])
    assert unreadable[toy.ids[2]] == "missing" and unreadable[toy.ids[0]] != "missing"


def test_a_batch_of_nothing_but_unreadable_photos_is_empty(tmp_path, toy):
    (batch, *_) = plain_batches(replace(toy, root=tmp_path), size_px=24, batch=6, workers=2)
    assert len(batch.row_B) == len(batch.photos_BHW3) == 0 and len(batch.unreadable) == 6


def test_a_mistake_in_a_path_is_not_taken_for_an_unreadable_photo(toy):
    wrong = replace(toy, paths=("../" + toy.paths[0], *toy.paths[1:]))
    with pytest.raises(ValueError, match="leaves its root"):
        list(plain_batches(wrong, size_px=24, batch=6, workers=2))


def test_no_worker_is_a_mistake(toy, stage):
    with pytest.raises(ValueError, match="workers: must be at least 1, not 0"):
        epoch(toy, stage(), workers=0)
