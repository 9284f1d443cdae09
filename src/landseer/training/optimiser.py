"""The update rule: which weights learn at which rate and with which decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landseer.models import Embedder
from landseer.recipe import StageOptions


def build_optimiser(embedder: Embedder, head: nn.Module, stage: StageOptions) -> torch.optim.Optimizer:
    """SGD or AdamW over *embedder* and *head*; weights that *stage* freezes no longer require a gradient.

    Every group's ``share`` is its rate as a multiple of the head's.  Decay is on weight matrices of backbone and
    neck alone.  Raises ``ValueError`` for a ``layer_decay`` of a backbone that does not tell its layers.
    """
    _freeze(embedder, stage)
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    shares = _layer_shares(embedder.backbone, stage) if stage.layer_decay < 1 else {}
    plain = _no_matrices(embedder.backbone)
    for part, module, rate in (
        ("head", head, 1.0),
        ("backbone", embedder.backbone, stage.backbone_lr),
        ("neck", nn.ModuleList([embedder.pooling, embedder.neck]), stage.neck_lr),
    ):
        # matrices first, so that the order of the groups does not hang on that of the layers
        named = sorted(module.named_parameters(), key=lambda entry: entry[1].ndim <= 1 or entry[1] in plain)
        for name, parameter in named:
            if not parameter.requires_grad:
                continue
            matrix = parameter.ndim > 1 and parameter not in plain and part != "head"
            share = rate * (shares.get(name, 1.0) if part == "backbone" else 1.0)
            share *= stage.bias_lr if name.endswith("bias") else 1.0
            key = (part, share, stage.weight_decay if matrix else 0.0)
            groups.setdefault(key, []).append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "share": share, "weight_decay": decay}
        for (_, share, decay), parameters in groups.items()
    ]
    if stage.optimiser == "sgd":
        return torch.optim.SGD(listed, lr=stage.lr, momentum=stage.momentum)
    return torch.optim.AdamW(listed, lr=stage.lr)


def _freeze(embedder: Embedder, stage: StageOptions) -> None:
    frozen = without_rate(embedder, stage) + (batchnorms(embedder.backbone) if stage.bn == "frozen" else [])
    for module in frozen:
        module.requires_grad_(False)


def without_rate(embedder: Embedder, stage: StageOptions) -> list[nn.Module]:
    """The parts of *embedder* whose learning rate is 0, in which nothing may move."""
    parts: list[nn.Module] = [embedder.backbone] if stage.backbone_lr == 0 else []
    return parts + ([embedder.pooling, embedder.neck] if stage.neck_lr == 0 else [])


def batchnorms(module: nn.Module) -> list[nn.Module]:
    """Every BatchNorm in *module*, whatever its dimensions."""
    return [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


def _no_matrices(backbone: nn.Module) -> set[nn.Parameter]:
    """Class tokens, position embeddings and the like: tables by shape, but nothing is multiplied by them."""
    tell: Callable[[], set[str]] = getattr(backbone, "no_weight_decay", set)
    listed = tell()
    return {parameter for name, parameter in backbone.named_parameters() if name in listed}


def _layer_shares(backbone: nn.Module, stage: StageOptions) -> dict[str, float]:
    """Parameter name -> its block's rate: 1 for the last block, times ``layer_decay`` for each before it."""
    from timm.models import group_parameters

    tell: Any = getattr(backbone, "group_matcher", None)
    if tell is None:
        raise ValueError(
            f"stages.{stage.name}.layer_decay: {type(backbone).__name__} does not tell its layers; leave it at 1"
        )
    layer_of = group_parameters(backbone, tell(coarse=False), reverse=True)
    last = max(layer_of.values())
    return {name: stage.layer_decay ** (last - layer) for name, layer in layer_of.items()}
