"""Everything about a stage that changes while it is trained, and one step of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from landseer.losses import MarginHead, ShardedHead, sample_weights
from landseer.models import Embedder
from landseer.recipe import StageOptions
from landseer.training import distributed
from landseer.training.average import move_towards
from landseer.training.head import KeptHead, new_head, start_head
from landseer.training.loader import Batch
from landseer.training.optimiser import batchnorms, build_optimiser, without_rate
from landseer.training.schedule import margin_at, set_rate
from landseer.training.subset import Subset

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(kw_only=True)
class State:
    """A stage on its way.  What is trained, what trains it, how far it is, and what was best so far."""

    embedder: Embedder
    head: MarginHead
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: nn.ModuleDict | None
    """Running averages of embedder and head, under these names."""
    weight_N: np.ndarray | None
    """Weight of each photo of the subset; None where all are the same."""
    origin: dict[nn.Parameter, Tensor]
    """Where the weights that are drawn back began; empty where none are."""
    run: nn.Module
    """The loss of a part of a batch, whose backward pass leaves the gradients of all processes together."""
    epoch: int = 0
    batch: int = 0
    """Batches of the epoch that are done."""
    step: int = 0
    """Steps that are done; batches of unreadable photos make none."""
    least_penalty: float = math.inf
    best: str = ""
    """The checkpoint of the epoch that was judged best."""
    waited: int = 0
    """Epochs since then."""
    unreadable: dict[str, str] = field(default_factory=dict)

    def judged(self) -> tuple[Embedder, MarginHead]:
        """The weights that are validated and left: the average where there is one."""
        if self.average is None:
            return self.embedder, self.head
        return self.average["embedder"], self.average["head"]  # type: ignore[return-value]


def begin(
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    kept: KeptHead | None,
    workers: int,
    device: str,
    fresh: bool,
    shard_head: bool = False,
) -> State:
    """A stage before its first step, on a copy of *embedder*; not *fresh*: to be overwritten by a checkpoint."""
    tuned = copy.deepcopy(embedder).to(device)
    head = new_head(tuned, subset, stage, shard=shard_head)
    if fresh:
        start_head(head, tuned, subset, stage, kept=kept, workers=workers)
    if stage.bn == "normal":
        tuned = cast("Embedder", distributed.synchronised(tuned, torch.device(device)))
    optimiser = build_optimiser(tuned, head, stage)
    average = None
    if stage.ema:
        average = nn.ModuleDict({"embedder": copy.deepcopy(tuned), "head": copy.deepcopy(head)})
        average.requires_grad_(False).eval()
    return State(
        embedder=tuned,
        head=head,
        optimiser=optimiser,
        scaler=torch.amp.GradScaler(torch.device(device).type, enabled=stage.precision == "fp16"),
        average=average,
        weight_N=_weights(subset, stage),
        origin=_origin(tuned) if stage.pull else {},
        run=_together(tuned, head, stage),
    )


def training_mode(state: State, stage: StageOptions) -> None:
    """Everything in training mode, but what *stage* freezes."""
    embedder = state.embedder.train()
    state.head.train()
    frozen = without_rate(embedder, stage)  # a BatchNorm's statistics included
    if stage.bn != "normal":
        frozen += batchnorms(embedder.backbone)
    for module in frozen:
        module.eval()


def take_step(
    state: State, stage: StageOptions, batch: Batch, *, counts: Sequence[int], total: int, least: int
) -> tuple[float, float]:
    """One step on *batch*, step number ``state.step`` of *total*; returns (loss, rate of the head).

    *counts* are the photos of every process's part of the batch.  They go through the model in ``accumulate`` parts
    of at least *least* photos; the gradient is that of the mean over all photos of all processes, except that a
    BatchNorm, a scale that follows the batch and the triplet loss see a process's part at a time.
    """
    rate = set_rate(state.optimiser, stage, step=state.step, total=total)
    margin = margin_at(stage.loss, step=state.step, total=total)
    num, num_parts = sum(counts), min(stage.accumulate, max(1, min(counts) // least))
    state.optimiser.zero_grad(set_to_none=True)
    loss = 0.0
    for number, part_B in enumerate(np.array_split(np.arange(len(batch.row_B)), num_parts)):
        # a sharded head gives the mean over the parts of all processes, another that over this one's
        photos = sum(_part_size(count, number, num_parts) for count in counts)
        share = (photos if isinstance(state.head, ShardedHead) else len(part_B)) / num
        with _quiet(state.run) if number < num_parts - 1 else nullcontext():
            part = _loss(state, stage, batch, part_B, margin) * share
            state.scaler.scale(part).backward()
        loss += float(part.detach())
    if not isinstance(state.head, ShardedHead):
        loss = distributed.total(loss, part.device)
    if stage.clip:
        state.scaler.unscale_(state.optimiser)
        _clip(state, stage.clip)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    _draw_back(state, stage.pull)
    if state.average is not None:
        move_towards(state.average["embedder"], state.embedder, stage.ema)
        move_towards(state.average["head"], state.head, stage.ema)
    state.step += 1
    return loss, rate


class _Loss(nn.Module):
    """Descriptors and loss in one call, since data-parallel processes exchange what one module's call needs."""

    def __init__(self, embedder: nn.Module, head: MarginHead) -> None:
        super().__init__()
        self.embedder, self.head = embedder, head

    def forward(self, pixels: Tensor, row_N: Tensor, weight_N: Tensor | None, margin: float | None) -> Tensor:
        return self.head(self.embedder(pixels), row_N, weight_N=weight_N, margin=margin)


