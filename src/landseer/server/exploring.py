"""Routes that show a finished run, query by query; there only where the server was started with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landseer.pipeline.online import FAILED, RULES, JudgedAnswer, RunExplorer, RunQuery
from landseer.pipeline.online.runs import SHOWN
from landseer.server import schemas
from landseer.server.browsing import picture_sent
from landseer.server.pages import sent
from landseer.server.routing import After, Shared, errors, text_of

pages = APIRouter(include_in_schema=False)
router = APIRouter(prefix="/api", tags=["run"])

Id = Annotated[str, Query(description="A photo's id in the run's collection.", max_length=4000)]
Landmark = Annotated[
    int | None, Query(ge=-(2**62), le=2**62, description="Only queries that show this landmark.")
]
Tag = Annotated[
    str | None,
    Query(max_length=40, description=f"Only queries with this tag: {', '.join((FAILED, *RULES))}."),
]
Sort = Annotated[
    str,
    Query(
        max_length=20,
        description="ap: lowest average precision first, -ap: highest; landmark: by name; change: those that lost most "
        "first, -change: those that gained most.",
        examples=["ap"],
    ),
]


@pages.get("/run")
async def page(request: Request) -> Response:
    """The page for people."""
    return sent(request, "static", "run.html")


@router.get("/run", response_model=None, responses={200: {"model": schemas.Run}, **errors()})
async def run(shared: Shared, landmark: Landmark = None) -> Response:
    """The run as a whole: its numbers beside the other's, why queries failed, which landmarks are taken for others."""
    explorer: RunExplorer = shared.run
    facts, tags = explorer.facts, explorer.tags(landmark=landmark)
    confusions = await shared.aside(lambda: explorer.confusions)
    difference = facts.difference
    return JSONResponse(
        {
            **{name: value for name, value in asdict(facts).items() if name != "difference"},
            "difference": None
            if difference is None
            else {
                "value": difference.value,
                "low": difference.low,
                "high": difference.high,
                "p": difference.test.p,
                "queries": difference.num_queries,
                "group": difference.group,
            },
            "tags": [
                {"tag": tag, "name": name, "rule": rule, "queries": tags[tag]}
                for tag, (name, rule) in {FAILED: _FAILED, **RULES}.items()
            ],
            "landmark_name": None if landmark is None else explorer.name_of(landmark),
            "confusions": [asdict(each) for each in confusions],
            "version": shared.version,
            "index": shared.online is not None,
        }
    )


_FAILED = ("failed", "The first answer is wrong, or there is none.")


@router.get("/run/queries", response_model=None, responses={200: {"model": schemas.RunQueries}, **errors()})
async def queries(  # noqa: PLR0917 - FastAPI gives them by name
    shared: Shared,
    sort: Sort = "ap",
    landmark: Landmark = None,
    tag: Tag = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Queries with their first answers, lowest average precision first."""
    explorer: RunExplorer = shared.run
    found, following, total = explorer.queries(
        sort=sort, landmark=landmark, tag=tag or None, after=after or 0, limit=limit
    )

    def told() -> list[dict[str, Any]]:
        return [_with_answers(explorer, each, SHOWN) for each in found]

    return JSONResponse({"queries": await shared.aside(told), "next": following, "total": total})


@router.get(
    "/run/query", response_model=None, responses={200: {"model": schemas.RunQueryInFull}, **errors(404)}
)
async def query(shared: Shared, id: Id) -> Response:
    """One query with its first 50 answers, and what re-ranking says of each."""
    explorer: RunExplorer = shared.run
    found = explorer.query(text_of(id))
    told = await shared.aside(_with_answers, explorer, found)
    return JSONResponse({**told, "nearest_right": explorer.nearest_right(found.id)})


@router.get(
    "/run/thumbnail", response_model=None, responses={200: {"content": {"image/jpeg": {}}}, **errors(404)}
)
async def thumbnail(
    request: Request,
    shared: Shared,
    id: Id,
    side: Annotated[int, Query(ge=16, le=1280, description="Pixels of the longer side, at most.")] = 224,
) -> Response:
    """A small picture of a photo of the run, made anew: nothing that the photo says of itself is in it."""
    return picture_sent(request, await shared.aside(shared.run.picture, text_of(id), side))


def _with_answers(explorer: RunExplorer, found: RunQuery, num: int | None = None) -> dict[str, Any]:
    more = () if num is None else (num,)
    other = explorer.other_answers(found.id, *more)
    return {
        **asdict(found),
        "change": found.change,
        "answers": _told(explorer, explorer.answers(found.id, *more)),
        "other_answers": None if other is None else _told(explorer, other),
    }


def _told(explorer: RunExplorer, answers: Sequence[JudgedAnswer]) -> list[dict[str, Any]]:
    return [
        {
            "rank": answer.rank,
            "id": answer.photo,
            "verdict": answer.verdict,
            "landmark": answer.landmark,
            "landmark_name": explorer.name_of(answer.landmark),
            "score": answer.score,
            "cosine": round(answer.cosine, 6),
            "why": answer.why,
        }
        for answer in answers
    ]
