"""Margins at the target, as functions of its cosine, and how large each landmark's is.

Axes: N photos, C landmarks of the label space.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
import torch
from torch import Tensor

_LEAST_SINE_SQUARED = 1e-12  # under float32's smallest 1 - c^2 > 0, so only |c| = 1 meets it


def cosface(cosine_N: Tensor, margin: float | Tensor) -> Tensor:
    """Cosine minus *margin*: CosFace (Wang et al., CVPR 2018)."""
    return cosine_N - margin


def arcface(cosine_N: Tensor, margin_rad: float | Tensor) -> Tensor:
    """``cos(theta + m)``, and ``c - m sin(pi - m)`` once theta is above pi - m: ArcFace (Deng et al., CVPR 2019).

    The second form keeps it rising with the cosine all the way; at the switch it steps by
    ``m sin m - (1 - cos m)``.  *margin_rad*, one or ``[N]``, lies in 0..pi/2.  Gradients are finite everywhere,
    at cosines of -1 and 1 (and beyond, by rounding), too.  Half precision is computed in float32.
    """
    precise = torch.promote_types(cosine_N.dtype, torch.float32)
    cosine = cosine_N.to(precise)
    margin = torch.as_tensor(margin_rad, dtype=precise, device=cosine.device)
    # the root's gradient is infinite at 0; behind the clamp it is 0
    sine = (1.0 - cosine.square()).clamp(min=_LEAST_SINE_SQUARED).sqrt()
    added = cosine * margin.cos() - sine * margin.sin()
    return torch.where(cosine > -margin.cos(), added, cosine - margin * margin.sin())


def size_margins(
    photos_C: np.ndarray,
    *,
    rule: Literal["range", "power"],
    low: float = 0.05,
    high: float = 0.5,
    power: float = 0.25,
) -> np.ndarray:
    """Margin of each landmark by the number of its photos, few photos large margin, float64 ``[C]``.

    ``power``: ``low + (high - low) n^-power`` (Ha et al., 2020).  ``range``: n^-power brought to
    ``low..high`` by its least and largest value, which is what the 3rd place of 2020 and the 1st of 2021 ran
    with the defaults (.45 * minmax(n^-1/4) + .05); where all landmarks have equally many photos, the middle of
    the range.  Raises ``ValueError`` for a landmark without a photo.
    """
    size_C = checked_counts(photos_C) ** -power
    if rule == "range":
        spread = size_C.max() - size_C.min()
        size_C = (size_C - size_C.min()) / spread if spread > 0 else np.full(len(size_C), 0.5)
    elif rule != "power":
        assert_never(rule)
    return low + (high - low) * size_C


def checked_counts(photos_C: np.ndarray) -> np.ndarray:
    """*photos_C* as float64, after a look that it is one number a landmark and none is below 1."""
    counts = np.asarray(photos_C)
    if counts.ndim != 1 or not len(counts):
        raise ValueError(f"photos_C must hold one number a landmark, not a table {counts.shape}")
    if counts.min() < 1:
        raise ValueError(
            f"row {int(counts.argmin())} of the label space has {counts.min()} photos; "
            "count the training photos, and leave out landmarks that have none"
        )
    return counts.astype(np.float64)
