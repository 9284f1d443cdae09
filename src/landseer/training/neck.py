"""Start a neck from what the backbone already knows, instead of from chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from landseer.models import Embedder, discriminative_whitening
from landseer.training.loader import plain_batches
from landseer.training.subset import Subset


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
    its statistics are set to those of the map's outputs over the subset, its scale so that it changes nothing.
    Unreadable photos are left out.
    """
    features, rows = [], []
    embedder.to(device).eval()
    done = 0
    with torch.inference_mode():
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
    linear = embedder.neck[0]
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(bias))
        if len(embedder.neck) > 1:
            _start_neutral(
                embedder.neck[1], pooled_NC @ weight.T + (bias if linear.bias is not None else 0.0)
            )


def _start_neutral(norm: nn.BatchNorm1d, outputs_ND: np.ndarray) -> None:
    mean, variance = outputs_ND.mean(axis=0), outputs_ND.var(axis=0)
    norm.running_mean.copy_(torch.from_numpy(mean))
    norm.running_var.copy_(torch.from_numpy(variance))
    norm.weight.copy_(torch.from_numpy(np.sqrt(variance + norm.eps)))
    if norm.bias.requires_grad:
        norm.bias.copy_(torch.from_numpy(mean))
