"""A neck that starts as the discriminative whitening."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from landseer.models import FeatureSums, discriminative_whitening
from landseer.photos import load_square
from landseer.training import start_neck


def photos_of(subset, size=32):
    return np.stack([load_square(subset.root, path, size) for path in subset.paths])


def learned(pooled_NC, subset, **options):
    """The whitening of all features at once."""
    sums = FeatureSums(len(subset.landmark_C), pooled_NC.mean(axis=0))
    sums.add(pooled_NC, subset.row_N)
    return discriminative_whitening(sums, **options)


def whitened(embedder, subset):
    """The unit rows that the whitening itself gives."""
    with torch.inference_mode():
        pooled = embedder.pooled(embedder.normalise(photos_of(subset))).double().numpy()
    found = learned(pooled, subset, dim=embedder.dim, ridge=embedder.options.neck_ridge)
    rows = pooled @ found.weight_DC.T.astype(np.float64) + found.bias_D
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "options",
    [
        {"neck": "fc"},
        {"neck": "fc-bn"},
        {"neck": "fc-bn", "freeze_bn_bias": True},
        {"neck": "fc-bn", "neck_bias": False},
        {"neck": "fc-bn", "neck_bias": False, "freeze_bn_bias": True},
        {"neck": "fc", "neck_ridge": 0.05},
    ],
    ids=str,
)
def test_the_start_gives_the_whitened_features(tiny, toy, options):
    embedder = tiny(dim=6, **options)
    expected = whitened(embedder, toy)
    start_neck(embedder, toy, size_px=32, batch=5)
    assert embedder.describe(photos_of(toy)) == pytest.approx(expected, abs=2e-4)


def test_a_batchnorm_starts_with_the_statistics_of_the_map(tiny, toy):
    embedder = tiny(neck="fc-bn", dim=6, neck_bias=False)
    start_neck(embedder, toy, size_px=32)
    linear, norm = embedder.neck
    with torch.inference_mode():
        outputs = linear(embedder.pooled(embedder.normalise(photos_of(toy))))
        kept = norm(outputs)
    assert norm.running_mean.numpy() == pytest.approx(outputs.mean(dim=0).numpy(), abs=1e-5)
    assert norm.running_var.numpy() == pytest.approx(outputs.var(dim=0, correction=0).numpy(), rel=1e-3)
    assert kept.numpy() == pytest.approx((outputs - outputs.mean(dim=0)).numpy(), abs=1e-4)


def test_without_any_bias_the_rows_are_the_uncentred_map(tiny, toy):
    embedder = tiny(neck="fc", dim=6, neck_bias=False)
    start_neck(embedder, toy, size_px=32)
    with torch.inference_mode():
        pooled = embedder.pooled(embedder.normalise(photos_of(toy))).numpy()
    weight = learned(pooled, toy, dim=6, ridge=1.0).weight_DC
    rows = pooled @ weight.T
    assert embedder.describe(photos_of(toy)) == pytest.approx(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), abs=2e-4
    )


def test_only_the_neck_changes_and_progress_is_told(tiny, toy):
    embedder = tiny(neck="fc-bn", dim=6)
    before = {key: value.clone() for key, value in embedder.state_dict().items()}
    told = []
    start_neck(embedder, toy, size_px=32, batch=5, progress=lambda done, total: told.append((done, total)))
    changed = {key for key, value in embedder.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("neck.") for key in changed)
    assert told == [(5, 18), (10, 18), (15, 18), (18, 18)]
    assert all(parameter.requires_grad for parameter in embedder.parameters())


def test_unreadable_photos_are_left_out(tmp_path, tiny, toy):
    fewer = replace(toy, ids=toy.ids[2:], paths=toy.paths[2:], row_N=toy.row_N[2:])
    for path in fewer.paths:
        (tmp_path / path).write_bytes((toy.root / path).read_bytes())
    one, other = tiny(dim=6), tiny(dim=6)
    start_neck(one, replace(toy, root=tmp_path), size_px=32, batch=18)
    start_neck(other, fewer, size_px=32, batch=18)
    assert one.neck[0].weight.detach().numpy() == pytest.approx(
        other.neck[0].weight.detach().numpy(), abs=1e-4
    )


def test_what_cannot_be_started_is_refused(tmp_path, tiny, toy):
    with pytest.raises(ValueError, match="none of the training photos could be read; check"):
        start_neck(tiny(), replace(toy, root=tmp_path), size_px=32)
    for neck in ("none", "fc-swish"):
        with pytest.raises(ValueError, match=f"model.neck: whitening is a linear map, .* not '{neck}'"):
            start_neck(tiny(neck=neck), toy, size_px=32)
    single = replace(toy, ids=toy.ids[:3], paths=toy.paths[:3], row_N=np.arange(3))
    with pytest.raises(ValueError, match="no landmark has two training photos"):
        start_neck(tiny(dim=6), single, size_px=32)
