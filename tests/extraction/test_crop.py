"""Photos of which a part is meant: the column ``crop``, in pixels as they are stored."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from landseer.extraction import extract
from landseer.extraction.extract import device_of
from landseer.extraction.plan import crops_of, plan_of
from landseer.recipe import AspectOptions, DescriptorOptions

OPTIONS = DescriptorOptions(size=16, batch=4)
BOX = [3.4, 2.0, 19.6, 17.0]


def cropped(collection, boxes, kind=None):
    column = pa.array(boxes, pa.list_(pa.float64()) if kind is None else kind)
    return replace(collection, photos=collection.photos.append_column("crop", column))


def described(embedder, pixels):
    return embedder.describe(np.stack(pixels))


def seen(collection, number, box=None, size=(16, 16)):
    with Image.open(collection.root / collection.paths[number]) as photo:
        part = photo.convert("RGB") if box is None else photo.convert("RGB").crop(tuple(map(round, box)))
        return np.array(part.resize(size, Image.Resampling.BICUBIC))


def test_a_box_is_what_is_described_and_other_photos_are_seen_whole(embedder, draw, tmp_path):
    photos = draw(3)
    rows = extract(embedder, cropped(photos, [None, BOX, None]), tmp_path / "out", options=OPTIONS, workers=1)
    want = described(embedder, [seen(photos, 0), seen(photos, 1, BOX), seen(photos, 2)])
    assert np.allclose(rows.rows_ND, want, atol=1e-6)
    whole = extract(embedder, photos, tmp_path / "whole", options=OPTIONS, workers=1)
    assert np.allclose(rows.rows_ND[[0, 2]], whole.rows_ND[[0, 2]], atol=1e-6)
    assert not np.allclose(rows.rows_ND[1], whole.rows_ND[1], atol=1e-3)


def test_who_drew_the_box_saw_the_photo_as_it_is_stored(embedder, draw, tmp_path):
    photos = draw(1)
    file = photos.root / photos.paths[0]
    with Image.open(file) as photo:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned
        photo.save(file, exif=exif)
    rows = extract(embedder, cropped(photos, [BOX]), tmp_path / "out", options=OPTIONS, workers=1)
    assert np.allclose(rows.rows_ND, described(embedder, [seen(photos, 0, BOX)]), atol=1e-6)


def test_what_lies_outside_is_left_out_and_a_box_without_pixels_is_unreadable(embedder, draw, tmp_path):
    photos = draw(3)
    boxes = [[-5, -5, 10, 40], [30, 0, 40, 10], None]
    rows = extract(embedder, cropped(photos, boxes), tmp_path / "out", options=OPTIONS, workers=1)
    assert rows.ids == ("photo-0", "photo-2")
    assert rows.unreadable == {"photo-1": "its crop [30, 0, 40, 10] lies outside its 28 x 20 pixels"}
    want = described(embedder, [seen(photos, 0, (0, 0, 10, 20)), seen(photos, 2)])
    assert np.allclose(rows.rows_ND, want, atol=1e-6)


def test_the_shape_of_the_box_chooses_the_size(embedder, draw, tmp_path):
    photos = draw(2)  # 28 x 20; the box is upright
    aspects = AspectOptions(splits=(1.0,), sizes=((24, 16), (16, 24)))
    options = DescriptorOptions(batch=4, aspects=aspects)
    box = [0, 0, 10, 20]
    rows = extract(embedder, cropped(photos, [box, None]), tmp_path / "out", options=options, workers=1)
    assert np.allclose(rows.rows_ND[0], described(embedder, [seen(photos, 0, box, (16, 24))])[0], atol=1e-6)
    assert np.allclose(rows.rows_ND[1], described(embedder, [seen(photos, 1, None, (24, 16))])[0], atol=1e-6)


def test_crops_are_part_of_the_plan_only_where_there_are_any(embedder, draw):
    photos = draw(2)
    plain = plan_of(embedder, photos, OPTIONS, device_of("cpu")).settings
    none = plan_of(embedder, cropped(photos, [None, None]), OPTIONS, device_of("cpu")).settings
    some = plan_of(embedder, cropped(photos, [BOX, None]), OPTIONS, device_of("cpu")).settings
    assert plain == none and {**plain, "crop": "to the box of the column crop"} == some


def test_a_column_of_that_name_about_something_else_is_left_alone(draw):
    assert crops_of(cropped(draw(2), ["wheat", "rye"], pa.string())) == [None, None]


@pytest.mark.parametrize("box", [[1, 2, 3], [0.0, 1.0, float("nan"), 3.0], [], [0.0, 0.0, float("inf"), 3.0]])
def test_a_box_that_is_none_is_a_mistake_and_writes_nothing(embedder, draw, tmp_path, box):
    photos = cropped(draw(2), [None, box])
    with pytest.raises(ValueError, match="photo 'photo-1': its crop must be four numbers") as found:
        extract(embedder, photos, tmp_path / "out", options=OPTIONS, workers=1)
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()
