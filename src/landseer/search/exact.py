"""Exact search: a fast approximate pass finds who may be in the answer, exact scores decide.

Proof.  Let R(x) be the score of row x (``landseer.search.scores``) and a(x) its approximate score, with
|R(x) - a(x)| <= e for all x of the gallery.  Let t be the k-th best a.  At least k rows have a >= t and
therefore R >= t - e.  A row with a(x) < t - 2e has R(x) <= a(x) + e < t - e: strictly worse than those k,
so no rule for ties can bring it in.  Hence the answer lies among the rows with a >= t - 2e.  This holds for
the k-th best of any part of the gallery too, as that t is never above the final one, so rows may be thrown
away as the blocks go by.

For a float32 pass in any order of summation, e = (gamma_D + u)|q||x| + underflow, u = 2^-24: gamma_D for
the sum (Higham, section 3.1), u for rounding the true sum to float32.  The pass over a prepared gallery has a
bound for each row instead (``landseer.search.certified``); what it leaves open is answered here.

Queries for which more rows qualify than a list holds (masses of duplicates), or whose products leave
float32's range, are answered block by block from float64 sums.  Memory depends on k and the block,
and on N for one number a row only.

Axes: Q queries, N gallery rows, B rows of a block, C places of a shortlist, M (query, row) pairs, K answers,
D components.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from landseer.search.certified import Prepared, prepare, search_prepared
from landseer.search.scores import (
    UNIT_32,
    best,
    exact_scores,
    gamma,
    norm_bounds,
    round_sums,
    sum_bound,
    to_float32,
)
from landseer.types import PADDING, Descriptors, Ranking

_QUERIES_AT_ONCE = 1024
_PLACES_AT_ONCE = 2**22
_FEW_QUERIES = 4
_CROWDED_AT_ONCE = 128
_WIDEST_BLOCK = 8192
_LARGEST_PRODUCT = 2.0**100
_SMALLEST_NORMAL = 2.0**-126
_ENOUGH_QUERIES = 256
_WORTH_PREPARING = 2**32
_WORTH_IMPORTING = 2**38
_MOST_PREPARED = 2**30


def search_exact(
    queries: Descriptors,
    gallery: Descriptors | Prepared,
    *,
    k: int,
    block: int | None = None,
    device: str = "cpu",
) -> Ranking:
    """The *k* best photos of *gallery* for every query: by score, equal scores by lower position.

    The result is the definition's whatever the *block* (gallery rows scored at once; by default as memory
    allows), the number of queries asked together or the *device* of the approximate pass (``cpu``: numpy;
    else a torch device).  Where the gallery has fewer than *k* photos the rows end in padding.  The rows
    may be float16 and a memory map.

    A gallery that is asked again and again is best given as ``prepare(gallery)``, or ``prepare(gallery,
    device=...)``: the same result sooner, on that device.  For many queries at once on the CPU it is prepared on
    the way.

    Raises ``ValueError`` where the two do not fit each other, or a row holds a NaN or an infinity.
    """
    prepared = gallery if isinstance(gallery, Prepared) else None
    rows = gallery.gallery if isinstance(gallery, Prepared) else gallery
    require_fit(queries, rows, k=k, block=1 if block is None else block)
    if prepared is None and device == "cpu" and _worth_preparing(len(queries), rows):
        prepared = prepare(rows)
    norm_N = norm_bounds(rows.rows_ND, rows.ids) if prepared is None else prepared.norm_N
    query_norm_Q = norm_bounds(queries.rows_ND, queries.ids)
    positions_QK = np.full((len(queries), k), PADDING, np.int64)
    scores_QK = np.full((len(queries), k), -np.inf, np.float32)
    if len(queries) and len(rows):
        found = k if k < len(rows) else len(rows)
        positions, scores = _search_all(
            queries.rows_ND, query_norm_Q, rows.rows_ND, norm_N, prepared, k=found, block=block, device=device
        )
        positions_QK[:, :found], scores_QK[:, :found] = positions, scores
    return Ranking(
        query_ids=queries.ids,
        gallery_ids=rows.ids,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
        score_kind="cosine" if queries.normalised and rows.normalised else "dot",
        gallery_fingerprint=rows.fingerprint,
    )


def search_unproven(queries: Descriptors, gallery: Prepared, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and exact scores ``[Q, min(k, N)]`` of the rows whose codes of a byte a component score best.

    Nearly the exact answer for less: nothing is proven, so fewer rows are scored.  Where there are no codes, and for
    queries that leave float32's range, the answer is exact.  Raises ``ValueError`` as ``search_exact`` does.
    """
    rows = gallery.gallery
    require_fit(queries, rows, k=k)
    query_norm_Q = norm_bounds(queries.rows_ND, queries.ids)
    return _search_all(
        queries.rows_ND,
        query_norm_Q,
        rows.rows_ND,
        gallery.norm_N,
        gallery,
        k=min(k, len(rows)),
        block=None,
        device="cpu",
        proven=False,
    )


