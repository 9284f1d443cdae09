"""Questions that come at once go through the model together.

There is no waiting for company: while one batch is under way the next one gathers, so a lone question is answered at
once, and the batches grow with the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from landseer.pipeline.online import Query, Refused, Reply

MOST = 16
"""Questions of a batch."""
WAITING = 256
"""Questions that may wait."""

Ask = Callable[[Sequence[Query]], list[Reply | Refused]]


class TooMany(Exception):  # noqa: N818 - what happened, not whose mistake it was
    """More questions wait than can be answered soon."""


class Batcher:
    """Hands questions to *ask* in batches, in a thread of its own; to be used within one event loop."""

    def __init__(self, ask: Ask, *, observe: Callable[[int], object], most: int = MOST) -> None:
        self._ask, self._observe, self._most = ask, observe, most
        self._waiting: asyncio.Queue[tuple[Query, asyncio.Future[Reply]]] = asyncio.Queue(WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, query: Query) -> Reply:
        """The reply.  Raises ``Refused``, and ``TooMany`` where too many wait already."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((query, answer))
        except asyncio.QueueFull:
            raise TooMany from None
        return await answer

    async def close(self) -> None:
        """Take no more; what is under way ends."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            # 1, 2, 4, 8 or 16: torch keeps memory for each size that it has seen
            size = min(self._most, 1 << ((1 + self._waiting.qsize()).bit_length() - 1))
            batch += [self._waiting.get_nowait() for _ in range(size - 1)]
            batch = [
                (query, answer) for query, answer in batch if not answer.done()
            ]  # whoever asked may be gone
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Query, asyncio.Future[Reply]]]) -> None:
        self._observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            replies = await loop.run_in_executor(self._thread, self._ask, [query for query, _ in batch])
        except Exception as error:  # noqa: BLE001 - told to everyone who waits for it, and raised there
            replies = [error] * len(batch)  # type: ignore[list-item]
        for (_, answer), reply in zip(batch, replies, strict=True):
            if answer.done():
                continue
            if isinstance(reply, BaseException):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
