"""How much the k-reciprocal neighbourhoods of two photos share (Zhong et al., CVPR 2017), without a T x T table.

N(i, k) is photo i itself and its k nearest others.  R(i, k) are those j of N(i, k) that have i in N(j, k).
R*(i) is R(i, k1), and for every j of R(i, k1) also R(j, k1/2) where more than two thirds of it lie in
R(i, k1); k1/2 is rounded, halves to even, as in the authors' code.  V_i is exp(-d(i, j)) on R*(i) and 0
elsewhere, divided by its sum, with d = (1 - cos) / 2; then it is averaged over the first k2 of N(i).
J(i, j) = 1 - sum min(V_i, V_j) / sum max(V_i, V_j).  As every V sums to 1, this is 1 - m / (2 - m) with
m = sum min(V_i, V_j).

Every step reads lists of neighbours only: memory grows with T k, and m is found by inverted lists.

Axes: T items, K neighbours, the item itself first, H of them, B items at once, P pairs, M cells, Q
queries, D components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from landseer.reranking.neighbours.graph import SparseRows, batches, starts, summed
from landseer.search import workers
from landseer.types import PADDING

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(1 - cos) / 2 of items ``[M]`` and items ``[M]``."""

_COMPARED_AT_ONCE = 2**24
_NOBODY = -2  # unlike PADDING, so that two missing neighbours are not taken for one


def local_jaccard(query_D: np.ndarray, candidates_MD: np.ndarray, *, k1: int, k2: int) -> np.ndarray:
    """Jaccard distance float32 ``[M]`` of a query to its candidates, all neighbourhoods taken among these.

    Rows have unit length.  Equally near items: the query, then the earlier candidate.
    """
    return local_jaccards(query_D[None], [candidates_MD], k1=k1, k2=k2)[0]


def local_jaccards(
    queries_QD: np.ndarray, candidates: Sequence[np.ndarray], *, k1: int, k2: int
) -> list[np.ndarray]:
    """``local_jaccard`` of many queries, each with its own candidates ``[M, D]``: the same, sooner."""
    found: list[np.ndarray] = []
    for part in batches([(len(rows) + 1) ** 2 for rows in candidates]):
        tables = [
            np.concatenate([query_D[None], rows]).astype(np.float32, copy=False)
            for query_D, rows in zip(queries_QD[part], candidates[part], strict=True)
        ]
        found += _batch_of_groups(tables, k1=k1, k2=k2)
    return found


def num_near(k1: int, k2: int) -> int:
    """How long an item's list of neighbours has to be, the item itself on it."""
    return max(k1 + 1, k2)


def neighbourhoods(near_TK: np.ndarray, distances: Distances, *, k1: int, k2: int) -> SparseRows:
    """V of every item, averaged: rows that sum to 1.

    *near_TK* has each item's own position first and then its nearest others, best first, ``num_near`` in
    all; padding at the end where there are fewer.
    """
    near_TK = near_TK.astype(np.int32)
    rows = _weighted(near_TK[:, : k1 + 1], distances, k1=k1)
    return _averaged(rows, near_TK[:, :k2]) if k2 > 1 else rows


