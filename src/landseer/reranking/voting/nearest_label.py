"""Whether the nearest labelled photos of query and answer agree (1st place, Google Landmark Retrieval 2021)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.recipe import NearestLabelOptions
from landseer.reranking.context import Context
from landseer.reranking.moves import explained
from landseer.reranking.voting.order import best_first
from landseer.reranking.voting.votes import NO_LABEL, cosine_voters, labels_of
from landseer.types import PADDING, Ranking

_METHOD = "nearest-label"


def compare_nearest_labels(
    ranking: Ranking, context: Context, options: NearestLabelOptions, *, explain: bool = False
) -> Ranking:
    """Add each answer's cosine to its nearest bank photo where that agrees with the query's, else take some off.

    score + ``agree`` * cos, or score - ``disagree`` * cos.  A nearest photo without a landmark agrees with none.
    The same answers in another order; equal scores: the lower position first.  Raises ``ValueError`` where
    *context* has no vote bank or no voters.
    """
    bank = context.labelled(_METHOD)
    if not ranking.gallery_ids:
        return replace(ranking, score_kind=_METHOD)
    asking = cosine_voters(context, "query", _METHOD, ranking, k=1)
    shown = cosine_voters(context, "gallery", _METHOD, ranking, k=1)
    label_Q = labels_of(asking, bank.landmark_N, k=1)[:, 0]
    label_N = labels_of(shown, bank.landmark_N, k=1)[:, 0]
    cosine_N = np.where(shown.positions_QK[:, 0] == PADDING, 0, shown.scores_QK[:, 0].astype(np.float64))
    agree_QK = (label_N[ranking.positions_QK] == label_Q[:, None]) & (label_Q != NO_LABEL)[:, None]
    change_QK = np.where(agree_QK, options.agree, -options.disagree) * cosine_N[ranking.positions_QK]
    after = best_first(ranking, ranking.scores_QK + change_QK, score_kind=_METHOD)
    if not explain:
        return after

    def why(query: int, position: int) -> str:
        label, cosine = int(label_N[position]), cosine_N[position]
        what = f"its nearest labelled photo, cosine {cosine:.2f}, shows landmark {label}"
        if label == NO_LABEL:
            return f"its nearest labelled photo, cosine {cosine:.2f}, shows no landmark"
        return f"{what}, as the query's" if label == label_Q[query] else f"{what}, not that of the query's"

    return replace(after, reasons=explained(ranking, after, why))
