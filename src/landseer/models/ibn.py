"""IBN-a: instance norm and BatchNorm side by side (Pan et al., ECCV 2018, section 3.2).

The first norm of each block in stages 1 to 3 of a ResNet gives half its channels to instance norm; everything
else stays.  Parts are named as in the authors' published checkpoints, so that those load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_STAGES = ("layer1", "layer2", "layer3")


class IBN(nn.Module):
    """The first half of the channels through instance norm, the rest through BatchNorm: ``[N, C, H, W]``.

    Both have a weight and a bias a channel, so IBN has as many parameters as the BatchNorm it stands for.
    """

    def __init__(self, channels: int, *, eps: float, momentum: float | None) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, eps=eps, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split, eps=eps, momentum=momentum)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise each half in its way; shape and order of the channels stay."""
        return torch.cat([self.IN(features[:, : self.split]), self.BN(features[:, self.split :])], dim=1)


def give_ibn(backbone: nn.Module, name: str) -> None:
    """Put IBN, as before any training, in the place of ``bn1`` of every block of stages 1 to 3.

    Raises ``ValueError`` for a backbone (*name*) whose blocks do not start with a plain BatchNorm.
    """
    blocks: list[Any] = [
        block for stage in _STAGES for block in getattr(backbone, stage, nn.Sequential()).children()
    ]
    # by its exact type: timm's other norms carry the activation with them, which would be lost
    if not blocks or any(type(getattr(block, "bn1", None)) is not nn.BatchNorm2d for block in blocks):
        raise ValueError(
            f"model.ibn: the blocks of {name} do not start with a BatchNorm that IBN could replace; "
            "it is for ResNet-like backbones"
        )
    for block in blocks:
        block.bn1 = IBN(block.bn1.num_features, eps=block.bn1.eps, momentum=block.bn1.momentum)


def holds_ibn(state: Mapping[str, object]) -> bool:
    """Whether weights by name are of a backbone with IBN."""
    return any(key.endswith("bn1.IN.weight") for key in state)


def with_ibn(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """*state* under the names of *backbone*, which has IBN; without any, *state* as it is.

    Weights of the plain backbone are cut by channel: instance norm takes weight and bias of its half (its
    statistics are each photo's own), BatchNorm all of the other half.  The authors' squeeze-and-excitation,
    linear maps without a bias, becomes timm's: 1x1 convolutions with a bias of 0.
    """
    from timm.layers import SEModule

    found = dict(state)
    modules = dict(backbone.named_modules())
    if not any(isinstance(module, IBN) for module in modules.values()):
        return found
    for name, module in modules.items():
        if isinstance(module, IBN):
            found |= _cut(found, name, module)
        if isinstance(module, SEModule) and f"{name}.fc.0.weight" in found:
            for ours, theirs in (("fc1", "fc.0"), ("fc2", "fc.2")):
                weight = found.pop(f"{name}.{theirs}.weight")
                found[f"{name}.{ours}.weight"] = weight[..., None, None]
                found[f"{name}.{ours}.bias"] = weight.new_zeros(len(weight))
    return found


def _cut(state: Mapping[str, Tensor], name: str, norm: IBN) -> dict[str, Tensor]:
    """The parts of *norm* from the plain BatchNorm that *state* has under its *name*, if it has one."""
    parts = {}
    for key in ("weight", "bias", "running_mean", "running_var"):
        whole = state.get(f"{name}.{key}")
        if whole is None:
            continue
        parts[f"{name}.BN.{key}"] = whole[norm.split :]
        if key in ("weight", "bias"):
            parts[f"{name}.IN.{key}"] = whole[: norm.split]
    return parts
