"""Several processes that train one model together, as ``torchrun`` starts them.

Every process holds the whole model and works on its part of each batch.  The gradients of the parts are summed, and
each part's loss is divided by the photos of the whole batch, so that any number of processes takes the same step.
Without ``torchrun`` everything here is that of a world of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(hours=12)  # others wait while one describes all photos to start a neck


def rank() -> int:
    """The place of this process among all, from 0."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """Processes that train together."""
    return dist.get_world_size() if _together() else 1


def asked_world() -> int:
    """Processes that ``torchrun`` started, whether they have joined yet or not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that ``torchrun`` started, by gloo on a CPU and NCCL on GPUs; gives this one's device.

    ``cuda`` becomes this process's own GPU.  A world of one joins nothing.
    """
    if asked_world() == 1 or _together():
        yield device
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=_PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if _together():
        dist.barrier()


def summed(value: Tensor) -> Tensor:
    """The sum of every process's *value*, in place."""
    if _together():
        dist.all_reduce(value)
    return value


def total(value: float, device: torch.device) -> float:
    """The sum of every process's number, in float64."""
    if not _together():
        return value
    return float(summed(torch.tensor(value, dtype=torch.float64, device=device)))


def everyones(value: Any) -> list[Any]:
    """Every process's *value*, by rank."""
    if not _together():
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def of_first(value: Any) -> Any:
    """What the first process has for *value*."""
    if not _together():
        return value
    found = [value]
    dist.broadcast_object_list(found)
    return found[0]


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """*module* with BatchNorms that see the photos of all processes; only GPUs have them."""
    if not _together() or device.type != "cuda":
        return module
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(module)


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """*module* so that a backward pass leaves the sum of all processes' gradients in each."""
    if not _together() or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    together = nn.parallel.DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,  # a backbone may hold weights that pooling bypasses
    )
    together.register_comm_hook(None, lambda _, bucket: _summed_later(bucket.buffer()))
    return together


def _summed_later(gradients: Tensor) -> torch.futures.Future[Tensor]:
    # the usual hook takes the mean, but the loss of a part is divided by the photos of all already
    return dist.all_reduce(gradients, async_op=True).get_future().then(lambda done: done.value()[0])


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
