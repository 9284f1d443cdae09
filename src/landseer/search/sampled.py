"""Float64 sums of many (query, row) pairs where the same rows are asked for again and again.

Taking the rows query by query moves each from memory once a query.  Here the pairs go row by row: a few hundred rows
are widened once, lie in cache beside the queries, and ``torch.sparse.sampled_addmm`` sums just the pairs that are
asked for, without a copy of either side.

Axes: Q queries, N gallery rows, M (query, row) pairs, R different rows among them, D components.
"""

from __future__ import annotations

import functools
import sys
import warnings

import numpy as np

_FEWEST_PAIRS = 4096
_SHARED = 4
"""Below so many pairs a row, sorting the pairs costs more than it saves."""
_BYTES_AT_ONCE = 2**21
"""Of widened rows: what stays in a core's cache."""


def worth_it(num_rows: int, row_M: np.ndarray) -> bool:
    """Whether ``sums_by_row`` is the quicker way for these pairs, and can be had."""
    if len(row_M) < _FEWEST_PAIRS or "torch" not in sys.modules:
        return False
    asked_N = np.zeros(num_rows, np.bool_)
    asked_N[row_M] = True
    return len(row_M) >= _SHARED * int(np.count_nonzero(asked_N)) and _can()


def sums_by_row(
    queries_QD: np.ndarray, rows_ND: np.ndarray, *, query_M: np.ndarray, row_M: np.ndarray
) -> np.ndarray:
    """The dot product of each pair, float64 ``[M]``, summed in some order."""
    import torch

    order = np.argsort(row_M)
    row_by_M, query_by_M = row_M[order], torch.from_numpy(query_M[order].astype(np.int64, copy=False))
    row_R = row_by_M[np.flatnonzero(np.diff(row_by_M, prepend=-1))]
    as_they_lie = 2 * len(row_R) > len(rows_ND)
    if as_they_lie:  # to widen a few rows for nothing is cheaper than to pick the others
        row_R = np.arange(len(rows_ND))
    ends = np.append(np.searchsorted(row_by_M, row_R), len(row_M))
    wide_DQ = torch.from_numpy(queries_QD.astype(np.float64)).T
    step = max(1, _BYTES_AT_ONCE // (8 * queries_QD.shape[1]))
    wide, sum_M = np.empty((min(step, len(row_R)), queries_QD.shape[1])), np.empty(len(row_M))
    for start in range(0, len(row_R), step):
        part = slice(start, start + step)
        num, begin, end = len(row_R[part]), ends[start], ends[min(start + step, len(row_R))]
        np.copyto(wide[:num], rows_ND[part if as_they_lie else row_R[part]])
        asked = torch.sparse_csr_tensor(
            torch.from_numpy(ends[start : start + num + 1] - begin),
            query_by_M[begin:end],
            torch.zeros(end - begin, dtype=torch.float64),
            size=(num, len(queries_QD)),
            check_invariants=False,  # they hold by what is written above
        )
        found = torch.sparse.sampled_addmm(asked, torch.from_numpy(wide[:num]), wide_DQ, beta=0.0)
        sum_M[order[begin:end]] = found.values().numpy()
    return sum_M


@functools.cache
def _can() -> bool:
    """Whether this torch sums sampled products on this processor; it says once that they are new to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = sums_by_row(
                np.ones((2, 3)), np.eye(4, 3), query_M=np.array([0, 1]), row_M=np.array([3, 2])
            )
        except (AttributeError, RuntimeError):
            return False
    return np.array_equal(found, [0.0, 1.0])
