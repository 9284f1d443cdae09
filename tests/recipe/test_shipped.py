"""The recipes that come with landseer: what they publish is what was published, and small forms keep the structure."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from landseer.recipe import MemberOptions, Recipe, StageOptions, TwoStageOptions, load_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
PUBLISHED = ("glr2020-1st", "glr2020-2nd", "glr2019-1st", "glr2021-2nd")
FULL = (*PUBLISHED, "landseer")
NO_SOURCE = {"title", "name", "like", "stages", "backbone", "substitute_for", "splits", "sizes", "method"}
"""Keys of which the lines around say where they come from, or that nothing follows from."""

# Templates of the 2019 winners' code, width x height from the widest photos to the highest.
S = ((512, 384), (448, 448), (384, 512))
SS2 = ((480, 320), (480, 352), (384, 384), (352, 480), (320, 480))
S2 = ((512, 352), (512, 384), (448, 448), (384, 512), (352, 512))
SM2 = ((736, 512), (704, 544), (608, 608), (544, 704), (512, 736))
M2 = ((800, 544), (800, 608), (704, 704), (608, 800), (544, 800))
L2 = ((800, 544), (800, 608), (800, 800), (608, 800), (544, 800))
THREE, FIVE = (0.77, 1.33), (0.67, 0.77, 1.33, 1.5)


def full(name: str) -> Recipe:
    return load_recipe(FOLDER / f"{name}.toml")


def mini(name: str) -> Recipe:
    return load_recipe(FOLDER / "mini" / f"{name}.toml")


def member(recipe: Recipe, name: str) -> MemberOptions:
    return next(one for one in recipe.parts if one.name == name)


def path_of(recipe: Recipe, name: str) -> tuple[StageOptions, ...]:
    return recipe.stages_of(member(recipe, name))


def along(recipe: Recipe, name: str, key: str) -> list[object]:
    """The values of *key*, ``loss.margin`` say, at the stages that member *name* goes through."""
    found: list[object] = list(path_of(recipe, name))
    for part in key.split("."):
        found = [getattr(one, part) for one in found]
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_says_where_it_comes_from(name):
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"[a-z_]+ = ", line)]
    bare = [line for line in values if "#" not in line and line.split(" = ")[0] not in NO_SOURCE]
    assert [line for line in bare if line != 'collection = ""'] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_all_four_systems_share(name):
    recipe = full(name)
    assert recipe.data.min_photos == 1
    assert {(one.model.dim, one.model.gem_p, one.model.gem_learned) for one in recipe.members} == {
        (512, 3.0, False)
    }
    trained = [stage for stage in recipe.stages if stage.name != "fix"]
    assert {(stage.neck_lr, stage.backbone_lr, stage.layer_decay) for stage in trained} == {(1.0, 1.0, 1.0)}
    assert {(stage.optimiser, stage.momentum, stage.head_start) for stage in recipe.stages} == {
        ("sgd", 0.9, "random")
    }
    assert {(stage.ema, stage.interpolate, stage.clip) for stage in recipe.stages} == {(0.0, 1.0, 0.0)}
    assert {stage.loss.smoothing + stage.loss.triplet for stage in recipe.stages} == {0.0}
    assert recipe.data.validation == ("one-each" if name == "glr2020-1st" else "none")


def test_re_ranking_is_as_published():
    assert [full(name).reranking for name in ("glr2020-1st", "glr2020-2nd")] == [(), ()]
    for recipe in (full("glr2019-1st"), mini("glr2019-1st")):
        assert recipe.reranking == (TwoStageOptions(voters=3, normalise=True, threshold=0.6, order="score"),)
        assert recipe.bank.subset == "full"
    for recipe in (full("glr2021-2nd"), mini("glr2021-2nd")):
        (step,) = recipe.reranking
        assert (step.method, step.alpha, step.beta, step.voters) == ("landmark-country", 1.0, 0.1, 3)
        assert (step.voting, step.k1, step.k2, step.blend, step.candidates) == (
            "k-reciprocal",
            10,
            3,
            0.5,
            30,
        )
        assert (step.normalise, step.merge, step.hard) == (True, "before", False)
        assert recipe.bank.subset == "full"


# ---- 1st place 2020 ------------------------------------------------------------------------------------------------


def test_2020_1st_has_the_published_steps():
    recipe = full("glr2020-1st")
    assert along(recipe, "b7", "name") == ["step-1", "step-2", "step-3a", "step-3b", "step-4b"]
    assert along(recipe, "b7", "subset") == ["clean", "full", "full", "full", "full"]
    assert along(recipe, "b7", "size") == [512, 512, 640, 736, 736]
    assert along(recipe, "b7", "epochs") == [35, 13, 5, 3, 3]
    assert along(recipe, "b7", "batch") == [64, 64, 64, 32, 32]
    assert along(recipe, "b7", "keep")[1:] == ["backbone", "all", "all", "all"]
    assert along(recipe, "b7", "loss.class_weights") == ["1/ln n", *["1/ln(n+1)"] * 4]
    assert along(recipe, "b7", "loss.noisy_weight") == [1.0, 1.0, 1.0, 1.0, 0.5]


def test_2020_1st_has_the_published_loss_and_rates():
    recipe = full("glr2020-1st")
    for stage in recipe.stages:
        assert (stage.loss.kind, stage.loss.margin, stage.loss.scale, stage.loss.adacos) == (
            "cosine",
            0,
            0,
            "fixed",
        )
        assert (stage.lr, stage.weight_decay) == (1e-3, 0)
        assert (stage.schedule, stage.lr_decay, stage.warmup) == ("inverse-time", 1e-5, 0)
        assert (stage.augmentation.flip, stage.augmentation.crop, stage.augmentation.erase) == (0.5, 1, 0)
    # 35 epochs of 1,508,148 photos in batches of 64: the rate that a Keras decay of 1e-5 ends the first step with
    assert 1e-3 / (1 + recipe.stages[0].lr_decay * 824_768) == pytest.approx(1.08e-4, rel=1e-2)
    assert recipe.data.validation == "one-each"


def test_2020_1st_is_four_networks_of_which_one_goes_to_the_end():
    recipe = full("glr2020-1st")
    assert [(one.weight, one.model.backbone.partition(".")[0]) for one in recipe.members] == [
        (1.0, "tf_efficientnet_b7"),
        (0.8, "tf_efficientnet_b6"),
        (0.5, "tf_efficientnet_b5"),
        (0.5, "tf_efficientnet_b5"),
    ]
    assert [one.stages[-1] for one in recipe.members] == ["step-4b", "step-3b", "step-3b", "step-3b"]
    for one in recipe.members:
        assert (one.model.pooling, one.model.neck, one.model.neck_bias, one.model.dim) == (
            "gap",
            "fc-swish",
            True,
            512,
        )
    assert math.sqrt(sum(one.weight**2 for one in recipe.members)) == pytest.approx(1.463, abs=5e-4)
    assert not recipe.descriptors.renormalise
    assert (recipe.descriptors.size, recipe.descriptors.scales) == (736, (1.0,))


# ---- 2nd place 2020 ------------------------------------------------------------------------------------------------


def test_2020_2nd_raises_size_and_margin():
    recipe = full("glr2020-2nd")
    for one in recipe.members:
        assert along(recipe, one.name, "collection") == ["gldv1", "", "", ""]
        assert along(recipe, one.name, "subset") == ["full", "clean", "clean", "clean"]
        assert along(recipe, one.name, "size")[:3] == [224, 224, 448]
        assert along(recipe, one.name, "loss.kind") == ["arcface"] * 4
        assert along(recipe, one.name, "loss.scale") == [30.0] * 4
        assert along(recipe, one.name, "loss.margin") == [0.15, 0.15, 0.3, 0.35]
        rates = along(recipe, one.name, "lr")
        assert rates[2] < rates[1]
    assert [one.model.backbone.partition(".")[0] for one in recipe.members] == ["resnest269e", "res2net101d"]


def test_2020_2nd_ends_with_gem_and_a_frozen_backbone():
    recipe = full("glr2020-2nd")
    *earlier, fix = recipe.stages
    assert all(stage.backbone_lr > 0 and stage.pooling == "" for stage in earlier)
    assert recipe.model.pooling == "gap"
    assert (fix.pooling, fix.gem_p, fix.backbone_lr, fix.neck_lr, fix.bn) == ("gem", 3.0, 0.0, 1.0, "frozen")
    assert fix.size == recipe.descriptors.size > earlier[-1].size


# ---- 1st place 2019 ------------------------------------------------------------------------------------------------

MODELS_2019 = {  # loss, margin on GLDv1, templates, epochs, rescale of the second phase, weight
    "v19c": ("cosine", 0.3, (S, S2, M2), (5, 4, 1), 0.2, 0.5),
    "v20c": ("arcface", 0.3, (S, SS2), (7, 6), 0.3, 1.0),
    "v21c": ("arcface", 0.3, (S, SS2, SM2), (7, 6, 1), 0.3, 1.0),
    "v22c": ("arcface", 0.4, (S2, S2, M2), (5, 4, 1), 0.2, 0.5),
    "v23c": ("arcface", 0.3, (SS2, S2, SM2), (7, 6, 1), 0.3, 1.0),
    "v24c": ("cosine", 0.3, (SS2, SS2), (5, 6), 0.3, 1.0),
}


@pytest.mark.parametrize("name", MODELS_2019)
def test_2019_1st_has_the_published_models(name):
    recipe = full("glr2019-1st")
    loss, first_margin, templates, epochs, rescale, weight = MODELS_2019[name]
    stages = path_of(recipe, name)
    assert member(recipe, name).weight == weight
    assert tuple(stage.aspects.sizes for stage in stages) == templates
    assert [stage.aspects.splits for stage in stages] == [
        THREE if sizes == S else FIVE for sizes in templates
    ]
    assert tuple(stage.epochs for stage in stages) == epochs
    assert {stage.loss.kind for stage in stages} == {loss}
    assert [stage.loss.margin for stage in stages] == [first_margin, *[0.3] * (len(stages) - 1)]
    assert [(stage.collection, stage.subset) for stage in stages[:2]] == [("gldv1", "full"), ("", "clean")]
    assert {stage.augmentation.rescale for stage in stages[1:]} == {rescale}
    for stage in stages:
        middle = stage.augmentation.rescale == 0.3
        assert (stage.augmentation.shear_deg, stage.augmentation.contrast) == (
            (4.0, 0.1) if middle else (0.0, 0.0)
        )
        assert (stage.augmentation.brightness, stage.augmentation.flip) == (0.1, 0.0)
        assert (stage.augmentation.tone_probability, stage.augmentation.shear_probability) == (0.5, 0.5)
    model = member(recipe, name).model
    assert (model.pooling, model.neck, model.neck_bias, model.freeze_bn_bias) == ("gem", "fc-bn", True, False)


@pytest.mark.parametrize("name", MODELS_2019)
def test_2019_1st_goes_down_one_cosine_over_the_second_phase(name):
    recipe = full("glr2019-1st")
    first, second, *last = path_of(recipe, name)
    assert first.span == (0.0, 1.0)
    whole = 5 if name in ("v19c", "v22c") else 7
    assert second.span == pytest.approx((0.0, second.epochs / whole), abs=1e-12)
    assert second.epochs == whole - 1
    assert [stage.span for stage in last] == [(second.span[1], 1.0)] * len(last)
    assert [(stage.bn, stage.keep) for stage in last] == [("frozen", "all")] * len(last)
    for stage in (first, second, *last):
        assert stage.lr * stage.final_lr == pytest.approx(3e-6)
        assert (stage.optimiser, stage.lr, stage.momentum, stage.weight_decay) == ("sgd", 1e-3, 0.9, 1e-5)
        assert stage.batch == (64 if stage.name == "v24c-gldv1" else 32)
        assert (stage.loss.scale, stage.warmup) == (30.0, 0.0)


def test_2019_1st_describes_three_scales_of_the_largest_template():
    found = full("glr2019-1st").descriptors
    assert (found.aspects.sizes, found.aspects.splits) == (L2, FIVE)
    assert (found.scales, found.scale_average, found.scale_multiple) == ((0.75, 1.0, 1.25), "raw", 32)
    assert found.renormalise


# ---- 2nd place 2021 ------------------------------------------------------------------------------------------------

MODELS_2021 = {  # sizes, photos on each of 8 devices, decay of the two last stages, scale and margin there, IBN
    "ser101-ibn": ((384, 384, 512, 512), (96, 96, 18, 18), 1e-5, (30.0, 0.3), True),
    "rxt101-ibn": ((384, 384, 512, 512), (40, 40, 18, 18), 1e-5, (30.0, 0.3), True),
    "resnest101": ((384, 384, 512, 512), (36, 88, 40, 40), 1e-5, (30.0, 0.3), False),
    "resnest269": ((448, 448, 512, 512), (28, 28, 6, 6), 5e-4, (60.0, 0.0), False),
}


@pytest.mark.parametrize("name", MODELS_2021)
def test_2021_2nd_has_the_published_stages(name):
    recipe = full("glr2021-2nd")
    sizes, photos, decay, last_loss, ibn = MODELS_2021[name]
    stages = path_of(recipe, name)
    assert [stage.subset for stage in stages] == ["clean", "c2x", "full", "all"]
    assert [stage.sampler for stage in stages] == ["shuffle", "shuffle", "shuffle", "continents"]
    assert tuple(stage.size for stage in stages) == sizes
    assert tuple(stage.batch for stage in stages) == tuple(8 * one for one in photos)
    assert [stage.epochs for stage in stages] == [10, 6, 2, 2]
    # the paper's rates, of one device in eight
    assert [stage.lr for stage in stages] == pytest.approx([8 * 0.01, 8 * 0.001, 8 * 1e-4, 8 * 1e-4])
    assert [stage.weight_decay for stage in stages] == [5e-4, 5e-4, decay, decay]
    assert [(stage.loss.scale, stage.loss.margin) for stage in stages] == [(30.0, 0.3)] * 2 + [last_loss] * 2
    assert [stage.keep for stage in stages[1:]] == ["all"] * 3
    assert [stage.warmup * stage.epochs for stage in stages] == [1.0, 0.0, 0.0, 0.0]
    for stage in stages:
        assert (stage.precision, stage.schedule) == ("fp16", "cosine")
        assert (stage.loss.kind, stage.final_lr, stage.warmup_start, stage.bias_lr) == (
            "arcface",
            0.002,
            0.01,
            2.0,
        )
    model = member(recipe, name).model
    assert (model.ibn, model.last_stride, model.pooling, model.gem_p) == (ibn, 1, "gem", 3.0)
    assert (model.neck, model.neck_bias, model.freeze_bn_bias, model.dim) == ("fc-bn", False, True, 512)
    assert model.std == pytest.approx([57 / 255] * 3, abs=1e-6)
    assert model.mean == pytest.approx([123.675 / 255, 116.28 / 255, 103.53 / 255])


def test_2021_2nd_pads_and_erases_as_published():
    for stage in full("glr2021-2nd").stages:
        found = stage.augmentation
        assert (found.flip, found.erase, found.erase_smallest, found.erase_largest) == (0.5, 1.0, 0.02, 0.2)
        assert found.erase_ratio == 0.3
        assert math.floor(found.pad * stage.size + 0.5) == {384: 15, 448: 18, 512: 20}[stage.size]


def test_2021_2nd_is_scored_elsewhere_and_its_members_count_alike():
    recipe = full("glr2021-2nd")
    assert recipe.evaluation.scored == "elsewhere"
    assert [one.weight for one in recipe.members] == [1.0] * 4
    assert (recipe.descriptors.size, recipe.descriptors.scales) == (512, (1.0,))


# ---- backbones -----------------------------------------------------------------------------------------------------

EXACT = {"b7", "b6", "b5-a", "b5-b", "resnest269", "v21c", "resnest101"}
"""The members whose published backbone and ImageNet weights timm has."""


@pytest.mark.parametrize("name", FULL)
def test_backbones_are_in_timm_and_on_its_hub(name):
    import landseer.models  # noqa: F401, I001  (before timm, which imports torchvision)
    import timm

    for one in full(name).parts:
        assert timm.is_model(one.model.backbone.partition(".")[0])
        facts = timm.models.get_pretrained_cfg(one.model.backbone, allow_unregistered=False)
        assert one.model.weights == "hub" and facts is not None and facts.hf_hub_id


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_network_can_be_built(name):
    import torch

    from landseer.models import build_embedder

    recipe = full(name)
    for model in {one.model for one in recipe.parts}:
        embedder = build_embedder(replace(model, weights="none"))
        side = 64 if embedder.size_multiple == 1 else 4 * embedder.size_multiple  # HRNet: a multiple of 32
        with torch.inference_mode():
            assert embedder(torch.zeros(1, 3, side, side)).shape == (1, 512)
        for size in {stage.size for stage in recipe.stages} | {recipe.descriptors.size}:
            embedder.require_size(size, "size")


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_stands_in_is_declared(name):
    declared = {one.name: bool(one.model.substitute_for) for one in full(name).members}
    assert declared == {one: one not in EXACT for one in declared}


def test_the_vit_is_fed_whole_patches():
    recipe = full("landseer")
    assert recipe.model.pooling == "cls+gem"
    assert all(stage.size % 14 == 0 for stage in recipe.stages)
    assert recipe.descriptors.size % 14 == 0
    assert [stage.size for stage in recipe.stages] == sorted({stage.size for stage in recipe.stages})


# ---- small forms ---------------------------------------------------------------------------------------------------

MINI = [(name, one.name) for name in FULL for one in mini(name).parts]


@pytest.mark.parametrize(("name", "part"), MINI)
def test_a_small_form_keeps_the_structure(name, part):
    large, small = full(name), mini(name)
    assert member(large, part).weight == member(small, part).weight
    for key in ("name", "sampler", "keep", "bn", "pooling", "gem_p", "schedule"):
        assert along(small, part, key) == along(large, part, key), key
    for key in ("kind", "class_weights", "noisy_weight", "margin", "margins", "subcentres"):
        assert along(small, part, f"loss.{key}") == along(large, part, f"loss.{key}"), key
    # "all" holds the photos that a small form is scored on, and GLDv1 is another collection: "full" stands in
    subsets = ["full" if subset == "all" else subset for subset in along(large, part, "subset")]
    assert along(small, part, "subset") == subsets
    assert [len(stage.aspects.sizes) for stage in path_of(small, part)] == [
        len(stage.aspects.sizes) for stage in path_of(large, part)
    ]


@pytest.mark.parametrize(("name", "part"), MINI)
def test_a_small_form_rises_and_continues_where_the_large_one_does(name, part):
    large, small = (path_of(form(name), part) for form in (full, mini))
    for a, b in zip(pairwise(large), pairwise(small), strict=True):
        assert (b[1].size >= b[0].size) or not (a[1].size > a[0].size)
        assert (b[1].span[0] == b[0].span[1]) == (a[1].span[0] == a[0].span[1])
        assert (b[1].backbone_lr == 0) == (a[1].backbone_lr == 0)
    for a, b in zip(large, small, strict=True):
        assert (a.span == (0.0, 1.0)) == (b.span == (0.0, 1.0))
        for operation in ("flip", "rescale", "shear_deg", "brightness", "contrast", "pad", "erase"):
            assert getattr(a.augmentation, operation) == getattr(b.augmentation, operation), operation


@pytest.mark.parametrize("name", FULL)
def test_a_small_form_is_small_and_runs_with_one_command(name):
    recipe = mini(name)
    assert {one.model.backbone for one in recipe.parts} == {"mobilenet_edgetpu_100"}
    assert len(recipe.parts) <= 3
    for one in recipe.parts:
        assert (one.model.weights, one.model.pad_type, one.model.linear_first_block) == ("file", "same", True)
        assert one.model.substitute_for
        assert one.descriptors.size <= 224
    for stage in recipe.stages:
        assert (stage.collection, stage.patience) == ("", 0)
        assert 1 <= stage.epochs <= 3
        assert all(max(size) <= 192 for size in stage.aspects.sizes) and (
            stage.aspects.sizes or stage.size <= 192
        )
    assert recipe.evaluation.every_stage


@pytest.mark.parametrize("name", FULL)
def test_a_small_form_describes_as_the_large_one_does(name):
    large, small = full(name).descriptors, mini(name).descriptors
    assert (small.scales, small.scale_average, small.renormalise) == (
        large.scales,
        large.scale_average,
        large.renormalise,
    )
    assert small.aspects.splits == large.aspects.splits
