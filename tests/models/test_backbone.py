"""Backbones: names, weights from files, token layouts, and the quirks a recipe can ask for."""

from __future__ import annotations

import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from landseer.models import _torchvision, build_embedder
from landseer.models.backbone import build_backbone, load_weights, split_tokens
from landseer.recipe import ModelOptions


def backbone_of(name="test_resnet", weights=None, **options):
    given = {"weights": "file" if weights else "none", "pooling": "gap", **options}
    return build_backbone(ModelOptions(backbone=name, **given), weights=weights)[0].eval()


@pytest.fixture
def whole() -> nn.Module:
    """A test_resnet with its classifier, as a checkpoint would hold it."""
    torch.manual_seed(7)
    return timm.create_model("test_resnet")


def assert_same_weights(backbone, whole):
    state = whole.state_dict()
    assert backbone.state_dict().keys() == {key for key in state if not key.startswith("fc.")}
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


# -- files


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_pth_file_gives_its_weights_and_its_classifier_is_left_out(tmp_path, whole, wrapper):
    state = whole.state_dict()
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    assert_same_weights(backbone_of(weights=tmp_path / "w.pth"), whole)


def test_a_safetensors_file_gives_its_weights_and_half_precision_is_widened(tmp_path, whole):
    halved = {k: v.half() if v.is_floating_point() else v for k, v in whole.state_dict().items()}
    save_file(halved, tmp_path / "w.safetensors")
    backbone = backbone_of(weights=tmp_path / "w.safetensors")
    for key, value in backbone.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(value, halved[key].to(value.dtype))


def test_weights_that_do_not_fit_are_named(tmp_path, whole):
    state = whole.state_dict()
    save_file({k: v for k, v in state.items() if k != "layer2.0.conv1.weight"}, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"lacks 1 of \d+ tensors, first 'layer2.0.conv1.weight'; check"):
        backbone_of(weights=tmp_path / "less.safetensors")
    save_file({**state, "conv1.0.weight": torch.zeros(2, 3)}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"'conv1.0.weight' is \(2, 3\), not \(\d+, 3, 3, 3\); check"):
        backbone_of(weights=tmp_path / "odd.safetensors")
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors does not fit this backbone"):
        backbone_of(weights=tmp_path / "other.safetensors")


def test_weights_that_do_not_fit_leave_the_backbone_as_it_was(tmp_path, whole):
    backbone = backbone_of()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    state = whole.state_dict()
    del state["layer4.0.conv1.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        load_weights(backbone, tmp_path / "less.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} do not exist; give a \.safetensors or \.pth file"):
        backbone_of(weights=tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02garbage", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, suffix, content):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.(pth|safetensors)") as caught:
        backbone_of(weights=file)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": [1]}, torch.ones(3)])
def test_a_file_of_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        backbone_of(weights=tmp_path / "w.pth")


class Bomb:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, 2))])
def test_a_pickled_object_with_code_is_refused_and_does_not_run(tmp_path, save):
    save({"state_dict": Bomb(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="nothing else is unpickled"):
        backbone_of(weights=tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_is_given_exactly_where_the_recipe_says_so(tmp_path):
    with pytest.raises(ValueError, match=r'"file", so the file must be given: add --weights FILE'):
        build_backbone(ModelOptions(backbone="test_resnet", weights="file"), weights=None)
    for weights in ("none", "hub"):
        with pytest.raises(ValueError, match=f"model.weights is '{weights}'; only \"file\" takes a file"):
            build_backbone(ModelOptions(backbone="test_resnet", weights=weights), weights=tmp_path / "w.pth")


# -- names


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet5O", "resnet50"),
        ("vit_small_patch14_dinov2.lvd142", "vit_small_patch14_dinov2.lvd142m"),
        ("mobilenet_edgetpu_10", "mobilenet_edgetpu_100"),
    ],
)
def test_an_unknown_backbone_is_told_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"has no model '{name}'; did you mean '{near}'"):
        backbone_of(name)


def test_a_name_like_no_other_is_refused_too():
    with pytest.raises(ValueError, match=r"has no model '!!!'$"):
        backbone_of("!!!")


def test_an_option_the_architecture_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"model: test_vit does not take these options \(.*pad_type"):
        backbone_of("test_vit", pad_type="same")
    with torch.device("meta"), pytest.raises(ValueError, match=r"model: dla34 does not take these options"):
        backbone_of("dla34", last_stride=1)


