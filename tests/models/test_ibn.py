"""IBN-a: what it computes, where it stands, and whose weights it takes."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from landseer.models import backbone as room
from landseer.models.backbone import build_backbone
from landseer.models.ibn import IBN
from landseer.recipe import ModelOptions


def backbone_of(name="test_resnet", weights=None, **options):
    given = {"weights": "file" if weights else "none", "pooling": "gap", "ibn": True, **options}
    return build_backbone(ModelOptions(backbone=name, **given), weights=weights)[0].eval()


def slow_ibn(features, weight, bias, mean, var, eps):
    """Channel by channel; *mean* and *var* are what BatchNorm goes by, of all channels."""
    photos, channels = features.shape[:2]
    normalised = np.empty_like(features)
    for photo in range(photos):
        for channel in range(channels):
            values = features[photo, channel]
            if channel < channels // 2:
                centre, spread = values.mean(), values.var()
            else:
                centre, spread = mean[channel], var[channel]
            unit = (values - centre) / np.sqrt(spread + eps)
            normalised[photo, channel] = unit * weight[channel] + bias[channel]
    return normalised


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [6, 7])
def test_half_is_instance_norm_and_half_batchnorm(training, channels):
    rng = np.random.default_rng(channels)
    features = rng.normal(3.0, 2.0, (4, channels, 5, 3))
    weight, bias, mean = rng.normal(size=(3, channels))
    var = rng.uniform(0.5, 2, channels)
    norm = IBN(channels, eps=1e-3, momentum=0.25).double().train(training)
    half = channels // 2
    state = {
        **{"IN.weight": weight[:half], "IN.bias": bias[:half], "BN.weight": weight[half:]},
        **{"BN.bias": bias[half:], "BN.running_mean": mean[half:], "BN.running_var": var[half:]},
        "BN.num_batches_tracked": np.array(0),
    }
    norm.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    got = norm(torch.from_numpy(features)).detach().numpy()
    seen = (features.mean(axis=(0, 2, 3)), features.var(axis=(0, 2, 3))) if training else (mean, var)
    assert got == pytest.approx(slow_ibn(features, weight, bias, *seen, eps=1e-3))
    moved = 0.25 * features.mean(axis=(0, 2, 3)) + 0.75 * mean if training else mean
    assert norm.BN.running_mean.numpy() == pytest.approx(moved[half:])


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnet50d",
        "resnext50_32x4d",
        "seresnet50",
        "seresnext50_32x4d",
        "resnest50d",
        "legacy_seresnet50",
    ],
)
def test_it_stands_first_in_each_block_of_three_stages_and_adds_no_parameter(name):
    with torch.device("meta"):
        plain, ibn = backbone_of(name, ibn=False), backbone_of(name)
    assert sum(p.numel() for p in ibn.parameters()) == sum(p.numel() for p in plain.parameters())
    found = {key for key, module in ibn.named_modules() if isinstance(module, IBN)}
    assert found == {
        f"layer{stage}.{block}.bn1"
        for stage in (1, 2, 3)
        for block in range(len(plain.get_submodule(f"layer{stage}")))
    }
    for key in found:
        norm, before = ibn.get_submodule(key), plain.get_submodule(key)
        assert norm.IN.num_features == norm.BN.num_features == before.num_features // 2
        assert (norm.BN.eps, norm.BN.momentum) == (before.eps, before.momentum)
        assert type(norm.BN) is nn.BatchNorm2d and norm.IN.affine
    rest = [
        {
            key: module
            for key, module in one.named_modules()
            if not any(key.startswith(norm) for norm in found)
        }
        for one in (plain, ibn)
    ]
    assert {key: type(m) for key, m in rest[0].items()} == {key: type(m) for key, m in rest[1].items()}


def published_keys(blocks):
    """Names and shapes of a published ResNet-IBN-a checkpoint, as its authors' code lays them out."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes = {"conv1.weight": (64, 3, 7, 7), **{f"bn1.{part}": (64,) for part in norm}}
    inputs = 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            shapes |= {
                f"{at}.conv1.weight": (width, inputs, 1, 1),
                f"{at}.conv2.weight": (width, width, 3, 3),
            }
            shapes[f"{at}.conv3.weight"] = (4 * width, width, 1, 1)
            if stage < 4:
                shapes |= {f"{at}.bn1.IN.{part}": (width // 2,) for part in norm[:2]}
                shapes |= {f"{at}.bn1.BN.{part}": (width // 2,) for part in norm}
            else:
                shapes |= {f"{at}.bn1.{part}": (width,) for part in norm}
            shapes |= {f"{at}.bn2.{part}": (width,) for part in norm}
            shapes |= {f"{at}.bn3.{part}": (4 * width,) for part in norm}
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= {f"{at}.downsample.1.{part}": (4 * width,) for part in norm}
            inputs = 4 * width
    return shapes


def test_the_published_checkpoints_have_our_names_and_shapes():
    with torch.device("meta"):
        state = backbone_of("resnet101").state_dict()
    ours = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("batches_tracked")}
    assert ours == published_keys((3, 4, 23, 3))


def test_a_file_with_ibn_is_loaded_exactly(tmp_path):
    torch.manual_seed(3)
    given = {
        key: torch.rand_like(value) for key, value in backbone_of().state_dict().items() if "track" not in key
    }
    torch.save({**given, "fc.weight": torch.rand(1000, 96)}, tmp_path / "w.pth")
    state = backbone_of(weights=tmp_path / "w.pth").state_dict()
    assert all(torch.equal(state[key], value) for key, value in given.items())


def test_the_authors_squeeze_and_excitation_is_timms_without_a_bias(tmp_path):
    source = backbone_of("seresnet18")
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(1.5)
    published, maps = {}, {}
    for key, value in source.state_dict().items():
        for ours, theirs in (("se.fc1", "se.fc.0"), ("se.fc2", "se.fc.2")):
            if ours in key:
                maps[key.replace(ours, theirs)] = value
                key, value = key.replace(ours, theirs), value.flatten(1) if value.ndim == 4 else None
        if value is not None:
            published[key] = value
    assert "layer1.0.se.fc.0.weight" in published and "layer1.0.se.fc.0.bias" not in published
    save_file(published, tmp_path / "w.safetensors")
    module = backbone_of("seresnet18", weights=tmp_path / "w.safetensors").layer2[0].se
    features = torch.randn(2, 128, 4, 4)
    squeezed = features.mean(dim=(2, 3)) @ published["layer2.0.se.fc.0.weight"].T
    gate = torch.sigmoid(squeezed.relu() @ published["layer2.0.se.fc.2.weight"].T)
    assert torch.allclose(module(features), features * gate[:, :, None, None], atol=1e-6)


def assert_cut(state, whole):
    assert state.keys() != whole.keys()
    for key, value in state.items():
        if ".bn1.IN." in key:
            before = whole[key.replace(".IN.", ".")]
            assert torch.equal(value, before[: len(value)]) and len(before) == 2 * len(value)
        elif ".bn1.BN." in key and "tracked" not in key:
            before = whole[key.replace(".BN.", ".")]
            assert torch.equal(value, before[-len(value) :]) and len(before) == 2 * len(value)
        elif "tracked" not in key:
            assert torch.equal(value, whole[key]), key


@pytest.fixture
def plain():
    """Weights of a trained test_resnet, classifier included."""
    torch.manual_seed(5)
    return {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in timm.create_model("test_resnet").state_dict().items()
    }


def test_weights_without_ibn_are_cut_by_channel(tmp_path, plain):
    save_file(plain, tmp_path / "w.safetensors")
    assert_cut(backbone_of(weights=tmp_path / "w.safetensors").state_dict(), plain)


def test_the_hubs_weights_are_cut_too(tmp_path, plain, monkeypatch):
    save_file(plain, tmp_path / "model.safetensors")
    monkeypatch.setattr(room, "_hub_file", lambda repository: tmp_path / "model.safetensors")
    options = ModelOptions(backbone="test_resnet", weights="hub", pooling="gap", ibn=True)
    found, source = build_backbone(options, weights=None)
    assert source.startswith("hub timm/test_resnet.")
    assert_cut(found.state_dict(), plain)


def test_a_file_with_ibn_is_told_apart_from_a_wrong_one(tmp_path):
    save_file(backbone_of().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"first 'layer1.0.bn1.weight'; it is of a backbone with IBN, so say model.ibn"
    ):
        backbone_of(weights=tmp_path / "w.safetensors", ibn=False)


def test_a_cut_file_of_another_backbone_is_refused_by_name(tmp_path, plain):
    del plain["layer2.0.bn1.running_var"]
    save_file(plain, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"lacks 1 of \d+ tensors, first 'layer2.0.bn1.BN.running_var'; check"
    ):
        backbone_of(weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "name", ["test_vit", "test_efficientnet", "test_convnext", "skresnet18", "resnetv2_50"]
)
def test_a_backbone_without_such_blocks_is_refused(name):
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=f"^model.ibn: the blocks of {name} do not start"),
    ):
        backbone_of(name)


def test_half_precision_training_has_a_gradient_for_every_weight():
    backbone = backbone_of().train()
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone.forward_features(
            torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        )
    features.float().square().mean().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in backbone.parameters())
