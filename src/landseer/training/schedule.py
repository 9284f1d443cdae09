"""How the learning rate and the margin go through a stage."""

from __future__ import annotations

import math

import torch

from landseer.recipe import LossOptions, StageOptions


def rate_factor(stage: StageOptions, *, step: int, total: int) -> float:
    """The rate of step number *step* of *total* as a share of the peak.

    A linear warm-up from ``warmup_start`` over the first ``warmup`` of all steps; then the peak, a cosine to
    ``final_lr``, or 1 / (1 + ``lr_decay`` t) with t counted from the warm-up's end (Keras' ``decay``).  With a
    ``span`` the stage's steps are that part of a longer schedule.
    """
    begin, end = stage.span
    if (begin, end) != (0.0, 1.0):
        whole = total / (end - begin)
        return _factor(stage, step=begin * whole + step, total=whole)
    return _factor(stage, step=step, total=total)


def _factor(stage: StageOptions, *, step: float, total: float) -> float:
    warm = stage.warmup * total
    if step < warm:
        rise = (step + 1) / (warm + 1)
        return stage.warmup_start + (1 - stage.warmup_start) * rise
    if stage.schedule == "constant":
        return 1.0
    if stage.schedule == "inverse-time":
        return 1 / (1 + stage.lr_decay * (step - warm))
    fall = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))
    return stage.final_lr + (1 - stage.final_lr) * fall


def set_rate(optimiser: torch.optim.Optimizer, stage: StageOptions, *, step: int, total: int) -> float:
    """Give every group its share of the rate of this step; returns the head's rate."""
    factor = rate_factor(stage, step=step, total=total)
    for group in optimiser.param_groups:
        group["lr"] = stage.lr * factor * group["share"]
    return stage.lr * factor


def margin_at(loss: LossOptions, *, step: int, total: int) -> float | None:
    """The margin of this step where it follows a schedule; its last step has ``margin_end``."""
    if loss.margin_end is None:
        return None
    return loss.margin + (loss.margin_end - loss.margin) * min(1.0, step / max(1, total - 1))
