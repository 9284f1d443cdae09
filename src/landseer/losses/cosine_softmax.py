"""Cosine softmax: cross entropy over scaled cosines between descriptors and one row a landmark.

Axes: N photos, D descriptor components, C landmarks of the label space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor, nn


def adacos_scale(num_landmarks: int) -> float:
    """AdaCos' fixed scale ``sqrt(2) ln(C - 1)`` (Zhang et al., CVPR 2019, section 3.2).

    Below three landmarks the formula gives 0 or nothing; the value for three holds there.
    """
    return math.sqrt(2.0) * math.log(max(num_landmarks, 3) - 1)


class CosineSoftmax(nn.Module):
    """The head: ``C`` rows, and the mean cross entropy of ``scale * (cosine - margin at the target)``.

    CosFace (Wang et al., CVPR 2018); with margin 0 the plain cosine softmax of the 2020 winners.
    A *scale* of 0 means ``adacos_scale``.  Raises ``ValueError`` for fewer than two landmarks.
    """

    def __init__(self, dim: int, num_landmarks: int, *, scale: float = 0.0, margin: float = 0.0) -> None:
        super().__init__()
        if num_landmarks < 2:
            raise ValueError(f"training needs at least 2 landmarks, not {num_landmarks}")
        self.scale = scale or adacos_scale(num_landmarks)
        self.margin = margin
        self.rows = nn.Parameter(torch.empty(num_landmarks, dim))
        nn.init.xavier_uniform_(self.rows)

    def cosines(self, descriptors_ND: Tensor) -> Tensor:
        """Cosines ``[N, C]`` of unit descriptors with every landmark's row, in float32 or better."""
        # scaled logits differ in digits that half precision lacks, and autocast would take a product there
        # whatever its inputs are
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            precise = torch.promote_types(descriptors_ND.dtype, torch.float32)
            return descriptors_ND.to(precise) @ F.normalize(self.rows.to(precise), dim=1).T

    def forward(self, descriptors_ND: Tensor, row_N: Tensor) -> Tensor:
        """Mean loss of unit descriptors whose landmarks stand in rows *row_N* (int64 ``[N]``)."""
        cosines = self.cosines(descriptors_ND)
        if self.margin:
            cosines = cosines - self.margin * F.one_hot(row_N, cosines.shape[1])
        return F.cross_entropy(self.scale * cosines, row_N)
