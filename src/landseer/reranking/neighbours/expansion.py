"""Alpha query expansion and database augmentation: a photo mixed with its neighbours is searched instead.

x' = unit(x + sum over its first n neighbours y of max(cos(x, y), 0) ^ alpha * y)

Chum et al. (ICCV 2007) mix a query with its answers, Arandjelovic and Zisserman (CVPR 2012) mix the gallery
with itself, Radenovic et al. (TPAMI 2019, section 3.4) weigh by the power of the cosine.

Axes: Q queries, N gallery photos, K answers, n neighbours, B rows at once, D components.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.recipe import ExpansionOptions
from landseer.reranking.allowed import Allowed
from landseer.reranking.context import Context, Search
from landseer.reranking.moves import explained, listed, place_of
from landseer.reranking.neighbours.graph import best_of_each, nearest_in_gallery, pair_cosines, unit_rows
from landseer.types import PADDING, Descriptors, Ranking

_METHOD = "expansion"
_MIXED = "queries and gallery as expansion left them"
_CELLS_AT_ONCE = 2**22


def expand(
    ranking: Ranking, context: Context, options: ExpansionOptions, *, explain: bool = False
) -> Ranking:
    """Search again with every query mixed with its first answers, in a gallery mixed with itself.

    The gallery comes first (``gallery_neighbours``, none: as it is); then the query takes its answers in *ranking*,
    or, where the gallery has changed, those found in it.  Beyond the width of *ranking* the search goes on.
    The scores are cosines of the mixed rows.  A query whose row ends in padding stays within its answers: it is mixed
    with some of them, and they are ordered anew.  ``passed_on`` gives the mixed rows.  Raises ``ValueError`` where
    descriptors are missing or not of unit length.
    """
    queries, gallery = context.descriptors(_METHOD, ranking)
    query_QD, width = unit_rows(_METHOD, queries), ranking.positions_QK.shape[1]
    unit_rows(_METHOD, gallery)
    asked_Q = (ranking.positions_QK != PADDING).any(axis=1)
    if not asked_Q.any():
        return ranking
    if options.gallery_neighbours:
        gallery = _augmented(gallery, context, options)
    padded_Q = Allowed.by(ranking).padded_Q
    near_Qn = np.full((len(queries), 0), PADDING, np.int64)
    if options.query_neighbours:
        near_Qn = _answers(ranking, queries, gallery, context.search, options).copy()
        own_Bn = _own_answers(ranking, padded_Q, queries, gallery, options)[:, : near_Qn.shape[1]]
        near_Qn[padded_Q] = PADDING
        near_Qn[padded_Q, : own_Bn.shape[1]] = own_Bn
        mixed_QD = mixed(query_QD, gallery.rows_ND, near_Qn, alpha=options.alpha)
        queries = replace(queries, rows_ND=mixed_QD, fingerprint="")
    context._kept[_MIXED] = (queries, gallery)
    found = context.search(queries, gallery, k=width)
    positions_QK, scores_QK = found.positions_QK.copy(), found.scores_QK.copy()
    positions_QK[padded_Q], scores_QK[padded_Q] = _reordered(ranking, padded_Q, queries, gallery)
    after = Ranking(
        query_ids=ranking.query_ids,
        gallery_ids=ranking.gallery_ids,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
        score_kind="cosine",
        gallery_fingerprint=ranking.gallery_fingerprint,
    )
    if not explain:
        return after
    return _explained(ranking, after, query_QD=query_QD, near_Qn=near_Qn, context=context, options=options)


def passed_on(context: Context) -> Context:
    """*context* for the methods after ``expand``: the mixed rows, and nothing that was worked out from plain ones."""
    if _MIXED not in context._kept:  # no query had an answer, so nothing was mixed
        return context
    queries, gallery = context._kept[_MIXED]
    return replace(context, queries=queries, gallery=gallery, _kept={})


def mixed(rows_ND: np.ndarray, pool_MD: np.ndarray, near_Nn: np.ndarray, *, alpha: float) -> np.ndarray:
    """Every row as x': float32 ``[N, D]`` of unit length.

    *near_Nn* are rows of *pool_MD*; padding does not count.
    """
    num, dim = rows_ND.shape
    mixed_ND = np.empty((num, dim), np.float32)
    step = max(1, _CELLS_AT_ONCE // max(1, dim * (near_Nn.shape[1] + 1)))
    for start in range(0, num, step):
        row_BD = rows_ND[start : start + step].astype(np.float32, copy=False)
        near_Bn = near_Nn[start : start + step]
        pool_BnD = pool_MD[near_Bn].astype(np.float32, copy=False)
        cosine_Bn = np.einsum("bd,bnd->bn", row_BD, pool_BnD)
        # a negative cosine to a fractional power is NaN, and an unlike photo should not count
        weight_Bn = np.where(near_Bn == PADDING, 0, np.maximum(cosine_Bn, 0) ** np.float32(alpha))
        sum_BD = row_BD + np.einsum("bn,bnd->bd", weight_Bn, pool_BnD)
        length_B = np.linalg.norm(sum_BD, axis=1, keepdims=True)
        mixed_ND[start : start + step] = sum_BD / np.where(length_B > 0, length_B, 1)
    return mixed_ND


def _augmented(gallery: Descriptors, context: Context, options: ExpansionOptions) -> Descriptors:
    """The gallery mixed with itself; worked out once for a context."""
    name = f"gallery mixed with {options.gallery_neighbours}, alpha {options.alpha!r}"
    of: Descriptors | None
    kept: Descriptors
    of, kept = context._kept.get(name, (None, gallery))
    if of is not gallery:
        near_Nn, _ = nearest_in_gallery(context, gallery, k=options.gallery_neighbours)
        rows_ND = mixed(gallery.rows_ND, gallery.rows_ND, near_Nn, alpha=options.alpha)
        kept = replace(gallery, rows_ND=rows_ND, fingerprint="")
        context._kept[name] = (gallery, kept)
    return kept


def _answers(
    ranking: Ranking, queries: Descriptors, gallery: Descriptors, search: Search, options: ExpansionOptions
) -> np.ndarray:
    """The photos each query is mixed with: positions ``[Q, n]``."""
    num, width = options.query_neighbours, ranking.positions_QK.shape[1]
    if options.gallery_neighbours:
        return search(queries, gallery, k=min(num, len(gallery))).positions_QK
    if num <= width or width >= len(gallery):
        return ranking.positions_QK[:, :num]
    found = search(queries, gallery, k=min(num, len(gallery)))
    return _first_different(np.concatenate([ranking.positions_QK, found.positions_QK], axis=1), num)


def _own_answers(
    ranking: Ranking,
    padded_Q: np.ndarray,
    queries: Descriptors,
    gallery: Descriptors,
    options: ExpansionOptions,
) -> np.ndarray:
    """What queries that stay within their answers may be mixed with, the first first: positions ``[B, K]``."""
    if options.gallery_neighbours:  # the gallery has changed, and with it the order
        return _reordered(ranking, padded_Q, queries, gallery)[0]
    own_BK: np.ndarray = ranking.positions_QK[padded_Q]
    return own_BK


def _reordered(
    ranking: Ranking, chosen_Q: np.ndarray, queries: Descriptors, gallery: Descriptors
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores of the answers of some queries, by their cosines in *gallery*."""
    own_BK = ranking.positions_QK[chosen_Q]
    row_M, place_M = np.nonzero(own_BK != PADDING)
    position_M = own_BK[row_M, place_M]
    score_M = pair_cosines(queries.rows_ND, np.flatnonzero(chosen_Q)[row_M], gallery.rows_ND, position_M)
    return best_of_each(row_M, position_M, score_M, shape=own_BK.shape)


