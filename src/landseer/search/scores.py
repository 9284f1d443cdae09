"""What a score is, exactly, and how to get it fast.

The score of a query q and a row x is their dot product, summed without error (``math.fsum`` over the
products, which are exact in float64 for float32 and float16 rows), rounded to float64 and then to float32.
It depends on nothing but q and x: not on a BLAS, a device, a batch, a block, nor on the order of the
components.

``fsum`` is slow, and a float64 sum in any order is almost always enough: it lies within ``bound`` of the
true sum (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1: gamma_D |q||x|), and where
both ends of that interval round to the same float32, so does everything between, the definition's value
included, since rounding is monotone.  Only the few pairs whose interval straddles a rounding boundary go to
``fsum``.

Axes: Q queries, N gallery rows, M (query, row) pairs, K answers, D components.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from landseer.search.sampled import sums_by_row, worth_it
from landseer.types import PADDING

UNIT_32 = 2.0**-24
UNIT_64 = 2.0**-53
_NORM_INFLATION = 1.0 + 2.0**-9
_PAIRS_AT_ONCE = 1024
_TRUSTED_SQUARES = (1e-20, 1e30)


def gamma(num_terms: int, unit: float) -> float:
    """Higham's gamma_n = n u / (1 - n u): how far a sum of n products in any order may be off."""
    return math.inf if num_terms * unit >= 1 else num_terms * unit / (1 - num_terms * unit)


def score(query_D: np.ndarray, row_D: np.ndarray) -> np.float32:
    """The definition, for one pair.  Slow."""
    with np.errstate(over="ignore"):
        return np.float32(math.fsum(query_D.astype(np.float64) * row_D.astype(np.float64)))


def norm_bounds(rows_ND: np.ndarray, ids: Sequence[str], *, block: int = 16384) -> np.ndarray:
    """An upper bound of each row's length, at most 0.4 % above it: float64 ``[N]``.

    Raises ``ValueError`` that names the first row holding a NaN or an infinity.
    """
    norm_N = np.empty(rows_ND.shape[0], np.float64)
    # the float32 sum of D squares is off by gamma_D at most, within the inflation up to D = 2^14
    dtype: type[np.floating] = np.float32 if rows_ND.shape[1] < 2**14 else np.float64
    for start in range(0, len(norm_N), block):
        rows = rows_ND[start : start + block]
        with np.errstate(over="ignore", invalid="ignore"):
            wide: np.ndarray = rows.astype(dtype, copy=False)
            square_B = np.einsum("nd,nd->n", wide, wide).astype(np.float64)
        low, high = _TRUSTED_SQUARES
        doubtful = np.flatnonzero(
            ~((square_B >= low) & (square_B <= high))
        )  # over- or underflow, zero rows, NaN
        for few in _chunks(doubtful):
            wide = rows[few].astype(np.float64)
            square_B[few] = np.einsum("nd,nd->n", wide, wide)
        bad = np.flatnonzero(~np.isfinite(square_B))
        if bad.size:
            raise ValueError(
                f"the descriptor of {ids[start + int(bad[0])]!r} holds a NaN or an infinity; extract it again"
            )
        norm_N[start : start + block] = np.sqrt(square_B)
    return norm_N * _NORM_INFLATION


def sum_bound(dim: int) -> float:
    """How far a float64 dot product in any order may lie from the true one, as a share of |q||x|."""
    return gamma(dim + 2, UNIT_64)  # two more roundings: those of sum - bound and sum + bound


def round_sums(
    sum_M: np.ndarray,
    bound_M: np.ndarray,
    *,
    queries_QD: np.ndarray,
    query_M: np.ndarray,
    rows_ND: np.ndarray,
    row_M: np.ndarray,
) -> np.ndarray:
    """The scores (float32 ``[M]``) of pairs whose float64 sums lie within *bound_M* of the truth.

    Pair m is row ``query_M[m]`` of *queries_QD* and row ``row_M[m]`` of *rows_ND*.
    """
    score_M = to_float32(sum_M + bound_M)
    doubtful = np.flatnonzero(score_M != to_float32(sum_M - bound_M))
    for few in _chunks(doubtful):
        product_MD = queries_QD[query_M[few]].astype(np.float64) * rows_ND[row_M[few]].astype(np.float64)
        # sum |q_i x_i| is far below |q||x| where the two have little in common, and 0 where nothing
        tight = np.abs(product_MD).sum(axis=1) * sum_bound(product_MD.shape[1]) * _NORM_INFLATION
        score_M[few] = to_float32(sum_M[few] + tight)
        for pair in np.flatnonzero(score_M[few] != to_float32(sum_M[few] - tight)):
            score_M[few[pair]] = to_float32(np.float64(math.fsum(product_MD[pair])))
    return score_M


