"""How good an epoch was, by photos that no stage trains on.

Axes: N photos held out, D descriptor components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from landseer.evaluation import average_precision_of_hits
from landseer.losses import ShardedHead
from landseer.recipe import StageOptions
from landseer.search import search_exact
from landseer.training import distributed
from landseer.training.loader import plain_batches
from landseer.training.state import State, autocast
from landseer.training.subset import Subset
from landseer.types import Descriptors

_K = 100


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The cross entropy of the held-out photos and, where the stage asks for it, their mAP@100."""

    loss: float
    mean_average_precision: float | None

    @property
    def penalty(self) -> float:
        """What the better epoch has less of."""
        return self.loss if self.mean_average_precision is None else -self.mean_average_precision


@torch.no_grad()
def judge(state: State, held_out: Subset, stage: StageOptions, *, workers: int) -> Judged:
    """Mean cross entropy of *held_out* with the scale of training, without weights, margin or augmentation.

    Photos are seen as extraction would see them, at the stage's size; unreadable ones are left out.  Several
    processes describe a part each.  Leaves the weights that are judged in evaluation mode.
    """
    embedder, head = state.judged()
    embedder.eval()
    head.eval()
    device = next(embedder.backbone.parameters()).device
    whole = isinstance(head, ShardedHead)  # its loss is that of all processes' photos
    loss, num, rows = 0.0, 0, []
    for batch in plain_batches(
        held_out, size_px=stage.size, aspects=stage.aspects, batch=stage.batch, workers=workers
    ):
        mine = len(batch.row_B)
        count = round(distributed.total(mine, device)) if whole else mine
        if not count:
            continue
        descriptors = torch.empty(0, embedder.dim, device=device)
        if mine:
            pixels = embedder.normalise(batch.photos_BHW3)
            with autocast(stage, pixels.device):
                descriptors = embedder(pixels)
        part = head.validation_loss(descriptors, torch.from_numpy(batch.row_B).to(device))
        loss += float(part) * count
        num += count
        if stage.judge == "mAP":
            rows.append((batch.position_B, descriptors.float().cpu().numpy()))
    if not whole:
        loss, num = distributed.total(loss, device), round(distributed.total(num, device))
    if not num:
        raise ValueError("none of the validation photos could be read; check the collection's root")
    found = _retrieval(held_out, rows) if stage.judge == "mAP" else None
    return Judged(loss=loss / num, mean_average_precision=found)


def _retrieval(held_out: Subset, mine: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """mAP@100 where each held-out photo asks for the others of its landmark among all of them."""
    parts = [part for everyone in distributed.everyones(mine) for part in everyone]
    position_N = np.concatenate([positions for positions, _ in parts])
    order_N = np.argsort(position_N)
    rows_ND = np.concatenate([rows for _, rows in parts])[order_N]
    return leave_one_out(rows_ND, held_out.row_N[position_N[order_N]])


def leave_one_out(rows_ND: np.ndarray, row_N: np.ndarray, *, k: int = _K) -> float:
    """mAP@k of unit rows among themselves: each asks for the others with its label *row_N*, itself left out.

    Photos without another of their landmark do not ask.  Raises ``ValueError`` where none has one.
    """
    _, label_N, count_C = np.unique(row_N, return_inverse=True, return_counts=True)
    asking = np.flatnonzero(count_C[label_N] > 1)
    if not len(asking):
        raise ValueError(
            "no landmark has two validation photos that could be read, so mAP of them means nothing; "
            'use judge = "loss", or hold out a larger share'
        )
    gallery = _descriptors(rows_ND, np.arange(len(rows_ND)))
    ranking = search_exact(_descriptors(rows_ND[asking], asking), gallery, k=min(k + 1, len(rows_ND)))
    scores = []
    for photo, answer_K in zip(asking, ranking.positions_QK, strict=True):
        others_K = answer_K[answer_K != photo][:k]
        hits = np.flatnonzero(label_N[others_K] == label_N[photo]) + 1
        scores.append(average_precision_of_hits(hits, int(count_C[label_N[photo]]) - 1, k=k))
    return float(np.mean(scores))


def _descriptors(rows_ND: np.ndarray, position_N: np.ndarray) -> Descriptors:
    return Descriptors(
        ids=tuple(map(str, position_N)), rows_ND=np.ascontiguousarray(rows_ND), fingerprint="validation"
    )
