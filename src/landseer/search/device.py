"""The approximate pass on an accelerator: the codes of a prepared gallery lie there, and hits alone come back.

The bounds are those of ``landseer.search.certified``; nothing here decides what is in an answer.  Int8 products have
been run on CPUs only.

Axes: Q queries, N gallery rows, B rows of a block, M (query, row) pairs, D components.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 2**16
_STEP = 8  # cuBLAS multiplies int8 tables whose sides are multiples of this
_FEWEST_QUERIES = 32  # and with more than 16 rows on the left


class DeviceCodes:
    """int8 codes ``[N, D]`` and float32 scales ``[N]`` of a gallery in the memory of a torch device."""

    def __init__(self, codes_ND: np.ndarray, scale_N: np.ndarray, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._num = len(codes_ND)
        sides = (_padded(self._num), _padded(codes_ND.shape[1]))
        self._codes_ND = torch.zeros(sides, dtype=torch.int8, device=self._device)
        for start in range(0, self._num, BLOCK):
            part = torch.from_numpy(codes_ND[start : start + BLOCK])
            self._codes_ND[start : start + len(part), : codes_ND.shape[1]] = part.to(self._device)
        self._scale_N = torch.zeros(sides[0], device=self._device)
        self._scale_N[: self._num] = torch.from_numpy(scale_N).to(self._device)

    def queries(self, codes_QD: np.ndarray) -> Any:
        """Codes of queries where the gallery's lie, in a table that can be multiplied with them."""
        import torch

        sides = (max(_FEWEST_QUERIES, _padded(len(codes_QD))), self._codes_ND.shape[1])
        table = torch.zeros(sides, dtype=torch.int8, device=self._device)
        table[: len(codes_QD), : codes_QD.shape[1]] = torch.from_numpy(codes_QD).to(self._device)
        return table

    def products(self, queries: Any, start: int, stop: int) -> Any:
        """c'.c of the rows from *start*, a multiple of 8, to *stop*, int32, for all rows of the table *queries*."""
        import torch

        end = min(_padded(stop), len(self._codes_ND))
        return torch._int_mm(queries, self._codes_ND[start:end].T)[:, : stop - start]

    def scores(self, queries: Any, num_queries: int, start: int, stop: int) -> Any:
        """The approximate scores s (c'.c) of these rows for the first *num_queries*, float32 ``[Q, B]``."""
        return self.products(queries, start, stop)[:num_queries] * self._scale_N[start:stop]

    def kth_best(self, score_QB: Any, k: int) -> np.ndarray:
        """The k-th best score of each query, float32 ``[Q]``."""
        import torch

        found: np.ndarray = torch.topk(score_QB, k, dim=1).values[:, -1].cpu().numpy()
        return found

    def reaching(self, score_QB: Any, least_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, row of the block, score) of all pairs at or above the query's *least_Q*, by query."""
        import torch

        least = torch.from_numpy(least_Q).to(self._device)
        query_M, row_M = torch.nonzero(score_QB >= least[:, None], as_tuple=True)
        score_M = score_QB[query_M, row_M]
        return query_M.cpu().numpy(), row_M.cpu().numpy(), score_M.cpu().numpy()


def _padded(number: int) -> int:
    return -(-number // _STEP) * _STEP
