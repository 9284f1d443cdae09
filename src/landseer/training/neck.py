"""Start a neck from what the backbone already knows, instead of from chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from landseer.models import Embedder, FeatureSums, discriminative_whitening
from landseer.training import distributed
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
) -> dict[str, str]:
    """Set the neck's linear map to the discriminative whitening of *subset*'s pooled features, in place.

    The photos are seen at *size_px* as extraction would see them.  A BatchNorm after the map starts neutral:
    its statistics are those of the map's outputs over the subset, and its scale undoes them.  A map without a
    bias and without a BatchNorm gives the whitened features uncentred.  Unreadable photos are left out, and
    returned with the reason.  Several processes describe a part of the photos each.

    Memory is a table of landmarks times features, in float64.  Raises ``ValueError`` for a neck that is not linear,
    and where no whitening can be learned from the photos that could be read.
    """
    if embedder.options.neck not in ("fc", "fc-bn"):
        raise ValueError(
            f'model.neck: whitening is a linear map, so it needs "fc" or "fc-bn", '
            f"not {embedder.options.neck!r}"
        )
    embedder.require_size(size_px, "descriptors.size")
    embedder.to(device).eval()
    sums, unreadable = _sums(
        embedder, subset, size_px=size_px, batch=batch, workers=workers, progress=progress
    )
    whitening = discriminative_whitening(sums, dim=embedder.dim, ridge=embedder.options.neck_ridge)
    linear, *norm = cast("Any", embedder.neck)
    linear.weight.copy_(torch.from_numpy(whitening.weight_DC))
    if linear.bias is not None:
        linear.bias.copy_(torch.from_numpy(whitening.bias_D))
    if norm:
        mean_D = whitening.weight_DC @ sums.mean_C + (whitening.bias_D if linear.bias is not None else 0.0)
        _start_neutral(norm[0], mean_D.astype(np.float32), whitening.variance_D)
    return unreadable


def _sums(
    embedder: Embedder,
    subset: Subset,
    *,
    size_px: int,
    batch: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[FeatureSums, dict[str, str]]:
    """The sums over the photos of all processes, and those that could not be read."""
    device = next(embedder.backbone.parameters()).device
    sums: FeatureSums | None = None
    unreadable: dict[str, str] = {}
    done = 0
    for loaded in plain_batches(subset, size_px=size_px, batch=batch, workers=workers):
        unreadable.update(loaded.unreadable)
        features = np.empty((0, 0), dtype=np.float32)
        if len(loaded.row_B):
            features = embedder.pooled(embedder.normalise(loaded.photos_BHW3)).cpu().numpy()
        if sums is None:
            # one origin for all processes: the mean of the first batch that any of them could read
            means = [features.mean(axis=0) if len(features) else None]
            origin = next((mean for (mean,) in distributed.everyones(means) if mean is not None), None)
            sums = None if origin is None else FeatureSums(len(subset.landmark_C), origin)
        if sums is not None and len(features):
            sums.add(features, loaded.row_B)
        done += len(loaded.row_B) + len(loaded.unreadable)
        if progress is not None:
            progress(min(done * distributed.world(), len(subset)), len(subset))
    if sums is None:
        raise ValueError("none of the training photos could be read; check the collection's root")
    for table in sums.tables:
        table[...] = distributed.summed(torch.from_numpy(table).to(device)).cpu().numpy()
    return sums, {photo: why for found in distributed.everyones(unreadable) for photo, why in found.items()}


def _start_neutral(norm: nn.BatchNorm1d, mean_D: np.ndarray, variance_D: np.ndarray) -> None:
    assert norm.running_mean is not None and norm.running_var is not None, "the neck's BatchNorm keeps them"
    # a bias of 0, frozen or not: whitened features have mean 0, with or without a bias in the map
    norm.running_mean.copy_(torch.from_numpy(mean_D))
    norm.running_var.copy_(torch.from_numpy(variance_D))
    norm.weight.copy_(torch.from_numpy(np.sqrt(variance_D + norm.eps)))
    norm.bias.zero_()
