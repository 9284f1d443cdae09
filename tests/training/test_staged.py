"""What a stage may say beyond the plain one: which photos, which rates, which averages, what it keeps."""

from __future__ import annotations

import itertools
import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from landseer.losses import MarginHead
from landseer.models import build_embedder, remade
from landseer.photos import load_sized, load_square
from landseer.recipe import DataOptions, LossOptions, ModelOptions
from landseer.training import (
    hold_out,
    tensorboard_callback,
    train_stage,
    training_subset,
    validation_subset,
)
from landseer.training import state as state_room
from landseer.training.head import KeptHead, grow
from landseer.training.loader import Batch, epoch_batches, plain_batches, sampler_of, with_ratios
from landseer.training.optimiser import build_optimiser
from landseer.training.schedule import margin_at, rate_factor
from landseer.training.state import begin, take_step, training_mode
from landseer.training.validation import Judged, leave_one_out


def weights_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same_weights(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def some_batch(subset, positions):
    rng = np.random.default_rng(0)
    position_B = np.array(positions)
    photos = rng.integers(0, 256, (len(positions), 32, 32, 3), dtype=np.uint8)
    return Batch(photos_BHW3=photos, position_B=position_B, row_B=subset.row_N[position_B], unreadable={})


# -- which photos


@pytest.fixture
def rows():
    """Landmarks 1 to 4 with 8, 4, 3 and 2 clean photos; 1, 2 and 9 have noisy ones, too."""
    made = [
        (f"{mark}-{n}", mark, "train", True)
        for mark, num in ((1, 8), (2, 4), (3, 3), (4, 2))
        for n in range(num)
    ]
    made += [(f"noisy-{mark}-{n}", mark, "train", False) for mark in (1, 2, 9) for n in range(3)]
    made += [("index-1", 1, "index", True), ("index-9", 9, "index", False), ("index-7", 7, "index", True)]
    return [*made, ("query-2", 2, "query", False), ("plain", None, "index", False)]


def test_each_subset_is_what_its_name_says(collection, rows):
    found = collection(rows)

    def ids(name):
        return set(training_subset(found, subset=name, min_photos=2).ids)

    clean = {photo for photo, _, split, mark in rows if mark and split == "train"}
    noisy = {photo for photo, *_ in rows if photo.startswith("noisy")}
    assert ids("clean") == clean
    assert ids("c2x") == clean | {photo for photo in noisy if "noisy-9" not in photo}
    assert ids("full") == clean | noisy
    assert ids("all") == clean | noisy | {"index-1", "index-9", "query-2"}


def test_c2x_has_the_label_space_of_clean(collection, rows):
    found = collection(rows)
    for least in (1, 2, 3, 4):
        spaces = [
            training_subset(found, subset=name, min_photos=least).landmark_C for name in ("clean", "c2x")
        ]
        assert np.array_equal(*spaces)


def test_one_photo_of_each_landmark_with_four_clean_ones_is_held_out(collection, rows):
    seen = set()
    for seed in range(100):
        view = hold_out(collection(rows), DataOptions(validation="one-each"), seed=seed)
        held = view.in_split("validation").ids
        assert [photo.split("-")[0] for photo in held] == ["1", "2"]
        assert view.ids == collection(rows).ids
        for name in ("clean", "c2x", "full", "all"):
            assert not set(held) & set(training_subset(view, subset=name).ids)
        seen.update(held)
    assert seen == {f"1-{n}" for n in range(8)} | {f"2-{n}" for n in range(4)}
    again = [hold_out(collection(rows), DataOptions(validation="one-each"), seed=5) for _ in range(2)]
    assert again[0].photos.equals(again[1].photos)


def test_a_share_of_each_landmark_is_held_out(collection, rows):
    options = DataOptions(validation="share", validation_share=0.5)
    held = hold_out(collection(rows), options, seed=0).in_split("validation").ids
    counts = {mark: sum(photo.startswith(f"{mark}-") for photo in held) for mark in (1, 2, 3, 4)}
    assert counts == {1: 4, 2: 2, 3: 1, 4: 1} and len(held) == 8
    untouched = collection(rows)
    assert hold_out(untouched, DataOptions(), seed=0) is untouched
    with pytest.raises(ValueError, match=r"data.validation: no landmark has enough .* of 4 has 8"):
        hold_out(collection(rows), DataOptions(validation="share", validation_share=0.1), seed=0)


def test_validation_photos_stand_in_the_rows_of_the_head(collection, rows):
    view = hold_out(collection(rows), DataOptions(validation="one-each"), seed=0)
    found = validation_subset(view, np.array([2, 9]))
    assert [photo[0] for photo in found.ids] == ["2"] and found.row_N.tolist() == [0]
    assert validation_subset(view, np.array([3, 9])) is None


def test_samplers_by_name(toy, stage):
    uniform = stage(sampler="id-uniform", batch=6, photos_each=3)
    for batch in epoch_batches(toy, uniform, seed=0, epoch=0, workers=1):
        assert sorted(np.bincount(batch.row_B, minlength=3).tolist()) == [0, 3, 3]
    with pytest.raises(ValueError, match=r"stages.toy.batch: 4 landmarks a step .* more than the 3"):
        sampler_of(toy, stage(sampler="id-uniform", batch=8, photos_each=2))
    with pytest.raises(ValueError, match=r'stages.toy.sampler: "continents" needs to know the countries'):
        sampler_of(toy, stage(sampler="continents"))
    codes = np.where(toy.row_N == 0, 0, 1).astype(np.int8)
    drawn = sampler_of(replace(toy, continent_N=codes), stage(sampler="continents", batch=18))
    assert drawn.batch_photos == 18


def test_an_epoch_may_begin_in_the_middle(toy, stage):
    options = stage(augmentation={"crop": 0.5, "brightness": 0.4})
    whole = list(epoch_batches(toy, options, seed=1, epoch=2, workers=2))
    rest = list(epoch_batches(toy, options, seed=1, epoch=2, workers=2, start=1))
    assert len(whole) == len(rest) + 1 == 3
    for one, other in zip(whole[1:], rest, strict=True):
        assert np.array_equal(one.photos_BHW3, other.photos_BHW3)
        assert np.array_equal(one.position_B, other.position_B)


def test_boxes_are_erased_with_the_mean_the_model_subtracts(toy, stage):
    options = stage(batch=18, augmentation={"erase": 1.0, "erase_smallest": 0.5, "erase_largest": 0.6})
    (batch,) = epoch_batches(toy, options, seed=0, epoch=0, workers=1, fill=(1, 2, 3))
    shares = (batch.photos_BHW3 == (1, 2, 3)).all(axis=-1).mean(axis=(1, 2))
    assert shares.min() > 0.4 and shares.max() < 0.7


# -- rates and margins


def test_schedules(stage):
    constant = stage(schedule="constant", warmup=0.5, warmup_start=0.2)
    assert [rate_factor(constant, step=n, total=4) for n in range(4)] == pytest.approx(
        [0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1, 1]
    )
    inverse = stage(schedule="inverse-time", lr_decay=1e-5)
    # the 2020 winners' step 1: 824,768 steps from 1e-3 end at about 1.08e-4
    assert 1e-3 * rate_factor(inverse, step=824_768, total=824_769) == pytest.approx(1.08e-4, abs=5e-7)
    cosine = stage(final_lr=0.002)
    assert rate_factor(cosine, step=0, total=1000) == 1
    assert rate_factor(cosine, step=1000, total=1000) == pytest.approx(0.002)
    assert rate_factor(cosine, step=500, total=1000) == pytest.approx(0.501)
    # four epochs of a cosine over five, and the fifth in a stage of its own, with a warm-up in the first
    whole = stage(warmup=0.1, warmup_start=0.01, final_lr=0.003)
    first, last = (
        stage(warmup=0.1, warmup_start=0.01, final_lr=0.003, span=part) for part in ((0.0, 0.8), (0.8, 1.0))
    )
    parts = [rate_factor(first, step=n, total=80) for n in range(80)]
    parts += [rate_factor(last, step=n, total=20) for n in range(20)]
    assert parts == pytest.approx([rate_factor(whole, step=n, total=100) for n in range(100)])


def test_the_margin_goes_to_its_end_over_the_steps():
    loss = LossOptions(kind="arcface", margin=0.1, margin_end=0.4)
    assert [margin_at(loss, step=n, total=4) for n in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert margin_at(LossOptions(margin=0.1), step=2, total=4) is None
    with pytest.raises(ValueError, match="margin_end: margins = 'power' sets every landmark's own"):
        LossOptions(margins="power", margin_end=0.2)


def test_the_margin_of_a_schedule_reaches_the_loss(tiny, toy, stage):
    def losses(**loss):
        result = train_stage(tiny(), toy, stage(loss={"kind": "arcface", **loss}), seed=0)
        return [entry["loss"] for entry in result.losses]

    rising, flat = losses(margin=0.0, margin_end=0.5), losses(margin=0.0)
    assert rising[0] == flat[0]
    assert all(one > other for one, other in zip(rising[1:], flat[1:], strict=True))


def test_biases_and_blocks_have_rates_of_their_own(stage):
    embedder = build_embedder(
        ModelOptions(backbone="test_vit", weights="none", neck="fc", dim=8, pooling="cls")
    )
    head = MarginHead(8, 3, options=LossOptions())
    optimiser = build_optimiser(embedder, head, stage(bias_lr=2.0, layer_decay=0.5, neck_lr=0.1))
    share = {parameter: group["share"] for group in optimiser.param_groups for parameter in group["params"]}
    backbone = dict(embedder.backbone.named_parameters())
    blocks = len(embedder.backbone.blocks)
    assert share[head.rows] == 1.0
    assert share[embedder.neck[0].weight] == 0.1 and share[embedder.neck[0].bias] == 0.2
    assert share[backbone["norm.weight"]] == 1.0
    rates = [share[backbone[f"blocks.{n}.attn.qkv.weight"]] for n in range(blocks)]
    assert [late / early for early, late in itertools.pairwise(rates)] == [2.0] * (blocks - 1)
    assert share[backbone["blocks.0.attn.qkv.bias"]] == 2 * rates[0]
    assert share[backbone["patch_embed.proj.weight"]] == min(
        value for parameter, value in share.items() if parameter.ndim > 1
    )
    embedder.backbone.group_matcher = None
    with pytest.raises(ValueError, match=r"stages.toy.layer_decay: \w+ does not tell its layers"):
        build_optimiser(embedder, head, stage(layer_decay=0.5))


def test_frozen_batchnorms_keep_scale_and_bias_too(tiny, toy, stage):
    embedder = tiny(neck="fc-bn")
    result = train_stage(embedder, toy, stage(bn="frozen"), seed=0)
    before = embedder.state_dict()
    changed = {k for k, v in result.embedder.state_dict().items() if not torch.equal(v, before[k])}
    assert "backbone.conv1.0.weight" in changed and "neck.1.weight" in changed
    assert not any(key.startswith("backbone.bn1") for key in changed)
    assert all(parameter.requires_grad for parameter in result.embedder.parameters())


def step_on(state, options, batch, *, least):
    return take_step(state, options, batch, counts=[len(batch.row_B)], total=6, least=least)


def test_a_clipped_gradient_moves_no_further_than_its_norm(tiny, toy, stage):
    options = stage(optimiser="sgd", momentum=0.0, lr=1.0, clip=0.01, schedule="constant", weight_decay=0.0)
    state = begin(tiny(), toy, options, kept=None, workers=1, device="cpu", fresh=True)
    before = {name: p.detach().clone() for name, p in state.embedder.named_parameters()}
    rows = state.head.rows.detach().clone()
    training_mode(state, options)
    step_on(state, options, some_batch(toy, range(6)), least=1)
    moved = sum(float((p.detach() - before[n]).square().sum()) for n, p in state.embedder.named_parameters())
    moved += float((state.head.rows.detach() - rows).square().sum())
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_a_step_in_parts_is_the_step_as_a_whole(tiny, toy, stage, parts):
    ends = []
    for accumulate in (1, parts):
        options = stage(
            accumulate=accumulate,
            bn="frozen",
            optimiser="sgd",
            lr=0.1,
            loss={"class_weights": "1/ln(n+1)", "noisy_weight": 0.5},
        )
        marked = replace(toy, clean_N=np.arange(18) % 3 > 0)
        state = begin(tiny(), marked, options, kept=None, workers=1, device="cpu", fresh=True)
        state.head.load_state_dict({"rows": torch.linspace(-1, 1, 48).view(3, 16)})
        training_mode(state, options)
        loss, _ = step_on(state, options, some_batch(marked, [0, 1, 2, 5, 7, 8]), least=1)
        ends.append((loss, weights_of(state.embedder)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    for key, value in ends[0][1].items():
        assert torch.allclose(value, ends[1][1][key], atol=1e-6), key


def test_weights_of_photos_reach_the_loss(tiny, toy, stage):
    marked = replace(toy, clean_N=np.arange(18) >= 9)
    seen = []
    for options in ({}, {"noisy_weight": 0.25}):
        told = stage(bn="frozen", loss=options)
        state = begin(tiny(), marked, told, kept=None, workers=1, device="cpu", fresh=True)
        state.head.load_state_dict({"rows": torch.linspace(-1, 1, 48).view(3, 16)})
        training_mode(state, told)
        seen.append(step_on(state, told, some_batch(marked, [0, 1, 2]), least=1)[0])
    # a noisy photo of 9 among 18 weighs 0.25 / mean(0.25, 1)
    assert seen[1] == pytest.approx(seen[0] * 0.25 / 0.625, rel=1e-5)


# -- averages, precision


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_pull_leads_back_by_its_share_of_the_rate(tiny, toy, stage, optimiser):
    rates = {"lr": 0.1, "backbone_lr": 0.5, "schedule": "constant", "bn": "frozen-statistics"}
    ends, heads = [], []
    for pull in (0.0, 4.0):
        options = stage(optimiser=optimiser, pull=pull, weight_decay=0.0, **rates)
        state = begin(tiny(), toy, options, kept=None, workers=1, device="cpu", fresh=True)
        state.head.load_state_dict({"rows": torch.linspace(-1, 1, 48).view(3, 16)})
        training_mode(state, options)
        step_on(state, options, some_batch(toy, range(6)), least=1)
        ends.append(weights_of(state.embedder))
        heads.append(weights_of(state.head))
    start = weights_of(tiny())
    for key, free in ends[0].items():
        share = 4.0 * 0.1 * (0.5 if key.startswith("backbone") else 1.0)
        expected = free + share * (start[key] - free) if free.is_floating_point() else free
        assert torch.allclose(ends[1][key], expected, atol=1e-6), key
    assert torch.equal(heads[0]["rows"], heads[1]["rows"]), "landmarks have nowhere to go back to"


def test_a_full_pull_moves_nothing_and_one_beyond_is_refused(tiny, toy, stage):
    fixed = stage(pull=50.0, lr=0.02, schedule="constant", bn="frozen-statistics")
    left = train_stage(tiny(), toy, fixed, seed=0).embedder
    for key, value in weights_of(tiny()).items():
        assert torch.allclose(left.state_dict()[key], value, atol=1e-6), key
    with pytest.raises(ValueError, match=r"pull: at a rate of 0\.02 a step would lead beyond the start"):
        stage(pull=51.0, lr=0.02)


def test_the_average_follows_the_weights(tiny, toy, stage):
    options = stage(ema=0.75)
    state = begin(tiny(neck="fc-bn"), toy, options, kept=None, workers=1, device="cpu", fresh=True)
    expected = weights_of(state.embedder)
    for _ in range(3):
        training_mode(state, options)
        step_on(state, options, some_batch(toy, range(6)), least=2)
        for key, value in state.embedder.state_dict().items():
            mixed = 0.75 * expected[key] + 0.25 * value if value.is_floating_point() else value
            expected[key] = mixed.clone()
    for key, value in state.judged()[0].state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6), key
    left = train_stage(tiny(), toy, options, seed=0).embedder
    assert not same_weights(left, train_stage(tiny(), toy, stage(), seed=0).embedder)


def test_half_precision_is_close_and_fp16_needs_cuda(tiny, toy, stage):
    plain = train_stage(tiny(), toy, stage(epochs=1), seed=0)
    half = train_stage(tiny(), toy, stage(epochs=1, precision="bf16"), seed=0)
    assert half.losses[0]["loss"] != plain.losses[0]["loss"]
    assert half.losses[0]["loss"] == pytest.approx(plain.losses[0]["loss"], rel=0.02)
    assert {value.dtype for value in half.embedder.state_dict().values()} <= {torch.float32, torch.int64}
    with pytest.raises(ValueError, match=r'stages.toy.precision: "fp16" needs a CUDA device, not cpu'):
        train_stage(tiny(), toy, stage(precision="fp16"), seed=0)


# -- what is kept


def test_a_head_grows_by_landmark():
    old = MarginHead(4, 3, options=LossOptions(kind="softmax"))
    torch.nn.init.uniform_(old.bias)
    new = MarginHead(4, 5, options=LossOptions(kind="softmax"))
    before = new.rows.detach().clone()
    known = grow(
        new,
        np.array([1, 10, 20, 25, 30]),
        KeptHead(state=old.state_dict(), landmark_C=np.array([10, 25, 40])),
    )
    assert known.tolist() == [False, True, False, True, False]
    assert torch.equal(new.rows[[1, 3]], old.rows[:2]) and torch.equal(new.bias[[1, 3]], old.bias[:2])
    assert torch.equal(new.rows[[0, 2, 4]], before[[0, 2, 4]])
    three = MarginHead(4, 3, options=LossOptions(subcentres=3))
    bigger = MarginHead(4, 4, options=LossOptions(subcentres=3))
    grow(
        bigger,
        np.array([5, 10, 25, 40]),
        KeptHead(state=three.state_dict(), landmark_C=np.array([10, 25, 40])),
    )
    assert torch.equal(bigger.rows[3:], three.rows)
    with pytest.raises(ValueError, match="has 3 rows of 4 a landmark, not 1 of 4"):
        grow(
            new,
            np.array([1, 10, 20, 25, 30]),
            KeptHead(state=three.state_dict(), landmark_C=np.array([1, 2, 3])),
        )


@pytest.mark.parametrize(("keep", "kept"), [("all", True), ("all-but-head", False)])
def test_a_stage_goes_on_with_the_head_of_the_one_before(tiny, toy, stage, keep, kept):
    first = train_stage(tiny(), toy, stage(epochs=1), seed=0)
    still = {"lr": 1e-12, "neck_lr": 0, "backbone_lr": 0, "epochs": 1}
    second = train_stage(first.embedder, toy, stage(keep=keep, **still), seed=1, kept=first.kept_head)
    assert torch.allclose(second.head.rows, first.head.rows, atol=1e-6) == kept
    both = train_stage(
        first.embedder, toy, stage(keep=keep, head_start="means", **still), seed=1, kept=first.kept_head
    )
    assert torch.allclose(both.head.rows, first.head.rows, atol=1e-6) == kept


def test_pooling_may_change_by_stage(tiny, toy, stage):
    embedder = tiny(pooling="gap")
    result = train_stage(embedder, toy, stage(epochs=1, pooling="gem", gem_p=4.0, interpolate=0.5), seed=0)
    assert (result.embedder.options.pooling, float(result.embedder.pooling.p)) == ("gem", 4.0)
    assert embedder.options.pooling == "gap"
    changed = remade(tiny(gem_p=2.0, gem_learned=True), new_neck=True, seed=9)
    assert not torch.equal(changed.neck[0].weight, tiny().neck[0].weight)
    assert torch.equal(changed.backbone.conv1[0].weight, tiny().backbone.conv1[0].weight)
    assert same_weights(remade(tiny()), tiny())


# -- validation and patience


@pytest.fixture
def watched(toy):
    """The toy's photos, four of each landmark to train on and two to watch."""
    number = np.array([int(photo.split("-")[1]) for photo in toy.ids])

    def part(mask):
        return replace(
            toy,
            ids=tuple(np.array(toy.ids)[mask]),
            paths=tuple(np.array(toy.paths)[mask]),
            row_N=toy.row_N[mask],
            clean_N=toy.clean_N[mask],
        )

    return part(number < 4), part(number >= 4)


def test_the_validation_loss_is_taken_after_every_epoch(tiny, watched, stage):
    subset, held_out = watched
    result = train_stage(tiny(), subset, stage(epochs=3, loss={"margin": 0.2}), seed=0, held_out=held_out)
    assert [entry["epoch"] for entry in result.validation] == [0, 1, 2]
    assert [entry["step"] for entry in result.validation] == [2, 4, 6]
    from landseer.photos import load_square

    photos = np.stack([load_square(held_out.root, path, 32) for path in held_out.paths])
    rows = torch.from_numpy(result.embedder.describe(photos))
    logits = result.head.fixed_scale * result.head.cosines(rows)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(held_out.row_N))
    assert result.validation[-1]["validation_loss"] == pytest.approx(expected.item(), rel=1e-4)
    alone = train_stage(tiny(), subset, stage(epochs=3, loss={"margin": 0.2}), seed=0)
    assert same_weights(alone.embedder, result.embedder), "watching must change nothing"


def test_patience_stops_and_leaves_the_best(tiny, watched, stage, monkeypatch):
    subset, held_out = watched
    told = iter([3.0, 1.0, 2.0, 1.0, 0.5])
    seen = []

    def planned(state, *_, **__):
        seen.append(weights_of(state.embedder))
        return Judged(loss=next(told), mean_average_precision=None)

    from landseer.training import stage as stage_room

    monkeypatch.setattr(stage_room, "judge", planned)
    result = train_stage(tiny(), subset, stage(epochs=9, patience=2), seed=0, held_out=held_out)
    assert len(result.validation) == 4, "an equal loss is none that falls"
    assert all(torch.equal(value, seen[1][key]) for key, value in result.embedder.state_dict().items())
    with pytest.raises(ValueError, match=r"stages.toy.patience: there is no photo to validate on"):
        train_stage(tiny(), subset, stage(patience=1), seed=0)


def slow_leave_one_out(rows, labels, k):
    scores = []
    for photo, (row, label) in enumerate(zip(rows, labels, strict=True)):
        others = [other for other in range(len(rows)) if other != photo]
        ranked = sorted(
            others, key=lambda other: (-float(np.float32(rows[other].astype(float) @ row)), other)
        )
        wanted = sum(labels[other] == label for other in others)
        hits, total = 0, 0.0
        for rank, other in enumerate(ranked[:k], start=1):
            if labels[other] == label:
                hits += 1
                total += hits / rank
        if wanted:
            scores.append(total / min(wanted, k))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_photos_ask_for_the_others_of_their_landmark(k):
    rng = np.random.default_rng(k)
    rows = rng.normal(size=(23, 4)).astype(np.float32)
    rows[7] = rows[3]  # a double must not take the place of the photo itself
    labels = rng.integers(0, 6, 23) * 5
    labels[3], labels[11] = 0, 99
    assert leave_one_out(rows, labels, k=k) == pytest.approx(slow_leave_one_out(rows, labels, k), abs=1e-12)
    with pytest.raises(ValueError, match="no landmark has two validation photos"):
        leave_one_out(rows[:4], np.arange(4))


def test_the_best_epoch_may_be_the_one_with_the_best_map(tiny, watched, stage, monkeypatch):
    subset, held_out = watched
    result = train_stage(tiny(), subset, stage(epochs=3, judge="mAP"), seed=0, held_out=held_out)
    by_loss = train_stage(tiny(), subset, stage(epochs=3), seed=0, held_out=held_out)
    rows = result.embedder.describe(
        np.stack([load_square(held_out.root, path, 32) for path in held_out.paths])
    )
    expected = slow_leave_one_out(rows, held_out.row_N.tolist(), 100)
    assert result.validation[-1]["validation_map"] == pytest.approx(expected)
    losses = [entry["validation_loss"] for entry in result.validation]
    assert losses == [entry["validation_loss"] for entry in by_loss.validation]
    maps, seen = iter([(2.0, 0.5), (1.0, 0.7), (0.5, 0.6), (0.1, 0.6)]), []

    def planned(state, *_, **__):
        seen.append(weights_of(state.embedder))
        loss, found = next(maps)
        return Judged(loss=loss, mean_average_precision=found)

    from landseer.training import stage as stage_room

    monkeypatch.setattr(stage_room, "judge", planned)
    options = stage(epochs=9, patience=2, judge="mAP")
    stopped = train_stage(tiny(), subset, options, seed=0, held_out=held_out)
    assert len(stopped.validation) == 4
    assert all(torch.equal(value, seen[1][key]) for key, value in stopped.embedder.state_dict().items())


# -- shapes, compiled steps


def test_every_photo_of_a_batch_has_the_size_of_its_shape(toy, stage, tmp_path):
    for number, path in enumerate(toy.paths):
        photo = Image.open(toy.root / path)
        wide, tall = (90, 30), (30, 90)
        photo.resize(wide if number % 3 == 0 else tall if number % 3 == 1 else (40, 40)).save(tmp_path / path)
    turned = with_ratios(replace(toy, root=tmp_path), workers=2)
    assert turned.ratio_N[:3] == pytest.approx([1 / 3, 3.0, 1.0])
    sizes = [[48, 16], [32, 32], [16, 48]]
    options = stage(batch=3, aspects={"splits": [0.7, 1.4], "sizes": sizes}, augmentation={"crop": 0.8})
    seen = set()
    for batch in epoch_batches(turned, options, seed=0, epoch=0, workers=1):
        width, height = sizes[np.searchsorted([0.7, 1.4], turned.ratio_N[batch.position_B[0]])]
        assert batch.photos_BHW3.shape == (3, height, width, 3)
        seen.update(batch.position_B.tolist())
    assert seen == set(range(18))
    plain = plain_batches(turned, size_px=8, batch=4, workers=1, aspects=options.aspects)
    for batch in plain:
        for photo, position in zip(batch.photos_BHW3, batch.position_B, strict=True):
            size = sizes[np.searchsorted([0.7, 1.4], turned.ratio_N[position])]
            assert np.array_equal(photo, load_sized(tmp_path, toy.paths[position], tuple(size)))
        seen.difference_update(batch.position_B.tolist())
    assert not seen


def test_a_shape_the_backbone_cannot_take_is_refused(toy, stage):
    embedder = build_embedder(ModelOptions(backbone="test_vit", weights="none", pooling="cls"))
    options = stage(aspects={"splits": [1.0], "sizes": [[32, 24], [16, 32]]})
    with pytest.raises(ValueError, match=r"stages.toy.aspects.sizes: test_vit needs"):
        train_stage(embedder, toy, options, seed=0)


@pytest.mark.slow
def test_a_compiled_stage_ends_where_a_plain_one_does(tiny, toy, stage):
    ends = [
        weights_of(train_stage(tiny(), toy, stage(optimiser="sgd", bn="frozen", compile=on), seed=0).embedder)
        for on in (False, True)
    ]
    for key, value in ends[0].items():
        assert torch.allclose(value, ends[1][key], atol=1e-4), key


# -- checkpoints and the log


class Stopped(Exception):
    pass


def stop_after(number):
    def told(entry):
        if entry.get("step") == number and "loss" in entry:
            raise Stopped

    return (told,)


def test_checkpoints_keep_the_last_two_and_the_best(tiny, watched, stage, tmp_path):
    subset, held_out = watched
    options = stage(epochs=4, batch=3)
    whole = train_stage(tiny(), subset, options, seed=0, held_out=held_out)
    best = int(np.argmin([entry["validation_loss"] for entry in whole.validation[:3]]))
    with pytest.raises(Stopped):
        train_stage(
            tiny(), subset, options, seed=0, held_out=held_out, folder=tmp_path, checkpoint_every=1,
            callbacks=stop_after(15),
        )  # fmt: skip
    found = sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir())
    assert found[-2:] == ["00003-00000002", "00003-00000003"]
    assert set(found) == {*found[-2:], f"{best + 1:05d}-00000000"}
    told = []
    again = train_stage(
        tiny(), subset, options, seed=0, held_out=held_out, folder=tmp_path, callbacks=(told.append,)
    )
    assert [entry["step"] for entry in told] == [15, 16], "one step is done again, then the last validation"
    assert same_weights(again.embedder, whole.embedder) and same_weights(again.head, whole.head)
    assert (again.losses, again.validation) == (whole.losses, whole.validation)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tiny, toy, stage, tmp_path, caplog):
    options = stage(epochs=3)
    with pytest.raises(Stopped):
        train_stage(
            tiny(), toy, options, seed=0, folder=tmp_path, checkpoint_every=1, callbacks=stop_after(5)
        )
    newest = max(entry for entry in tmp_path.iterdir() if entry.is_dir())
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = train_stage(tiny(), toy, options, seed=0, folder=tmp_path)
    assert "going on from the checkpoint before it" in caplog.text
    assert same_weights(again.embedder, train_stage(tiny(), toy, options, seed=0).embedder)


