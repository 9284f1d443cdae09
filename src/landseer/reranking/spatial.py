"""Points matched between the query and its first answers (host baseline, Google Landmark Retrieval 2021).

score + weight * min(inliers, 70) / 70, with the inliers of any matcher (``Context.match``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.recipe import SpatialOptions
from landseer.reranking.context import Context
from landseer.reranking.moves import explained
from landseer.reranking.voting.order import best_first
from landseer.types import PADDING, Ranking

_METHOD = "spatial"


def verify_spatially(
    ranking: Ranking, context: Context, options: SpatialOptions, *, explain: bool = False
) -> Ranking:
    """Match each query with its ``first`` answers and sort these anew.

    The rest stays behind them in its order and with its scores: a share of inliers is never negative, so no matched
    answer falls below the last it was ahead of.  Equal scores: the lower position first, among the matched.
    Raises ``ValueError`` where *context* has no matcher, or it does not count inliers for every photo.
    """
    match = context.matcher(_METHOD)
    first = min(options.first, ranking.positions_QK.shape[1])
    head = replace(
        ranking, positions_QK=ranking.positions_QK[:, :first], scores_QK=ranking.scores_QK[:, :first]
    )
    inliers_QF = np.zeros(head.positions_QK.shape, np.int64)
    for row, query in enumerate(ranking.query_ids):
        photos = [photo for photo, _ in head.answers(row)]
        if photos:
            inliers_QF[row, : len(photos)] = _counted(query, photos, match(query, photos))
    share_QF = np.minimum(inliers_QF, options.most_inliers) / options.most_inliers
    matched = best_first(head, head.scores_QK + options.weight * share_QF, score_kind=_METHOD)
    after = replace(
        matched,
        positions_QK=np.concatenate([matched.positions_QK, ranking.positions_QK[:, first:]], axis=1),
        scores_QK=np.concatenate([matched.scores_QK, ranking.scores_QK[:, first:]], axis=1),
    )
    return _explained(ranking, after, inliers_QF) if explain else after


def _counted(query: str, photos: list[str], inliers: object) -> np.ndarray:
    found = np.asarray(inliers)
    if found.shape != (len(photos),) or found.dtype.kind not in "iu" or found.min() < 0:
        raise ValueError(
            f"{_METHOD}: the matcher must count the inliers of query {query!r} with each of {len(photos)} photos, "
            f"whole numbers from 0, but gave {found.dtype} {found.shape}"
        )
    return found


def _explained(before: Ranking, after: Ranking, inliers_QF: np.ndarray) -> Ranking:
    inliers = [
        {
            int(position): int(number)
            for position, number in zip(positions, numbers, strict=False)
            if position != PADDING
        }
        for positions, numbers in zip(before.positions_QK, inliers_QF, strict=True)
    ]

    def why(query: int, position: int) -> str:
        return f"{inliers[query][position]} points match the query"

    return replace(after, reasons=explained(before, after, why))
