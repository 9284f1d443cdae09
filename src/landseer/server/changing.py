"""Routes that change the index.  All need the token, said in ``Authorization``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from landseer.pipeline.online import Refused
from landseer.server import schemas
from landseer.server.routing import Id, Shared, errors, text_of
from landseer.server.safety import COOKIE, cookie_of, holds_token, refusal
from landseer.server.uploads import form_of

router = APIRouter(prefix="/api", tags=["change"])

MOST_PHOTOS = 64
"""In one request."""
_TOKEN: Mapping[str, Any] = {"security": [{"token": []}]}
_PHOTOS_FORM: Mapping[str, Any] = {
    **_TOKEN,
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photos"],
                    "properties": {
                        "photos": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "landmark": {"type": "integer", "description": "A landmark of the index."},
                        "landmark_name": {
                            "type": "string",
                            "description": "Or its name; a new one makes a new one.",
                        },
                        "country": {"type": "string", "description": "ISO 3166 alpha-2."},
                        "position": {"type": "boolean", "description": "Keep where the camera says it was."},
                    },
                }
            }
        },
    },
}
_WRITE_ERRORS = errors(403, 404, 408, 409, 413)


@router.post(
    "/photos",
    response_model=None,
    responses={200: {"model": schemas.Added}, **_WRITE_ERRORS},
    openapi_extra=dict(_PHOTOS_FORM),
)
async def add(request: Request, shared: Shared) -> Response:
    """Add photos.  They are written anew below the index; names of files, and where they were taken, are forgotten."""
    shared.require_writer(request)
    sent = await form_of(request, most_files=MOST_PHOTOS, most_bytes=shared.settings.upload_bytes)
    if not sent.files or any(field != "photos" for field, _ in sent.files):
        raise Refused("send photos as form fields 'photos'")
    done = await shared.aside(
        shared.online.add,
        [content for _, content in sent.files],
        landmark=_landmark(sent.fields),
        country=text_of(sent.fields.get("country", "")) or None,
        position=sent.fields.get("position", "").lower() in ("true", "1", "on"),
    )
    unreadable = [{"name": str(number + 1), "reason": reason} for number, reason in done.unreadable.items()]
    return JSONResponse(
        {"added": list(done.added), "there_already": list(done.there_already), "unreadable": unreadable}
    )


@router.delete(
    "/photo",
    response_model=None,
    responses={200: {"model": schemas.Changed}, **_WRITE_ERRORS},
    openapi_extra=dict(_TOKEN),
)
async def remove(request: Request, shared: Shared, id: Id) -> Response:
    """Remove a photo from the index; its file stays where it is, unless it was sent to this server."""
    shared.require_writer(request)
    return JSONResponse({"photos": await shared.aside(shared.online.remove, [text_of(id)])})


@router.patch(
    "/photo",
    response_model=None,
    responses={200: {"model": schemas.Labelled}, **_WRITE_ERRORS},
    openapi_extra=dict(_TOKEN),
)
async def relabel(request: Request, shared: Shared, id: Id, label: schemas.Label) -> Response:
    """Say which landmark a photo shows, or that none is known; it votes so in the next answer."""
    shared.require_writer(request)
    said = label.model_fields_set
    if len(said) != 1:
        raise Refused('say either {"landmark": NUMBER or null} or {"landmark_name": NAME}')
    landmark = label.landmark if "landmark" in said else label.landmark_name
    if isinstance(landmark, str):
        landmark = text_of(landmark)
    return JSONResponse({"landmark": await shared.aside(shared.online.label, [text_of(id)], landmark)})


@router.patch(
    "/landmark",
    response_model=None,
    responses={200: {"model": schemas.Labelled}, **_WRITE_ERRORS},
    openapi_extra=dict(_TOKEN),
)
async def rename(
    request: Request, shared: Shared, landmark: schemas.Landmark, naming: schemas.Renaming
) -> Response:
    """Name a landmark."""
    shared.require_writer(request)
    await shared.aside(shared.online.name, landmark, text_of(naming.name))
    return JSONResponse({"landmark": landmark})


@router.post(
    "/landmarks/merge",
    response_model=None,
    responses={200: {"model": schemas.Changed}, **_WRITE_ERRORS},
    openapi_extra=dict(_TOKEN),
)
async def merge(request: Request, shared: Shared, merging: schemas.Merging) -> Response:
    """Let the photos of some landmarks show another one."""
    shared.require_writer(request)
    return JSONResponse({"photos": await shared.aside(shared.online.merge, merging.into, merging.others)})


@router.post(
    "/landmarks/split",
    response_model=None,
    responses={200: {"model": schemas.Labelled}, **_WRITE_ERRORS},
    openapi_extra=dict(_TOKEN),
)
async def split(request: Request, shared: Shared, splitting: schemas.Splitting) -> Response:
    """Let some photos show a new landmark."""
    shared.require_writer(request)
    photos = [text_of(photo) for photo in splitting.photos]
    return JSONResponse(
        {"landmark": await shared.aside(shared.online.split, photos, text_of(splitting.name))}
    )


@router.post("/session", response_model=None, responses={204: {"model": None}, **errors(403)})
async def session(shared: Shared, told: schemas.Session) -> Response:
    """Say the token once, so that this browser's pictures are shown, too; it may not change anything by that."""
    settings = shared.settings
    if settings.token is None or not holds_token({"authorization": f"Bearer {told.token}"}, settings):
        return refusal(401, "that is not the token")
    done = Response(status_code=204)
    done.set_cookie(COOKIE, cookie_of(settings), httponly=True, samesite="strict", path="/")
    return done


def _landmark(fields: Mapping[str, str]) -> int | str | None:
    number, name = fields.get("landmark", "").strip(), text_of(fields.get("landmark_name", "")).strip()
    if number and name:
        raise Refused("say the landmark by its number or by its name, not both")
    if not number:
        return name or None
    if not number.lstrip("-").isdecimal() or len(number) > 19:
        raise Refused("landmark is the number of a landmark; a name goes into landmark_name")
    return int(number)
