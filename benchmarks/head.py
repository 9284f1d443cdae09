"""Memory and time of a step of the classification head: whole in one process, and sharded over several.

    python benchmarks/head.py [--dim 512] [--batch 64] [--momentum 0.9] [--steps 3] [--json]

A step is forward, backward and SGD with momentum in float32 on random unit descriptors, 64 of all processes
together.  Memory is the peak of a process above what it holds before the head is made, construction included; of
several processes, the largest.  Seconds are the median of the steps after the first.  The table ``rows`` is one
process's own rows: their gradient and their momentum are as large again, each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812

from landseer.losses import MarginHead, ShardedHead
from landseer.recipe.loss_options import LossOptions

GIB = 2**30
RUNS = [
    {"landmarks": 203_094, "processes": 1, "negatives": 1.0},
    {"landmarks": 203_094, "processes": 1, "negatives": 0.1},
    {"landmarks": 1_000_000, "processes": 2, "negatives": 1.0},
    {"landmarks": 1_000_000, "processes": 2, "negatives": 0.1},
]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(rank: int, run: dict, options: argparse.Namespace, folder: str) -> None:
    """One process of *run*; leaves what it measured in *folder*."""
    num = run["processes"]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num))
    loss_options = LossOptions(scale=30.0, margin=0.3, kind="arcface", negatives=run["negatives"])
    if num > 1:
        store = dist.FileStore(f"{folder}/store", num)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=num)
    random = torch.Generator().manual_seed(rank)
    mine = options.batch // num
    descriptors = F.normalize(torch.randn(mine, options.dim, generator=random), dim=1)
    row = torch.randint(run["landmarks"], (mine,), generator=random)
    # what the first optimiser and the first backward pass load is not the head's
    warm = torch.nn.Linear(8, 8)
    warm(torch.ones(1, 8)).sum().backward()
    torch.optim.SGD(warm.parameters(), lr=0.1).step()
    before = peak_bytes()

    started = time.perf_counter()
    kind = ShardedHead if num > 1 else MarginHead
    head = kind(options.dim, run["landmarks"], options=loss_options)
    begun_s = time.perf_counter() - started
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1, momentum=options.momentum)
    taken = []
    for _ in range(options.steps + 1):
        started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        head(descriptors.clone().requires_grad_(), row).backward()
        optimiser.step()
        taken.append(time.perf_counter() - started)
    found = {
        "rows_gib": head.rows.numel() * 4 / GIB,
        "peak_gib": (peak_bytes() - before) / GIB,
        "start_s": begun_s,
        "step_s": statistics.median(taken[1:]),
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    if num > 1:
        dist.barrier()
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if not options.json:
        heads = ("landmarks", "processes", "negatives", "rows GiB", "peak GiB", "start s", "step s")
        print(" ".join(f"{name:>10}" for name in heads))
    for run in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(measure, (run, options, folder), nprocs=run["processes"])
            ranks = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        found = run | {key: max(rank[key] for rank in ranks) for key in ranks[0]}
        if options.json:
            print(json.dumps(found))
            continue
        values = (f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in found.values())
        print(" ".join(f"{value:>10}" for value in values), flush=True)


if __name__ == "__main__":
    main()
