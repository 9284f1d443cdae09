"""AdaCos: the scale of the cosines, chosen by the number of landmarks or by each batch.

Zhang et al., CVPR 2019, section 4.  Axes: N photos, C landmarks of the label space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_DYNAMIC_SCALE = 1.0
"""Below it a batch's own scale is not followed: the formula reaches 0, and past it training would push apart."""


def fixed_scale(num_landmarks: int) -> float:
    """AdaCos' fixed scale ``sqrt(2) ln(C - 1)``.

    Below three landmarks the formula gives 0 or nothing; the value for three holds there.
    """
    return math.sqrt(2.0) * math.log(max(num_landmarks, 3) - 1)


@torch.no_grad()
def dynamic_scale(cosines_NC: Tensor, row_N: Tensor, scale: float | Tensor) -> Tensor:
    """The scale a batch asks for, ``ln B / cos(min(pi/4, theta_med))``, a number without gradient.

    ``B`` is the mean over photos of ``sum exp(scale * cosine)`` over the other landmarks, ``theta_med`` the
    median angle between photos and their own landmark; of an even number the lower middle one, which is what
    the 2020 winners' batches of 4 and 8 gave.  *scale* is the one before: always ``fixed_scale`` for their
    stateless form, the last step's for the original.  Never less than ``LEAST_DYNAMIC_SCALE``; without a
    photo *scale* stays.
    """
    if not len(row_N):
        return torch.as_tensor(scale)
    target_N1 = cosines_NC.gather(1, row_N[:, None])
    others_NC = (scale * cosines_NC).scatter_(1, row_N[:, None], -torch.inf)
    # the logarithm of the sum, taken without the sum: exp overflows where a running scale has grown
    return asked_scale(torch.logsumexp(others_NC.flatten(), dim=0), target_N1[:, 0])


def asked_scale(log_sum: Tensor, target_N: Tensor) -> Tensor:
    """``dynamic_scale`` from the logarithm of the sum over all photos and each photo's cosine with its landmark."""
    log_mean = log_sum - math.log(len(target_N))
    median_rad = target_N.clamp(-1.0, 1.0).arccos().median()
    return (log_mean / median_rad.clamp(max=math.pi / 4).cos()).clamp(min=LEAST_DYNAMIC_SCALE)
