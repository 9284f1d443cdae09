"""Short codes of all rows, and the candidates they name: faiss's product quantiser and its fast-scan kernels.

The quantiser cuts a row into parts of 2 or 4 components and gives each part one of 16 codewords (Jegou et al.,
*Product Quantization for Nearest Neighbor Search*, TPAMI 2011); tables of a query's products with the
codewords are kept in vector registers (Andre et al., *Cache locality is not enough*, VLDB 2015).

faiss sums table entries of 8 bits, so many rows share a score, and which of them come last into the
candidates depends on the kernel, that is, on the number of queries asked together.

Axes: Q queries, C candidates, M rows of a sample, D components.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from landseer.search.approximate.plan import Plan

TRAINING_ROWS = 2**16
"""So many rows teach the quantiser, at most."""
_ITERATIONS = 10
_ROWS_A_LIST = 64
_ROWS_AT_ONCE = 2**14


@contextmanager
def faiss_threads(num: int) -> Iterator[Any]:
    """faiss, with *num* threads in this thread; its number is set back at the end."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(num)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


class Codes:
    """A faiss index of short codes.  Rows are numbered as they are added, from 0."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @staticmethod
    def train(rows_MD: np.ndarray, plan: Plan, *, seed: int, threads: int) -> Codes:
        """Learn the codewords, and the lists where the plan has any, from a sample of rows; none is added."""
        with faiss_threads(threads) as faiss:
            kind = f"PQ{plan.dim // plan.components}x4fs"
            if plan.kind == "lists":
                kind = f"IVF{plan.num_lists},{kind}"
            index = faiss.index_factory(plan.dim, kind, faiss.METRIC_INNER_PRODUCT)
            index.pq.cp.seed = seed
            if plan.kind == "lists":
                index.cp.seed, index.cp.niter = seed, _ITERATIONS
                index.cp.max_points_per_centroid = _ROWS_A_LIST
            index.train(np.ascontiguousarray(rows_MD, np.float32))
        return Codes(index)

    def add(self, rows_ND: np.ndarray, *, threads: int) -> None:
        """Add rows, a piece at a time."""
        with faiss_threads(threads):
            for start in range(0, len(rows_ND), _ROWS_AT_ONCE):
                self._index.add(np.ascontiguousarray(rows_ND[start : start + _ROWS_AT_ONCE], np.float32))

    def lists_of(self, rows_MD: np.ndarray, *, num: int, threads: int) -> np.ndarray:
        """The nearest *num* lists of each row, nearest first: int64 ``[M, num]``."""
        with faiss_threads(threads):
            return self._index.quantizer.search(np.ascontiguousarray(rows_MD, np.float32), num)[1]

    def find(self, queries_QD: np.ndarray, *, num: int, num_probes: int = 0) -> np.ndarray:
        """The *num* best rows by their codes, best first, -1 where there are fewer: int64 ``[Q, num]``.

        Uses one core.
        """
        queries = np.ascontiguousarray(queries_QD, np.float32)
        with faiss_threads(1) as faiss:
            if not num_probes:
                return self._index.search(queries, num)[1]
            how = faiss.SearchParametersIVF(nprobe=num_probes)
            return self._index.search(queries, num, params=how)[1]

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def to_bytes(self) -> np.ndarray:
        """In faiss's own format: uint8."""
        import faiss

        return faiss.serialize_index(self._index)

    @staticmethod
    def from_bytes(content: np.ndarray) -> Codes:
        """What ``to_bytes`` gave.  faiss trusts what it reads, so give it nothing whose checksum is unknown."""
        import faiss

        return Codes(faiss.deserialize_index(content))
