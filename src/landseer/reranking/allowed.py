"""Which gallery photos a query may be answered with, as its ranking says.

A row that ends in padding had no more photos to choose from: a filter allowed no others, or the tool that ranked left
them out.  Such a query stays within its own answers; a re-ranker orders them anew and brings no other in.

Axes: Q queries, N gallery photos, K answers, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from landseer.types import PADDING, Ranking


@dataclass(frozen=True, kw_only=True, eq=False)
class Allowed:
    """The answers of the queries whose rows end in padding; all else is allowed to the others."""

    padded_Q: np.ndarray
    """bool."""
    key_M: np.ndarray
    """Query times the size of the gallery plus position, rising: the answers of padded rows."""
    num_photos: int

    @staticmethod
    def by(ranking: Ranking) -> Allowed:
        """What *ranking* allows."""
        there_QK = ranking.positions_QK != PADDING
        padded_Q = ~there_QK.all(axis=1)
        query_M, place_M = np.nonzero(there_QK & padded_Q[:, None])
        num_photos = len(ranking.gallery_ids)
        key_M = query_M * np.int64(num_photos) + ranking.positions_QK[query_M, place_M]
        return Allowed(padded_Q=padded_Q, key_M=np.sort(key_M), num_photos=num_photos)

    def admits(self, query_M: np.ndarray, position_M: np.ndarray) -> np.ndarray:
        """Whether each query may be answered with that photo: bool, in the shape of both."""
        admitted_M: np.ndarray = ~self.padded_Q[query_M]
        if admitted_M.all():
            return admitted_M
        key_M = query_M * np.int64(self.num_photos) + position_M
        place_M = np.minimum(np.searchsorted(self.key_M, key_M), max(0, len(self.key_M) - 1))
        found_M: np.ndarray = self.key_M[place_M] == key_M if len(self.key_M) else np.zeros_like(admitted_M)
        admitted_M |= found_M
        return admitted_M


def without_removed(ranking: Ranking) -> Ranking:
    """The same answers in a gallery without the photos that a living index has removed, whose ids are empty.

    Its positions are those among the photos that are left, no row numbers any more; ``Descriptors.take`` of its
    ``gallery_ids`` gives the rows to re-rank it with.  Raises ``ValueError`` where a removed photo is an answer.
    """
    live_N = np.array([bool(photo) for photo in ranking.gallery_ids], np.bool_)
    if live_N.all():
        return ranking
    answers = ranking.positions_QK[ranking.positions_QK != PADDING]
    if not live_N[answers].all():
        raise ValueError("an answer of the ranking has been removed from its gallery; search again")
    place_N = np.append(np.cumsum(live_N) - 1, PADDING)  # the last for padding, which is -1
    return replace(
        ranking,
        gallery_ids=tuple(photo for photo in ranking.gallery_ids if photo),
        positions_QK=place_N[ranking.positions_QK],
        reasons=tuple(
            {int(place_N[position]): why for position, why in row.items()} for row in ranking.reasons
        ),
    )
