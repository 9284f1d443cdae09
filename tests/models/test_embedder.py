"""The embedder: necks, preprocessing, unit rows, scales, and model folders."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landseer.models import build_embedder, load_embedder, preset_of, remade, save_embedder
from landseer.recipe import DescriptorOptions, ModelOptions


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit", "test_mambaout"])
@pytest.mark.parametrize(("neck", "dim"), [("none", None), ("fc", 7)])
def test_rows_have_unit_length_and_the_promised_dim(tiny, photos, backbone, neck, dim):
    embedder = tiny(backbone, neck=neck, dim=dim or 512)
    rows = embedder.describe(photos)
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.dim) and embedder.dim == (dim or embedder.backbone.num_features)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_the_necks_are_what_the_systems_say(tiny):
    fc = tiny(neck="fc", dim=9).neck
    assert [type(part) for part in fc] == [nn.Linear] and not fc[0].bias.any()
    assert tiny(neck="fc", dim=9, neck_bias=False).neck[0].bias is None
    linear, norm = tiny(neck="fc-bn", dim=9).neck
    assert isinstance(norm, nn.BatchNorm1d) and norm.bias.requires_grad
    linear, norm = tiny(neck="fc-bn", dim=9, neck_bias=False, freeze_bn_bias=True).neck
    assert linear.bias is None and not norm.bias.requires_grad and norm.weight.requires_grad


def test_swish_bounds_every_component_from_below(tiny, photos):
    embedder = tiny(neck="fc-swish", dim=64)
    with torch.no_grad():
        embedder.neck[0].weight.mul_(50)
        before_norm = embedder.neck(embedder.pooled(embedder.normalise(photos)))
    assert -0.2785 <= before_norm.min() < 0 < before_norm.max()
    linear = embedder.neck[0](embedder.pooled(embedder.normalise(photos)))
    assert torch.allclose(before_norm, linear * torch.sigmoid(linear), atol=1e-6)


def test_pooling_sees_positions_and_cls_the_class_token(tiny, photos):
    for pooling in ("gap", "gem", "cls", "cls+gem"):
        embedder = tiny("test_vit", pooling=pooling)
        pixels = embedder.normalise(photos)
        tokens = embedder.backbone.forward_features(pixels)
        expected = {
            "gap": lambda tokens=tokens: tokens[:, 1:].mean(dim=1),
            "gem": lambda tokens=tokens: tokens[:, 1:].clamp(min=1e-6).pow(3).mean(dim=1).pow(1 / 3),
            "cls": lambda tokens=tokens: tokens[:, 0],
        }
        halves = [expected[half]() for half in ("cls", "gem")]
        expected["cls+gem"] = lambda halves=halves: torch.cat(
            [half / half.norm(dim=1, keepdim=True) for half in halves], dim=1
        )
        expected = expected[pooling]()
        assert torch.allclose(embedder.pooled(pixels), expected, atol=1e-5), pooling


@pytest.mark.parametrize("pooling", ["cls", "cls+gem"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit2"])
def test_cls_without_a_class_token_is_refused_when_the_model_is_built(tiny, backbone, pooling):
    with pytest.raises(ValueError, match=f"model.pooling: {backbone} has no class token; use"):
        tiny(backbone, pooling=pooling)


def test_class_token_and_gem_weigh_alike_whatever_their_scales(tiny, photos):
    """Without a neck the cosine is the mean of the two halves' cosines."""
    rows = {
        pooling: tiny("test_vit", pooling=pooling).describe(photos) for pooling in ("cls", "gem", "cls+gem")
    }
    both = tiny("test_vit", pooling="cls+gem")
    assert both.dim == both.channels == rows["cls+gem"].shape[1] == 2 * both.backbone.num_features
    cosines = {pooling: found @ found.T for pooling, found in rows.items()}
    assert cosines["cls+gem"] == pytest.approx((cosines["cls"] + cosines["gem"]) / 2, abs=1e-5)
    necked = tiny("test_vit", pooling="cls+gem", neck="fc-bn", dim=9)
    assert (necked.dim, necked.neck[0].in_features) == (9, 128)


def test_a_neck_is_not_kept_for_features_of_another_width(tiny):
    both = tiny("test_vit", pooling="cls+gem", neck="fc", dim=9)
    with pytest.raises(
        ValueError, match=r"pooling: 'gem' gives 64 components .* for 128, those of 'cls\+gem'"
    ):
        remade(both, pooling="gem")
    assert remade(both, pooling="gem", new_neck=True).neck[0].in_features == 64
    assert remade(tiny("test_vit", pooling="cls+gem"), pooling="gem").dim == 64
    kept = remade(both, gem_p=5.0)
    assert torch.equal(kept.neck[0].weight, both.neck[0].weight) and kept.pooling.p == 5.0


# -- preprocessing


