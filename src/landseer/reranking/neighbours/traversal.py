"""Explore-exploit graph traversal (Chang et al., CVPR 2019): walk from the query along the best edges.

The photos at the end of the query's edges are candidates, each with the weight of its best edge.  Exploit:
accept candidates of weight *threshold* or more, best first, or, where there is none, the single best.
Explore: the neighbours of those accepted become candidates.  And so on, until there are as many answers as
before.  Without a threshold (t = infinity) one candidate is accepted between two explorations.

All queries of a batch walk in step: in each, every query accepts one candidate or explores.

Axes: Q queries, N gallery photos, K answers, B queries at once, S lists of neighbours, E edges of a photo, M
lists of several queries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landseer.recipe import TraversalOptions
from landseer.reranking.allowed import Allowed
from landseer.reranking.context import Context
from landseer.reranking.moves import explained, place_of
from landseer.reranking.neighbours.graph import nearest_in_gallery, pair_cosines, unit_rows
from landseer.types import PADDING, Ranking

_METHOD = "traversal"
_CELLS_AT_ONCE = 2**21
_FROM_QUERY = -2


def traverse(
    ranking: Ranking, context: Context, options: TraversalOptions, *, explain: bool = False
) -> Ranking:
    """The order in which a walk from the query accepts gallery photos.

    A query's edges are its first answers in *ranking*, a gallery photo's are its nearest others, searched for
    once for a context; an edge weighs the cosine of its ends.  Equal candidates: the lower position.  Where the
    walk ends early the answers that it did not reach follow in their order.  A query whose row ends in padding walks
    among its answers only.  The scores count down from the
    width of the ranking, for the method gives an order only.  Raises ``ValueError`` where descriptors are missing
    or not of unit length.
    """
    queries, gallery = context.descriptors(_METHOD, ranking)
    query_QD, gallery_ND = unit_rows(_METHOD, queries), unit_rows(_METHOD, gallery)
    num, width = ranking.positions_QK.shape
    if not num or not len(gallery):
        return ranking
    edges_NE, weights_NE = nearest_in_gallery(context, gallery, k=min(options.neighbours, len(gallery)))
    positions_QK = np.full((num, width), PADDING, np.int64)
    from_QK, weight_QK = positions_QK.copy(), np.full((num, width), np.nan, np.float32)
    allowed = Allowed.by(ranking)
    step = max(1, _CELLS_AT_ONCE // ((width + 1) * edges_NE.shape[1]))
    for start in range(0, num, step):
        part = slice(start, start + step)
        answers = ranking.positions_QK[part, : options.neighbours]
        walk = _Walk(
            answers, query_QD[part], gallery_ND, (edges_NE, weights_NE), (allowed, start), width=width
        )
        walk.run(np.float32(np.inf if options.threshold is None else options.threshold))
        positions_QK[part], from_QK[part], weight_QK[part] = walk.accepted_BK, walk.from_BK, walk.weight_BK
    after = _ranked(ranking, positions_QK)
    return _explained(ranking, after, from_QK, weight_QK) if explain else after


class _Walk:
    """Where some queries have got to.  A list is one photo's edges; list 0 is the query's own."""

    def __init__(
        self,
        answers_BK: np.ndarray,
        query_BD: np.ndarray,
        gallery_ND: np.ndarray,
        graph: tuple[np.ndarray, np.ndarray],
        allowed: tuple[Allowed, int],
        *,
        width: int,
    ) -> None:
        """*graph*: the ends and weights of each photo's edges, ``[N, E]``; *allowed*, and which query is the first."""
        self._edges_NE, self._weights_NE = graph
        self._allowed, self._first = allowed
        num, degree = len(answers_BK), self._edges_NE.shape[1]
        self.accepted_BK = np.full((num, width), PADDING, np.int64)
        self.from_BK = np.full((num, width), PADDING, np.int64)
        """At the end of whose edge each was found."""
        self.weight_BK = np.full((num, width), np.nan, np.float32)
        """And what the edge weighed."""
        self._count_B = np.zeros(num, np.int64)
        self._explored_B = np.zeros(num, np.int64)
        self._end_BSE = np.full((num, width + 1, degree), PADDING, np.int32)
        self._weight_BSE = np.full((num, width + 1, degree), -np.inf, np.float32)
        row_M, place_M = np.nonzero(answers_BK != PADDING)
        self._end_BSE[row_M, 0, place_M] = answers_BK[row_M, place_M]
        self._weight_BSE[row_M, 0, place_M] = pair_cosines(
            query_BD, row_M, gallery_ND, answers_BK[row_M, place_M]
        )

    def run(self, threshold: np.float32) -> None:
        """Walk until no query has a candidate or all have their answers."""
        width = self.accepted_BK.shape[1]
        active = np.flatnonzero(self._count_B < width)
        while active.size:
            lists = int(self._explored_B[active].max()) + 1
            weight_BX = self._weight_BSE[active, :lists].reshape(len(active), -1)
            best_B = weight_BX.max(axis=1)
            waiting_B = self._count_B[active] > self._explored_B[active]
            explores_B = waiting_B & ~(best_B >= threshold)
            accepts_B = ~explores_B & (best_B > -np.inf)
            self._accept(active[accepts_B], weight_BX[accepts_B], best_B[accepts_B], lists)
            self._explore(active[explores_B])
            active = active[explores_B | accepts_B]
            active = active[self._count_B[active] < width]

    def _accept(self, rows: np.ndarray, weight_BX: np.ndarray, best_B: np.ndarray, lists: int) -> None:
        """One candidate each: the best, of equal ones the lowest position."""
        if not rows.size:
            return
        end_BX = self._end_BSE[rows, :lists].reshape(len(rows), -1)
        nobody = np.iinfo(np.int32).max
        best_BX = np.where(weight_BX == best_B[:, None], end_BX, nobody)
        place_B = best_BX.argmin(axis=1)  # found from the list explored first
        chosen_B = end_BX[np.arange(len(rows)), place_B]
        list_B = place_B // self._end_BSE.shape[2]
        count_B = self._count_B[rows]
        self.accepted_BK[rows, count_B] = chosen_B
        self.weight_BK[rows, count_B] = best_B
        self.from_BK[rows, count_B] = np.where(
            list_B == 0, _FROM_QUERY, self.accepted_BK[rows, np.maximum(list_B - 1, 0)]
        )
        self._count_B[rows] += 1
        flat_M = np.flatnonzero(end_BX == chosen_B[:, None])  # several times as fast as nonzero of a table
        row_M, cell_M = np.divmod(flat_M, end_BX.shape[1])
        self._weight_BSE.reshape(len(self._count_B), -1)[rows[row_M], cell_M] = -np.inf

    def _explore(self, rows: np.ndarray) -> None:
        """The edges of all that were accepted since the last time, but for those to accepted photos."""
        if not rows.size:
            return
        place_K = np.arange(self.accepted_BK.shape[1])
        count_B, explored_B = self._count_B[rows], self._explored_B[rows]
        new_BK = (place_K >= explored_B[:, None]) & (place_K < count_B[:, None])
        row_M, place_M = np.nonzero(new_BK)
        row_M = rows[row_M]
        photo_M = self.accepted_BK[row_M, place_M]
        end_ME, weight_ME = self._edges_NE[photo_M], self._weights_NE[photo_M]
        seen_ME = np.zeros(end_ME.shape, np.bool_)
        for place in range(int(count_B.max())):
            seen_ME |= end_ME == self.accepted_BK[row_M, place][:, None]
        query_ME = np.broadcast_to((self._first + row_M)[:, None], end_ME.shape)
        seen_ME |= ~self._allowed.admits(query_ME, end_ME)
        self._end_BSE[row_M, place_M + 1] = end_ME
        self._weight_BSE[row_M, place_M + 1] = np.where(seen_ME, -np.inf, weight_ME)
        self._explored_B[rows] = count_B


