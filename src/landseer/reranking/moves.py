"""Which answers a re-ranker moved, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from landseer.types import PADDING, Ranking


def explained(
    before: Ranking, after: Ranking, why: Callable[[int, int], str]
) -> tuple[Mapping[int, str], ...]:
    """``Ranking.reasons`` of all answers of *after* that stand at another rank than in *before*.

    *why* says it of a query and a gallery position; the ranks, from 1, are put before it: ``57 -> 3: ...``, and
    ``new -> 3: ...`` where *before* did not have the photo.
    """
    found = []
    for query, (old, new) in enumerate(zip(before.positions_QK, after.positions_QK, strict=True)):
        rank = {int(position): number for number, position in enumerate(old, 1) if position != PADDING}
        found.append(
            {
                int(position): f"{rank.get(int(position), 'new')} -> {number}: {why(query, int(position))}"
                for number, position in enumerate(new, 1)
                if position != PADDING and rank.get(int(position)) != number
            }
        )
    return tuple(found)


def place_of(ranking: Ranking, query: int, position: int) -> int:
    """Where in its row an answer stands, from 0."""
    return int((ranking.positions_QK[query] == position).argmax())


def listed(names: list[str], *, most: int = 3) -> str:
    """``a, b and c``, or ``a, b, c and 4 more``."""
    rest = len(names) - most
    if rest > 0:
        return f"{', '.join(names[:most])} and {rest} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
