"""Voters chosen by a local k-reciprocal step (2nd place 2021; neighbourhoods of Zhong et al., CVPR 2017).

Candidates are the query's nearest bank photos and the nearest of each of these.  Among the query and its
candidates the Jaccard distance J of k-reciprocal neighbourhoods is taken, and a candidate's similarity becomes

    1 - (b J + (1 - b) (1 - cos) / 2).

Outside the candidates J is 1 and the cosine lower than that of the nearest, so no other photo can do better than they.

Axes: Q queries, B of them at once, C candidates of one, M photos of the bank they are among, K voters, D components.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.recipe import LandmarkCountryOptions
from landseer.reranking.context import Context, Search
from landseer.reranking.neighbours.jaccard import local_jaccards
from landseer.reranking.voting.votes import cosine_voters
from landseer.types import PADDING, Descriptors, Ranking

KIND = "k-reciprocal"
_QUERIES_AT_ONCE = 256


def reciprocal_voters(
    ranking: Ranking, context: Context, options: LandmarkCountryOptions, *, method: str
) -> Ranking:
    """The ``voters`` bank photos of the highest blended similarity for every query, best first.

    Voters of score kind ``k-reciprocal`` are taken as they were given.  The result can be stored and given again.
    Raises ``ValueError`` where the bank has no descriptors, or voters are missing.
    """
    given = context.query_voters
    if given is not None and given.score_kind == KIND:
        return context.voters_of_queries(method, ranking, k=options.voters)
    name = f"{KIND} voters {options.voters} {options.candidates} {options.k1} {options.k2} {options.blend!r}"
    if name not in context._kept:
        context._kept[name] = _searched(ranking, context, options, method)
    kept: Ranking = context._kept[name]
    return kept


def _searched(ranking: Ranking, context: Context, options: LandmarkCountryOptions, method: str) -> Ranking:
    queries, _ = context.descriptors(method, ranking)
    bank = context.labelled(method).descriptors
    if bank is None:
        raise ValueError(
            f"{method}: voting by k-reciprocal needs descriptors of the vote bank (--bank); none were given, "
            'or say voting = "cosine"'
        )
    nearest = cosine_voters(context, "query", method, ranking, k=options.candidates)
    near_QC = nearest.positions_QK[:, : options.candidates]
    positions_QK = np.full((len(queries), options.voters), PADDING, np.int64)
    scores_QK = np.full((len(queries), options.voters), -np.inf, np.float32)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        candidates = _candidates(near_QC[part], bank, context.search, num=options.candidates)
        blended = _blended(queries.rows_ND[part], candidates, bank, options)
        for row, (position_C, score_C) in enumerate(zip(candidates, blended, strict=True), start):
            best = np.argsort(-score_C, kind="stable")[
                : options.voters
            ]  # candidates stand in the bank's order
            positions_QK[row, : len(best)], scores_QK[row, : len(best)] = position_C[best], score_C[best]
    return replace(nearest, positions_QK=positions_QK, scores_QK=scores_QK, score_kind=KIND, reasons=())


def _candidates(near_BC: np.ndarray, bank: Descriptors, search: Search, *, num: int) -> list[np.ndarray]:
    """For each query, in rising order, its nearest bank photos and the *num* nearest of each of these."""
    asked_M = np.unique(near_BC[near_BC != PADDING])
    if not len(asked_M):
        return [asked_M for _ in near_BC]
    asked = Descriptors(
        ids=tuple(bank.ids[position] for position in asked_M),
        rows_ND=bank.rows_ND[asked_M],
        metric=bank.metric,
        normalised=bank.normalised,
    )
    near_MC = search(asked, bank, k=min(num, len(bank))).positions_QK
    found = []
    for near_C in near_BC:
        own_C = near_C[near_C != PADDING]
        around = near_MC[np.searchsorted(asked_M, own_C)].ravel()
        found.append(np.unique(np.concatenate([own_C, around[around != PADDING]])))
    return found


def _blended(
    query_BD: np.ndarray, candidates: list[np.ndarray], bank: Descriptors, options: LandmarkCountryOptions
) -> list[np.ndarray]:
    """The similarity of each query to each of its candidates: float32 ``[C]``."""
    rows = [bank.rows_ND[position_C].astype(np.float32, copy=False) for position_C in candidates]
    distances = local_jaccards(query_BD.astype(np.float32, copy=False), rows, k1=options.k1, k2=options.k2)
    return [
        (
            1
            - options.blend * jaccard_C.astype(np.float64)
            - (1 - options.blend) * (1 - rows_CD.astype(np.float64) @ query_D.astype(np.float64)) / 2
        ).astype(np.float32)
        for query_D, rows_CD, jaccard_C in zip(query_BD, rows, distances, strict=True)
    ]