def _ranked(ranking: Ranking, positions_QK: np.ndarray) -> Ranking:
    """Positions as a ranking; where there are too few, the answers that are not among them follow."""
    width = positions_QK.shape[1]
    for row in np.flatnonzero((positions_QK == PADDING).any(axis=1)):
        reached = positions_QK[row][positions_QK[row] != PADDING]
        old = ranking.positions_QK[row]
        left = old[~np.isin(old, reached)][: width - len(reached)]
        positions_QK[row, len(reached) : len(reached) + len(left)] = left
    score_K = np.arange(width, 0, -1, dtype=np.float32)
    return replace(
        ranking,
        positions_QK=positions_QK,
        scores_QK=np.where(positions_QK == PADDING, np.float32(-np.inf), score_K),
        score_kind="order",
        reasons=(),
    )


def _explained(before: Ranking, after: Ranking, from_QK: np.ndarray, weight_QK: np.ndarray) -> Ranking:
    def why(query: int, position: int) -> str:
        place = place_of(after, query, position)
        source = int(from_QK[query, place])
        if source == PADDING:
            return "the walk from the query did not reach it"
        name = "the query" if source == _FROM_QUERY else before.gallery_ids[source]
        return f"reached from {name} along an edge of cosine {weight_QK[query, place]:.2f}"

    return replace(after, reasons=explained(before, after, why))
