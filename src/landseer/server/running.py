"""Processes that answer: one, or several that share one socket, watched by a parent that answers nothing itself."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from landseer.server.metrics import SHARED
from landseer.server.settings import ServerSettings

if TYPE_CHECKING:
    from landseer.pipeline.online import RunExplorer

_log = logging.getLogger(__name__)

_GRACE_S = 30
"""Requests under way have so long to end."""
_KEEP_ALIVE_S = 15
_MOST_CONNECTIONS = 512
_BACKLOG = 512
_QUICK_S = 5.0
"""A worker that ends so soon after its start will not do better again at once."""

Started = Callable[[str, int], object]


def serve(settings: ServerSettings, *, started: Started | None = None) -> None:
    """Answer until told to stop (SIGINT or SIGTERM); requests under way end first.

    *started* is told the address and port once the index is open.  Raises ``ValueError`` where the index cannot be
    opened or the address cannot be had.
    """
    listening = _listening(settings)
    try:
        if settings.workers == 1:
            _answer(settings, listening, started)
        else:
            _watch(settings, listening, started)
    finally:
        listening.close()


def _listening(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(_BACKLOG)
        found.setblocking(False)
        found.set_inheritable(True)
    except OSError as error:
        raise ValueError(
            f"{settings.host} port {settings.port} cannot be had ({error.strerror or error}); name another --port"
        ) from None
    return found


def _answer(settings: ServerSettings, listening: socket.socket, started: Started | None) -> None:
    """Be one process that answers."""
    from landseer.pipeline.online import Online
    from landseer.server.app import make_app

    run = _run(settings)
    online = None
    if settings.index is not None:
        online = Online(settings.index, device=settings.device, threads=_threads(settings))
        online.prepare()
    server = _Server(
        uvicorn.Config(
            make_app(online, settings, run),
            http=_patient(settings.head_s),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=_MOST_CONNECTIONS,
            backlog=_BACKLOG,
        ),
        (lambda: started(*listening.getsockname()[:2])) if started else None,
    )
    server.run(sockets=[listening])


def _run(settings: ServerSettings) -> RunExplorer | None:
    from landseer.pipeline.online import RunExplorer

    if settings.run is None:
        return None
    against, data, root = (
        None if name is None else Path(name) for name in (settings.compare, settings.data, settings.root)
    )
    return RunExplorer(Path(settings.run), against=against, data=data, root=root)


def _threads(settings: ServerSettings) -> int | None:
    """Threads of one process's model: the cores are shared."""
    if settings.workers == 1:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // settings.workers)


class _Server(uvicorn.Server):
    """Tells when it listens, and ends in peace."""

    def __init__(self, config: uvicorn.Config, told: Callable[[], object] | None) -> None:
        super().__init__(config)
        self._told = told

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at a signal; ending so is no failure, so it is not raised again afterwards."""
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self.handle_exit) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._told is not None:
            self._told()


def _patient(head_s: float) -> type[H11Protocol]:
    """A protocol that gives the head of a request only so much time, however slowly its bytes drip in."""

    class Patient(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            under_way = self.cycle is not None and not self.cycle.response_complete
            if not under_way and self._deadline is None:
                self._watch_head()
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:  # a head is here whole
                self._forget_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_head()
            super().connection_lost(exc)

        def _watch_head(self) -> None:
            self._deadline = self.loop.call_later(head_s, self._give_up)

        def _forget_head(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                self.transport.close()

    return Patient


# --- several processes -----------------------------------------------------------------------------------


def _watch(settings: ServerSettings, listening: socket.socket, started: Started | None) -> None:
    """Start the workers, start another for one that dies, and stop all when told to."""
    folder = tempfile.mkdtemp(prefix="landseer-metrics-")
    os.environ[SHARED] = folder
    context = multiprocessing.get_context("spawn")
    stopping = [False]

    def stop(*_: object) -> None:
        stopping[0] = True

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    ready: Any = context.Semaphore(0)
    workers: dict[BaseProcess, float] = {}
    try:
        for _ in range(settings.workers):
            _start(context, settings, listening, ready, workers)
        waited = 0
        while not stopping[0]:
            if waited < settings.workers and ready.acquire(timeout=0.1):
                waited += 1
                if waited == settings.workers and started is not None:
                    started(*listening.getsockname()[:2])
            elif waited >= settings.workers:
                time.sleep(0.1)
            for worker in [each for each in workers if not each.is_alive()]:
                _renew(worker, folder, workers)
                _start(context, settings, listening, ready, workers)
    finally:
        for worker in workers:
            worker.terminate()  # SIGTERM: requests under way end first
        end = time.monotonic() + _GRACE_S + 5
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
            if worker.is_alive():
                worker.kill()
        for kind, handler in before.items():
            signal.signal(kind, handler)
        del os.environ[SHARED]
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    context: Any,
    settings: ServerSettings,
    listening: socket.socket,
    ready: Any,
    workers: dict[BaseProcess, float],
) -> None:
    worker = context.Process(
        target=_work, args=(settings, listening, ready, logging.getLogger().level), daemon=True
    )
    worker.start()
    workers[worker] = time.monotonic()


def _renew(worker: BaseProcess, folder: str, workers: dict[BaseProcess, float]) -> None:
    """Forget a worker that is gone.  Raises ``ValueError`` where it could not even start."""
    from prometheus_client.multiprocess import mark_process_dead

    lived = time.monotonic() - workers.pop(worker)
    if worker.exitcode == _CANNOT:
        raise ValueError("the workers cannot open what they serve; the lines above say why")
    _log.warning("a worker ended (%s) after %.0f s; another one starts", worker.exitcode, lived)
    mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call]
    if lived < _QUICK_S:
        time.sleep(1.0)


_CANNOT = 2


def _work(settings: ServerSettings, listening: socket.socket, ready: Any, level: int) -> None:
    """Be one of several."""
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _answer(settings, listening, lambda *_: ready.release())
    except ValueError as error:
        sys.stderr.write(f"landseer: {error}\n")
        sys.exit(_CANNOT)
