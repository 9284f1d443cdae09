"""Routes that answer photos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landseer.pipeline import online
from landseer.pipeline.online import Refused, Reply
from landseer.server import schemas
from landseer.server.answers import reply_of
from landseer.server.routing import Crop, Filter, Id, K, Shared, box_of, errors, text_of
from landseer.server.uploads import form_of, object_of

router = APIRouter(prefix="/api", tags=["ask"])

_PHOTO_FORM: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": {"photo": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_PAIR: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": schemas.Pair.model_json_schema(),
                "example": {"a": "rome/a.jpg", "b": "rome/b.jpg"},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo", "id"],
                    "properties": {
                        "photo": {"type": "string", "format": "binary"},
                        "id": {"type": "string", "description": "A photo of the index."},
                    },
                }
            },
        },
    }
}
Rerank = Annotated[bool, Query(description="By the re-ranking that the index keeps.")]
Explain = Annotated[bool, Query(description="With why re-ranking moved an answer.")]


@router.post(
    "/search",
    response_model=None,
    responses={200: {"model": schemas.Found}, **errors(403, 408, 409, 413)},
    openapi_extra=dict(_PHOTO_FORM),
)
async def search(  # noqa: PLR0917 - FastAPI gives them by name
    request: Request,
    shared: Shared,
    k: K = 20,
    filter: Filter = None,
    crop: Crop = None,
    rerank: Rerank = False,
    explain: Explain = True,
) -> Response:
    """The photos of the index most like the one that is sent, and which landmark it shows."""
    box = box_of(crop)
    where = _where(filter)
    sent = await form_of(request, most_files=1, most_bytes=shared.settings.upload_bytes)
    start = time.perf_counter()
    seen = await shared.aside(shared.online.look, sent.one("photo"), box)
    decode_s = time.perf_counter() - start
    query = online.Query(photo=seen, k=k, where=where, rerank=rerank, explain=explain)
    reply = await shared.batcher.ask(query)
    asked = {
        "id": None,
        "width": seen.width,
        "height": seen.height,
        "crop": None if box is None else list(box),
    }
    return _answer(shared, reply, asked, start, decode_s)


@router.get("/similar", response_model=None, responses={200: {"model": schemas.Found}, **errors(404, 409)})
async def similar(  # noqa: PLR0917 - FastAPI gives them by name
    shared: Shared,
    id: Id,
    k: K = 20,
    filter: Filter = None,
    crop: Crop = None,
    rerank: Rerank = False,
    explain: Explain = True,
) -> Response:
    """The photos most like one of the index, or a part of it; it is not among them and does not vote."""
    box, where = box_of(crop), _where(filter)
    start = time.perf_counter()
    photo: Any = text_of(id)
    size: tuple[int | None, int | None] = (None, None)
    if box is not None:
        photo = await shared.aside(shared.online.look_at, id, box)
        size = photo.width, photo.height
    decode_s = time.perf_counter() - start
    query = online.Query(photo=photo, own=id, k=k, where=where, rerank=rerank, explain=explain)
    reply = await shared.batcher.ask(query)
    asked = {"id": id, "width": size[0], "height": size[1], "crop": None if box is None else list(box)}
    return _answer(shared, reply, asked, start, decode_s)


@router.post(
    "/match",
    response_model=None,
    responses={200: {"model": schemas.Points}, **errors(403, 404, 408, 413)},
    openapi_extra=dict(_PAIR),
)
async def match(request: Request, shared: Shared) -> Response:
    """Points that two photos have in common: one that is sent and one of the index, or two of the index."""
    first: bytes | str
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        sent = await form_of(request, most_files=1, most_bytes=shared.settings.upload_bytes)
        first, second = sent.one("photo"), text_of(sent.fields.get("id", ""))
    else:
        pair = await object_of(request)
        if set(pair) != {"a", "b"} or not all(isinstance(value, str) for value in pair.values()):
            raise Refused('name two photos of the index: {"a": "...", "b": "..."}')
        first, second = text_of(pair["a"]), text_of(pair["b"])
    found = await shared.aside(shared.online.match, first, second)
    points = [[round(number, 5) for number in row] for row in found.points]
    return JSONResponse({"inliers": found.inliers, "points": points})


def _where(text: str | None) -> str | None:
    return text_of(text) if text is not None and text.strip() else None


def _answer(shared: Any, reply: Reply, asked: Mapping[str, Any], start: float, decode_s: float) -> Response:
    parts = {"decode": decode_s, "model": 0.0, "search": 0.0, "rerank": 0.0, **reply.seconds}
    for part, value in parts.items():
        shared.metrics.parts.labels(part).observe(value)
    parts["total"] = time.perf_counter() - start
    seconds = {part: round(value, 5) for part, value in parts.items()}
    return JSONResponse({**reply_of(reply, asked), "seconds": seconds})
