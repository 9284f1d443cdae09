"""The loss on photos that no stage trains on."""

from __future__ import annotations

import torch

from landseer.recipe import StageOptions
from landseer.training.loader import plain_batches
from landseer.training.state import State, autocast
from landseer.training.subset import Subset


@torch.no_grad()
def validation_loss(state: State, held_out: Subset, stage: StageOptions, *, workers: int) -> float:
    """Mean cross entropy of *held_out* with the scale of training, without weights, margin or augmentation.

    Photos are seen as extraction would see them, at the stage's size; unreadable ones are left out.  Leaves the
    weights that are judged in evaluation mode.
    """
    embedder, head = state.judged()
    embedder.eval()
    head.eval()
    total, num = 0.0, 0
    for batch in plain_batches(held_out, size_px=stage.size, batch=stage.batch, workers=workers):
        if not len(batch.row_B):
            continue
        pixels = embedder.normalise(batch.photos_BSS3)
        with autocast(stage, pixels.device):
            descriptors = embedder(pixels)
        loss = head.validation_loss(descriptors, torch.from_numpy(batch.row_B).to(pixels.device))
        total += float(loss) * len(batch.row_B)
        num += len(batch.row_B)
    if not num:
        raise ValueError("none of the validation photos could be read; check the collection's root")
    return total / num
