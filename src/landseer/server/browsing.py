"""Routes that show what is there."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landseer.server import schemas
from landseer.server.answers import record_of
from landseer.server.routing import After, Filter, Id, Limit, Shared, errors, text_of

router = APIRouter(prefix="/api", tags=["browse"])
_KEPT_S = 3600
"""For so long a browser shows a picture without asking again."""


@router.get("/index", response_model=None, responses={200: {"model": schemas.Index}, **errors()})
async def index(shared: Shared) -> Response:
    """What the index holds, and what may be done with it."""
    facts = await shared.aside(shared.online.facts)
    shared.metrics.photos.set(facts["photos"])
    settings = shared.settings
    more = {
        "writable": settings.writable,
        "token_needed": not settings.local,
        "version": shared.version,
    }
    return JSONResponse({**facts, **more})


@router.get("/photo", response_model=None, responses={200: {"model": schemas.PhotoRecord}, **errors(404)})
async def photo(shared: Shared, id: Id) -> Response:
    """What is known of a photo."""
    return JSONResponse(record_of(await shared.aside(shared.online.record, text_of(id))))


@router.get(
    "/thumbnail", response_model=None, responses={200: {"content": {"image/jpeg": {}}}, **errors(404)}
)
async def thumbnail(
    request: Request,
    shared: Shared,
    id: Id,
    side: Annotated[int, Query(ge=16, le=640, description="Pixels of the longer side, at most.")] = 320,
) -> Response:
    """A small picture of a photo, made anew: nothing that the photo says of itself is in it."""
    return await _picture(request, shared, id, side)


@router.get("/image", response_model=None, responses={200: {"content": {"image/jpeg": {}}}, **errors(404)})
async def image(
    request: Request,
    shared: Shared,
    id: Id,
    side: Annotated[int, Query(ge=16, le=4096, description="Pixels of the longer side, at most.")] = 1280,
) -> Response:
    """A larger picture of a photo, made anew."""
    return await _picture(request, shared, id, side)


@router.get("/photos", response_model=None, responses={200: {"model": schemas.Photos}, **errors()})
async def photos(  # noqa: PLR0917 - FastAPI gives them by name
    shared: Shared,
    landmark: Annotated[int | None, Query(ge=-(2**62), le=2**62)] = None,
    country: Annotated[str | None, Query(min_length=2, max_length=2, pattern="^[A-Za-z]{2}$")] = None,
    labelled: bool | None = None,
    filter: Filter = None,
    after: After = None,
    limit: Limit = 60,
) -> Response:
    """Photos of the index, oldest first."""
    conditions = []
    if landmark is not None:
        conditions.append(f"landmark = {landmark}")
    if country is not None:
        conditions.append(shared.online.in_country(country.upper()))
    if labelled is not None:
        conditions.append("not landmark is null" if labelled else "landmark is null")
    if filter is not None and filter.strip():
        shared.online.require_filter(text_of(filter))  # told as it was written, before it stands in brackets
        conditions.append(f"({filter})")
    found, following, total = await shared.aside(
        shared.online.photos,
        " and ".join(conditions) or None,
        after=-1 if after is None else after,
        limit=limit,
    )
    return JSONResponse({"photos": [record_of(each) for each in found], "next": following, "total": total})


@router.get("/landmarks", response_model=None, responses={200: {"model": schemas.Landmarks}, **errors()})
async def landmarks(
    shared: Shared,
    text: Annotated[str | None, Query(max_length=200, description="Part of its name.")] = None,
    country: Annotated[str | None, Query(min_length=2, max_length=2, pattern="^[A-Za-z]{2}$")] = None,
    after: After = None,
    limit: Limit = 60,
) -> Response:
    """Landmarks that photos show, that with most photos first."""
    found = await shared.aside(shared.online.landmarks)
    if text is not None and text.strip():
        wanted = text.casefold().strip()
        found = [each for each in found if wanted in each["name"].casefold()]
    if country is not None:
        found = [each for each in found if each["country"] == country.upper()]
    start = 0 if after is None else after
    following = start + limit if start + limit < len(found) else None
    page = found[start : start + limit]
    return JSONResponse({"landmarks": page, "next": following, "total": len(found)})


@router.get("/countries", response_model=None, responses={200: {"model": list[schemas.Country]}, **errors()})
async def countries(shared: Shared) -> Response:
    """Countries of photos, that with most photos first."""
    return JSONResponse(await shared.aside(shared.online.countries))


async def _picture(request: Request, shared: Any, photo: str, side: int) -> Response:
    return picture_sent(request, await shared.aside(shared.online.picture, text_of(photo), side))


def picture_sent(request: Request, content: bytes) -> Response:
    """A JPEG, or word that the browser's copy is still right."""
    mark = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {"etag": mark, "cache-control": f"private, max-age={_KEPT_S}"}
    if mark in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)