@pytest.mark.parametrize(
    "other", [{"lr": 1e-4}, {"loss": {"margin": 0.1}}, {"augmentation": {"crop": 0.9}}], ids=str
)
def test_checkpoints_of_other_settings_are_refused(tiny, toy, stage, tmp_path, other):
    train_stage(tiny(), toy, stage(), seed=0, folder=tmp_path, checkpoint_every=2)
    before = sorted(tmp_path.iterdir())
    for call in (
        lambda: train_stage(tiny(), toy, stage(**other), seed=0, folder=tmp_path),
        lambda: train_stage(tiny(), toy, stage(), seed=1, folder=tmp_path),
        lambda: train_stage(tiny(seed=1), toy, stage(), seed=0, folder=tmp_path),
        lambda: train_stage(
            tiny(), replace(toy, row_N=toy.row_N[::-1].copy()), stage(), seed=0, folder=tmp_path
        ),
    ):
        with pytest.raises(ValueError, match="belongs to a training with other settings, photos or starting"):
            call()
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_not_a_number_is_never_saved(tiny, toy, stage, tmp_path, monkeypatch):
    """The weights go wrong in step 3, whose loss is still a number; the checkpoint after it must not be written."""
    right = state_room.set_rate

    def wrong(optimiser, options, *, step, total):
        rate = right(optimiser, options, step=step, total=total)
        if step == 3:
            for group in optimiser.param_groups:
                group["lr"] = math.inf
        return rate

    monkeypatch.setattr(state_room, "set_rate", wrong)
    with pytest.raises(ValueError, match="stage 'toy': a weight is not finite after step 3; lower its lr"):
        train_stage(tiny(), toy, stage(), seed=0, folder=tmp_path, checkpoint_every=1)
    found = sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir())
    assert found == ["00000-00000002", "00000-00000003"]


