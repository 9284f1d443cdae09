"""The application: routes around one open index, behind the gate."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landseer.pipeline.online import Busy, Online, Refused, RunExplorer, Unknown
from landseer.server import asking, browsing, changing, exploring, pages
from landseer.server.batching import Batcher, TooMany
from landseer.server.metrics import Metrics
from landseer.server.safety import Gate, holds_token, refusal
from landseer.server.settings import ServerSettings

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_THREADS = 4
"""For decoding, pictures and the database, beside the one that describes; a large photo takes up to 1 GB in one."""


class Serving:
    """What the routes share: the index, the run, or both, and the threads that work on them."""

    def __init__(
        self, online: Online | None, settings: ServerSettings, run: RunExplorer | None = None
    ) -> None:
        self.online, self.run, self.settings = online, run, settings
        self.metrics = Metrics()
        self.batcher = None if online is None else Batcher(online.ask, observe=self.metrics.batch.observe)
        self.version = version("landseer")
        self.ready = False
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def aside(self, call: Callable[..., _Result], *args: Any, **more: Any) -> _Result:
        """Call something slow in a thread."""
        return await anyio.to_thread.run_sync(functools.partial(call, *args, **more), limiter=self._threads)

    def require_writer(self, request: Request) -> None:
        """Raise where this request may not change anything."""
        if not self.settings.writable:
            raise HTTPException(403, "this server only answers; start it with --token to change the index")
        if not holds_token(request.headers, self.settings):
            raise HTTPException(
                401, "changes need the token (Authorization: Bearer TOKEN)", {"WWW-Authenticate": "Bearer"}
            )


def make_app(online: Online | None, settings: ServerSettings, run: RunExplorer | None = None) -> ASGIApp:
    """The whole application, with the calls for what there is; it closes *online* when it ends."""
    assert online is not None or run is not None, "there is something to show"
    serving = Serving(online, settings, run)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving.ready = True
        yield
        serving.ready = False
        if serving.batcher is not None:
            await serving.batcher.close()
        if online is not None:
            online.close()

    app = FastAPI(
        title="Landseer",
        version=serving.version,
        description="Find every photo of the same landmark, and say which one it is.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.serving = serving
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(TooMany, _too_many)
    app.add_exception_handler(HTTPException, _wrong)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    of_index = (asking.router, browsing.router, changing.router) if online is not None else ()
    of_run = (exploring.router, exploring.pages) if run is not None else ()
    for router in (*of_index, *of_run, pages.router):
        app.include_router(router)
    schemes = app.openapi().setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer", "description": "What --token says."}
    return Gate(_Counted(app, serving.metrics), settings)


async def _refused(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, Unknown) else 409 if isinstance(error, Busy) else 400
    return refusal(status, _line(str(error)))


async def _too_many(_: Request, __: Exception) -> Response:
    return refusal(429, "too many questions wait; ask again in a moment", **{"retry-after": "1"})


async def _wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for these"
    return refusal(error.status_code, _line(str(error.detail)), **dict(error.headers or {}))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for these"
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body"))
    return refusal(422, _line(f"{where}: {first['msg']}" if where else str(first["msg"])))


async def _broken(_: Request, __: Exception) -> Response:
    return refusal(500, "something went wrong here; the server's log says what")


def _line(text: str) -> str:
    """*text* in one line that can be sent."""
    return " ".join(text.encode("utf-8", "replace").decode().split())[:500]


class _Counted:
    """Counts requests, and logs each in one line that tells no query: the route, not the address asked for."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics = self._metrics
        with metrics.under_way.track_inprogress():
            try:
                await self._app(scope, receive, noting)
            finally:
                seconds = time.perf_counter() - start
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.requests.labels(method, route, status).inc()
                metrics.seconds.labels(route).observe(seconds)
                _log.info("%s %s %d %.0f ms", method, route, status, seconds * 1000)


_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
