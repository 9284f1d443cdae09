"""One stage of training with the cosine softmax.

Axes: N photos, D descriptor components, C landmarks of the label space.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from safetensors.torch import save_file
from torch import nn

from landseer.losses import CosineSoftmax
from landseer.models import Embedder, load_embedder, save_embedder
from landseer.recipe import StageOptions
from landseer.storage import open_artifact, read_table, verify, writing
from landseer.training.loader import epoch_batches, plain_batches
from landseer.training.subset import Subset

Progress = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage leaves: the embedder, the head with its label space, and the loss of every step."""

    embedder: Embedder
    head: CosineSoftmax
    landmark_C: np.ndarray
    losses: tuple[Mapping[str, float | int | str], ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def train_stage(
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    seed: int,
    workers: int = 2,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Stage:
    """Train a copy of *embedder* on *subset* as *stage* says.

    On a CPU the same arguments give the same weights to the bit, whatever *workers* is.  *progress* is told
    (steps done, steps in all, {"loss", "lr", "epoch"}).  Raises ``ValueError`` where the loss or a weight stops
    being finite, where no photo can be read, and for a size or batch the embedder cannot take.
    """
    embedder.require_size(stage.size, f"stages.{stage.name}.size")
    # a BatchNorm without positions to average over needs two photos
    least = 2 if embedder.options.neck == "fc-bn" else 1
    if stage.batch < least:
        raise ValueError(
            f"stages.{stage.name}.batch: the BatchNorm of the neck needs at least 2 photos a step"
        )
    with _seeded(seed):
        tuned = copy.deepcopy(embedder).to(device)
        head = CosineSoftmax(embedder.dim, len(subset.landmark_C), scale=stage.scale, margin=stage.margin).to(
            device
        )
        if stage.head_start == "means":
            _start_head_at_means(head, tuned, subset, stage, workers)
        optimiser = _optimiser(tuned, head, stage)
        total = stage.epochs * max(1, len(subset) // stage.batch)
        losses: list[Mapping[str, float | int | str]] = []
        unreadable: dict[str, str] = {}
        for epoch in range(stage.epochs):
            _training_mode(tuned, stage)
            for batch in epoch_batches(subset, stage, seed=seed, epoch=epoch, workers=workers):
                unreadable.update(batch.unreadable)
                if len(batch.row_B) < least:
                    continue
                rate = _set_rate(optimiser, stage, step=len(losses), total=total)
                loss = _step(tuned, head, optimiser, batch.photos_BSS3, batch.row_B)
                if not math.isfinite(loss):
                    raise _diverged(stage, f"the loss is {loss} at step {len(losses)}")
                losses.append(
                    {"stage": stage.name, "step": len(losses), "epoch": epoch, "loss": loss, "lr": rate}
                )
                if progress is not None:
                    progress(len(losses), total, {"loss": loss, "lr": rate, "epoch": epoch})
            if not losses:
                raise ValueError("none of the training photos could be read; check the collection's root")
        # the last step's loss was taken before the last step
        if not all(
            bool(parameter.isfinite().all()) for parameter in (*tuned.parameters(), *head.parameters())
        ):
            raise _diverged(stage, "a weight is not finite after the last step")
        _interpolate(tuned, embedder, stage.interpolate)
        _unfreeze(tuned, embedder)
    return Stage(
        embedder=tuned.eval(),
        head=head,
        landmark_C=subset.landmark_C,
        losses=tuple(losses),
        unreadable=unreadable,
    )


def save_stage(
    result: Stage, path: Path, *, made_by: Mapping[str, object], parents: Mapping[str, str]
) -> None:
    """Write a stage folder: the model folder ``model``, the head, its label space and the losses."""
    with writing(path, "stage", made_by=made_by, parents=parents) as part:
        save_embedder(result.embedder, part / "model", made_by=made_by)
        save_file({"rows": result.head.rows.detach().cpu().contiguous()}, part / "head.safetensors")
        pq.write_table(
            pa.table({"landmark": pa.array(result.landmark_C, pa.int64())}), part / "labels.parquet"
        )
        pq.write_table(
            pa.Table.from_pylist([dict(entry) for entry in result.losses]), part / "losses.parquet"
        )
        unreadable = pa.table(
            {
                "id": pa.array(list(result.unreadable), pa.string()),
                "reason": pa.array(list(result.unreadable.values()), pa.string()),
            }
        )
        pq.write_table(unreadable, part / "unreadable.parquet")


def load_stage_model(path: Path, *, made_by: str | None = None) -> Embedder:
    """The embedder a stage folder holds, every file checked."""
    verify(path, open_artifact(path, "stage", made_by=made_by))
    return load_embedder(path / "model")


def load_losses(path: Path) -> list[dict[str, float | int | str]]:
    """The loss of every step of a stage folder."""
    verify(path, open_artifact(path, "stage"), "losses.parquet")
    return list(read_table(path / "losses.parquet").to_pylist())


def _step(
    embedder: Embedder,
    head: CosineSoftmax,
    optimiser: torch.optim.Optimizer,
    photos: np.ndarray,
    row_N: np.ndarray,
) -> float:
    optimiser.zero_grad(set_to_none=True)
    descriptors = embedder(embedder.normalise(photos))
    loss = head(descriptors, torch.from_numpy(row_N).to(descriptors.device))
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def _optimiser(embedder: Embedder, head: CosineSoftmax, stage: StageOptions) -> torch.optim.Optimizer:
    groups = [{"params": list(head.parameters()), "share": 1.0, "weight_decay": 0.0}]
    parts = (
        (stage.backbone_lr, [embedder.backbone]),
        (stage.neck_lr, [embedder.pooling, embedder.neck]),
    )
    plain = _no_matrices(embedder.backbone)
    for share, modules in parts:
        parameters = [p for module in modules for p in module.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(parameter.requires_grad and share > 0)
        for matrices in (True, False):
            chosen = [
                p for p in parameters if p.requires_grad and (p.ndim > 1 and p not in plain) == matrices
            ]
            if chosen:
                decay = stage.weight_decay if matrices else 0.0
                groups.append({"params": chosen, "share": share, "weight_decay": decay})
    if stage.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=stage.lr)


def _no_matrices(backbone: nn.Module) -> set[nn.Parameter]:
    """Class tokens, position embeddings and the like: tables by shape, but nothing is multiplied by them."""
    tell: Callable[[], set[str]] = getattr(backbone, "no_weight_decay", set)
    listed = tell()
    return {parameter for name, parameter in backbone.named_parameters() if name in listed}


def _unfreeze(tuned: Embedder, start: Embedder) -> None:
    """What this stage kept fixed is free again: the next stage decides for itself."""
    for parameter, before in zip(tuned.parameters(), start.parameters(), strict=True):
        parameter.requires_grad_(before.requires_grad)


def _diverged(stage: StageOptions, what: str) -> ValueError:
    return ValueError(f"stage {stage.name!r}: {what}; lower its lr ({stage.lr})")


def _set_rate(optimiser: torch.optim.Optimizer, stage: StageOptions, *, step: int, total: int) -> float:
    """Linear warm-up, then a cosine to 0; returns the head's rate."""
    warm = stage.warmup * total
    if step < warm:
        factor = (step + 1) / (warm + 1)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))
    for group in optimiser.param_groups:
        group["lr"] = stage.lr * factor * group["share"]
    return stage.lr * factor


def _training_mode(embedder: Embedder, stage: StageOptions) -> None:
    embedder.train()
    # without a learning rate nothing may move, a BatchNorm's statistics included
    frozen: list[nn.Module] = [embedder.backbone] if stage.backbone_lr == 0 else []
    frozen += [embedder.pooling, embedder.neck] if stage.neck_lr == 0 else []
    if stage.bn == "frozen-statistics":
        frozen += [m for m in embedder.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for module in frozen:
        module.eval()


@torch.no_grad()
def _start_head_at_means(
    head: CosineSoftmax, embedder: Embedder, subset: Subset, stage: StageOptions, workers: int
) -> None:
    sums = torch.zeros_like(head.rows)
    embedder.eval()
    for batch in plain_batches(subset, size_px=stage.size, batch=stage.batch, workers=workers):
        if len(batch.row_B):
            rows = embedder(embedder.normalise(batch.photos_BSS3))
            sums.index_add_(0, torch.from_numpy(batch.row_B).to(rows.device), rows)
    known = sums.norm(dim=1) > 0  # a landmark whose photos are all unreadable keeps its random row
    head.rows[known] = F.normalize(sums[known], dim=1)


@torch.no_grad()
def _interpolate(tuned: Embedder, start: Embedder, share: float) -> None:
    """Weights between those of the stage's start and end (Wortsman et al., CVPR 2022), BatchNorm's included."""
    if share == 1.0:
        return
    first = start.state_dict()
    for key, value in tuned.state_dict().items():
        if value.is_floating_point():
            value.lerp_(first[key].to(value.device), 1.0 - share)
        elif share == 0.0:  # a count of batches has no point half-way
            value.copy_(first[key])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Dropout and random starts follow *seed*; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
