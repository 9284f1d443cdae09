"""Sparse rows, and who is near whom: what the re-rankers that look beyond one query share.

Axes: T items, K neighbours, R rows, M (row, column) pairs, D components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from landseer.reranking.context import Context, Search
from landseer.types import PADDING, Descriptors

CELLS_AT_ONCE = 2**21
_PAIRS_AT_ONCE = 2**22
_NEIGHBOURS = "neighbours of the gallery"


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRows:
    """A table of which few cells are not 0: ``column_M`` int32 and ``value_M`` float32, row after row.

    Row r owns the cells ``start_R[r]`` to ``start_R[r + 1]``; ``start_R`` int64 has one entry more than rows.
    """

    start_R: np.ndarray
    column_M: np.ndarray
    value_M: np.ndarray

    def __len__(self) -> int:
        return len(self.start_R) - 1

    @property
    def num_R(self) -> np.ndarray:
        """Cells of each row."""
        return np.diff(self.start_R)

    def part(self, first: int, stop: int) -> SparseRows:
        """The rows from *first* to before *stop*; their cells are not copied."""
        cells = slice(self.start_R[first], self.start_R[stop])
        start_R = self.start_R[first : stop + 1] - self.start_R[first]
        return SparseRows(start_R=start_R, column_M=self.column_M[cells], value_M=self.value_M[cells])

    def take(self, rows: np.ndarray) -> SparseRows:
        """A copy of *rows*, in that order."""
        _, cell_M = self.cells(rows)
        return SparseRows(
            start_R=starts(self.num_R[rows]), column_M=self.column_M[cell_M], value_M=self.value_M[cell_M]
        )

    def cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For the cells of *rows*, in that order: which entry of *rows* owns each, and its place in ``column_M``."""
        num = self.start_R[rows + 1] - self.start_R[rows]
        which_M = np.repeat(np.arange(len(rows)), num)
        first = self.start_R[rows] - (np.cumsum(num) - num)
        return which_M, np.arange(len(which_M)) + first[which_M]

    def transposed(self, num_columns: int) -> SparseRows:
        """Columns as rows: the inverted lists, each by rising row."""
        order_M = np.argsort(self.column_M, kind="stable")
        row_M = np.repeat(np.arange(len(self), dtype=np.int32), self.num_R)
        num = np.bincount(self.column_M, minlength=num_columns)
        return SparseRows(
            start_R=starts(num), column_M=row_M[order_M], value_M=np.asarray(self.value_M[order_M])
        )


def batches(costs: Sequence[int] | np.ndarray) -> Iterator[slice]:
    """Runs of rows that together cost no more than fits in memory, at least one row each."""
    end = np.cumsum(costs)
    start = 0
    while start < len(end):
        before = end[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(end, before + CELLS_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop


def starts(num_R: np.ndarray) -> np.ndarray:
    """Where each of the rows begins that have so many cells; the end of the last one, too."""
    return np.concatenate([[0], np.cumsum(num_R, dtype=np.int64)])


def summed(
    row_M: np.ndarray, column_M: np.ndarray, value_M: np.ndarray, *, num_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells by row and column, those of one place added up in the order they come, in float64."""
    key_M = row_M.astype(np.int64) * num_columns + column_M
    order_M = np.argsort(key_M, kind="stable")
    key_M = key_M[order_M]
    if not len(key_M):
        return row_M, column_M, value_M.astype(np.float64)
    first = np.flatnonzero(np.concatenate([[True], key_M[1:] != key_M[:-1]]))
    row, column = np.divmod(key_M[first], num_columns)
    return row, column, np.add.reduceat(value_M[order_M].astype(np.float64), first)


def unit_rows(method: str, descriptors: Descriptors) -> np.ndarray:
    """The rows ``[N, D]``.  Raises ``ValueError`` where they are not declared to have unit length."""
    if not descriptors.normalised:
        raise ValueError(f"{method} needs descriptors of unit length; normalise them and search again")
    return descriptors.rows_ND


def pair_cosines(
    left_ND: np.ndarray, left_M: np.ndarray, right_ND: np.ndarray, right_M: np.ndarray
) -> np.ndarray:
    """Dot products float32 ``[M]`` of row ``left_M[m]`` of one table and ``right_M[m]`` of another."""
    found_M = np.empty(len(left_M), np.float32)
    step = max(1, _PAIRS_AT_ONCE // max(1, left_ND.shape[1]))
    for start in range(0, len(left_M), step):
        part = slice(start, start + step)
        left = left_ND[left_M[part]].astype(np.float32, copy=False)
        right = right_ND[right_M[part]].astype(np.float32, copy=False)
        np.einsum("md,md->m", left, right, out=found_M[part])
    return found_M


def nearest_in_gallery(context: Context, gallery: Descriptors, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """``nearest_others`` of the gallery, searched for once for the largest number asked."""
    of, positions_NK, scores_NK = context._kept.get(_NEIGHBOURS, (None, np.empty((0, 0)), np.empty((0, 0))))
    if of is not gallery or positions_NK.shape[1] < k:
        positions_NK, scores_NK = nearest_others(gallery, context.search, k=k)
        context._kept[_NEIGHBOURS] = (gallery, positions_NK, scores_NK)
    return positions_NK[:, :k], scores_NK[:, :k]


def best_of_each(
    row_M: np.ndarray, position_M: np.ndarray, score_M: np.ndarray, *, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores of the given *shape* ``[R, K]``: each row's best pairs, equal ones by lower position."""
    positions_RK = np.full(shape, PADDING, np.int64)
    scores_RK = np.full(shape, -np.inf, np.float32)
    order_M = np.lexsort((position_M, -score_M, row_M))
    num_R = np.bincount(row_M, minlength=shape[0])
    place_M = np.arange(len(row_M)) - (np.cumsum(num_R) - num_R)[row_M[order_M]]
    kept = order_M[place_M < shape[1]]
    place_M = place_M[place_M < shape[1]]
    positions_RK[row_M[kept], place_M] = position_M[kept]
    scores_RK[row_M[kept], place_M] = score_M[kept]
    return positions_RK, scores_RK


def nearest_others(photos: Descriptors, search: Search, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and scores float32 ``[N, k]`` of the *k* nearest other photos, best first.

    Where there are fewer, rows end in padding.
    """
    found = search(photos, photos, k=min(k + 1, max(1, len(photos))))
    own_NK = found.positions_QK == np.arange(len(photos))[:, None]
    # among more than k equal photos a photo may not find itself: then the last one gives way
    own_NK[~own_NK.any(axis=1), -1] = True
    shape = (len(photos), found.positions_QK.shape[1] - 1)
    positions = np.full((len(photos), k), PADDING, np.int64)
    scores = np.full((len(photos), k), -np.inf, np.float32)
    positions[:, : shape[1]] = found.positions_QK[~own_NK].reshape(shape)
    scores[:, : shape[1]] = found.scores_QK[~own_NK].reshape(shape)
    return positions, scores
