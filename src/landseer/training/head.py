"""The head of a stage: where its rows start, and how it grows from the head of the stage before.

Axes: C landmarks of the label space, K rows (sub-centres) a landmark, D descriptor components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor

from landseer.losses import MarginHead
from landseer.models import Embedder
from landseer.recipe import StageOptions
from landseer.training.loader import plain_batches
from landseer.training.subset import Subset


@dataclass(frozen=True, kw_only=True)
class KeptHead:
    """The head a stage left: its state and the landmark of each row of its label space, int64 ``[C]``."""

    state: Mapping[str, Tensor]
    landmark_C: np.ndarray


def start_head(
    head: MarginHead,
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    kept: KeptHead | None,
    workers: int,
) -> None:
    """Give a new *head* the rows of *kept* where the stage keeps all, the rest by ``head_start``, in place."""
    known_C = np.zeros(len(subset.landmark_C), dtype=bool)
    if kept is not None and stage.keep == "all":
        known_C = grow(head, subset.landmark_C, kept, where=f"stages.{stage.name}")
    if stage.head_start == "means" and not known_C.all():
        _start_at_means(head, embedder, subset, stage, known_C=known_C, workers=workers)


def new_head(embedder: Embedder, subset: Subset, stage: StageOptions) -> MarginHead:
    """A head with random rows, on the embedder's device."""
    head = MarginHead(
        embedder.dim, len(subset.landmark_C), options=stage.loss, photos_C=subset.photos_C.clip(min=1)
    )
    return head.to(next(embedder.backbone.parameters()).device)


@torch.no_grad()
def grow(head: MarginHead, landmark_C: np.ndarray, kept: KeptHead, *, where: str = "stage") -> np.ndarray:
    """Copy the rows (and biases) of *kept* into *head* by landmark; says which landmarks had one, bool ``[C]``.

    A landmark's row may stand anywhere in either label space.  A running scale goes on where the label spaces are
    the same, since it follows their size.  Raises ``ValueError`` where the rows do not fit.
    """
    rows = kept.state["rows"]
    subcentres = len(rows) // len(kept.landmark_C)
    if subcentres != head.options.subcentres or rows.shape[1] != head.rows.shape[1]:
        raise ValueError(
            f'{where}.keep: "all" needs a head like the one before, which has {subcentres} rows of '
            f"{rows.shape[1]} a landmark, not {head.options.subcentres} of {head.rows.shape[1]}"
        )
    _, new, old = np.intersect1d(landmark_C, kept.landmark_C, assume_unique=True, return_indices=True)
    into, of = torch.from_numpy(new), torch.from_numpy(old)
    copied = rows.view(-1, subcentres, rows.shape[1])[of].to(head.rows)
    head.rows.view(-1, subcentres, rows.shape[1])[into] = copied
    if head.bias is not None and "bias" in kept.state:
        head.bias[into] = kept.state["bias"][of].to(head.bias)
    running = kept.state.get("running_scale")
    if head.running_scale is not None and running is not None and np.array_equal(landmark_C, kept.landmark_C):
        head.running_scale.copy_(running)
    known_C = np.zeros(len(landmark_C), dtype=bool)
    known_C[new] = True
    return known_C


@torch.no_grad()
def _start_at_means(
    head: MarginHead,
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    known_C: np.ndarray,
    workers: int,
) -> None:
    """The first row of each landmark that is not known starts as the mean descriptor of its photos."""
    first_CD = head.rows.view(len(subset.landmark_C), -1, head.rows.shape[1])[:, 0]
    sums_CD = torch.zeros_like(first_CD)
    embedder.eval()
    for batch in plain_batches(subset, size_px=stage.size, batch=stage.batch, workers=workers):
        if len(batch.row_B):
            rows = embedder(embedder.normalise(batch.photos_BSS3))
            sums_CD.index_add_(0, torch.from_numpy(batch.row_B).to(rows.device), rows)
    # a landmark whose photos are all unreadable keeps its random row
    chosen_C = (sums_CD.norm(dim=1) > 0) & ~torch.from_numpy(known_C).to(sums_CD.device)
    first_CD[chosen_C] = F.normalize(sums_CD[chosen_C], dim=1)
