"""Weights between weights: the running average of a stage, and the way back towards its start."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def move_towards(average: nn.Module, now: nn.Module, decay: float) -> None:
    """``average = decay * average + (1 - decay) * now`` for weights and BatchNorm's statistics; counts are copied."""
    following = now.state_dict()
    for key, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(following[key], 1.0 - decay)
        else:
            value.copy_(following[key])


@torch.no_grad()
def interpolate(tuned: nn.Module, start: nn.Module, share: float) -> None:
    """Weights between those of the stage's start and end (Wortsman et al., CVPR 2022), BatchNorm's included."""
    if share == 1.0:
        return
    first = start.state_dict()
    for key, value in tuned.state_dict().items():
        if value.is_floating_point():
            value.lerp_(first[key].to(value.device), 1.0 - share)
        elif share == 0.0:  # a count of batches has no point half-way
            value.copy_(first[key])
