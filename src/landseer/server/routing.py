"""What the routes have in common: the index they serve, how a crop and a page are said, the errors they may give."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query, Request

from landseer.pipeline.online import Box, Refused
from landseer.server.schemas import Error

if TYPE_CHECKING:
    from landseer.server.app import Serving

_WORDS = {
    400: "The question is wrong; the line says how.",
    401: "The token is missing or wrong.",
    403: "Not from this page, or this server only answers.",
    404: "There is none.",
    408: "The request took too long to arrive.",
    409: "Not now; a moment later.",
    413: "Too large.",
    422: "A parameter is wrong.",
    429: "Too many requests.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These, and those that every route may give, for the OpenAPI file."""
    return {
        status: {"model": Error, "description": _WORDS[status]}
        for status in sorted({*statuses, 400, 401, 422, 429})
    }


def serving_of(request: Request) -> Serving:
    """What the application shares."""
    found: Serving = request.app.state.serving
    return found


Id = Annotated[str, Query(description="A photo's id in the index.", max_length=4000, examples=["rome/a.jpg"])]
K = Annotated[int, Query(ge=1, le=1000, description="Answers.")]
Filter = Annotated[
    str | None,
    Query(
        max_length=4000,
        description="Only photos that meet this.",
        examples=["country = 'FR' and taken >= '2019'"],
    ),
]
Crop = Annotated[
    str | None,
    Query(
        max_length=200,
        description="The part that is meant: left,top,right,bottom in fractions of the upright photo.",
        examples=["0.1,0.2,0.9,0.8"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int | None, Query(ge=0, le=2**62, description="What `next` said.")]


def box_of(crop: str | None) -> Box | None:
    """The box that a crop says.  Raises ``Refused``."""
    if crop is None or not crop.strip():
        return None
    try:
        left, top, right, bottom = (float(part) for part in crop.split(","))
    except ValueError:
        raise Refused("crop is four numbers, left,top,right,bottom, say 0.1,0.2,0.9,0.8") from None
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise Refused("crop is four numbers between 0 and 1")
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise Refused("crop is in fractions of the photo: left below right and top below bottom, from 0 to 1")
    return left, top, right, bottom


def text_of(value: str) -> str:
    """A text that can be compared and stored.  Raises ``Refused`` for one with NUL or half a character."""
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise Refused("a text may hold neither NUL nor half a character")
    return value


Shared = Annotated[Any, Depends(serving_of)]
