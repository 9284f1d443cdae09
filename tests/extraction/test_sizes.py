"""Real embedders at sizes of every shape and at several scales."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from landseer.extraction import extract
from landseer.models import build_embedder
from landseer.photos import load_sized
from landseer.recipe import AspectOptions, DescriptorOptions, ModelOptions


def tiny(backbone: str = "test_resnet", **options):
    return build_embedder(
        ModelOptions(**{"backbone": backbone, "weights": "none", "pooling": "gem", **options}), seed=0
    )


@pytest.fixture
def with_a_neck(one_thread):
    """An embedder whose BatchNorm has seen photos, so that rows differ in length from scale to scale."""
    embedder = tiny(neck="fc-bn", dim=12)
    photos = np.random.default_rng(9).integers(0, 256, (6, 128, 128, 3), dtype=np.uint8)
    with torch.no_grad():
        for size in (128, 96):
            embedder.neck[1].momentum = None  # the mean of all that is seen
            embedder.neck[1].train()
            embedder.neck(embedder.pooled(F.interpolate(embedder.normalise(photos), size=size)))
    return embedder.eval()


def test_raw_rows_of_the_scales_are_averaged_before_any_is_made_unit(with_a_neck):
    photos = np.random.default_rng(0).integers(0, 256, (3, 136, 200, 3), dtype=np.uint8)
    # 0.75: 102 x 150 is 96 x 128 in steps of 32, the height at least 128; 1: 136 is 128; 1.25: 170 x 250
    sizes = {0.75: (128, 128), 1.0: (128, 192), 1.25: (160, 224)}
    pixels = with_a_neck.normalise(photos)
    raw = []
    with torch.no_grad():
        for size in sizes.values():
            seen = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=True)
            if size == (160, 224):
                seen = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False)
            raw.append(with_a_neck.neck(with_a_neck.pooled(seen)).numpy())
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in raw]
    means = {}
    for average, rows in (("raw", raw), ("unit", unit)):
        mean = sum(rows) / 3
        means[average] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        found = with_a_neck.describe(photos, scales=tuple(sizes), scale_average=average, scale_multiple=32)
        assert found == pytest.approx(means[average], abs=1e-4)
    assert np.abs(means["raw"] - means["unit"]).max() > 0.01


def test_at_one_scale_both_means_are_the_row(with_a_neck):
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    raw = with_a_neck.describe(photos, scale_average="raw")
    assert raw == pytest.approx(with_a_neck.describe(photos), abs=1e-6)


@pytest.mark.parametrize(
    ("size", "multiple", "seen"),
    [
        # the largest of the 2019 templates at 0.75, 1 and 1.25: each side down to a multiple of 32
        ((800, 544), 32, [(576, 384), (800, 544), (992, 672)]),
        ((608, 800), 32, [(448, 576), (608, 800), (736, 992)]),
        ((160, 100), 32, [(128, 128), (160, 128), (192, 128)]),
        ((512, 512), 16, [(384, 384), (512, 512), (640, 640)]),
        ((101, 64), 0, [(76, 48), (101, 64), (126, 80)]),
    ],
)
def test_the_sides_at_each_scale(size, multiple, seen):
    assert [tiny().scaled_size(size, scale, multiple) for scale in (0.75, 1.0, 1.25)] == seen


def test_a_side_that_is_a_multiple_but_for_rounding_stays_one():
    assert 340 * 0.7 < 17 * 14  # the true product
    assert tiny().scaled_size((340, 340), 0.7, 14) == (238, 238)


def test_a_vit_takes_oblongs_of_whole_patches():
    vit = tiny("test_vit", pooling="cls")
    vit.require_size((64, 48), "here")
    with pytest.raises(ValueError, match=r"here: test_vit needs a multiple of 16, not 64 x 40; try 64 x 32$"):
        vit.require_size((64, 40), "here")
    with pytest.raises(ValueError, match=r"scale_multiple: .* a multiple of 16, not 120 x 96; try 128 x 96$"):
        vit.scaled_size((128, 96), 1.0, 24)
    only = tiny("test_vit_relpos")
    with pytest.raises(ValueError, match=r"here: test_vit_relpos takes 160 px .*, not 160 x 96"):
        only.require_size((160, 96), "here")
    only.require_size((160, 160), "here")


@pytest.mark.parametrize("options", [{}, {"backbone": "test_vit", "pooling": "cls"}], ids=["conv", "vit"])
def test_an_embedder_sees_each_photo_at_the_size_of_its_shape(draw, tmp_path, one_thread, options):
    collection = draw(7, shapes=((80, 60), (60, 80), (70, 70)))
    sizes = ((64, 48), (64, 64), (48, 64))
    how = DescriptorOptions(
        aspects=AspectOptions(splits=(0.8, 1.25), sizes=sizes), batch=5, scales=(1.0, 0.5)
    )
    embedder = tiny(**options)
    found = extract(embedder, collection, tmp_path / "d", options=how)
    for number, path in enumerate(collection.paths):
        pixels = load_sized(collection.root, path, (sizes[0], sizes[2], sizes[1])[number % 3])
        alone = embedder.describe(pixels[None], scales=(1.0, 0.5))[0]
        assert found.rows_ND[number] == pytest.approx(alone, abs=1e-5)
    refused = dataclasses.replace(how, aspects=AspectOptions(splits=(1.0,), sizes=((64, 48), (48, 60))))
    if options:
        with pytest.raises(ValueError, match=r"aspects\.sizes\[1\]: test_vit needs .* 48 x 60; try 48 x 64"):
            extract(embedder, collection, tmp_path / "refused", options=refused)
        assert not list(tmp_path.glob("*refused*"))
