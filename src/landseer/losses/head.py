"""The classification head of a stage: rows of landmarks, and the loss of descriptors against them.

Axes: N photos, D descriptor components, C landmarks of the label space, K rows (sub-centres) a landmark,
L landmarks that a step compares with, P photos whose own landmark is one of them (all, unless the head is sharded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor, nn

from landseer.losses.adacos import dynamic_scale, fixed_scale
from landseer.losses.margins import arcface, cosface, size_margins
from landseer.losses.triplet import batch_hard_triplet
from landseer.recipe.loss_options import LossOptions

_LEAST_LENGTH = 1e-12
_BLOCK = 8192  # rows drawn at a time when a head starts


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What a loss is taken of: descriptors, their landmarks as rows of the label space, and their weights."""

    descriptors_ND: Tensor
    row_N: Tensor
    weight_N: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The landmarks that a step has columns for, and the place of each photo's own one among them."""

    kept_L: Tensor | None
    """Which landmarks, counted from the first that the head holds; None: all it holds."""
    photo_P: Tensor
    column_P: Tensor


class MarginHead(nn.Module):
    """``C * K`` rows, and the mean cross entropy of scaled cosines with a margin at the target.

    ``rows`` ``[C*K, D]`` holds the K sub-centres of landmark c from ``c*K`` on and starts Xavier-uniform, which
    is Keras' Glorot; ``bias`` ``[C]`` starts at 0 and exists for ``softmax`` only.  With ``adacos`` stateful,
    ``running_scale`` is part of the state.  *photos_C*, the photos of each landmark, is needed where
    ``margins`` goes by size.  *part* is for ``ShardedHead``: the landmarks whose rows are held, if not all.
    Raises ``ValueError`` for fewer than two landmarks and for counts that are missing or do not fit.
    """

    running_scale: Tensor | None
    margin_C: Tensor | None

    def __init__(
        self,
        dim: int,
        num_landmarks: int,
        *,
        options: LossOptions,
        photos_C: np.ndarray | None = None,
        part: range | None = None,
    ) -> None:
        super().__init__()
        if num_landmarks < 2:
            raise ValueError(f"training needs at least 2 landmarks, not {num_landmarks}")
        self.options = options
        self.num_landmarks = num_landmarks
        self.part = range(num_landmarks) if part is None else part
        self.rows = nn.Parameter(torch.empty(len(self.part) * options.subcentres, dim))
        _start_xavier_uniform(
            self.rows, first=self.part.start * options.subcentres, total=num_landmarks * options.subcentres
        )
        self.bias = nn.Parameter(torch.zeros(len(self.part))) if options.kind == "softmax" else None
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

        In training mode, with ``negatives`` below 1, landmarks without a photo here are drawn from torch's
        random numbers for the CPU, and only they and the photos' own take part.
        """
        if weight_N is not None and weight_N.shape != row_N.shape:
            raise ValueError(f"{len(row_N)} photos but weights {tuple(weight_N.shape)}")
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            photos = self._whole_batch(Photos(descriptors_ND=descriptors_ND, row_N=row_N, weight_N=weight_N))
            margin_at_target = self._margin(photos.row_N, margin)
            columns = self._columns(photos.row_N, sample=self.training and self.options.negatives < 1)
            logits_NL = self._logits(photos.descriptors_ND, columns, margin_at_target, follow=self.training)
            loss_N = self._cross_entropy(logits_NL, columns, smoothing=self.options.smoothing)
            if photos.weight_N is not None:
                loss_N = loss_N * photos.weight_N.to(loss_N.dtype)
            loss = loss_N.mean()
            if self.options.triplet:
                hard = batch_hard_triplet(
                    photos.descriptors_ND, photos.row_N, margin=self.options.triplet_margin
                )
                loss = loss + self.options.triplet * self._once(hard)
        return loss

    @torch.no_grad()
    def validation_loss(self, descriptors_ND: Tensor, row_N: Tensor) -> Tensor:
        """Mean cross entropy with the scale of training: no weights, no margin, no smoothing, no triplets.

        It leaves a running scale as it is, and compares with every landmark.  A dynamic scale is the validation
        batch's own, as the 2020 winners had it, so it depends on how photos are batched.
        """
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            photos = self._whole_batch(Photos(descriptors_ND=descriptors_ND, row_N=row_N))
            columns = self._columns(photos.row_N, sample=False)
            logits_NL = self._logits(photos.descriptors_ND, columns, 0.0, follow=False)
            return self._cross_entropy(logits_NL, columns, smoothing=0.0).mean()

    def cosines(self, descriptors_ND: Tensor) -> Tensor:
        """Cosines ``[N, C]`` of descriptors with every landmark's nearest row, in float32 or better."""
        with torch.autocast(descriptors_ND.device.type, enabled=False):
            return self._cosines(descriptors_ND, None)

    def extra_repr(self) -> str:
        """What ``print`` shows of the head."""
        return f"dim={self.rows.shape[1]}, num_landmarks={self.num_landmarks}, options={self.options}"

    # What a sharded head does otherwise.

    def _whole_batch(self, photos: Photos) -> Photos:
        return photos

    def _random_stream(self) -> int:
        return 0

    def _dynamic_scale(self, cosines_NL: Tensor, columns: Columns, scale: float | Tensor) -> Tensor:
        return dynamic_scale(cosines_NL, columns.column_P, scale)

    def _cross_entropy(self, logits_NL: Tensor, columns: Columns, *, smoothing: float) -> Tensor:
        return F.cross_entropy(logits_NL, columns.column_P, reduction="none", label_smoothing=smoothing)

    def _once(self, loss: Tensor) -> Tensor:
        return loss

    # What both do alike.

    def _columns(self, row_N: Tensor, *, sample: bool) -> Columns:
        if len(self.part) == self.num_landmarks:
            photo_P, column_P = torch.arange(len(row_N), device=row_N.device), row_N
        else:
            here_N = (row_N >= self.part.start) & (row_N < self.part.stop)
            photo_P = here_N.nonzero()[:, 0]
            column_P = row_N[photo_P] - self.part.start
        if not sample:
            return Columns(kept_L=None, photo_P=photo_P, column_P=column_P)
        kept_L = self._drawn(column_P.unique().cpu()).to(row_N.device)
        return Columns(kept_L=kept_L, photo_P=photo_P, column_P=torch.searchsorted(kept_L, column_P))

    def _drawn(self, own: Tensor) -> Tensor:
        """*own* and a random share of the other landmarks held, at least one, in order."""
        # a generator of its own: shards whose processes have equal random states must not draw alike
        seed = int(torch.randint(2**31, ())) + self._random_stream()
        order = torch.randperm(len(self.part), generator=torch.Generator().manual_seed(seed))
        other = torch.ones(len(self.part), dtype=torch.bool)
        other[own] = False
        order = order[other[order]]
        num = min(len(order), max(1, round(self.options.negatives * len(order))))
        return torch.cat([own, order[:num]]).sort().values

    def _logits(
        self, descriptors_ND: Tensor, columns: Columns, margin: float | Tensor, *, follow: bool
    ) -> Tensor:
        if self.bias is not None:
            precise = self._precise(descriptors_ND)
            bias_L = self.bias if columns.kept_L is None else self.bias[columns.kept_L]
            return F.linear(
                descriptors_ND.to(precise), self._rows(columns.kept_L).to(precise), bias_L.to(precise)
            )
        cosines_NL = self._cosines(descriptors_ND, columns.kept_L)
        scale = self._scale(cosines_NL, columns, follow=follow)
        logits_NL = scale * cosines_NL
        if not isinstance(margin, Tensor) and margin == 0:
            return logits_NL
        apply = arcface if self.options.kind == "arcface" else cosface
        at_target = (columns.photo_P, columns.column_P)
        margin_P = margin[columns.photo_P] if isinstance(margin, Tensor) else margin
        return logits_NL.index_put_(at_target, scale * apply(cosines_NL[at_target], margin_P))

    def _cosines(self, descriptors_ND: Tensor, kept_L: Tensor | None) -> Tensor:
        precise = self._precise(descriptors_ND)
        rows = self._rows(kept_L).to(precise)
        # lengths divide the products: normalised rows would be a second table of C * D in memory
        products = F.normalize(descriptors_ND.to(precise), dim=1) @ rows.T
        cosines = products / rows.norm(dim=1).clamp_min(_LEAST_LENGTH)
        if self.options.subcentres == 1:
            return cosines
        return cosines.unflatten(1, (-1, self.options.subcentres)).max(dim=2).values

    def _rows(self, kept_L: Tensor | None) -> Tensor:
        if kept_L is None:
            return self.rows
        return self.rows.unflatten(0, (-1, self.options.subcentres)).index_select(0, kept_L).flatten(0, 1)

    def _precise(self, descriptors_ND: Tensor) -> torch.dtype:
        # scaled logits differ in digits that half precision lacks
        return torch.promote_types(torch.promote_types(descriptors_ND.dtype, self.rows.dtype), torch.float32)

    def _scale(self, cosines_NL: Tensor, columns: Columns, *, follow: bool) -> float | Tensor:
        if self.options.adacos == "fixed":
            return self.fixed_scale
        if self.running_scale is None:
            return self._dynamic_scale(cosines_NL, columns, self.fixed_scale)
        if follow:
            self.running_scale.copy_(self._dynamic_scale(cosines_NL, columns, self.running_scale))
        # a copy: the next step writes into the buffer, perhaps before this one's backward pass reads it
        return self.running_scale.to(cosines_NL.dtype, copy=True)

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


@torch.no_grad()
def _start_xavier_uniform(rows: Tensor, *, first: int, total: int) -> None:
    """Give *rows*, those from *first* on of a table of *total*, the values that the whole table would have there.

    The table is drawn block by block and only what falls into *rows* is kept, so a shard costs the time of the
    whole but not its memory, and leaves the random numbers where the whole would.
    """
    bound = math.sqrt(3.0) * math.sqrt(2.0 / (total + rows.shape[1]))
    block = rows.new_empty(min(_BLOCK, total), rows.shape[1])
    for start in range(0, total, len(block)):
        drawn = block[: total - start].uniform_(-bound, bound)
        low, high = max(start, first), min(start + len(drawn), first + len(rows))
        if low < high:
            rows[low - first : high - first] = drawn[low - start : high - start]