def test_normalise_is_subtract_and_divide_and_leaves_the_photos_alone(tiny, photos):
    embedder = tiny(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    expected = (photos / 255.0 - np.array([0.5, 0.4, 0.3])) / np.array([0.5, 0.25, 0.2])
    before = photos.copy()
    pixels = embedder.normalise(photos)
    assert pixels.dtype == torch.float32
    assert pixels.permute(0, 2, 3, 1).numpy() == pytest.approx(expected, abs=1e-5)
    floats = torch.from_numpy(photos).float()
    assert torch.equal(embedder.normalise(floats), pixels)
    assert np.array_equal(floats.numpy(), before) and np.array_equal(photos, before)


def test_preprocessing_is_the_weights_own_unless_the_recipe_says_otherwise(tiny):
    assert tiny("test_vit").mean == (0.5, 0.5, 0.5)
    assert tiny("test_vit", mean=(0, 0.25, 1)).mean == (0.0, 0.25, 1.0)
    assert tiny("resnet10t").std == (0.229, 0.224, 0.225)


def test_describe_is_forward_of_normalise_whatever_the_batch(tiny, photos):
    embedder = tiny(neck="fc-bn", dim=16)
    embedder.train()
    together = embedder.describe(photos)
    assert not embedder.training
    with torch.no_grad():
        assert np.array_equal(together, embedder(embedder.normalise(photos)).numpy())
    alone = np.concatenate([embedder.describe(photos[i : i + 1]) for i in range(5)])
    assert alone == pytest.approx(together, abs=1e-5)
    order = [3, 0, 4, 1, 2]
    assert embedder.describe(photos[order]) == pytest.approx(together[order], abs=1e-5)


# -- scales and sizes


def test_several_scales_are_the_unit_average_of_unit_rows(tiny, photos):
    embedder = tiny()
    pixels = embedder.normalise(photos)
    with torch.no_grad():
        larger = F.interpolate(pixels, size=(91, 91), mode="bicubic", align_corners=False)
        smaller = F.interpolate(pixels, size=(45, 45), mode="bicubic", align_corners=False, antialias=True)
        rows = [embedder(one) for one in (pixels, larger, smaller)]
    expected = F.normalize(sum(rows) / 3, dim=1).numpy()
    assert embedder.describe(photos, scales=(1.0, 1.4142, 0.7071)) == pytest.approx(expected, abs=1e-5)
    assert embedder.describe(photos, scales=(1.4142,)) == pytest.approx(rows[1].numpy(), abs=1e-5)


@pytest.mark.parametrize("average", ["unit", "raw"])
def test_with_flip_the_mirrored_photos_are_averaged_in_at_every_scale(tiny, photos, average):
    embedder = tiny(neck="fc", dim=6)
    mirrored = photos[:, :, ::-1].copy()
    rows = np.zeros((5, 6))
    for pixels in map(embedder.normalise, (photos, mirrored)):
        larger = F.interpolate(pixels, size=(96, 96), mode="bicubic", align_corners=False)
        for seen in (pixels, larger):
            with torch.no_grad():
                raw = embedder.neck(embedder.pooled(seen)).numpy().astype(np.float64)
            rows += raw / (np.linalg.norm(raw, axis=1, keepdims=True) if average == "unit" else 1.0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = {"scales": (1.0, 1.5), "scale_average": average, "flip": True}
    assert embedder.describe(photos, **asked) == pytest.approx(rows, abs=1e-5)
    assert embedder.describe(mirrored, **asked) == pytest.approx(rows, abs=1e-5)
    once = embedder.describe(photos, scale_average=average, flip=True)
    assert np.linalg.norm(once, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert np.abs(once - embedder.describe(photos, scale_average=average)).max() > 1e-3


def test_a_vit_takes_multiples_of_its_patch_and_scales_keep_to_them(tiny, photos):
    embedder = tiny("test_vit", pooling="cls")
    assert embedder.size_multiple == 16 and tiny().size_multiple == 1
    with pytest.raises(
        ValueError, match=r"stages\[0\]\.size: test_vit needs a multiple of 16, not 200; try 1"
    ):
        embedder.require_size(200, "stages[0].size")
    embedder.require_size(64, "here")
    rows = embedder.describe(photos, scales=(1.0, 0.7071))  # 45.25 px is 48 in patches
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_a_backbone_of_one_size_refuses_all_others(tiny):
    embedder = tiny("test_vit_relpos")
    embedder.require_size(160, "descriptors.size")
    with pytest.raises(ValueError, match=r"descriptors.size: test_vit_relpos takes 160 px and no other size"):
        embedder.require_size(96, "descriptors.size")
    photos = np.zeros((1, 160, 160, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"descriptors.scales: test_vit_relpos takes 160 px"):
        embedder.describe(photos, scales=(1.0, 0.5))


# -- model folders


@pytest.mark.parametrize(
    "options",
    [
        {"neck": "fc-bn", "dim": 8, "freeze_bn_bias": True, "gem_p": 4},
        {"backbone": "test_vit", "pooling": "cls"},
        {"backbone": "test_vit", "pooling": "cls+gem", "gem_p": 4, "neck": "fc", "dim": 9},
        {"ibn": True, "last_stride": 1},
        {"backbone": "test_convnext", "pooling": "gap"},
        {"backbone": "test_efficientnet", "gem_learned": True, "last_stride": 1, "mean": (0, 0, 0)},
        {"backbone": "mobilenet_edgetpu_100", "linear_first_block": True, "pad_type": "same"},
    ],
    ids=lambda options: options.get("backbone", "test_resnet"),
)
def test_a_saved_embedder_comes_back_to_the_bit(tmp_path, tiny, photos, options):
    embedder = tiny(**options)
    with torch.no_grad():
        for parameter in embedder.parameters():
            parameter.mul_(1.01)
    save_embedder(embedder, tmp_path / "model", made_by={"test": "yes"})
    random_state = torch.get_rng_state()
    loaded = load_embedder(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert loaded.fingerprint == embedder.fingerprint
    assert (loaded.mean, loaded.std, loaded.source) == (embedder.mean, embedder.std, embedder.source)
    assert np.array_equal(loaded.describe(photos), embedder.describe(photos))
    trainable = [p.requires_grad for p in loaded.parameters()]
    assert trainable == [p.requires_grad for p in embedder.parameters()]


def test_a_model_folder_needs_no_original_weights_and_keeps_their_source(tmp_path, tiny, photos):
    file = tmp_path / "w.pth"
    torch.save(tiny(seed=3).backbone.state_dict(), file)
    options = ModelOptions(backbone="test_resnet", weights="file", pooling="gem")
    embedder = build_embedder(options, weights=file)
    assert embedder.source.startswith("file sha256 ")
    save_embedder(embedder, tmp_path / "model", made_by={})
    file.unlink()
    loaded = load_embedder(tmp_path / "model")
    assert loaded.options == options and loaded.source == embedder.source
    assert np.array_equal(loaded.describe(photos), embedder.describe(photos))


def test_a_model_folder_keeps_how_it_wants_to_see_photos(tmp_path, tiny):
    embedder, wanted = tiny(), DescriptorOptions(size=160, scales=(1.0, 0.7071), batch=7, dtype="float16")
    save_embedder(embedder, tmp_path / "told", made_by={}, descriptors=wanted)
    save_embedder(embedder, tmp_path / "untold", made_by={})
    assert preset_of(tmp_path / "told") == wanted
    assert preset_of(tmp_path / "untold") == DescriptorOptions()
    assert load_embedder(tmp_path / "told").fingerprint == load_embedder(tmp_path / "untold").fingerprint
    facts = tmp_path / "told" / "model.json"
    facts.write_text(facts.read_text().replace("160", "161"))
    with pytest.raises(ValueError, match=r"model.json is damaged"):
        preset_of(tmp_path / "told")


def test_a_damaged_model_folder_is_refused(tmp_path, tiny):
    save_embedder(tiny(), tmp_path / "model", made_by={})
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    weights = tmp_path / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights.safetensors is damaged"):
        load_embedder(tmp_path / "model")
    facts = tmp_path / "other" / "model.json"
    facts.write_text(json.dumps(json.loads(facts.read_text())))
    with pytest.raises(ValueError, match=r"model.json"):
        load_embedder(tmp_path / "other")


# -- identity


def test_the_fingerprint_changes_with_any_weight_and_any_option(tiny):
    options = {"neck": "fc-bn", "dim": 8}
    embedder = tiny(**options)
    seen = {embedder.fingerprint}
    assert tiny(**options).fingerprint in seen
    for value in embedder.state_dict().values():
        value.add_(1)
        assert embedder.fingerprint not in seen
        seen.add(embedder.fingerprint)
    changes = [
        {"mean": (0.1, 0.2, 0.3)},
        {"std": (0.1, 0.2, 0.3)},
        {"gem_p": 4.0},
        {"pooling": "gap"},
        {"last_stride": 1},
        {"ibn": True},
        {"freeze_bn_bias": True},
        {"neck_ridge": 2.0},
        {"substitute_for": "resnet50"},
    ]
    for change in changes:
        fingerprint = tiny(**options, **change).fingerprint
        assert fingerprint not in seen, change
        seen.add(fingerprint)


def test_equal_settings_have_one_fingerprint_however_they_are_written(tiny):
    assert tiny(gem_p=3, mean=(0, 0, 1)).fingerprint == tiny(gem_p=3.0, mean=(0.0, 0.0, 1.0)).fingerprint


def test_chance_follows_the_seed_and_leaves_the_callers_alone(tiny):
    state = torch.get_rng_state()
    first, again, other = tiny(seed=1), tiny(seed=1), tiny(seed=2)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(torch.get_rng_state(), state)


def test_every_model_option_is_known_here():
    """A new option must be weighed for the model folder and the fingerprint; then it joins this list."""
    assert {field.name for field in dataclasses.fields(ModelOptions)} == {
        *("backbone", "weights", "linear_first_block", "pad_type", "last_stride", "ibn", "pooling", "gem_p"),
        *("gem_learned", "neck", "neck_bias", "neck_start", "neck_ridge", "dim", "freeze_bn_bias"),
        *("mean", "std", "substitute_for"),
    }
