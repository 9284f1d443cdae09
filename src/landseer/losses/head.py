"""The classification head of a stage: rows of landmarks, and the loss of descriptors against them.

Axes: N photos, D descriptor components, C landmarks of the label space, K rows (sub-centres) a landmark.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor, nn

from landseer.losses.adacos import dynamic_scale, fixed_scale
from landseer.losses.margins import arcface, cosface, size_margins
from landseer.losses.triplet import batch_hard_triplet
from landseer.recipe.loss_options import LossOptions

_LEAST_LENGTH = 1e-12


class MarginHead(nn.Module):
    """``C * K`` rows, and the mean cross entropy of scaled cosines with a margin at the target.

    ``rows`` ``[C*K, D]`` holds the K sub-centres of landmark c from ``c*K`` on and starts Xavier-uniform, which
    is Keras' Glorot; ``bias`` ``[C]`` starts at 0 and exists for ``softmax`` only.  With ``adacos`` stateful,
    ``running_scale`` is part of the state.  *photos_C*, the photos of each landmark, is needed where
    ``margins`` goes by size.  Raises ``ValueError`` for fewer than two landmarks and for counts that are
    missing or do not fit.
    """

    running_scale: Tensor | None
    margin_C: Tensor | None

    def __init__(
        self, dim: int, num_landmarks: int, *, options: LossOptions, photos_C: np.ndarray | None = None
    ) -> None:
        super().__init__()
        if num_landmarks < 2:
            raise ValueError(f"training needs at least 2 landmarks, not {num_landmarks}")
        self.options = options
        self.num_landmarks = num_landmarks
        self.rows = nn.Parameter(torch.empty(num_landmarks * options.subcentres, dim))
        nn.init.xavier_uniform_(self.rows)
        self.bias = nn.Parameter(torch.zeros(num_landmarks)) if options.kind == "softmax" else None
        self.fixed_scale = options.scale or fixed_scale(num_landmarks)
        running = torch.tensor(self.fixed_scale) if options.adacos == "stateful" else None
        self.register_buffer("running_scale", running)
        # not stored: it follows from the options and the photos
        self.register_buffer("margin_C", self._size_margins(photos_C), persistent=False)

    def forward(
        self,
        descriptors_ND: Tensor,
        row_N: Tensor,
        *,
        weight_N: Tensor | None = None,
        margin: float | None = None,
    ) -> Tensor:
        """Mean over photos of *weight_N* times cross entropy, plus the triplet loss where the options ask for it.

        *row_N* int64 is each photo's landmark as a row of the label space.  The sum is divided by N, not by the
        sum of the weights.  *margin* stands in for the options' one, for a schedule inside a stage; it is
        refused where there is none or each landmark has its own.  Cosines are of directions, whatever the
        rows' lengths; ``softmax`` takes the rows as they are.  Float32 or better, whatever the autocast.
        """
        margin_at_target = self._margin(row_N, margin)
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            logits_NC = self._logits(descriptors_ND, row_N, margin_at_target, follow=self.training)
            loss_N = F.cross_entropy(
                logits_NC, row_N, reduction="none", label_smoothing=self.options.smoothing
            )
            if weight_N is not None:
                if weight_N.shape != row_N.shape:
                    raise ValueError(f"{len(row_N)} photos but weights {tuple(weight_N.shape)}")
                loss_N = loss_N * weight_N.to(loss_N.dtype)
            loss = loss_N.mean()
            if self.options.triplet:
                hard = batch_hard_triplet(descriptors_ND, row_N, margin=self.options.triplet_margin)
                loss = loss + self.options.triplet * hard
        return loss

    @torch.no_grad()
    def validation_loss(self, descriptors_ND: Tensor, row_N: Tensor) -> Tensor:
        """Mean cross entropy with the scale of training: no weights, no margin, no smoothing, no triplets.

        It leaves a running scale as it is.  A dynamic scale is the validation batch's own, as the 2020 winners
        had it, so it depends on how photos are batched.
        """
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            return F.cross_entropy(self._logits(descriptors_ND, row_N, 0.0, follow=False), row_N)

    def cosines(self, descriptors_ND: Tensor) -> Tensor:
        """Cosines ``[N, C]`` of descriptors with every landmark's nearest row, in float32 or better."""
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            descriptors, rows = self._precise(descriptors_ND)
            # lengths divide the products: normalised rows would be a second table of C * D in memory
            products = F.normalize(descriptors, dim=1) @ rows.T
            cosines = products / rows.norm(dim=1).clamp_min(_LEAST_LENGTH)
            if self.options.subcentres == 1:
                return cosines
            return cosines.view(len(cosines), self.num_landmarks, -1).max(dim=2).values

    def extra_repr(self) -> str:
        """What ``print`` shows of the head."""
        return f"dim={self.rows.shape[1]}, num_landmarks={self.num_landmarks}, options={self.options}"

    def _logits(
        self, descriptors_ND: Tensor, row_N: Tensor, margin: float | Tensor, *, follow: bool
    ) -> Tensor:
        if self.bias is not None:
            descriptors, rows = self._precise(descriptors_ND)
            return F.linear(descriptors, rows, self.bias.to(rows.dtype))
        cosines_NC = self.cosines(descriptors_ND)
        scale = self._scale(cosines_NC, row_N, follow=follow)
        logits_NC = scale * cosines_NC
        if not isinstance(margin, Tensor) and margin == 0:
            return logits_NC
        apply = arcface if self.options.kind == "arcface" else cosface
        target_N = apply(cosines_NC.gather(1, row_N[:, None])[:, 0], margin)
        return logits_NC.scatter_(1, row_N[:, None], (scale * target_N)[:, None])

    def _precise(self, descriptors_ND: Tensor) -> tuple[Tensor, Tensor]:
        # scaled logits differ in digits that half precision lacks
        precise = torch.promote_types(
            torch.promote_types(descriptors_ND.dtype, self.rows.dtype), torch.float32
        )
        return descriptors_ND.to(precise), self.rows.to(precise)

    def _scale(self, cosines_NC: Tensor, row_N: Tensor, *, follow: bool) -> float | Tensor:
        if self.options.adacos == "fixed":
            return self.fixed_scale
        if self.running_scale is None:
            return dynamic_scale(cosines_NC, row_N, self.fixed_scale)
        if follow:
            self.running_scale.copy_(dynamic_scale(cosines_NC, row_N, self.running_scale))
        # a copy: the next step writes into the buffer, perhaps before this one's backward pass reads it
        return self.running_scale.to(cosines_NC.dtype, copy=True)

    def _margin(self, row_N: Tensor, margin: float | None) -> float | Tensor:
        if margin is None:
            return self.options.margin if self.margin_C is None else self.margin_C[row_N]
        if self.options.kind == "softmax":
            raise ValueError('margin: kind "softmax" has none that could follow a schedule')
        if self.margin_C is not None:
            raise ValueError(
                f"margin: margins = {self.options.margins!r} sets every landmark's own, so one for all "
                'cannot follow a schedule; use margins = "same"'
            )
        if not 0 <= margin <= 1:
            raise ValueError(f"margin: must lie in 0..1, not {margin}")
        return float(margin)

    def _size_margins(self, photos_C: np.ndarray | None) -> Tensor | None:
        options = self.options
        if options.margins == "same":
            return None
        if photos_C is None or len(photos_C) != self.num_landmarks:
            found = "none" if photos_C is None else f"{len(photos_C)}"
            raise ValueError(
                f"margins = {options.margins!r} needs the number of photos of each of the "
                f"{self.num_landmarks} landmarks, got {found}"
            )
        margins = size_margins(
            photos_C,
            rule=options.margins,
            low=options.margin_low,
            high=options.margin_high,
            power=options.margin_power,
        )
        return torch.tensor(margins, dtype=torch.float32)
