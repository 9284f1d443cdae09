"""Threads for many small kernels: each runs torch on one core.

Torch's own threads meet at a barrier after every kernel.  Where a kernel takes a tenth of a millisecond that
costs more than it saves, and on a machine with other work a barrier can wait for a whole time slice.  These
threads share nothing until they are done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # (process, threads): threads do not outlive a fork


def num_workers() -> int:
    """As many as torch would use here."""
    import torch

    return int(torch.get_num_threads())


def run(call: Callable[[_T], _R], parts: Iterable[_T]) -> list[_R]:
    """*call* of every part, in the order of *parts*."""
    return list(_pool(num_workers()).map(call, parts))


def _pool(num: int) -> ThreadPoolExecutor:
    key = (os.getpid(), num)
    with _lock:
        if key not in _pools:
            _pools[key] = _started(num)
        return _pools[key]


def _started(num: int) -> ThreadPoolExecutor:
    import torch

    ready = threading.Barrier(num)

    def start(_: int) -> None:
        torch.get_num_threads()  # the first question sets a thread's number, so it must not come later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(num, thread_name_prefix="search")
    list(pool.map(start, range(num)))
    # a thread keeps its own number, but torch hands the last one set to threads that begin later
    torch.set_num_threads(num)
    return pool
