"""The approximate pass over a prepared gallery: one byte a component, and a proven bound for each row.

A row x is kept as x = s c + r: int8 codes c, a float32 scale s = max |x_i| / 127, and a bound of |r|, the
length of what the codes leave out.  A query is cut the same way, q = s' c' + r'.  Then

    q.x = s' s (c'.c)  +  (s' c').r  +  r'.x,

the first term from an integer product, which is exact, and the other two at most |s' c'| |r| + |r'| |x| by
Cauchy and Schwarz.  So every row has a lower and an upper bound of its score.  With T the k-th best lower
bound of any part of the gallery, at least k rows score T or better, and a row whose upper bound is below T
scores strictly worse: no rule for ties can bring it in.  Once the scan is over, the k rows with the best
lower bounds are scored exactly; the worst of those scores is a better T, and what still reaches it is
scored exactly, too.

Bounds are kept in units of s'.  They include the rounding of the score itself to float32, and what float32
loses in s (c'.c) and in the bounds: fewer than 32 roundings in all, each at most 2^-24 of |q||x|.

What is assumed of the machine: that int8 products are summed in int32 without saturation.  It is tested once
a process and D with the operands that saturate first, and every row scored exactly is held against its
bounds; where either fails, nothing is certified and the float32 pass of ``landseer.search.exact`` answers.
So it does for a query with more rows within the bounds than a list holds.

Axes: Q queries, N gallery rows, B rows of a block, C places of a list, M (query, row) pairs, D components.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from landseer.search import workers
from landseer.search.device import BLOCK, DeviceCodes
from landseer.search.scores import best, exact_scores, norm_bounds, to_float32
from landseer.types import Descriptors

_LEVELS = 127
_SLACK = 2.0**-19
_SMALLEST_NORMAL = 2.0**-126
_LARGEST_NORM = 2.0**60  # beyond, something might leave float32's range on the way
_LARGEST_ERROR = 2.0**100
_MOST_COMPONENTS = 2**16  # 127^2 of each fit into int32
_ROWS_PREPARED_AT_ONCE = 1024
_BLOCK = 512
_GROWTH = 1.5
_FIRST_BLOCK = 4096
_QUERIES_AT_ONCE = 512
_FEWEST_QUERIES = 32
_ALONE = 3
_WORTH_A_WORKER = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A gallery with what repeated queries need: made once by ``prepare``, read by ``search_exact``.

    ``norm_N`` float64: an upper bound of each row's length.  ``codes_ND`` int8, ``scale_N`` and ``rest_N``
    float32: row n is ``scale_N[n] * codes_ND[n]`` and a rest no longer than ``rest_N[n]``.  Without codes
    (None) the float32 pass is used.
    """

    gallery: Descriptors
    norm_N: np.ndarray
    codes_ND: np.ndarray | None
    scale_N: np.ndarray
    rest_N: np.ndarray
    on_device: DeviceCodes | None = None
    """The codes once more, on the accelerator that scans them; None: the processor does."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Those of the gallery."""
        return self.gallery.ids

    def __len__(self) -> int:
        return len(self.gallery)

    @functools.cached_property
    def longest(self) -> float:
        """The largest of the norms."""
        return float(self.norm_N.max(initial=0.0))

    @functools.cached_property
    def longest_rest(self) -> np.float32:
        """The largest of the rests."""
        return np.float32(self.rest_N.max(initial=0.0))


def prepare(gallery: Descriptors, *, device: str = "cpu") -> Prepared:
    """Make *gallery* ready for many queries: a byte a component beside the rows, which stay where they are.

    With another *device*, a torch one, the codes lie there, too, and are scanned there.  The rows must not change
    afterwards.  Raises ``ValueError`` where one holds a NaN or an infinity.
    """
    norm_N = norm_bounds(gallery.rows_ND, gallery.ids)
    num, dim = gallery.rows_ND.shape
    scale_N, rest_N = np.ones(num, np.float32), np.zeros(num, np.float32)
    # torch 2.13 reads past the end of codes of a single component
    fits = num > 0 and 1 < dim <= _MOST_COMPONENTS and norm_N.max() < _LARGEST_NORM
    if not (fits and products_are_exact(dim, device)):
        return Prepared(gallery=gallery, norm_N=norm_N, codes_ND=None, scale_N=scale_N, rest_N=rest_N)
    codes_ND = np.empty((num, dim), np.int8)

    def fill(start: int) -> None:
        part = slice(start, start + _ROWS_PREPARED_AT_ONCE)
        codes_ND[part], scale_N[part], rest_N[part] = quantise(gallery.rows_ND[part], norm_N[part])

    workers.run(fill, range(0, num, _ROWS_PREPARED_AT_ONCE))
    return Prepared(
        gallery=gallery,
        norm_N=norm_N,
        codes_ND=codes_ND,
        scale_N=scale_N,
        rest_N=rest_N,
        on_device=None if device == "cpu" else DeviceCodes(codes_ND, scale_N, device),
    )


