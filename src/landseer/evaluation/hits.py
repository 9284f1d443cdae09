"""Where the relevant photos of each query stand among its answers, and what follows from that alone.

A hit is a relevant photo answered for the first time.  Every retrieval metric is a sum over hits, so none needs
more than their ranks: no table queries x gallery, no list of strings a query.

Axes: Q queries, K answers a query, H hits of all queries, P pairs of a query and a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.types import PADDING, Ranking

_CELLS_AT_ONCE = 2**21


@dataclass(frozen=True, kw_only=True)
class Hits:
    """The ranks, from 1 on, of the hits of Q queries; ``query_H`` never falls, ranks rise within a query."""

    query_H: np.ndarray
    rank_H: np.ndarray
    """Rank among the answers that are no junk: what precision is computed from."""
    cut_H: np.ndarray
    """What must not exceed k for a hit to be among the first k: ``rank_H``, or where junk is removed after the
    cut the rank among all answers."""
    num_relevant_Q: np.ndarray

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.num_relevant_Q)

    @cached_property
    def nth_H(self) -> np.ndarray:
        """The number of each hit within its query, from 1 on."""
        start_Q = np.searchsorted(self.query_H, np.arange(self.num_queries))
        nth_H: np.ndarray = np.arange(1, len(self.query_H) + 1) - start_Q[self.query_H]
        return nth_H

    @cached_property
    def first_Q(self) -> np.ndarray:
        """Cut rank of each query's first hit, float64, infinite where there is none."""
        first_Q = np.full(self.num_queries, np.inf)
        is_first_H = self.nth_H == 1
        first_Q[self.query_H[is_first_H]] = self.cut_H[is_first_H]
        return first_Q

    def sums(self, value_H: np.ndarray) -> np.ndarray:
        """*value_H* summed for each query, float64 ``[Q]``."""
        return np.bincount(self.query_H, weights=value_H, minlength=self.num_queries)

    def num_within(self, k: int | np.ndarray) -> np.ndarray:
        """How many hits are among the first *k* answers (one number, or ``[Q]``): float64 ``[Q]``."""
        limit_H = k[self.query_H] if isinstance(k, np.ndarray) else k
        return self.sums((self.cut_H <= limit_H).astype(np.float64))


