"""Groups of photos as one page to look through: the medoid and some members of each, complete in itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landseer.reporting.answers import pictures
from landseer.reporting.html import environment, resource
from landseer.types import Collection

MOST_GROUPS = 300
MOST_PHOTOS = 12
"""Of a group: the medoid, the half of the rest that is most like it, and the half that is least."""


@dataclass(frozen=True, kw_only=True)
class GroupShown:
    """A group as the page shows it; ``members`` are ids, the medoid first, the least alike last."""

    number: int
    name: str
    members: Sequence[str]
    confidence: float
    spread: float
    proven: float


def render_groups(groups: Sequence[GroupShown], collection: Collection, *, num_alone: int) -> str:
    """The HTML text of the page: the first ``MOST_GROUPS`` of *groups*.

    Equal groups over equal photos give equal text.  A photo that cannot be read stands there with the reason.
    """
    shown = groups[:MOST_GROUPS]
    chosen = {group.number: _chosen(group.members) for group in shown}
    seen = pictures(Counter(photo for photos in chosen.values() for photo in photos), collection)
    cards: list[Mapping[str, Any]] = [
        {
            "number": group.number,
            "name": group.name,
            "size": len(group.members),
            "confidence": group.confidence,
            "spread": group.spread,
            "proven": group.proven,
            "photos": [(photo, seen[photo]) for photo in chosen[group.number]],
            "more": len(group.members) - len(chosen[group.number]),
        }
        for group in shown
    ]
    return (
        environment()
        .from_string(resource("group.html"))
        .render(
            title="Groups of photos",
            cards=cards,
            num_groups=len(groups),
            num_photos=sum(len(group.members) for group in groups),
            num_alone=num_alone,
            hidden=len(groups) - len(shown),
        )
    )


def _chosen(members: Sequence[str]) -> list[str]:
    if len(members) <= MOST_PHOTOS:
        return list(members)
    last = MOST_PHOTOS // 2
    return [*members[: MOST_PHOTOS - last], *members[-last:]]