def quantise(rows_ND: np.ndarray, norm_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes int8 ``[N, D]``, scales and bounds of the rests float32 ``[N]`` of finite rows."""
    import torch

    rows = torch.from_numpy(np.array(rows_ND, np.float32))
    scale = (rows.abs().amax(dim=1) / _LEVELS).clamp_(min=_SMALLEST_NORMAL)
    rest = (rows / scale[:, None]).round_()
    codes = rest.to(torch.int8)
    rest.mul_(scale[:, None]).sub_(rows)
    # the product and the difference are rounded: 2^-24 of |s c| and of the rest, and a little near zero
    length_N = norm_bounds(rest.numpy(), [""] * len(rest)) + 2.0**-22 * norm_N
    return codes.numpy(), scale.numpy(), _up(length_N + rows.shape[1] * _SMALLEST_NORMAL)


@functools.cache
def products_are_exact(dim: int, device: str = "cpu") -> bool:
    """Whether torch multiplies int8 rows of *dim* there and sums in int32, also where 16 bits would not do."""
    low, high = -_LEVELS, _LEVELS
    rng = np.random.default_rng(0)
    for num_queries, num_rows in ((1, 64), (1, 101), (48, 64), (7, 130)):
        right = np.full((num_rows, dim), high, np.int8)
        right[1::3] = low
        right[2::3] = rng.integers(low, high + 1, size=right[2::3].shape)
        left = np.full((num_queries, dim), high, np.int8)
        left[1::2] = rng.integers(low, high + 1, size=left[1::2].shape)
        try:
            got = _products(left, right, device)
        except (AttributeError, RuntimeError):  # no such product in this torch, or not on this machine
            return False
        if not np.array_equal(got, left.astype(np.int64) @ right.astype(np.int64).T):
            return False
    return True


def _products(left_QD: np.ndarray, right_ND: np.ndarray, device: str) -> np.ndarray:
    import torch

    if device == "cpu":
        return torch._int_mm(torch.from_numpy(left_QD), torch.from_numpy(right_ND).T).numpy()
    codes = DeviceCodes(right_ND, np.ones(len(right_ND), np.float32), device)
    found: np.ndarray = codes.products(codes.queries(left_QD), 0, len(right_ND))[: len(left_QD)].cpu().numpy()
    return found


def search_prepared(
    queries_QD: np.ndarray, query_norm_Q: np.ndarray, prepared: Prepared, *, k: int, proven: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and scores ``[Q, k]``, and which queries ``[Q]`` could not be certified.

    Rows of the latter mean nothing.  *k* is at most the number of rows, and there are codes.  Not *proven*: the k
    rows whose codes score best, by their exact scores; some rows of the true answer may lack.
    """
    num = len(queries_QD)
    most = max(1, min(_QUERIES_AT_ONCE, 2**22 // _places(k, len(prepared))))
    share = max(_FEWEST_QUERIES, -(-num // workers.num_workers()))
    step = min(most, share)

    def answer(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = slice(start, start + step)
        chunk = _Chunk(queries_QD[part], query_norm_Q[part], prepared, proven=proven)
        scan = _scan_alone if num <= _ALONE else _scan
        if prepared.on_device is not None:
            scan = _scan_on_device
        return _answer(chunk, scan(chunk, prepared, k), prepared, k)

    starts = range(0, num, step)
    # a scan for one query hands its own parts to the workers, and an accelerator is one
    in_turn = num <= _ALONE or prepared.on_device is not None
    parts = [answer(start) for start in starts] if in_turn else workers.run(answer, starts)
    positions, scores, open_ = zip(*parts, strict=True)
    return np.concatenate(positions), np.concatenate(scores), np.concatenate(open_)


def _places(k: int, num_rows: int) -> int:
    """How many rows a list holds."""
    return min(16 * k + 1024, num_rows)


class _Chunk:
    """Some queries, cut into codes and rests, and how far a row's score may lie from s (c'.c)."""

    def __init__(self, rows_QD: np.ndarray, norm_Q: np.ndarray, prepared: Prepared, *, proven: bool) -> None:
        self.rows_QD, self.norm_Q, self.proven = rows_QD, norm_Q, proven
        codes_QD, scale_Q, rest_Q = quantise(rows_QD, norm_Q)
        self.codes_QD, self.scale_Q = codes_QD, scale_Q.astype(np.float64)
        square_Q = np.einsum("qd,qd->q", codes_QD, codes_QD, dtype=np.int64)
        self.length_Q = _up(np.sqrt(square_Q))
        """What a unit of a row's rest may add, in units of the scale: the length of the codes."""
        longest, wide_Q = prepared.longest, rest_Q.astype(np.float64)
        whole_Q = (norm_Q + wide_Q) * (longest + float(prepared.longest_rest))
        tiny_Q = rows_QD.shape[1] * _SMALLEST_NORMAL * (1 + norm_Q) * (1 + longest)
        error_Q = (wide_Q * longest + _SLACK * whole_Q + tiny_Q) / self.scale_Q + _SMALLEST_NORMAL
        fits_Q = (norm_Q < _LARGEST_NORM) & (error_Q < _LARGEST_ERROR)
        self.error_Q = _up(np.where(fits_Q, error_Q * (1 + _SLACK), np.nan))
        """What a score may be off for all other reasons, in units of the scale; NaN: the query is given up."""
        if not proven:  # scores by codes are taken at their word
            self.length_Q, self.error_Q = np.zeros_like(self.length_Q), self.error_Q * np.float32(0)

    def __len__(self) -> int:
        return len(self.rows_QD)


class _Held:
    """For each query of a chunk the rows that may still be in its answer, with lower bounds of their scores."""

    def __init__(self, chunk: _Chunk, prepared: Prepared, k: int) -> None:
        num, self._places, self._k = len(chunk), _places(k, len(prepared)), k
        self._chunk, self._prepared = chunk, prepared
        self.threshold_Q = np.full(num, -np.inf, np.float32)
        """A row whose upper bound is lower cannot be in the answer; NaN: the query is given up."""
        self.threshold_Q[np.isnan(chunk.error_Q)] = np.nan
        self._count_Q = np.zeros(num, np.int64)
        self._positions_QC = np.zeros((num, self._places), np.int64)
        self._lower_QC = np.full((num, self._places), -np.inf, np.float32)

    @property
    def open_Q(self) -> np.ndarray:
        """Queries given up: more rows than there are places."""
        return np.isnan(self.threshold_Q)

    def raise_threshold(self, threshold_Q: np.ndarray) -> None:
        """Learn that *k* rows score *threshold_Q* or better."""
        self.threshold_Q = np.maximum(self.threshold_Q, threshold_Q)  # NaN stays

    def add(self, query_M: np.ndarray, position_M: np.ndarray, score_M: np.ndarray) -> None:
        """Take pairs in, sorted by query."""
        self._put(query_M, position_M, score_M - self._error(query_M, position_M))

    def tighten(self) -> None:
        """Raise the thresholds by what is held."""
        width = int(self._count_Q.max(initial=0))
        if width >= self._k:
            lower_QW = self._lower_QC[:, :width]
            self.raise_threshold(np.partition(lower_QW, width - self._k, axis=1)[:, width - self._k])

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(query, position, lower, upper) of all that still reaches the thresholds, by query and position."""
        width = int(self._count_Q.max(initial=0))
        chunk = self._chunk
        farthest_Q = 2 * (chunk.length_Q * self._prepared.longest_rest + chunk.error_Q)
        near_QW = self._lower_QC[:, :width] >= (self.threshold_Q - farthest_Q)[:, None]
        near_QW &= np.arange(width) < self._count_Q[:, None]
        flat_M = np.flatnonzero(near_QW)
        query_M = flat_M // max(width, 1)
        place_M = flat_M + query_M * (self._places - width)
        position_M, lower_M = self._positions_QC.ravel()[place_M], self._lower_QC.ravel()[place_M]
        upper_M = lower_M + 2 * self._error(query_M, position_M)
        reach = np.flatnonzero(upper_M >= self.threshold_Q[query_M])
        return query_M[reach], position_M[reach], lower_M[reach], upper_M[reach]

    def _error(self, query_M: np.ndarray, position_M: np.ndarray) -> np.ndarray:
        """How far scores may be off: float32, its own rounding within the slack."""
        chunk = self._chunk
        return chunk.length_Q[query_M] * self._prepared.rest_N[position_M] + chunk.error_Q[query_M]

    def _put(self, query_M: np.ndarray, position_M: np.ndarray, lower_M: np.ndarray) -> None:
        num_Q = np.bincount(query_M, minlength=len(self._count_Q))
        if (self._count_Q + num_Q > self._places).any():
            num_Q, *arrays = self._make_room(num_Q, query_M, position_M, lower_M)
            query_M, position_M, lower_M = arrays
        first_Q = np.arange(len(num_Q)) * self._places + self._count_Q - (np.cumsum(num_Q) - num_Q)
        place_M = first_Q[query_M] + np.arange(len(query_M))
        self._positions_QC.ravel()[place_M] = position_M
        self._lower_QC.ravel()[place_M] = lower_M
        self._count_Q += num_Q

    def _make_room(self, num_Q: np.ndarray, query_M: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        """Drop what no longer reaches the thresholds; where *num_Q* more do not fit even so, give up."""
        self.tighten()
        kept_M, position_M, lower_M, _ = self.pairs()
        over_Q = np.bincount(kept_M, minlength=len(num_Q)) + num_Q > self._places
        self.threshold_Q[over_Q] = np.nan
        self._count_Q[:], self._lower_QC[:] = 0, -np.inf
        fits_M = ~over_Q[kept_M]
        self._put(kept_M[fits_M], position_M[fits_M], lower_M[fits_M])
        fits_M = ~over_Q[query_M]
        return [np.where(over_Q, 0, num_Q), query_M[fits_M], *(array[fits_M] for array in arrays)]


def _scan(chunk: _Chunk, prepared: Prepared, k: int) -> _Held:
    """Go over the gallery block by block for all queries of the chunk together."""
    import torch

    assert prepared.codes_ND is not None
    total = len(prepared)
    held = _Held(chunk, prepared, k)
    codes_ND, scale_N = torch.from_numpy(prepared.codes_ND), torch.from_numpy(prepared.scale_N)
    codes_QD = torch.from_numpy(chunk.codes_QD)
    product_QB, out_QB, reach_QB = _room(len(chunk), 0)
    start, next_tightening, size = 0, 0, max(_FIRST_BLOCK, 2 * k)
    while start < total:
        stop = min(start + size, total)
        if product_QB.shape[1] != stop - start:
            product_QB, out_QB, reach_QB = _room(len(chunk), stop - start)
        torch._int_mm(codes_QD, codes_ND[start:stop].T, out=product_QB)
        score_QB = torch.mul(product_QB, scale_N[start:stop], out=out_QB).numpy()
        margin_Q = chunk.length_Q * prepared.rest_N[start:stop].max() + chunk.error_Q
        if start == 0:
            held.raise_threshold(np.partition(score_QB, stop - k, axis=1)[:, stop - k] - margin_Q)
        np.greater_equal(score_QB, (held.threshold_Q - margin_Q)[:, None], out=reach_QB)
        flat_M = np.flatnonzero(reach_QB)
        query_M = flat_M // (stop - start)
        held.add(query_M, flat_M - query_M * (stop - start) + start, score_QB.ravel()[flat_M])
        if stop >= next_tightening:
            held.tighten()
            next_tightening = int(stop * _GROWTH)
        start, size = stop, _BLOCK
    held.tighten()
    return held


def _room(num_queries: int, num_rows: int) -> tuple[Any, Any, np.ndarray]:
    """Where the products of a block go, their scores, and which of them matter."""
    import torch

    shape = (num_queries, num_rows)
    return torch.empty(shape, dtype=torch.int32), torch.empty(shape), np.empty(shape, np.bool_)


def _scan_on_device(chunk: _Chunk, prepared: Prepared, k: int) -> _Held:
    """Go over the gallery block by block where its codes lie; what reaches the thresholds comes back."""
    codes = prepared.on_device
    assert codes is not None
    held = _Held(chunk, prepared, k)
    queries = codes.queries(chunk.codes_QD)
    step = BLOCK * -(-2 * k // BLOCK)
    for start in range(0, len(prepared), step):
        stop = min(start + step, len(prepared))
        score_QB = codes.scores(queries, len(chunk), start, stop)
        margin_Q = chunk.length_Q * prepared.rest_N[start:stop].max() + chunk.error_Q
        if stop - start >= k:
            held.raise_threshold(codes.kth_best(score_QB, k) - margin_Q)
        query_M, row_M, score_M = codes.reaching(score_QB, held.threshold_Q - margin_Q)
        held.add(query_M, row_M + start, score_M)
        held.tighten()
    return held


def _scan_alone(chunk: _Chunk, prepared: Prepared, k: int) -> _Held:
    """Score all rows for one query at a time, and select from the whole: cheaper than blocks for a few."""
    import torch

    assert prepared.codes_ND is not None
    held = _Held(chunk, prepared, k)
    codes_ND, scale_N = torch.from_numpy(prepared.codes_ND), torch.from_numpy(prepared.scale_N)
    score_N, lower_N = np.empty(len(prepared), np.float32), np.empty(len(prepared), np.float32)
    for query in np.flatnonzero(~held.open_Q):
        code_1D = torch.from_numpy(chunk.codes_QD[query : query + 1])
        length, error = chunk.length_Q[query], chunk.error_Q[query]

        def fill(part: slice, code_1D: Any = code_1D, length: Any = length, error: Any = error) -> None:
            product_B = torch._int_mm(code_1D, codes_ND[part].T)[0]
            score_B = torch.mul(product_B, scale_N[part], out=torch.from_numpy(score_N[part])).numpy()
            np.multiply(prepared.rest_N[part], -length, out=lower_N[part])
            lower_N[part] += score_B - error

        workers.run(fill, _parts(*prepared.codes_ND.shape))
        threshold = np.partition(lower_N, len(lower_N) - k)[len(lower_N) - k]
        farthest = length * prepared.longest_rest + error
        position_M = np.flatnonzero(score_N >= threshold - farthest)
        held.add(np.full(len(position_M), query), position_M, score_N[position_M])
    held.tighten()
    return held


def _parts(num_rows: int, dim: int) -> list[slice]:
    """The rows in as many parts as there are workers, or in one where handing out costs more than it saves."""
    num = workers.num_workers() if num_rows * dim > _WORTH_A_WORKER else 1
    step = -(-num_rows // num)
    return [slice(start, start + step) for start in range(0, num_rows, step)]


def _answer(
    chunk: _Chunk, held: _Held, prepared: Prepared, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score exactly what is held and keep the *k* best: first the likely ones, then who still reaches them."""
    query_M, row_M, lower_M, upper_M = held.pairs()
    score_M = np.full(len(query_M), -np.inf, np.float32)
    likely_M = lower_M >= held.threshold_Q[query_M]

    def decide(chosen_M: np.ndarray) -> None:
        score_M[chosen_M] = exact_scores(
            chunk.rows_QD,
            chunk.norm_Q,
            prepared.gallery.rows_ND,
            prepared.norm_N,
            query_M=query_M[chosen_M],
            row_M=row_M[chosen_M],
        )

    likely = np.flatnonzero(likely_M)
    decide(likely)
    kth_Q = np.full(len(chunk), -np.inf)
    num_Q = np.bincount(query_M[likely], minlength=len(chunk))
    if likely.size:
        sure = np.flatnonzero(num_Q)
        worst = np.minimum.reduceat(score_M[likely], (np.cumsum(num_Q) - num_Q)[sure])
        kth_Q[sure] = np.where(num_Q[sure] >= k, worst, -np.inf)
    scored_M = upper_M * chunk.scale_Q[query_M] >= kth_Q[query_M]
    decide(np.flatnonzero(scored_M & ~likely_M))
    scored = np.flatnonzero(scored_M | likely_M)
    query_M, row_M, score_M = query_M[scored], row_M[scored], score_M[scored]
    in_units_M = score_M / chunk.scale_Q[query_M]
    broken_M = ~((lower_M[scored] <= in_units_M) & (in_units_M <= upper_M[scored])) & chunk.proven
    open_Q = held.open_Q
    open_Q[query_M[broken_M]] = True  # the machine does not do what the proof assumes
    positions_QK, scores_QK = best(query_M, row_M, score_M, num_queries=len(chunk), k=k)
    return positions_QK, scores_QK, open_Q


def _down(values: np.ndarray) -> np.ndarray:
    """To float32, never above."""
    return np.nextafter(to_float32(values), np.float32(-np.inf))


def _up(values: np.ndarray) -> np.ndarray:
    """To float32, never below."""
    return np.nextafter(to_float32(values), np.float32(np.inf))