def find_hits(
    ranking: Ranking,
    query_ids: Sequence[str],
    relevant: Sequence[Sequence[str]],
    junk: Sequence[Sequence[str]],
    *,
    junk_late: bool = False,
) -> Hits:
    """Judge the answers to *query_ids* by their *relevant* and *junk* photos (one entry a query each).

    Junk is taken out before ranks are counted; *junk_late* takes it out only after the answers were cut.  A
    query that the ranking lacks has no hit; a photo that the gallery lacks is never one.  Of a photo that the
    gallery holds twice the copy answered second is no hit and keeps its rank.
    """
    row_of = {query: row for row, query in enumerate(ranking.query_ids)}
    row_Q = np.fromiter((row_of.get(query, -1) for query in query_ids), np.int64, len(query_ids))
    num = len(ranking.gallery_ids)
    # equal ids, equal code; where each stands once, its code is its position
    coded = pa.array(ranking.gallery_ids, pa.large_string()).dictionary_encode()
    once = len(coded.dictionary) == num
    code_N = np.asarray(coded.indices, np.int64)
    wanted_P, unwanted_P = _keys(relevant, coded.dictionary, num), _keys(junk, coded.dictionary, num)
    parts = []
    step = max(1, _CELLS_AT_ONCE // max(1, ranking.positions_QK.shape[1]))
    for start in range(0, len(row_Q), step):
        answered_B = start + np.flatnonzero(row_Q[start : start + step] >= 0)
        position_BK = ranking.positions_QK[row_Q[answered_B]]
        code_BK = position_BK if once else code_N[position_BK]
        # padding must not meet the key of another query's photo
        key_BK = np.where(position_BK == PADDING, -1, answered_B[:, None] * num + code_BK)
        bounds = [start * num, (start + step) * num]
        wanted, unwanted = (slice(*np.searchsorted(key_P, bounds)) for key_P in (wanted_P, unwanted_P))
        parts.append(_hits_of(answered_B, key_BK, wanted_P[wanted], unwanted_P[unwanted], once=once))
    empty = np.empty(0, np.int64)
    columns = zip((empty,) * 3, *parts, strict=True)
    query_H, raw_H, rank_H = (np.concatenate(column) for column in columns)
    return Hits(
        query_H=query_H,
        rank_H=rank_H,
        cut_H=raw_H if junk_late else rank_H,
        num_relevant_Q=np.fromiter(map(len, relevant), np.int64, len(relevant)),
    )


def average_precision(hits: Hits, *, k: int | None, full_divisor: bool = False) -> np.ndarray:
    """AP@k of each query: the precision at each hit's rank, summed, over min(m, k): float64 ``[Q]``.

    m is the number of relevant photos, at least 1.  *full_divisor* divides by m instead; *k* None looks at all
    answers and divides by m.
    """
    precision_H = hits.nth_H / hits.rank_H
    if k is None:
        k, full_divisor = np.iinfo(np.int64).max, True
    divisor_Q = hits.num_relevant_Q if full_divisor else np.minimum(hits.num_relevant_Q, k)
    ap_Q: np.ndarray = hits.sums(precision_H * (hits.cut_H <= k)) / divisor_Q
    return ap_Q


def trapezoidal_average_precision(hits: Hits) -> np.ndarray:
    """The area under the precision-recall curve of each query by trapezoids: float64 ``[Q]``.

    As Radenovic et al. (CVPR 2018) compute it: at each hit the mean of the precision just before it (1 at the
    first rank) and at it, each weighing 1/m.
    """
    before_H = (hits.nth_H - 1) / np.maximum(hits.rank_H - 1, 1)
    before_H[hits.rank_H == 1] = 1.0
    ap_Q: np.ndarray = hits.sums((before_H + hits.nth_H / hits.rank_H) / 2) / hits.num_relevant_Q
    return ap_Q


def precision_to_last(hits: Hits, k: int) -> np.ndarray:
    """Precision among the first min(k, rank of the last relevant photo) answers: float64 ``[Q]``.

    The P@k of Radenovic et al.: a query with three relevant photos, all found at once, has 1 at any k.  A
    relevant photo that was not answered has its rank beyond k.
    """
    all_found_Q = np.bincount(hits.query_H, minlength=hits.num_queries) == hits.num_relevant_Q
    last_Q = np.zeros(hits.num_queries, np.int64)
    last_Q[hits.query_H] = hits.rank_H  # ranks rise within a query, so the last one stays
    depth_Q = np.where(all_found_Q & (last_Q > 0), np.minimum(last_Q, k), k)
    within_H = (hits.cut_H <= k) & (hits.rank_H <= depth_Q[hits.query_H])
    precision_Q: np.ndarray = hits.sums(within_H.astype(np.float64)) / depth_Q
    return precision_Q


def _keys(photos: Sequence[Sequence[str]], gallery: pa.Array, num: int) -> np.ndarray:
    """Query number * *num* + code for each photo of each query that *gallery* has, rising: int64 ``[P]``."""
    length_Q = np.fromiter(map(len, photos), np.int64, len(photos))
    flat = pa.array(list(chain.from_iterable(photos)), pa.large_string())
    code_P = np.asarray(pc.fill_null(pc.index_in(flat, value_set=gallery), -1), np.int64)
    key_P = np.repeat(np.arange(len(photos)), length_Q) * num + code_P
    return np.sort(key_P[code_P >= 0])


def _hits_of(
    answered_B: np.ndarray, key_BK: np.ndarray, wanted_P: np.ndarray, unwanted_P: np.ndarray, *, once: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query number, rank among all answers and rank among those that are no junk of each hit in a block."""
    row_H, column_H = np.divmod(np.flatnonzero(_among(key_BK, wanted_P)), max(1, key_BK.shape[1]))
    if not once:
        _, first = np.unique(key_BK[row_H, column_H], return_index=True)
        first.sort()
        row_H, column_H = row_H[first], column_H[first]
    raw_H = column_H + 1
    if not unwanted_P.size:
        return answered_B[row_H], raw_H, raw_H
    num_junk_BK = np.cumsum(_among(key_BK, unwanted_P), axis=1)
    return answered_B[row_H], raw_H, raw_H - num_junk_BK[row_H, column_H]


def _among(key_BK: np.ndarray, sorted_P: np.ndarray) -> np.ndarray:
    """Which keys occur in *sorted_P*: bool ``[B, K]``."""
    if not sorted_P.size:
        return np.zeros(key_BK.shape, np.bool_)
    at_BK = np.searchsorted(sorted_P, key_BK)
    found_BK: np.ndarray = sorted_P[np.minimum(at_BK, len(sorted_P) - 1)] == key_BK
    return found_BK
