"""What is known of photos and queries, as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landseer.pipeline.online import Box, Reply, Verdict

_OWN = (
    "root",
    "path",
    "kind",
    "landmark_name",
    "landmark_country",
    "landmark_latitude",
    "landmark_longitude",
)
"""Columns that are told otherwise, or are nobody's business: where photos lie on the server."""
_KNOWN = ("id", "landmark", "country", "taken", "latitude", "longitude")


def photo_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A photo of the index; where it says no place itself, that of its landmark."""
    latitude, longitude, place = record.get("latitude"), record.get("longitude"), "photo"
    if latitude is None or longitude is None:
        latitude, longitude = record.get("landmark_latitude"), record.get("landmark_longitude")
        place = "landmark"
    there = latitude is not None and longitude is not None
    landmark = record.get("landmark")
    return {
        "id": record["id"],
        "landmark": landmark,
        "landmark_name": None if landmark is None else record.get("landmark_name") or f"landmark {landmark}",
        "country": record.get("country") or record.get("landmark_country"),
        "taken": record.get("taken"),
        "latitude": latitude if there else None,
        "longitude": longitude if there else None,
        "place": place if there else None,
    }


def record_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """All that may be told of a photo: its own columns, too."""
    more = {name: value for name, value in record.items() if name not in (*_OWN, *_KNOWN)}
    return {**photo_of(record), "more": more}


def reply_of(reply: Reply, query: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a search; *query* is what is told of the question."""
    return {
        "query": {**query, "box": _rounded(reply.box)},
        "recognition": None if reply.verdict is None else verdict_of(reply.verdict),
        "answers": [
            {"rank": answer.rank, "score": answer.score, **photo_of(answer.record), "why": answer.why}
            for answer in reply.answers
        ],
    }


def verdict_of(verdict: Verdict) -> dict[str, Any]:
    """Which landmark it is; one that is not known is not named, its votes are."""
    return {
        "known": verdict.known,
        "landmark": verdict.landmark if verdict.known else None,
        "name": verdict.name if verdict.known else None,
        "country": verdict.country if verdict.known else None,
        "confidence": round(verdict.confidence, 4),
        "calibrated": False,
        "votes": [
            {
                "landmark": vote.landmark,
                "name": vote.name,
                "country": vote.country,
                "share": round(vote.share, 4),
                "photos": list(vote.photos),
            }
            for vote in verdict.votes
        ],
    }


def _rounded(box: Box | None) -> list[float] | None:
    return None if box is None else [round(min(1.0, max(0.0, edge)), 4) for edge in box]
