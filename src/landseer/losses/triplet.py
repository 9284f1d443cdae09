"""Batch-hard triplet loss.

Axes: N photos of a batch, D descriptor components, V photos with both a positive and a negative.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor

_LEAST_DISTANCE_SQUARED = 1e-12


def batch_hard_triplet(descriptors_ND: Tensor, row_N: Tensor, *, margin: float) -> Tensor:
    """Mean over photos of: farthest photo of the same landmark minus nearest of another, plus *margin*, if positive.

    Hermans et al., 2017, section 2: Euclidean distances, all photos as anchors, zeros in the mean.  A *margin*
    of 0 stands for their soft margin ``ln(1 + exp(difference))``.  Rows are brought to unit length here.
    A photo whose landmark, or no other landmark, occurs again in the batch is left out; without any left the
    loss is 0, and so is its gradient.  Float32 or better, whatever the autocast.
    """
    with torch.autocast(descriptors_ND.device.type, enabled=False):
        unit_ND = F.normalize(
            descriptors_ND.to(torch.promote_types(descriptors_ND.dtype, torch.float32)), dim=1
        )
        squared_NN = 2.0 - 2.0 * unit_ND @ unit_ND.T
        # the root's gradient is infinite at 0, where two photos have one descriptor
        distance_NN = squared_NN.clamp(min=_LEAST_DISTANCE_SQUARED).sqrt()
        same_NN = row_N[:, None] == row_N[None, :]
        positive_NN = same_NN & ~torch.eye(len(row_N), dtype=torch.bool, device=row_N.device)
        valid_N = positive_NN.any(dim=1) & ~same_NN.all(dim=1)
        farthest_V = distance_NN.masked_fill(~positive_NN, -torch.inf)[valid_N].amax(dim=1)
        nearest_V = distance_NN.masked_fill(same_NN, torch.inf)[valid_N].amin(dim=1)
        gap_V = farthest_V - nearest_V
        loss_V = F.relu(gap_V + margin) if margin else F.softplus(gap_V)
        return loss_V.sum() / max(1, len(loss_V))