def exact_scores(
    queries_QD: np.ndarray,
    query_norm_Q: np.ndarray,
    rows_ND: np.ndarray,
    norm_N: np.ndarray,
    *,
    query_M: np.ndarray,
    row_M: np.ndarray,
) -> np.ndarray:
    """The scores (float32 ``[M]``) of pairs (query, row) that stand in the order of the queries.

    The norms are upper bounds, as ``norm_bounds`` gives them.
    """
    sums = sums_by_row if worth_it(len(rows_ND), row_M) else _sums_by_query
    sum_M = sums(queries_QD, rows_ND, query_M=query_M, row_M=row_M)
    bound_M = sum_bound(queries_QD.shape[1]) * query_norm_Q[query_M] * norm_N[row_M]
    return round_sums(sum_M, bound_M, queries_QD=queries_QD, query_M=query_M, rows_ND=rows_ND, row_M=row_M)


def _sums_by_query(
    queries_QD: np.ndarray, rows_ND: np.ndarray, *, query_M: np.ndarray, row_M: np.ndarray
) -> np.ndarray:
    """The dot product of each pair, float64 ``[M]``."""
    ends_Q = np.cumsum(np.bincount(query_M, minlength=len(queries_QD)))
    sum_M = np.empty(len(query_M), np.float64)
    # rows go through two small tables: fresh ones for every query would cost more than the sums
    shape = (min(len(query_M), _PAIRS_AT_ONCE), queries_QD.shape[1])
    taken, wide = np.empty(shape, rows_ND.dtype), np.empty(shape, np.float64)
    wide_QD = queries_QD.astype(np.float64)
    for query_D, (first, end) in zip(wide_QD, itertools.pairwise([0, *ends_Q.tolist()]), strict=True):
        for start in range(first, end, _PAIRS_AT_ONCE):
            pairs = slice(start, min(start + _PAIRS_AT_ONCE, end))
            num = pairs.stop - start
            np.take(rows_ND, row_M[pairs], axis=0, out=taken[:num], mode="clip")
            np.copyto(wide[:num], taken[:num])
            np.vecdot(wide[:num], query_D, out=sum_M[pairs])
    return sum_M


def best(
    query_M: np.ndarray, row_M: np.ndarray, score_M: np.ndarray, *, num_queries: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores ``[Q, k]`` of the best pairs, which stand by query, then by row."""
    num_Q = np.bincount(query_M, minlength=num_queries)
    filled_QW = np.arange(max(k, num_Q.max(initial=0))) < num_Q[:, None]
    positions_QW = np.full(filled_QW.shape, PADDING, np.int64)
    scores_QW = np.full(filled_QW.shape, -np.inf, np.float32)
    positions_QW[filled_QW], scores_QW[filled_QW] = row_M, score_M
    # a float's bits in the order of its value, and behind them its place: ties go to the lower position
    bits_QW = (-scores_QW + np.float32(0)).view(np.int32).astype(np.int64)
    bits_QW ^= (bits_QW >> 31) & 0x7FFFFFFF
    order_QK = np.sort((bits_QW << 32) | np.arange(bits_QW.shape[1]), axis=1)[:, :k] & 0xFFFFFFFF
    return np.take_along_axis(positions_QW, order_QK, axis=1), np.take_along_axis(scores_QW, order_QK, axis=1)


def _chunks(numbers: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(numbers), _PAIRS_AT_ONCE):
        yield numbers[start : start + _PAIRS_AT_ONCE]


def to_float32(values: Any) -> Any:
    """Round once; what is too large becomes an infinity, silently."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
