"""The nearest photos within parts of the gallery, for many queries that each ask for a few parts.

In a large part is searched.  The photos of others are all scored, by float64 dot products with the queries that ask for
them, rounded as the definition says (``landseer.search.scores``); a part of no more photos than asked for is then taken
whole.  Small parts share a table of products, some of whose cells are thrown away: that is sooner than a table for
each.  The products are no matrix products, which BLAS would hand to threads that wait for each other.

Axes: Q queries, N gallery photos, M (query, part) requests, P parts that are asked for, A answers of all requests, one
request after the other, R rows of all parts taken whole, B queries and n photos of one table, D components.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from landseer.reranking.context import Search
from landseer.reranking.voting.votes import Shelves
from landseer.search.scores import best, norm_bounds, round_sums, sum_bound
from landseer.types import PADDING, Descriptors

_PAIRS_AT_ONCE = 2**22
_QUERIES_AT_ONCE = 4096
_CELLS_AT_ONCE = 2**20
_CELLS_SHARED = 2**9
_WORTH_A_SEARCH = 2**12


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """Positions int64 and scores float32 ``[A]``; those of query q are ``start_Q[q]`` to ``start_Q[q + 1]``."""

    start_Q: np.ndarray
    position_A: np.ndarray
    score_A: np.ndarray

    def of(self, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query, counted from the first of *part*, position and score of what the queries of *part* found."""
        start_B = self.start_Q[part.start : part.stop + 1]
        cells = slice(int(start_B[0]), int(start_B[-1]))
        query_A = np.repeat(np.arange(len(start_B) - 1), np.diff(start_B))
        return query_A, self.position_A[cells], self.score_A[cells]


def nearest_within(
    queries: Descriptors,
    gallery: Descriptors,
    parts: Shelves,
    requests: tuple[np.ndarray, np.ndarray],
    *,
    k: int,
    search: Search,
) -> Nearest:
    """The *k* nearest photos of each requested part; *requests*: query, rising, and shelf of *parts*."""
    size_M = np.minimum(parts.size_L[requests[1]], k)
    first_M = np.cumsum(size_M) - size_M
    position_A = np.empty(int(size_M.sum()), np.int64)
    score_A = np.empty(len(position_A), np.float32)
    scorer = _Scorer(queries, gallery)
    order_M = np.argsort(requests[1], kind="stable")
    whole_M = parts.size_L[requests[1][order_M]] <= k
    asked = order_M[whole_M]
    cell_A = _counted_on(first_M[asked], size_M[asked])
    position_A[cell_A], score_A[cell_A] = scorer.whole(parts, requests[0][asked], requests[1][asked])
    asked = order_M[~whole_M]
    query_M, part_M = requests[0][asked], requests[1][asked]
    for start, end in _runs(part_M):
        member_n = parts.position_M[slice(*parts.start_L[part_M[start] : part_M[start] + 2])]
        if len(member_n) < _WORTH_A_SEARCH:
            found = scorer.best(query_M[start:end], member_n, k=k)
        else:
            nearest = search(_some(queries, query_M[start:end]), _some(gallery, member_n), k=k)
            missed_Bk = nearest.positions_QK == PADDING  # an approximate search may find fewer
            found = np.where(missed_Bk, PADDING, member_n[nearest.positions_QK]), nearest.scores_QK
        cell_Bk = first_M[asked[start:end], None] + np.arange(k)
        position_A[cell_Bk], score_A[cell_Bk] = found
    there_A = position_A != PADDING
    count_Q = np.bincount(np.repeat(requests[0], size_M)[there_A], minlength=len(queries))
    return Nearest(
        start_Q=np.concatenate([[0], np.cumsum(count_Q)]),
        position_A=position_A[there_A],
        score_A=score_A[there_A],
    )


