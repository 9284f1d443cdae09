"""One stage of training: repeatable, frozen where asked, interpolated, refused where it fails."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from landseer.losses import MarginHead
from landseer.models import build_embedder
from landseer.photos import load_square
from landseer.recipe import LossOptions, ModelOptions
from landseer.training import load_losses, load_stage_model, save_stage, train_stage
from landseer.training.optimiser import build_optimiser
from landseer.training.schedule import set_rate


def weights_of(embedder):
    return {key: value.clone() for key, value in embedder.state_dict().items()}


def changed_keys(before, embedder):
    return {key for key, value in embedder.state_dict().items() if not torch.equal(value, before[key])}


def photos_of(subset, size=32):
    return np.stack([load_square(subset.root, path, size) for path in subset.paths])


# -- repeatability


def test_the_same_seed_gives_the_same_bits_whatever_the_number_of_workers(tiny, toy, stage):
    embedder, options = tiny(neck="fc-bn"), stage(augmentation={"crop": 0.6, "brightness": 0.3})
    before = embedder.fingerprint
    first = train_stage(embedder, toy, options, seed=4, workers=1)
    torch.rand(3)  # the caller's random state must not matter
    again = train_stage(embedder, toy, options, seed=4, workers=4)
    other = train_stage(embedder, toy, options, seed=5, workers=1)
    assert first.embedder.fingerprint == again.embedder.fingerprint
    assert torch.equal(first.head.rows, again.head.rows)
    assert first.losses == again.losses
    assert other.embedder.fingerprint != first.embedder.fingerprint
    assert not torch.equal(first.head.rows, other.head.rows)
    assert embedder.fingerprint == before, "the embedder that was given is not the one that is trained"


def test_the_callers_random_state_is_left_alone(tiny, toy, stage):
    embedder, torchs, numpys = tiny(), torch.get_rng_state(), np.random.get_state()[1].copy()
    train_stage(embedder, toy, stage(epochs=1), seed=1)
    assert torch.equal(torch.get_rng_state(), torchs)
    assert np.array_equal(np.random.get_state()[1], numpys)


# -- learning


@pytest.mark.parametrize("optimiser", [{"optimiser": "adamw"}, {"optimiser": "sgd", "lr": 0.02}], ids=str)
def test_the_loss_falls_and_photos_of_a_landmark_come_together(tiny, toy, stage, optimiser):
    embedder = tiny(neck="fc-bn")
    result = train_stage(embedder, toy, stage(epochs=8, loss={"scale": 16.0}, **optimiser), seed=0)
    losses = [entry["loss"] for entry in result.losses]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])

    def gap(model):
        rows = model.describe(photos_of(toy))
        cosines, same = rows @ rows.T, toy.row_N[:, None] == toy.row_N
        return cosines[same].mean() - cosines[~same].mean()

    assert gap(result.embedder) > gap(embedder) + 0.2


def test_the_head_knows_the_landmarks_by_its_label_space(tiny, toy, stage):
    result = train_stage(tiny(neck="fc-bn"), toy, stage(epochs=8, loss={"scale": 16.0}), seed=0)
    assert result.landmark_C.tolist() == [10, 20, 30]
    with torch.no_grad():
        cosines = result.head.cosines(torch.from_numpy(result.embedder.describe(photos_of(toy))))
    assert (cosines.argmax(dim=1).numpy() == toy.row_N).mean() > 0.9


def test_a_head_started_at_means_is_the_mean_descriptor_of_each_landmark(tiny, toy, stage):
    embedder = tiny()
    result = train_stage(
        embedder, toy, stage(head_start="means", epochs=1, lr=1e-12, backbone_lr=0, neck_lr=0), seed=0
    )
    rows = embedder.describe(photos_of(toy))
    for number in range(3):
        mean = rows[toy.row_N == number].mean(axis=0)
        assert result.head.rows[number].detach().numpy() == pytest.approx(
            mean / np.linalg.norm(mean), abs=1e-5
        )
    random = train_stage(embedder, toy, stage(epochs=1, lr=1e-12, backbone_lr=0, neck_lr=0), seed=0)
    assert not torch.allclose(random.head.rows, result.head.rows, atol=1e-2)


def test_scale_and_margin_reach_the_head(tiny, toy, stage):
    result = train_stage(tiny(), toy, stage(epochs=1, loss={"scale": 12.0, "margin": 0.25}), seed=0)
    assert (result.head.options.scale, result.head.options.margin) == (12.0, 0.25)


# -- what is frozen


def test_frozen_statistics_stay_while_weights_move(tiny, toy, stage):
    embedder = tiny()
    before = weights_of(embedder)
    statistics = {key for key in before if "running" in key or "num_batches" in key}
    frozen = changed_keys(before, train_stage(embedder, toy, stage(bn="frozen-statistics"), seed=0).embedder)
    assert not frozen & statistics
    assert "backbone.conv1.0.weight" in frozen and "backbone.bn1.weight" in frozen
    usual = changed_keys(before, train_stage(embedder, toy, stage(), seed=0).embedder)
    assert statistics <= usual


def test_a_rate_of_zero_keeps_weights_and_statistics(tiny, toy, stage):
    embedder = tiny(neck="fc-bn", gem_learned=True)
    before = weights_of(embedder)
    no_backbone = changed_keys(before, train_stage(embedder, toy, stage(backbone_lr=0), seed=0).embedder)
    assert no_backbone and not any(key.startswith("backbone.") for key in no_backbone)
    assert {"pooling.p", "neck.0.weight", "neck.1.running_mean"} <= no_backbone
    no_neck = changed_keys(before, train_stage(embedder, toy, stage(neck_lr=0), seed=0).embedder)
    assert no_neck and all(key.startswith("backbone.") for key in no_neck)


def test_what_one_stage_kept_the_next_may_train(tiny, toy, stage):
    embedder = tiny(neck="fc-bn", freeze_bn_bias=True)
    first = train_stage(embedder, toy, stage(epochs=1, backbone_lr=0), seed=0).embedder
    second = train_stage(first, toy, stage(epochs=1), seed=0).embedder
    assert any(key.startswith("backbone.") for key in changed_keys(weights_of(first), second))
    kept = [name for name, parameter in second.named_parameters() if not parameter.requires_grad]
    assert kept == ["neck.1.bias"]
    assert torch.equal(second.neck[1].bias, torch.zeros(16))


def test_decay_is_for_weight_matrices_alone(tiny, stage):
    embedder = build_embedder(
        ModelOptions(
            backbone="test_vit", weights="none", neck="fc-bn", dim=8, gem_learned=True, pooling="gem"
        )
    )
    head = MarginHead(8, 3, options=LossOptions())
    optimiser = build_optimiser(embedder, head, stage(weight_decay=0.07, backbone_lr=0.5))
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    every = [p for group in optimiser.param_groups for p in group["params"]]
    assert len(every) == len({id(p) for p in every})
    assert {id(p) for p in every} == {id(p) for p in (*embedder.parameters(), *head.parameters())}
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 0.07}
    matrices = {
        id(module.weight) for module in embedder.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    assert decayed == matrices
    assert id(head.rows) not in decayed


# -- the schedule


@pytest.mark.parametrize(
    ("warmup", "total", "expected"),
    [
        (0.0, 4, [1.0, 0.853553, 0.5, 0.146447]),
        (0.5, 4, [1 / 3, 2 / 3, 1.0, 0.5]),
        (0.1, 10, [0.5, 1.0, 0.969846, 0.883022, 0.75, 0.586824, 0.413176, 0.25, 0.116978, 0.030154]),
        (1.0, 3, [0.25, 0.5, 0.75]),
        (0.25, 2, [1 / 1.5, 0.75]),
        (0.0, 1, [1.0]),
    ],
)
def test_the_rate_rises_linearly_and_falls_as_a_cosine(tiny, stage, warmup, total, expected):
    options = stage(warmup=warmup, lr=2.0, neck_lr=0.5, backbone_lr=0.1)
    optimiser = build_optimiser(tiny(), MarginHead(16, 3, options=LossOptions()), options)
    rates = [set_rate(optimiser, options, step=step, total=total) for step in range(total)]
    assert rates == pytest.approx([2.0 * factor for factor in expected], abs=1e-5)
    ratios = {round(group["lr"] / rates[-1], 6) for group in optimiser.param_groups}
    assert ratios == {1.0, 0.5, 0.1}


def test_losses_and_progress_tell_every_step(tiny, toy, stage):
    told = []
    result = train_stage(tiny(), toy, stage(warmup=0.5), seed=0, progress=lambda *facts: told.append(facts))
    assert [entry["step"] for entry in result.losses] == list(range(6))
    assert [entry["epoch"] for entry in result.losses] == [0, 0, 0, 1, 1, 1]
    assert {entry["stage"] for entry in result.losses} == {"toy"}
    for number, (entry, (done, total, facts)) in enumerate(zip(result.losses, told, strict=True)):
        assert (done, total) == (number + 1, 6)
        assert facts.pop("images/s") > 0
        assert facts == {"loss": entry["loss"], "lr": entry["lr"], "epoch": entry["epoch"]}
        assert math.isfinite(entry["loss"])


# -- interpolation


def test_interpolation_goes_from_the_start_to_the_end(tiny, toy, stage):
    embedder = tiny(neck="fc-bn")
    start = weights_of(embedder)
    ends = {
        share: train_stage(embedder, toy, stage(interpolate=share), seed=0).embedder for share in (0, 0.5, 1)
    }
    end = weights_of(ends[1])
    assert ends[0].fingerprint == embedder.fingerprint != ends[1].fingerprint
    for key, value in ends[0.5].state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, (start[key] + end[key]) / 2, atol=1e-6), key
    assert any("running_mean" in key for key in changed_keys(start, ends[0.5]))


# -- what goes wrong


def test_a_loss_that_is_no_number_stops_the_stage(tiny, toy, stage):
    embedder = tiny()
    with torch.no_grad():
        embedder.neck[0].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"stage 'toy': the loss is nan at step 0; lower its lr \(0.003\)"):
        train_stage(embedder, toy, stage(), seed=0)


def test_a_last_step_that_ruins_the_weights_stops_the_stage(tiny, toy, stage):
    with pytest.raises(ValueError, match="stage 'toy': a weight is not finite after step 0; lower"):
        train_stage(
            tiny(), toy, stage(epochs=1, batch=18, optimiser="sgd", lr=3e38, loss={"scale": 1e3}), seed=0
        )


def test_unreadable_photos_are_skipped_and_listed(tmp_path, tiny, toy, stage):
    for path in toy.paths[4:]:
        (tmp_path / path).write_bytes((toy.root / path).read_bytes())
    (tmp_path / toy.paths[0]).write_bytes(b"")
    result = train_stage(tiny(), replace(toy, root=tmp_path), stage(batch=18, head_start="means"), seed=0)
    assert set(result.unreadable) == set(toy.ids[:4])
    assert result.unreadable[toy.ids[1]] == "missing"
    assert len(result.losses) == 2


def test_a_step_that_one_photo_is_left_of_is_skipped_where_the_neck_needs_two(tmp_path, tiny, toy, stage):
    (tmp_path / toy.paths[0]).write_bytes((toy.root / toy.paths[0]).read_bytes())
    for path in toy.paths[9:]:
        (tmp_path / path).write_bytes((toy.root / path).read_bytes())
    result = train_stage(
        tiny(neck="fc-bn"),
        replace(toy, root=tmp_path),
        stage(batch=2, epochs=3, bn="frozen-statistics"),
        seed=0,
    )
    assert 0 < len(result.losses) < 27
    with pytest.raises(ValueError, match=r"stages.toy.batch: the BatchNorm of the neck needs at least 2"):
        train_stage(tiny(neck="fc-bn"), toy, stage(batch=1), seed=0)
    assert (
        len(train_stage(tiny(), toy, stage(batch=1, epochs=1, bn="frozen-statistics"), seed=0).losses) == 18
    )


@pytest.mark.parametrize("head_start", ["random", "means"])
def test_nothing_readable_is_a_clear_mistake(tmp_path, tiny, toy, stage, head_start):
    with pytest.raises(
        ValueError, match="none of the training photos could be read; check the collection's root"
    ):
        train_stage(tiny(), replace(toy, root=tmp_path), stage(head_start=head_start), seed=0)


def test_a_size_the_backbone_cannot_take_is_refused_at_once(toy, stage):
    embedder = build_embedder(ModelOptions(backbone="test_vit", weights="none", pooling="cls"))
    with pytest.raises(ValueError, match=r"stages.toy.size: test_vit needs a multiple of 16, not 40; try 32"):
        train_stage(embedder, toy, stage(size=40), seed=0)


def test_a_vit_is_trained_at_another_size_than_its_own(toy, stage):
    embedder = build_embedder(
        ModelOptions(backbone="test_vit", weights="none", pooling="cls", neck="fc", dim=8)
    )
    result = train_stage(embedder, toy, stage(epochs=1), seed=0)
    assert "backbone.pos_embed" in changed_keys(weights_of(embedder), result.embedder)


# -- the stage folder


def test_a_stage_folder_gives_back_what_was_trained(tmp_path, tiny, toy, stage):
    missing = replace(
        toy, ids=(*toy.ids, "gone"), paths=(*toy.paths, "gone.png"), row_N=np.append(toy.row_N, 0)
    )
    result = train_stage(tiny(neck="fc-bn"), missing, stage(batch=19), seed=0)
    save_stage(result, tmp_path / "stage", made_by={"recipe": "r"}, parents={"collection": "c"})
    loaded = load_stage_model(tmp_path / "stage")
    assert loaded.fingerprint == result.embedder.fingerprint
    photos = photos_of(toy)
    assert np.array_equal(loaded.describe(photos), result.embedder.describe(photos))
    assert load_losses(tmp_path / "stage") == [dict(entry) for entry in result.losses]
    rows = load_file(tmp_path / "stage" / "head.safetensors")["rows"]
    assert torch.equal(rows, result.head.rows)
    assert pq.read_table(tmp_path / "stage" / "labels.parquet")["landmark"].to_pylist() == [10, 20, 30]
    unreadable = pq.read_table(tmp_path / "stage" / "unreadable.parquet").to_pylist()
    assert unreadable == [{"id": "gone", "reason": "missing"}]


@pytest.mark.parametrize(
    "name", ["model/weights.safetensors", "head.safetensors", "labels.parquet", "losses.parquet"]
)
def test_a_damaged_stage_folder_is_refused(tmp_path, tiny, toy, stage, name):
    result = train_stage(tiny(), toy, stage(epochs=1), seed=0)
    save_stage(result, tmp_path / "stage", made_by={}, parents={})
    file = tmp_path / "stage" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name.split('/')[-1]} is damaged"):
        load_stage_model(tmp_path / "stage")
    if name == "losses.parquet":
        with pytest.raises(ValueError, match=r"losses.parquet is damaged"):
            load_losses(tmp_path / "stage")


def test_descriptors_of_the_trained_model_have_unit_length(tiny, toy, stage):
    rows = torch.from_numpy(train_stage(tiny(), toy, stage(), seed=0).embedder.describe(photos_of(toy)))
    assert torch.allclose(rows, F.normalize(rows, dim=1), atol=1e-6)
