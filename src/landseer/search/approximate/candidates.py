"""The best of some candidates, by their exact scores.

Axes: Q queries, C candidates, K answers, N gallery rows, D components.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from landseer.search import workers
from landseer.search.scores import best, exact_scores

_QUERIES_AT_ONCE = 128
_FEW_QUERIES = 4


def best_of(
    candidates_QC: np.ndarray,
    queries_QD: np.ndarray,
    norm_Q: np.ndarray,
    rows_ND: np.ndarray,
    norm_N: np.ndarray,
    *,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and exact scores ``[Q, k]`` of the best candidates, equal scores by lower position.

    Candidates are positions in *rows_ND*, each once for a query, and -1 for none; norms are as ``norm_bounds``
    gives them.
    """
    sorted_QC = np.sort(candidates_QC, axis=1)
    there_QC = sorted_QC >= 0
    query_M, row_M = np.nonzero(there_QC)[0], sorted_QC[there_QC]
    score_M = exact_scores(queries_QD, norm_Q, rows_ND, norm_N, query_M=query_M, row_M=row_M)
    return best(query_M, row_M, score_M, num_queries=len(queries_QD), k=k)


def in_parts(answer: Callable[[slice], None], num_queries: int) -> None:
    """Call *answer* for parts of the queries, on as many threads as there are workers; a few, in this thread."""
    step = min(_QUERIES_AT_ONCE, max(_FEW_QUERIES, -(-num_queries // workers.num_workers())))
    parts = [slice(start, start + step) for start in range(0, num_queries, step)]
    if len(parts) == 1:  # to hand it to another thread and wait would cost more than it saves
        answer(parts[0])
    else:
        workers.run(answer, parts)