class _Scorer:
    """Exact scores of many pairs."""

    def __init__(self, queries: Descriptors, gallery: Descriptors) -> None:
        # plain arrays: to take rows of a memory map costs more than a small table
        self._query_QD = np.asarray(queries.rows_ND)
        self._gallery_ND = np.asarray(gallery.rows_ND)
        self._norm_Q = norm_bounds(queries.rows_ND, queries.ids)

    def whole(self, parts: Shelves, query_M: np.ndarray, part_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores ``[A]`` of all photos of the requested parts; the requests stand by part."""
        size_M = parts.size_L[part_M]
        bounds = [0, *np.cumsum(size_M).tolist()]
        run_P = np.array([start for start, _ in _runs(part_M)], np.int64)
        asked_P, size_P = np.diff(run_P, append=len(part_M)), size_M[run_P]
        row_R = parts.position_M[_counted_on(parts.start_L[part_M[run_P]], size_P)]
        begin_P = np.concatenate([[0], np.cumsum(size_P)])
        request_A = np.repeat(np.arange(len(part_M)), size_M)
        column_A = _counted_on(np.repeat(begin_P[:-1], asked_P), size_M)
        sum_A, norm_R = np.empty(bounds[-1], np.float64), np.empty(len(row_R), np.float64)
        for first, end in _tables(asked_P, size_P):
            rows = slice(begin_P[first], begin_P[end])
            row_nD, norm_R[rows] = self._rows(row_R[rows])
            stop = int(run_P[end]) if end < len(run_P) else len(part_M)
            for start in range(int(run_P[first]), stop, _QUERIES_AT_ONCE):
                few = slice(start, min(start + _QUERIES_AT_ONCE, stop))
                table_Bn = self._table(query_M[few], row_nD)
                cells = slice(bounds[few.start], bounds[few.stop])
                sum_A[cells] = table_Bn[request_A[cells] - start, column_A[cells] - rows.start]
        position_A, query_A = row_R[column_A], query_M[request_A]
        return position_A, self._rounded(sum_A, query_A, position_A, norm_R[column_A])

    def best(self, query_B: np.ndarray, member_n: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores ``[B, k]`` of the best of a part's photos, which are *k* or more."""
        num = len(member_n)
        row_nD, norm_n = self._rows(member_n)
        positions, scores = np.empty((len(query_B), k), np.int64), np.empty((len(query_B), k), np.float32)
        step = max(1, _CELLS_AT_ONCE // num)
        for start in range(0, len(query_B), step):
            few = slice(start, start + step)
            table_Bn = self._table(query_B[few], row_nD)
            row_A = np.repeat(np.arange(len(table_Bn)), num)
            position_A = np.tile(member_n, len(table_Bn))
            score_A = self._rounded(
                table_Bn.ravel(), query_B[few][row_A], position_A, np.tile(norm_n, len(table_Bn))
            )
            positions[few], scores[few] = best(row_A, position_A, score_A, num_queries=len(table_Bn), k=k)
        return positions, scores

    def _rows(self, position_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the gallery, and their lengths."""
        row_nD = self._gallery_ND[position_n].astype(np.float64)
        return row_nD, np.sqrt(np.vecdot(row_nD, row_nD))

    def _table(self, query_B: np.ndarray, row_nD: np.ndarray) -> np.ndarray:
        wide_BD = self._query_QD[query_B].astype(np.float64)
        table_Bn: np.ndarray = np.vecdot(wide_BD[:, None], row_nD)
        return table_Bn

    def _rounded(
        self, sum_A: np.ndarray, query_A: np.ndarray, position_A: np.ndarray, norm_A: np.ndarray
    ) -> np.ndarray:
        """The scores, from float64 sums of queries and photos of these lengths."""
        share = sum_bound(self._query_QD.shape[1]) * (1 + 2.0**-20)  # the lengths are rounded, too
        score_A = np.empty(len(sum_A), np.float32)
        for start in range(0, len(sum_A), _PAIRS_AT_ONCE):
            few = slice(start, start + _PAIRS_AT_ONCE)
            score_A[few] = round_sums(
                sum_A[few],
                share * norm_A[few] * self._norm_Q[query_A[few]],
                queries_QD=self._query_QD,
                query_M=query_A[few],
                rows_ND=self._gallery_ND,
                row_M=position_A[few],
            )
        return score_A


def _tables(asked_P: np.ndarray, size_P: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and end of parts that share a table."""
    first, rows, columns = 0, 0, 0
    for part, (asked, size) in enumerate(zip(asked_P.tolist(), size_P.tolist(), strict=True)):
        if part > first and (rows + asked) * (columns + size) > _CELLS_SHARED:
            yield first, part
            first, rows, columns = part, 0, 0
        rows, columns = rows + asked, columns + size
    if len(asked_P):
        yield first, len(asked_P)


def _counted_on(first_M: np.ndarray, size_M: np.ndarray) -> np.ndarray:
    """``first, first + 1, ...`` of every request, so many as its size says, one after the other."""
    shift_M = first_M - (np.cumsum(size_M) - size_M)
    counted_A: np.ndarray = np.arange(size_M.sum()) + np.repeat(shift_M, size_M)
    return counted_A


def _runs(part_M: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where the requests for each part begin and end; they stand by part."""
    if len(part_M):
        yield from itertools.pairwise([0, *(np.flatnonzero(np.diff(part_M)) + 1).tolist(), len(part_M)])


def _some(descriptors: Descriptors, positions: np.ndarray) -> Descriptors:
    return Descriptors(
        ids=tuple(descriptors.ids[position] for position in positions.tolist()),
        rows_ND=descriptors.rows_ND[positions],
        metric=descriptors.metric,
        normalised=descriptors.normalised,
    )
