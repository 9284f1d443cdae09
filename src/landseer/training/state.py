"""Everything about a stage that changes while it is trained, and one step of it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from landseer.losses import MarginHead, sample_weights
from landseer.models import Embedder
from landseer.recipe import StageOptions
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
    epoch: int = 0
    batch: int = 0
    """Batches of the epoch that are done."""
    step: int = 0
    """Steps that are done; batches of unreadable photos make none."""
    best_loss: float = math.inf
    best: str = ""
    """The checkpoint with the lowest validation loss."""
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
) -> State:
    """A stage before its first step, on a copy of *embedder*; not *fresh*: to be overwritten by a checkpoint."""
    tuned = copy.deepcopy(embedder).to(device)
    head = new_head(tuned, subset, stage)
    if fresh:
        start_head(head, tuned, subset, stage, kept=kept, workers=workers)
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
    state: State, stage: StageOptions, batch: Batch, *, total: int, least: int
) -> tuple[float, float]:
    """One step on *batch*, step number ``state.step`` of *total*; returns (loss, rate of the head).

    The photos go through the model in ``accumulate`` parts of at least *least* photos; the gradient is that of
    the mean over all of them, except that a BatchNorm sees a part at a time.
    """
    rate = set_rate(state.optimiser, stage, step=state.step, total=total)
    margin = margin_at(stage.loss, step=state.step, total=total)
    num = len(batch.row_B)
    state.optimiser.zero_grad(set_to_none=True)
    loss = 0.0
    for part_B in np.array_split(np.arange(num), min(stage.accumulate, max(1, num // least))):
        part = _loss(state, stage, batch, part_B, margin) * (len(part_B) / num)
        state.scaler.scale(part).backward()
        loss += float(part.detach())
    if stage.clip:
        state.scaler.unscale_(state.optimiser)
        trained = [p for group in state.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, stage.clip)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    if state.average is not None:
        move_towards(state.average["embedder"], state.embedder, stage.ema)
        move_towards(state.average["head"], state.head, stage.ema)
    state.step += 1
    return loss, rate


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
    pixels = state.embedder.normalise(batch.photos_BSS3 if whole else batch.photos_BSS3[part_B])
    row_B = torch.from_numpy(batch.row_B[part_B]).to(pixels.device)
    weight_B = None
    if state.weight_N is not None:
        weight_B = torch.from_numpy(state.weight_N[batch.position_B[part_B]]).to(pixels.device)
    with autocast(stage, pixels.device):
        descriptors = state.embedder(pixels)
    return state.head(descriptors, row_B, weight_N=weight_B, margin=margin)


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