def test_a_torn_log_is_mended_and_a_short_one_refused(tiny, toy, stage, tmp_path):
    with pytest.raises(Stopped):
        train_stage(
            tiny(), toy, stage(), seed=0, folder=tmp_path, checkpoint_every=2, callbacks=stop_after(4)
        )
    file = tmp_path / "log.jsonl"
    with file.open("a") as log:
        log.write('{"stage": "toy", "st')
    result = train_stage(tiny(), toy, stage(), seed=0, folder=tmp_path, checkpoint_every=0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert tuple(lines) == result.losses and [entry["step"] for entry in lines] == list(range(6))
    file.write_text("")
    with pytest.raises(ValueError, match=r"log.jsonl lacks steps before 4; remove"):
        train_stage(tiny(), toy, stage(), seed=0, folder=tmp_path)


def test_a_validation_that_no_checkpoint_knows_of_is_logged_once(tiny, watched, stage, tmp_path):
    subset, held_out = watched
    options = stage(epochs=3, batch=3)

    def stop(entry):
        if entry["epoch"] == 1 and "validation_loss" in entry:
            raise Stopped

    how = {"seed": 0, "held_out": held_out, "folder": tmp_path}
    with pytest.raises(Stopped):
        train_stage(tiny(), subset, options, checkpoint_every=1, callbacks=(stop,), **how)
    result = train_stage(tiny(), subset, options, **how)
    assert [entry["epoch"] for entry in result.validation] == [0, 1, 2]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert tuple(line for line in lines if "validation_loss" in line) == result.validation


def test_tensorboard_reads_the_curves(tiny, watched, stage, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    subset, held_out = watched
    listener = tensorboard_callback(tmp_path)
    assert listener is not None
    result = train_stage(tiny(), subset, stage(judge="mAP"), seed=0, held_out=held_out, callbacks=[listener])
    curves = EventAccumulator(str(tmp_path))
    curves.Reload()
    for key, entries in (
        ("loss", result.losses),
        ("lr", result.losses),
        ("validation_loss", result.validation),
        ("validation_map", result.validation),
    ):
        found = [(event.step, event.value) for event in curves.Scalars(f"toy/{key}")]
        assert found == [(entry["step"], pytest.approx(entry[key], rel=1e-6)) for entry in entries], key