def _together(embedder: Embedder, head: MarginHead, stage: StageOptions) -> nn.Module:
    device = next(embedder.backbone.parameters()).device
    embed = cast("nn.Module", torch.compile(embedder)) if stage.compile else embedder
    if isinstance(head, ShardedHead):
        return _Loss(distributed.data_parallel(embed, device), head)
    return distributed.data_parallel(_Loss(embed, head), device)


def _quiet(run: nn.Module) -> AbstractContextManager[None]:
    """Gradients stay in their process: those of a part that is not the step's last."""
    spread = [module for module in run.modules() if isinstance(module, DistributedDataParallel)]
    return spread[0].no_sync() if spread else nullcontext()


def _origin(embedder: Embedder) -> dict[nn.Parameter, Tensor]:
    # as they are before a checkpoint is loaded: a stage that goes on is drawn to where it was begun
    return {weight: weight.detach().clone() for weight in embedder.parameters() if weight.requires_grad}


@torch.no_grad()
def _draw_back(state: State, pull: float) -> None:
    for group in state.optimiser.param_groups if state.origin else ():
        for weight in group["params"]:
            if weight in state.origin:
                weight.lerp_(state.origin[weight], pull * group["lr"])


def _part_size(count: int, number: int, parts: int) -> int:
    """Length of part *number* when *count* photos are split as ``numpy.array_split`` does."""
    return count // parts + (number < count % parts)


def _clip(state: State, most: float) -> None:
    """Bring the norm of the gradient of all weights, those of other processes' rows too, to *most* at most."""
    trained = [p for group in state.optimiser.param_groups for p in group["params"]]
    rows = list(state.head.parameters()) if isinstance(state.head, ShardedHead) else []
    own = {id(parameter) for parameter in rows}
    shared = [p.grad for p in trained if p.grad is not None and id(p) not in own]
    norm = torch.nn.utils.get_total_norm(shared)
    if rows:
        mine = torch.nn.utils.get_total_norm([p.grad for p in rows if p.grad is not None])
        norm = (norm.square() + distributed.summed(mine.square())).sqrt()
    torch.nn.utils.clip_grads_with_norm_(trained, most, norm)


def autocast(stage: StageOptions, device: torch.device) -> torch.autocast:
    """The precision the model computes in."""
    return torch.autocast(device.type, dtype=DTYPES[stage.precision], enabled=stage.precision != "float32")


def finite(state: State) -> bool:
    """Whether every weight and statistic is a number."""
    return all(
        bool(value.isfinite().all())
        for module in (state.embedder, state.head)
        for value in module.state_dict().values()
        if value.is_floating_point()
    )


def _loss(
    state: State, stage: StageOptions, batch: Batch, part_B: np.ndarray, margin: float | None
) -> Tensor:
    whole = len(part_B) == len(batch.row_B)
    pixels = state.embedder.normalise(batch.photos_BHW3 if whole else batch.photos_BHW3[part_B])
    row_B = torch.from_numpy(batch.row_B[part_B]).to(pixels.device)
    weight_B = None
    if state.weight_N is not None:
        weight_B = torch.from_numpy(state.weight_N[batch.position_B[part_B]]).to(pixels.device)
    with autocast(stage, pixels.device):
        return state.run(pixels, row_B, weight_B, margin)


def _weights(subset: Subset, stage: StageOptions) -> np.ndarray | None:
    loss = stage.loss
    if loss.class_weights == "same" and loss.noisy_weight == 1.0:
        return None
    return sample_weights(
        subset.row_N,
        subset.photos_C,
        rule=loss.class_weights,
        clean_N=None if loss.noisy_weight == 1.0 else subset.clean_N,
        noisy_weight=loss.noisy_weight,
    )