def _first_different(positions_QM: np.ndarray, num: int) -> np.ndarray:
    """The first *num* different positions of each row ``[Q, num]``, padded."""
    order_QM = np.argsort(positions_QM, axis=1, kind="stable")
    ordered = np.take_along_axis(positions_QM, order_QM, axis=1)
    fresh = np.ones(positions_QM.shape, np.bool_)
    np.put_along_axis(fresh, order_QM[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    fresh &= positions_QM != PADDING
    first = np.argsort(~fresh, axis=1, kind="stable")[:, :num]
    return np.where(
        np.take_along_axis(fresh, first, axis=1), np.take_along_axis(positions_QM, first, axis=1), PADDING
    )


def _explained(
    before: Ranking,
    after: Ranking,
    *,
    query_QD: np.ndarray,
    near_Qn: np.ndarray,
    context: Context,
    options: ExpansionOptions,
) -> Ranking:
    _, gallery = context.descriptors(_METHOD, before)
    query_M, place_M = np.nonzero(after.positions_QK != PADDING)
    alone_QK = np.zeros_like(after.scores_QK)
    alone_QK[query_M, place_M] = pair_cosines(
        query_QD, query_M, gallery.rows_ND, after.positions_QK[query_M, place_M]
    )
    which = "this photo mixed with its neighbours" if options.gallery_neighbours else "this photo"

    def why(query: int, position: int) -> str:
        place = place_of(after, query, position)
        joined = [before.gallery_ids[near] for near in near_Qn[query] if near != PADDING]
        what = f"the query mixed with {listed(joined)}" if joined else "the query"
        together, alone = after.scores_QK[query, place], alone_QK[query, place]
        return f"{what} has cosine {together:.2f} to {which}; the two alone {alone:.2f}"

    return replace(after, reasons=explained(before, after, why))
