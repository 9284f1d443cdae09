"""The explorer's files, the page of the REST calls, and what machines ask for: health, readiness, metrics.

A name from a client is looked up among the names of the files that came with the package; it is never a path.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from landseer.server.routing import Shared

router = APIRouter(include_in_schema=False)
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@router.get("/")
async def explorer(request: Request, shared: Shared) -> Response:
    """The page for people: the explorer, or that of the run where there is no index."""
    if shared.online is None:
        return RedirectResponse("/run")
    return sent(request, "static", "index.html")


@router.get("/static/{name:path}")
async def static(request: Request, name: str) -> Response:
    """A file of that page."""
    return sent(request, "static", name)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The page of the REST calls; it works offline."""
    return sent(request, "docs", "index.html")


@router.get("/docs/{name:path}")
async def docs_file(request: Request, name: str) -> Response:
    """A file of that page."""
    return sent(request, "docs", name)


@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    """What browsers ask for unasked."""
    return sent(request, "static", "favicon.svg")


@router.get("/api/health")
async def health() -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/api/ready")
async def ready(shared: Shared) -> Response:
    """It takes questions."""
    if not shared.ready:
        raise HTTPException(503, "starting or stopping")
    if shared.online is None:
        return JSONResponse({"status": "ready", "photos": shared.run.facts.photos})
    photos = (await shared.aside(shared.online.facts))["photos"]
    return JSONResponse({"status": "ready", "photos": photos})


@router.get("/metrics")
async def metrics(shared: Shared) -> Response:
    """Numbers for Prometheus."""
    return Response(shared.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def sent(request: Request, folder: str, name: str) -> Response:
    """A file that came with the package in *folder*."""
    file = _files(folder).get(name)
    if file is None or not file.is_file():
        raise HTTPException(404, "there is no such page")
    content = file.read_bytes()
    mark = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {"etag": mark, "cache-control": "no-cache"}  # asked for again, and answered by 304
    if mark in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    suffix = f".{name.rpartition('.')[2]}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


@cache
def _files(folder: str) -> dict[str, Traversable]:
    """Every file that came with the package in that folder, by its name below it."""
    found: dict[str, Traversable] = {}

    def look(place: Traversable, before: str) -> None:
        for each in place.iterdir():
            if each.is_dir():
                look(each, f"{before}{each.name}/")
            else:
                found[before + each.name] = each

    root = resources.files("landseer.server") / folder
    if root.is_dir():
        look(root, "")
    return found
