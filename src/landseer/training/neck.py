"""Start a neck from what the backbone already knows, instead of from chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from landseer.models import Embedder, discriminative_whitening
from landseer.training.loader import plain_batches
from landseer.training.subset import Subset


@torch.no_grad()
def start_neck(
    embedder: Embedder,
    subset: Subset,
    *,
    size_px: int,
    batch: int = 32,
    workers: int = 2,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Set the neck's linear map to the discriminative whitening of *subset*'s pooled features, in place.

    The photos are seen at *size_px* as extraction would see them.  A BatchNorm after the map starts neutral:
    its statistics are those of the map's outputs over the subset, and its scale undoes them.  A map without a
    bias and without a BatchNorm gives the whitened features uncentred.  Unreadable photos are left out.

    The features of the whole subset are in memory, several times in float64.  Raises ``ValueError`` for a neck
    that is not linear, and where no whitening can be learned from the photos that could be read.
    """
    if embedder.options.neck not in ("fc", "fc-bn"):
        raise ValueError(
            f'model.neck: whitening is a linear map, so it needs "fc" or "fc-bn", '
            f"not {embedder.options.neck!r}"
        )
    embedder.require_size(size_px, "descriptors.size")
    features, rows = [], []
    embedder.to(device).eval()
    done = 0
    for loaded in plain_batches(subset, size_px=size_px, batch=batch, workers=workers):
        if len(loaded.row_B):
            features.append(embedder.pooled(embedder.normalise(loaded.photos_BSS3)).cpu().numpy())
            rows.append(loaded.row_B)
        done += len(loaded.row_B) + len(loaded.unreadable)
        if progress is not None:
            progress(done, len(subset))
    if not rows:
        raise ValueError("none of the training photos could be read; check the collection's root")
    pooled_NC = np.concatenate(features)
    weight, bias = discriminative_whitening(
        pooled_NC, np.concatenate(rows), dim=embedder.dim, ridge=embedder.options.neck_ridge
    )
    linear, *norm = cast("Any", embedder.neck)
    linear.weight.copy_(torch.from_numpy(weight))
    if linear.bias is not None:
        linear.bias.copy_(torch.from_numpy(bias))
    if norm:
        _start_neutral(norm[0], pooled_NC @ weight.T + (bias if linear.bias is not None else 0.0))


def _start_neutral(norm: nn.BatchNorm1d, outputs_ND: np.ndarray) -> None:
    assert norm.running_mean is not None and norm.running_var is not None, "the neck's BatchNorm keeps them"
    # a bias of 0, frozen or not: whitened features have mean 0, with or without a bias in the map
    mean, variance = outputs_ND.mean(axis=0), outputs_ND.var(axis=0)
    norm.running_mean.copy_(torch.from_numpy(mean))
    norm.running_var.copy_(torch.from_numpy(variance))
    norm.weight.copy_(torch.from_numpy(np.sqrt(variance + norm.eps)))
    norm.bias.zero_()
