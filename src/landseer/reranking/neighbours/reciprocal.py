"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): photos with the same neighbourhood are near each other.

d* = (1 - weight) J + weight d, with d = (1 - cos) / 2 and J of ``landseer.reranking.neighbours.jaccard``.

The global form takes neighbourhoods among all queries and gallery photos.  A photo that shares nobody with a
query has J = 1 and d* falls with its cosine, so the K best of those are among the K best of the search: the
answers of the ranking and all photos with J < 1 together hold the K best of the whole gallery.

Axes: Q queries, N gallery photos, K answers, T = Q + N items, M (query, photo) pairs, D components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from landseer.recipe import ReciprocalOptions
from landseer.reranking.allowed import Allowed
from landseer.reranking.context import Context, Search
from landseer.reranking.moves import explained, place_of
from landseer.reranking.neighbours.graph import best_of_each, nearest_others, pair_cosines, unit_rows
from landseer.reranking.neighbours.jaccard import jaccard_distances, local_jaccards, neighbourhoods, num_near
from landseer.types import PADDING, Descriptors, Ranking

_METHOD = "k-reciprocal"
_QUERIES_AT_ONCE = 256
_Pairs = tuple[slice, np.ndarray, np.ndarray, np.ndarray]
"""Some queries; query among them, gallery position and Jaccard distance ``[M]``, by rising query and position."""


def rerank_reciprocal(
    ranking: Ranking, context: Context, options: ReciprocalOptions, *, explain: bool = False
) -> Ranking:
    """Order by d*: in the local form the answers alone, in the global form the gallery.

    The scores are 1 - d*.  The global form copies all descriptors into one table, and needs memory for
    (Q + N) k numbers beside it.  It gives the K best of the whole gallery where *ranking* is by cosine.  A query
    whose row ends in padding stays within its answers.  Raises ``ValueError`` where descriptors are missing or not of
    unit length.
    """
    queries, gallery = context.descriptors(_METHOD, ranking)
    query_QD, gallery_ND = unit_rows(_METHOD, queries), unit_rows(_METHOD, gallery)
    if options.form == "local":
        pairs = _local(ranking, query_QD, gallery_ND, options)
    else:
        pairs = _global(ranking, queries, gallery, context.search, options)
    positions_QK, scores_QK = (
        np.full_like(ranking.positions_QK, PADDING),
        np.full_like(ranking.scores_QK, -np.inf),
    )
    shared_QK = np.zeros_like(ranking.scores_QK)
    for part, query_M, position_M, jaccard_M in pairs:
        distance_M = (1 - pair_cosines(query_QD[part], query_M, gallery_ND, position_M)) / 2
        score_M = 1 - ((1 - options.weight) * jaccard_M + options.weight * distance_M)
        shape = (part.stop - part.start, positions_QK.shape[1])
        positions_QK[part], scores_QK[part] = best_of_each(query_M, position_M, score_M, shape=shape)
        if explain:
            key_M = query_M * np.int64(len(gallery)) + position_M  # rising
            row_M, place_M = np.nonzero(positions_QK[part] != PADDING)
            key = row_M * np.int64(len(gallery)) + positions_QK[part][row_M, place_M]
            shared_QK[part][row_M, place_M] = 1 - jaccard_M[np.searchsorted(key_M, key)]
    after = replace(
        ranking,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
        score_kind="1 - k-reciprocal distance",
        reasons=(),
    )
    return _explained(ranking, after, shared_QK) if explain else after


def _local(
    ranking: Ranking, query_QD: np.ndarray, gallery_ND: np.ndarray, options: ReciprocalOptions
) -> Iterator[_Pairs]:
    """Each query's answers, neighbourhoods among themselves."""
    for start in range(0, len(ranking), _QUERIES_AT_ONCE):
        part = slice(start, min(start + _QUERIES_AT_ONCE, len(ranking)))
        # equal neighbours go by position, so the candidates stand in its order
        answers = [np.sort(row[row != PADDING]) for row in ranking.positions_QK[part]]
        candidates = [gallery_ND[row] for row in answers]
        jaccards = local_jaccards(query_QD[part], candidates, k1=options.k1, k2=options.k2)
        query_M = np.repeat(np.arange(len(answers)), [len(row) for row in answers])
        yield part, query_M, np.concatenate(answers), np.concatenate(jaccards)


def _global(
    ranking: Ranking, queries: Descriptors, gallery: Descriptors, search: Search, options: ReciprocalOptions
) -> Iterator[_Pairs]:
    """Each query's answers and all gallery photos with J < 1."""
    num_queries, num_photos = len(queries), len(gallery)
    everybody = _together(queries, gallery)
    rows_TD, total = everybody.rows_ND, len(everybody)
    near_TK, _ = nearest_others(everybody, search, k=num_near(options.k1, options.k2) - 1)
    near_TK = np.concatenate([np.arange(total)[:, None], near_TK], axis=1)

    def distances(row_M: np.ndarray, column_M: np.ndarray) -> np.ndarray:
        return (1 - pair_cosines(rows_TD, row_M, rows_TD, column_M)) / 2

    rows = neighbourhoods(near_TK, distances, k1=options.k1, k2=options.k2)
    inverted = rows.part(num_queries, total).transposed(total)
    asked, allowed = rows.part(0, num_queries), Allowed.by(ranking)
    for part, query_M, position_M, jaccard_M in jaccard_distances(asked, inverted, num_items=num_photos):
        answers = ranking.positions_QK[part]
        answered_M, place_M = np.nonzero(answers != PADDING)
        query = np.concatenate([query_M, answered_M])
        position = np.concatenate([position_M, answers[answered_M, place_M]])
        jaccard = np.concatenate([jaccard_M, np.ones(len(answered_M), np.float32)])
        # of a pair that is there twice the first counts, with its J below 1
        _, first = np.unique(query * np.int64(num_photos) + position, return_index=True)
        first = first[allowed.admits(part.start + query[first], position[first])]
        yield part, query[first], position[first], jaccard[first]


def _together(queries: Descriptors, gallery: Descriptors) -> Descriptors:
    """Queries, then gallery, numbered through: a photo may be among both."""
    total = len(queries) + len(gallery)
    return Descriptors(
        ids=tuple(map(str, range(total))),
        rows_ND=np.concatenate([queries.rows_ND, gallery.rows_ND]),
        metric=gallery.metric,
        normalised=gallery.normalised,
    )


def _explained(before: Ranking, after: Ranking, shared_QK: np.ndarray) -> Ranking:
    def why(query: int, position: int) -> str:
        shared = 100 * shared_QK[query, place_of(after, query, position)]
        return f"its neighbourhood and the query's have {shared:.0f} % in common"

    return replace(after, reasons=explained(before, after, why))
