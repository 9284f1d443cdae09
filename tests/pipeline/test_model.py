"""A model from wherever the user names one."""

import pytest

from landseer.models import build_embedder, save_embedder
from landseer.pipeline import open_model
from landseer.pipeline.model import seed_of
from landseer.recipe import DescriptorOptions, ModelOptions

RECIPE = """
title = "plain"
seed = 5
[model]
backbone = "test_resnet"
weights = "{weights}"
pooling = "gap"
neck = "{neck}"
[descriptors]
size = 96
"""


def written(folder, *, weights="none", neck="none"):
    (folder / "r.toml").write_text(RECIPE.format(weights=weights, neck=neck))
    return folder / "r.toml"


def test_a_model_folder_is_loaded(tmp_path):
    made = build_embedder(ModelOptions(backbone="test_resnet", weights="none", pooling="gap"), seed=1)
    preset = DescriptorOptions(size=96, scales=(1.0, 0.5))
    save_embedder(made, tmp_path / "model", made_by={}, descriptors=preset)
    found, options = open_model(tmp_path / "model")
    assert found.fingerprint == made.fingerprint
    assert options == preset


def test_a_recipe_gives_its_untrained_model_and_its_descriptors(tmp_path):
    found, options = open_model(written(tmp_path))
    made = build_embedder(
        ModelOptions(backbone="test_resnet", weights="none", pooling="gap"), seed=seed_of(5, "model")
    )
    assert found.fingerprint == made.fingerprint
    assert options.size == 96


def test_a_neck_that_nobody_trained_is_refused(tmp_path):
    with pytest.raises(ValueError, match="means nothing before training"):
        open_model(written(tmp_path, neck="fc"))


def test_a_recipe_that_wants_a_file_says_so(tmp_path):
    with pytest.raises(ValueError, match="add --weights FILE"):
        open_model(written(tmp_path, weights="file"))


def test_weights_beside_a_model_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has weights of its own"):
        open_model(tmp_path, weights=tmp_path / "w.pth")


def test_nothing_named_is_dinov2_small_from_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "landseer.pipeline.model.build_embedder", lambda options, weights: asked.append(options)
    )
    open_model()
    assert (asked[0].backbone, asked[0].weights, asked[0].pooling) == (
        "vit_small_patch14_dinov2.lvd142m",
        "hub",
        "cls",
    )


def test_a_seed_follows_from_names_alone():
    asked = [(seed, member, stage) for seed in (0, 1) for member in ("a", "b") for stage in ("", "a", "b")]
    seeds = [seed_of(*one) for one in asked]
    assert len(set(seeds)) == len(asked)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # the first 63 bits of the SHA-256 of [0, "a", "b"]
    assert seed_of(0, "a", "b") == 8335848131581575750
