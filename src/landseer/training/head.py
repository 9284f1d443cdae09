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

from landseer.losses import MarginHead, ShardedHead
from landseer.models import Embedder
from landseer.recipe import StageOptions
from landseer.training import distributed
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
    landmark_C = subset.landmark_C[landmarks_here(head)]
    known_C = np.zeros(len(landmark_C), dtype=bool)
    if kept is not None and stage.keep == "all":
        known_C = grow(head, landmark_C, kept, where=f"stages.{stage.name}")
        _keep_running_scale(head, subset.landmark_C, kept)
    if stage.head_start == "means" and not all(distributed.everyones(bool(known_C.all()))):
        _start_at_means(head, embedder, subset, stage, known_C=known_C, workers=workers)


def new_head(embedder: Embedder, subset: Subset, stage: StageOptions, *, shard: bool = False) -> MarginHead:
    """A head with random rows, on the embedder's device; *shard*: of those, this process's part."""
    head = (ShardedHead if shard else MarginHead)(
        embedder.dim, len(subset.landmark_C), options=stage.loss, photos_C=subset.photos_C.clip(min=1)
    )
    return head.to(next(embedder.backbone.parameters()).device)


def landmarks_here(head: MarginHead) -> slice:
    """The rows of the label space that this process's *head* holds."""
    return slice(head.part.start, head.part.stop)


@torch.no_grad()
def grow(head: MarginHead, landmark_C: np.ndarray, kept: KeptHead, *, where: str = "stage") -> np.ndarray:
    """Copy the rows (and biases) of *kept* into *head* by landmark; says which landmarks had one, bool ``[C]``.

    *landmark_C* are the landmarks of the rows that *head* holds.  A landmark's row may stand anywhere in either
    label space.  Raises ``ValueError`` where the rows do not fit.
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
    known_C = np.zeros(len(landmark_C), dtype=bool)
    known_C[new] = True
    return known_C


@torch.no_grad()
def _keep_running_scale(head: MarginHead, landmark_C: np.ndarray, kept: KeptHead) -> None:
    """A running scale goes on where the label spaces are the same, since it follows their size."""
    running = kept.state.get("running_scale")
    if head.running_scale is not None and running is not None and np.array_equal(landmark_C, kept.landmark_C):
        head.running_scale.copy_(running)


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
    """The first row of each landmark that is not known starts as the mean descriptor of its photos.

    Processes that hold all rows describe a part of the photos each and add up; one that holds a part of the rows
    describes the photos of those.
    """
    here = landmarks_here(head)
    first_CD = head.rows.view(len(known_C), -1, head.rows.shape[1])[:, 0]
    sums_CD = torch.zeros_like(first_CD)
    sharded = isinstance(head, ShardedHead)
    part = subset.take((subset.row_N >= here.start) & (subset.row_N < here.stop)) if sharded else subset
    embedder.eval()
    for batch in plain_batches(
        part,
        size_px=stage.size,
        aspects=stage.aspects,
        batch=stage.batch,
        workers=workers,
        everywhere=sharded,
    ):
        if len(batch.row_B):
            rows = embedder(embedder.normalise(batch.photos_BHW3))
            sums_CD.index_add_(0, torch.from_numpy(batch.row_B - here.start).to(rows.device), rows)
    if not sharded:
        distributed.summed(sums_CD)
    # a landmark whose photos are all unreadable keeps its random row
    chosen_C = (sums_CD.norm(dim=1) > 0) & ~torch.from_numpy(known_C).to(sums_CD.device)
    first_CD[chosen_C] = F.normalize(sums_CD[chosen_C], dim=1)