def jaccard_distances(
    asked: SparseRows, inverted: SparseRows, *, num_items: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """(rows of *asked*; row among them, item, distance) of all pairs nearer than 1, by row and item.

    *inverted* has for every column the items that are not 0 there (``SparseRows.transposed``).
    """
    row_M = np.repeat(np.arange(len(asked)), asked.num_R)
    cost_Q = np.bincount(row_M, weights=inverted.num_R[asked.column_M], minlength=len(asked))
    for part in batches(cost_Q):
        which_M, place_M = asked.cells(np.arange(part.start, part.stop))
        of_P, place_P = inverted.cells(asked.column_M[place_M])
        shared_P = np.minimum(asked.value_M[place_M][of_P], inverted.value_M[place_P])
        row, item, mass = summed(which_M[of_P], inverted.column_M[place_P], shared_P, num_columns=num_items)
        yield part, row, item, np.maximum(0.0, 1 - mass / (2 - mass)).astype(np.float32)


def _weighted(near_TK: np.ndarray, distances: Distances, *, k1: int) -> SparseRows:
    """V before it is averaged."""
    total, width = near_TK.shape
    half = min(round(k1 / 2) + 1, width)
    mutual_TK = _keep_reciprocal(near_TK)
    mutual_TH = np.where(_keep_reciprocal(near_TK[:, :half]) == PADDING, _NOBODY, near_TK[:, :half])
    num_T = np.zeros(total, np.int64)
    columns, values = [], []
    step = max(1, _COMPARED_AT_ONCE // (width * half * width))
    for start in range(0, total, step):
        row_M, column_M = _expanded(mutual_TK[start : start + step], mutual_TH, total)
        weight_M = np.exp(-distances(row_M + start, column_M).astype(np.float64))
        num_B = np.bincount(row_M, minlength=min(step, total - start))
        sum_B = np.add.reduceat(weight_M, np.cumsum(num_B) - num_B)  # nobody's row is empty: i is in R*(i)
        num_T[start : start + step] = num_B
        columns.append(column_M.astype(np.int32))
        values.append((weight_M / sum_B[row_M]).astype(np.float32))
    return SparseRows(start_R=starts(num_T), column_M=np.concatenate(columns), value_M=np.concatenate(values))


def _keep_reciprocal(near_TK: np.ndarray) -> np.ndarray:
    """R: *near_TK* with padding in place of those that do not have the item among their own."""
    kept_TK = np.full_like(near_TK, PADDING)
    step = max(1, _COMPARED_AT_ONCE // near_TK.shape[1] ** 2)
    for start in range(0, len(near_TK), step):
        near_BK = near_TK[start : start + step]
        own_B = np.arange(start, start + len(near_BK), dtype=near_TK.dtype)
        answered_BK = (near_TK[near_BK] == own_B[:, None, None]).any(axis=2)
        kept_TK[start : start + step] = np.where(answered_BK, near_BK, PADDING)  # padding stays what it is
    return kept_TK


def _expanded(mutual_BK: np.ndarray, mutual_TH: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """R* of some items, as (row of *mutual_BK*, item), by row and item."""
    row_P, place_P = np.nonzero(mutual_BK != PADDING)
    item_P = mutual_BK[row_P, place_P]
    others_PH = mutual_TH[item_P]
    inside_PH = (others_PH[:, :, None] == mutual_BK[row_P][:, None, :]).any(axis=2)
    there_PH = others_PH != _NOBODY
    joins_P = 3 * inside_PH.sum(axis=1) > 2 * there_PH.sum(axis=1)
    joining_PH = there_PH & joins_P[:, None]
    row_M = np.concatenate([row_P, np.repeat(row_P, joining_PH.sum(axis=1))])
    column_M = np.concatenate([item_P, others_PH[joining_PH]])
    row, column = np.divmod(np.unique(row_M.astype(np.int64) * total + column_M), total)
    return row, column


def _averaged(rows: SparseRows, near_TK: np.ndarray) -> SparseRows:
    """The mean of the rows of each item's first neighbours, the item itself among them."""
    total = len(rows)
    there_TK = near_TK != PADDING
    cost_T = np.where(there_TK, rows.num_R[near_TK], 0).sum(axis=1)
    num_T = np.zeros(total, np.int64)
    columns, values = [], []
    for part in batches(cost_T):
        item_P, place_P = np.nonzero(there_TK[part])
        of_M, cell_M = rows.cells(near_TK[part][item_P, place_P])
        row, column, mass = summed(
            item_P[of_M], rows.column_M[cell_M], rows.value_M[cell_M], num_columns=total
        )
        num_T[part] = np.bincount(row, minlength=part.stop - part.start)
        columns.append(column.astype(np.int32))
        values.append((mass / there_TK[part].sum(axis=1)[row]).astype(np.float32))
    return SparseRows(start_R=starts(num_T), column_M=np.concatenate(columns), value_M=np.concatenate(values))


def _batch_of_groups(tables: Sequence[np.ndarray], *, k1: int, k2: int) -> list[np.ndarray]:
    """Distances of the first row of every table ``[S, D]`` to the others: all items numbered through."""
    size_G = np.array([len(table) for table in tables])
    first_G = np.cumsum(size_G) - size_G
    width = min(num_near(k1, k2), int(size_G.max()))
    near_TK = np.full((int(size_G.sum()), width), PADDING, np.int64)
    cosines, base_T = [], np.zeros(len(near_TK), np.int64)
    cells = 0
    # each product on one core: they are so small that threads would wait for each other longer than they work
    for cosine_SS, first, size in zip(workers.run(_cosines, tables), first_G, size_G, strict=True):
        cosines.append(cosine_SS.ravel())
        near_SK = _nearest(cosine_SS, width)
        near_TK[first : first + size, : near_SK.shape[1]] = near_SK + first
        base_T[first : first + size] = cells + np.arange(size) * size - first
        cells += size * size
    cosine_M = np.concatenate(cosines)

    def distances(row_M: np.ndarray, column_M: np.ndarray) -> np.ndarray:
        found_M: np.ndarray = (1 - cosine_M[base_T[row_M] + column_M]) / 2
        return found_M

    rows = neighbourhoods(near_TK, distances, k1=k1, k2=k2)
    found_T = np.ones(len(near_TK), np.float32)  # an item belongs to one group, so one query asks for it
    inverted = rows.transposed(len(rows))
    for _, _, item_M, distance_M in jaccard_distances(rows.take(first_G), inverted, num_items=len(rows)):
        found_T[item_M] = distance_M
    return [found_T[first + 1 : first + size] for first, size in zip(first_G, size_G, strict=True)]


def _cosines(table_SD: np.ndarray) -> np.ndarray:
    import torch

    table = torch.from_numpy(table_SD)
    found_SS: np.ndarray = torch.mm(table, table.T).numpy()
    return found_SS


def _nearest(cosine_SS: np.ndarray, width: int) -> np.ndarray:
    """Every item and its nearest others ``[S, min(width, S)]``, best first, equal ones by lower position."""
    size = len(cosine_SS)
    width = min(width, size)
    rank_SS = -cosine_SS
    np.fill_diagonal(rank_SS, -np.inf)
    last_S = np.partition(rank_SS, width - 1, axis=1)[:, width - 1]
    row_M, column_M = np.nonzero(rank_SS <= last_S[:, None])
    order_M = np.lexsort((column_M, rank_SS[row_M, column_M], row_M))
    num_S = np.bincount(row_M, minlength=size)
    first_S = np.cumsum(num_S) - num_S
    near_SK: np.ndarray = column_M[order_M][first_S[:, None] + np.arange(width)]
    return near_SK
