"""Work on photos by several threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    task: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    threads: int,
    ahead: int,
    setup: Callable[[], object] | None = None,
) -> Generator[_Result]:
    """``map`` over threads: results in the order of *items*, at most *ahead* under way or waiting.

    Each thread calls *setup* first.  Close the generator to end early: what is under way ends, the rest is dropped.
    """
    items = iter(items)
    pool = ThreadPoolExecutor(threads, initializer=setup)
    try:
        under_way: deque[Future[_Result]] = deque(pool.submit(task, item) for item in islice(items, ahead))
        while under_way:
            result = under_way.popleft().result()
            under_way.extend(pool.submit(task, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
