"""The order of a ranking after its answers were scored anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.types import PADDING, Ranking


def best_first(ranking: Ranking, scores_QK: np.ndarray, *, score_kind: str) -> Ranking:
    """The same answers by *scores_QK*, rounded to float32: best first, equal ones by lower position.

    What stands at padding does not count.
    """
    scores_QK = np.where(ranking.positions_QK == PADDING, -np.inf, scores_QK).astype(np.float32)
    order_QK = np.lexsort((ranking.positions_QK, -scores_QK), axis=1)
    return replace(
        ranking,
        positions_QK=np.take_along_axis(ranking.positions_QK, order_QK, axis=1),
        scores_QK=np.take_along_axis(scores_QK, order_QK, axis=1),
        score_kind=score_kind,
    )
