"""From a feature map, or a ViT's tokens, to one vector a photo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 1e-6


class GeM(nn.Module):
    """Generalised mean over positions: ``(mean max(x, eps)^p)^(1/p)``.

    Radenovic et al., TPAMI 2019, section 3.1; p = 3 fixed is what the 2019 and 2021 systems ran.
    Takes ``[N, C, H, W]`` or tokens ``[N, T, C]``; gives ``[N, C]``.
    """

    def __init__(self, p: float, *, learned: bool = False) -> None:
        super().__init__()
        value = torch.tensor(float(p))
        if learned:
            self.p = nn.Parameter(value)
        else:
            self.register_buffer("p", value)

    def forward(self, features: Tensor) -> Tensor:
        """Pool the positions of *features* away."""
        # float32 whatever the autocast: a third power of half-precision activations overflows
        clamped = features.float().clamp(min=_EPSILON).pow(self.p)
        # from p of about 6 on, the power of a channel without a positive value is 0 in float32, and the
        # gradient of a root of 0 is no number
        smallest = torch.finfo(torch.float32).tiny
        return _mean_over_positions(clamped).clamp(min=smallest).pow(1.0 / self.p)


class GAP(nn.Module):
    """Plain average over positions: ``[N, C, H, W]`` or ``[N, T, C]`` -> ``[N, C]``."""

    def forward(self, features: Tensor) -> Tensor:
        """Average the positions of *features*."""
        return _mean_over_positions(features.float())


def _mean_over_positions(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features.mean(dim=1)