def _worth_preparing(num_queries: int, gallery: Descriptors) -> bool:
    """Preparing takes the time of some hundred queries, a byte a component, and torch."""
    size = len(gallery) * gallery.dim
    work = _WORTH_PREPARING if "torch" in sys.modules else _WORTH_IMPORTING
    return num_queries >= _ENOUGH_QUERIES and num_queries * size >= work and size <= _MOST_PREPARED


def _search_all(
    queries_QD: np.ndarray,
    query_norm_Q: np.ndarray,
    gallery_ND: np.ndarray,
    gallery_norm_N: np.ndarray,
    prepared: Prepared | None,
    *,
    k: int,
    block: int | None,
    device: str,
    proven: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores ``[Q, k]``: certified from codes where there are any, else and for the rest in float32."""
    positions_QK = np.empty((len(queries_QD), k), np.int64)
    scores_QK = np.empty((len(queries_QD), k), np.float32)
    left = np.arange(len(queries_QD))
    ready = prepared is not None and (device == "cpu" or prepared.on_device is not None)
    if ready and prepared is not None and prepared.codes_ND is not None:
        positions_QK, scores_QK, open_Q = search_prepared(
            queries_QD, query_norm_Q, prepared, k=k, proven=proven
        )
        left = np.flatnonzero(open_Q)
    step = max(1, min(_QUERIES_AT_ONCE, _PLACES_AT_ONCE // _places(k, len(gallery_ND))))
    block = _block(len(left), queries_QD.shape[1]) if block is None else block
    for start in range(0, len(left), step):
        part = left[start : start + step]
        positions_QK[part], scores_QK[part] = _search(
            queries_QD[part], query_norm_Q[part], gallery_ND, gallery_norm_N, k=k, block=block, device=device
        )
    return positions_QK, scores_QK


def require_fit(queries: Descriptors, gallery: Descriptors, *, k: int, block: int = 1) -> None:
    """Raise ``ValueError`` where the two cannot be searched together, or *k* or *block* is below 1."""
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, not {k} and {block}")
    if queries.dim != gallery.dim:
        raise ValueError(
            f"queries have {queries.dim} components and the gallery {gallery.dim}; "
            "extract both with one model"
        )
    if queries.metric != gallery.metric:
        raise ValueError(
            f"queries are compared by {queries.metric} and the gallery by {gallery.metric}; "
            "extract both alike"
        )
    if gallery.metric == "euclidean" and not (queries.normalised and gallery.normalised):
        raise ValueError(
            "search ranks by dot product, which is Euclidean order for unit rows only; normalise them"
        )


def _block(num_queries: int, dim: int) -> int:
    """As many rows as keep the scores in cache, more for few queries, with at most 256 MB of rows."""
    return max(4096, min(2**22 // max(1, num_queries), 2**26 // max(1, dim)))


def _places(k: int, num_rows: int) -> int:
    """How many rows a shortlist holds."""
    return max(1, min(8 * k + 64, num_rows))


def _search(
    queries_QD: np.ndarray,
    query_norm_Q: np.ndarray,
    gallery_ND: np.ndarray,
    gallery_norm_N: np.ndarray,
    *,
    k: int,
    block: int,
    device: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores ``[Q, min(k, N)]`` of one chunk of queries."""
    scorer = _scorer(queries_QD, device)
    longest = gallery_norm_N.max()
    dim = queries_QD.shape[1]
    error_Q = (scorer.error(dim) + UNIT_32) * query_norm_Q * longest
    error_Q += (
        dim * _SMALLEST_NORMAL * (1 + query_norm_Q) * (1 + longest)
    )  # what may flush to zero on the way
    shortlist = _Shortlist(k, _places(k, len(gallery_ND)), 2 * error_Q)
    shortlist.crowd(~(np.maximum(query_norm_Q, 1) * max(longest, 1) < _LARGEST_PRODUCT))
    for number, start in enumerate(range(0, len(gallery_ND), block)):
        scorer.score(gallery_ND[start : start + block])
        if number == 0 and len(gallery_ND) > k:
            shortlist.raise_threshold(scorer.kth_best(k))
        query_M, column_M, score_M = scorer.reaching(shortlist.threshold_Q)
        shortlist.add(query_M, column_M + start, score_M)
        if (
            number & (number + 1) == 0
        ):  # after 1, 2, 4, 8 ... blocks: as many hits come between as the list holds
            shortlist.tighten()
    positions_QK, scores_QK = _decide(shortlist, queries_QD, query_norm_Q, gallery_ND, gallery_norm_N, k=k)
    crowded = np.flatnonzero(shortlist.crowded_Q)
    for start in range(0, len(crowded), _CROWDED_AT_ONCE):
        few = crowded[start : start + _CROWDED_AT_ONCE]
        positions_QK[few], scores_QK[few] = _search_blockwise(
            queries_QD[few], query_norm_Q[few], gallery_ND, gallery_norm_N, k=k, block=block
        )
    return positions_QK, scores_QK


class _Scorer(Protocol):
    """An approximate pass: scores blocks of the gallery against one chunk of queries."""

    def error(self, dim: int) -> float:
        """How far a score may lie from the true sum, as a share of |q||x|."""

    def score(self, rows_BD: np.ndarray) -> None:
        """Score this block; the other methods speak of it."""

    def kth_best(self, k: int) -> np.ndarray:
        """The k-th best score of each query, -inf where the block has fewer rows."""

    def reaching(self, threshold_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, row of the block, score) of all pairs at or above the query's threshold, by query."""


def _scorer(queries_QD: np.ndarray, device: str) -> _Scorer:
    return _NumpyScorer(queries_QD) if device == "cpu" else _TorchScorer(queries_QD, device)


class _NumpyScorer:
    def __init__(self, queries_QD: np.ndarray) -> None:
        self._queries_QD = queries_QD.astype(np.float32, copy=False)
        self._scores_QB = np.empty((0, 0), np.float32)
        self._mask_QB = np.empty((0, 0), np.bool_)

    def error(self, dim: int) -> float:
        return gamma(dim, UNIT_32)

    def score(self, rows_BD: np.ndarray) -> None:
        shape = (len(self._queries_QD), len(rows_BD))
        if self._scores_QB.shape != shape:
            self._scores_QB, self._mask_QB = np.empty(shape, np.float32), np.empty(shape, np.bool_)
        rows_BD = rows_BD.astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # queries out of range are answered elsewhere
            if shape[0] > _FEW_QUERIES:
                np.matmul(self._queries_QD, rows_BD.T, out=self._scores_QB)
                return
            for query_D, scores_B in zip(self._queries_QD, self._scores_QB, strict=True):
                np.dot(
                    rows_BD, query_D, out=scores_B
                )  # 4 to 10 times faster than a product of so flat a matrix

    def kth_best(self, k: int) -> np.ndarray:
        num = self._scores_QB.shape[1]
        if num < k:
            return np.full(len(self._scores_QB), -np.inf, np.float32)
        return np.partition(self._scores_QB, num - k, axis=1)[:, num - k]

    def reaching(self, threshold_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        np.greater_equal(self._scores_QB, threshold_Q[:, None], out=self._mask_QB)
        flat_M = np.flatnonzero(self._mask_QB)
        query_M, column_M = np.divmod(flat_M, self._scores_QB.shape[1])
        return query_M, column_M, self._scores_QB.ravel()[flat_M]


class _TorchScorer:
    def __init__(self, queries_QD: np.ndarray, device: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._queries_QD = self._put(queries_QD)
        self._scores_QB: Any = None

    def error(self, dim: int) -> float:
        # TF32 or bfloat16 products, where someone allowed them, keep at least 7 bits of each factor
        coarse = self._torch.get_float32_matmul_precision() != "highest"
        return gamma(dim, UNIT_32) * (1 + 2.0**-5) + (2.0**-6 + 2.0**-14 if coarse else 0.0)

    def _put(self, rows: np.ndarray) -> Any:
        return self._torch.tensor(rows, device=self._device).float()

    def score(self, rows_BD: np.ndarray) -> None:
        self._scores_QB = self._queries_QD @ self._put(rows_BD).T

    def kth_best(self, k: int) -> np.ndarray:
        if self._scores_QB.shape[1] < k:
            return np.full(len(self._scores_QB), -np.inf, np.float32)
        return self._torch.topk(self._scores_QB, k, dim=1).values[:, -1].cpu().numpy()

    def reaching(self, threshold_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        threshold = self._torch.from_numpy(threshold_Q).to(self._device)
        query_M, column_M = self._torch.nonzero(self._scores_QB >= threshold[:, None], as_tuple=True)
        score_M = self._scores_QB[query_M, column_M]
        return query_M.cpu().numpy(), column_M.cpu().numpy(), score_M.cpu().numpy()


class _Shortlist:
    """For each query the rows that may still be in its answer, in a list of bounded length."""

    def __init__(self, k: int, places: int, margin_Q: np.ndarray) -> None:
        num = len(margin_Q)
        self._k = k
        self._margin_Q = margin_Q
        self.threshold_Q = np.full(num, -np.inf, np.float32)
        """A row with a lower approximate score cannot be in the answer."""
        self.crowded_Q = np.zeros(num, np.bool_)
        """Queries with more such rows than the list holds; they are no longer collected."""
        self.count_Q = np.zeros(num, np.int64)
        self.positions_QC = np.full((num, places), PADDING, np.int64)
        self.scores_QC = np.full((num, places), -np.inf, np.float32)

    def crowd(self, mask_Q: np.ndarray) -> None:
        """Give these queries up."""
        self.crowded_Q |= mask_Q
        self.threshold_Q[mask_Q] = np.nan  # which no score reaches, not even an infinite one
        self.count_Q[mask_Q] = 0

    def raise_threshold(self, kth_Q: np.ndarray) -> None:
        """Learn that *k* rows score *kth_Q* or better."""
        lowest = to_float32(kth_Q.astype(np.float64) - self._margin_Q)
        # rounding to float32 may have gone up
        self.threshold_Q = np.maximum(self.threshold_Q, np.nextafter(lowest, np.float32(-np.inf)))

    def tighten(self) -> None:
        """Raise the thresholds by what the list holds."""
        width = int(self.count_Q.max(initial=0))
        if width >= self._k:
            scores = self.scores_QC[:, :width]
            kth_Q = np.partition(scores, width - self._k, axis=1)[:, width - self._k]
            kth_Q[self.count_Q < self._k] = -np.inf
            self.raise_threshold(kth_Q)

    def add(self, query_M: np.ndarray, position_M: np.ndarray, score_M: np.ndarray) -> None:
        """Take pairs in, sorted by query."""
        num_Q = np.bincount(query_M, minlength=len(self.count_Q))
        first_Q = np.cumsum(num_Q) - num_Q
        full_Q = self.count_Q + num_Q > self.scores_QC.shape[1]
        for query in np.flatnonzero(full_Q):
            new = slice(first_Q[query], first_Q[query] + num_Q[query])
            self._merge(int(query), position_M[new], score_M[new])
        if full_Q.any():
            fits_M = ~full_Q[query_M]
            query_M, position_M, score_M = query_M[fits_M], position_M[fits_M], score_M[fits_M]
            num_Q[full_Q] = 0
            first_Q = np.cumsum(num_Q) - num_Q
        place_M = self.count_Q[query_M] + np.arange(len(query_M)) - first_Q[query_M]
        self.positions_QC[query_M, place_M] = position_M
        self.scores_QC[query_M, place_M] = score_M
        self.count_Q += num_Q

    def _merge(self, query: int, position_M: np.ndarray, score_M: np.ndarray) -> None:
        held = self.count_Q[query]
        positions = np.concatenate([self.positions_QC[query, :held], position_M])
        scores = np.concatenate([self.scores_QC[query, :held], score_M])
        kth = np.partition(scores, len(scores) - self._k)[len(scores) - self._k]
        kth_Q = np.full(len(self.count_Q), -np.inf, np.float32)
        kth_Q[query] = kth
        self.raise_threshold(kth_Q)
        kept = np.flatnonzero(scores >= self.threshold_Q[query])
        self.positions_QC[query], self.scores_QC[query] = PADDING, -np.inf
        if len(kept) > self.scores_QC.shape[1]:
            self.crowd(np.arange(len(self.count_Q)) == query)
            return
        self.count_Q[query] = len(kept)
        self.positions_QC[query, : len(kept)] = positions[kept]
        self.scores_QC[query, : len(kept)] = scores[kept]


def _decide(
    shortlist: _Shortlist,
    queries_QD: np.ndarray,
    query_norm_Q: np.ndarray,
    gallery_ND: np.ndarray,
    gallery_norm_N: np.ndarray,
    *,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Score what is on the shortlist exactly and keep the *k* best.  Rows of crowded queries mean nothing."""
    shortlist.tighten()
    rows = [
        np.sort(positions[:count][scores[:count] >= threshold])
        for positions, scores, count, threshold in zip(
            shortlist.positions_QC,
            shortlist.scores_QC,
            shortlist.count_Q,
            shortlist.threshold_Q,
            strict=True,
        )
    ]
    query_M = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    row_M = np.concatenate(rows)
    score_M = exact_scores(queries_QD, query_norm_Q, gallery_ND, gallery_norm_N, query_M=query_M, row_M=row_M)
    return best(query_M, row_M, score_M, num_queries=len(queries_QD), k=k)


def _search_blockwise(
    queries_QD: np.ndarray,
    query_norm_Q: np.ndarray,
    gallery_ND: np.ndarray,
    gallery_norm_N: np.ndarray,
    *,
    k: int,
    block: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The same answer from float64 sums of every pair: nothing to overflow, and equal scores need no list."""
    best_positions = [np.empty(0, np.int64)] * len(queries_QD)
    best_scores = [np.empty(0, np.float32)] * len(queries_QD)
    wide_QD = queries_QD.astype(np.float64)
    block = min(block, _WIDEST_BLOCK)
    for start in range(0, len(gallery_ND), block):
        rows_BD = gallery_ND[start : start + block].astype(np.float64)
        sums_QB = wide_QD @ rows_BD.T
        bound_QB = np.outer(
            query_norm_Q * sum_bound(queries_QD.shape[1]), gallery_norm_N[start : start + block]
        )
        ceiling_QB = to_float32(sums_QB + bound_QB)
        for query in range(len(queries_QD)):
            if len(best_scores[query]) < k:
                row_M = np.arange(len(rows_BD))
            else:  # positions rise from block to block, so an equal score comes too late
                row_M = np.flatnonzero(ceiling_QB[query] > best_scores[query][-1])
            if not row_M.size:
                continue
            score_M = round_sums(
                sums_QB[query, row_M],
                bound_QB[query, row_M],
                queries_QD=wide_QD,
                query_M=np.full(len(row_M), query),
                rows_ND=rows_BD,
                row_M=row_M,
            )
            scores = np.concatenate([best_scores[query], score_M])
            positions = np.concatenate([best_positions[query], row_M + start])
            order = np.argsort(-scores, kind="stable")[:k]
            best_scores[query], best_positions[query] = scores[order], positions[order]
    return np.stack(best_positions), np.stack(best_scores)