# -- architecture


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "legacy_seresnet18"])
def test_a_last_stride_of_1_doubles_the_last_map_and_changes_nothing_else(name):
    pixels = torch.randn(1, 3, 64, 64)
    torch.manual_seed(0)
    usual = backbone_of(name)
    torch.manual_seed(0)
    fine = backbone_of(name, last_stride=1)
    height, width = usual.forward_features(pixels).shape[2:]
    assert fine.forward_features(pixels).shape[2:] == (2 * height, 2 * width)
    assert all(torch.equal(v, fine.state_dict()[k]) for k, v in usual.state_dict().items())
    # the same kernels on the same pixels: only the last stride of 2 is gone
    pairs = [(m, fine.get_submodule(k)) for k, m in usual.named_modules() if isinstance(m, nn.Conv2d)]
    changed = [(a, b) for a, b in pairs if a.stride != b.stride]
    assert changed and all(a.stride == (2, 2) and b.stride == (1, 1) for a, b in changed)
    for one, other in pairs:
        assert (one.dilation, one.padding) == (other.dilation, other.padding)
        one.stride = other.stride
    if name == "test_resnet":  # its shortcut loses the stride by an average of 2x2 pixels
        assert isinstance(usual.layer4[0].downsample[0], nn.AvgPool2d)
        usual.layer4[0].downsample[0] = nn.Identity()
    assert torch.equal(usual.forward_features(pixels), fine.forward_features(pixels))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_convnext", {}),
        ("test_convnext", {"last_stride": 1}),
        ("test_mambaout", {}),
        ("test_vit", {"pooling": "cls+gem", "neck": "fc", "gem_learned": True}),
        ("test_vit_relpos", {}),
        ("test_efficientnet", {}),
        ("seresnext26d_32x4d", {"ibn": True, "last_stride": 1, "neck": "fc-bn"}),
        ("resnest50d", {"last_stride": 1}),
        ("res2net50d", {"last_stride": 1}),
        ("vit_small_patch14_reg4_dinov2", {"pooling": "cls+gem"}),
        ("convnext_tiny", {}),
    ],
)
def test_every_weight_has_a_part_in_the_descriptor_and_a_layer(name, options):
    with torch.device("meta"):
        given = {"backbone": name, "weights": "none", "pooling": "gem", **options}
        embedder = build_embedder(ModelOptions(**given)).train()
        size = 160 if name.startswith("test") else 224
        embedder(torch.empty(2, 3, size, size)).sum().backward()
    assert [key for key, parameter in embedder.named_parameters() if parameter.grad is None] == []
    layer_of = timm.models.group_parameters(
        embedder.backbone, embedder.backbone.group_matcher(coarse=False), reverse=True
    )
    assert layer_of.keys() == dict(embedder.backbone.named_parameters()).keys()
    last = [key for key, layer in layer_of.items() if layer == max(layer_of.values())]
    assert any(
        key.endswith(("conv1.weight", "mlp.fc1.weight", "conv_pw.weight", "conv.weight")) for key in last
    )


def test_a_file_without_counts_of_steps_is_whole(tmp_path, whole):
    state = {k: v for k, v in whole.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(state) < len(whole.state_dict())
    save_file(state, tmp_path / "w.safetensors")
    assert_same_weights(backbone_of(weights=tmp_path / "w.safetensors"), whole)


def test_linear_first_block_takes_away_that_activation_alone():
    plain = backbone_of("mobilenet_edgetpu_100", pad_type="same")
    linear = backbone_of("mobilenet_edgetpu_100", pad_type="same", linear_first_block=True)
    different = [
        name
        for (name, one), (_, other) in zip(plain.named_modules(), linear.named_modules(), strict=True)
        if type(one) is not type(other)
    ]
    assert different == ["blocks.0.0.bn1.act"]
    assert isinstance(plain.blocks[0][0].bn1.act, nn.ReLU)
    linear.load_state_dict(plain.state_dict())
    pixels = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(plain.forward_features(pixels), linear.forward_features(pixels))
    plain.blocks[0][0].bn1.act = nn.Identity()
    assert torch.equal(plain.forward_features(pixels), linear.forward_features(pixels))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_linear_first_block_is_refused_where_there_is_no_such_block(name):
    with pytest.raises(ValueError, match=f"linear_first_block: {name} has no activation at blocks.0.0.bn1"):
        backbone_of(name, linear_first_block=True)


@pytest.mark.parametrize(("name", "prefix", "token"), [("test_vit", 1, True), ("test_vit2", 1, False)])
def test_prefix_tokens_are_no_positions_and_a_register_is_no_class_token(name, prefix, token):
    backbone = backbone_of(name)
    features = torch.arange(2 * 17 * 64.0).view(2, 17, 64)
    positions, found = split_tokens(backbone, features)
    assert torch.equal(positions, features[:, prefix:])
    assert torch.equal(found, features[:, 0]) if token else found is None


def test_maps_with_the_channels_last_are_turned():
    backbone = backbone_of("test_mambaout")
    features = backbone.forward_features(torch.randn(1, 3, 96, 64))
    positions, token = split_tokens(backbone, features)
    assert positions.shape == (1, backbone.num_features, 3, 2) and token is None
    assert torch.equal(positions[0, :, 1, 0], features[0, 1, 0])
    embedder = build_embedder(ModelOptions(backbone="test_mambaout", weights="none", pooling="gap"))
    pooled = embedder.pooled(torch.randn(2, 3, 64, 64))
    assert pooled.shape == (2, backbone.num_features)


# -- torchvision


def test_declaring_operators_again_is_harmless():
    before = list(_torchvision._kept)
    _torchvision._declare_missing_operators()
    assert _torchvision._kept == before
    assert hasattr(torch.ops.torchvision, "nms")


@pytest.mark.parametrize("loads", [True, False])
def test_operators_are_declared_only_where_torchvision_cannot_bring_its_own(monkeypatch, tmp_path, loads):
    declared, asked = [], []
    (tmp_path / "_C.so").touch()

    class Library:
        def __init__(self, *names):
            declared.append(names)

        def define(self, signature):
            declared.append(signature.split("(")[0])

    operators = type("Operators", (), {})()

    def load_library(path):
        asked.append(path)
        if not loads:
            raise OSError("libcudart.so: cannot open shared object file")
        operators.nms = "torchvision's own"

    fake = type("Ops", (), {"torchvision": operators, "load_library": staticmethod(load_library)})
    monkeypatch.setattr(
        _torchvision,
        "torch",
        type("Torch", (), {"ops": fake, "library": type("L", (), {"Library": Library})}),
    )
    found = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(_torchvision, "find_spec", lambda name: found)
    monkeypatch.setattr(_torchvision, "_kept", [])
    _torchvision._declare_missing_operators()
    assert asked == [str(tmp_path / "_C.so")]
    assert declared == ([] if loads else [("torchvision", "DEF"), "nms", "qnms"])
