"""Two runs' predictions of the same queries in one pool, and their GAPs where some are swapped between the runs.

GAP is no mean over queries: a prediction's worth depends on all that are surer.  So no signs of differences can be
flipped; the two predictions of a query are swapped and both pools ranked anew.

Axes: Q queries, C clusters, r swaps of a block, M predictions of both runs, H right ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.intervals import cluster_numbers, gap_difference_interval


@dataclass(frozen=True, kw_only=True)
class PairedPool:
    """The predictions of two runs in the one order in which GAP goes through those of either."""

    query_M: np.ndarray
    right_M: np.ndarray
    second_M: np.ndarray
    """bool: made by the second run."""
    shown_Q: np.ndarray
    differs_Q: np.ndarray
    """bool: the runs say something else of the query."""
    cluster_Q: np.ndarray
    """int64, from 0 on: queries of one landmark are one cluster, and swapped together."""

    @staticmethod
    def of(first: pa.Table, second: pa.Table) -> PairedPool:
        """From the tables of queries that ``evaluate_recognition`` made of both runs, the same queries in each row."""
        num = len(first)
        # text is compared as Python does, and ties are broken by it
        _, place_Q = np.unique(np.array(first["query"].to_pylist(), dtype=object), return_inverse=True)
        landmark_2Q, confidence_2Q = np.empty((2, num), np.int64), np.empty((2, num))
        right_2Q = np.empty((2, num), np.bool_)
        for row, table in enumerate((first, second)):
            landmark_2Q[row] = _column(table, "predicted", -1)
            confidence_2Q[row] = _column(table, "confidence", -np.inf)
            right_2Q[row] = _column(table, "right", None)
        order = np.lexsort((landmark_2Q.ravel(), np.tile(place_Q, 2), -confidence_2Q.ravel()))
        order = order[landmark_2Q.ravel()[order] >= 0]
        landmarks = first["landmark"].to_pylist()
        return PairedPool(
            query_M=order % num,
            right_M=right_2Q.ravel()[order],
            second_M=order >= num,
            shown_Q=np.array([landmark is not None for landmark in landmarks], np.bool_),
            differs_Q=(landmark_2Q[0] != landmark_2Q[1]) | (confidence_2Q[0] != confidence_2Q[1]),
            cluster_Q=cluster_numbers(landmarks),
        )

    def interval(self, *, resamples: int, seed: int) -> tuple[float, float]:
        """The 95 % interval of the second GAP minus the first, by the bootstrap over landmarks."""
        first, second = (
            (self.right_M[mine_M], self.query_M[mine_M]) for mine_M in (~self.second_M, self.second_M)
        )
        return gap_difference_interval(
            (first, second), self.shown_Q, self.cluster_Q, resamples=resamples, seed=seed
        )

    def differences(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function from which clusters are swapped (bool ``[r, C]``) to the second GAP minus the first, ``[r]``."""
        right = np.flatnonzero(self.right_M)
        # below the last right prediction nothing counts
        num = int(right[-1]) + 1 if len(right) else 0
        cluster_M, second_M = self.cluster_Q[self.query_M[:num]], self.second_M[:num]
        rank_H, nth_H = right + 1, np.arange(1, len(right) + 1)
        num_shown = int(self.shown_Q.sum())

        def differences(swapped_RC: np.ndarray) -> np.ndarray:
            theirs_RM = swapped_RC[:, cluster_M] ^ second_M
            theirs_RH = theirs_RM[:, right]
            # what is not the second run's is the first's: one count tells both
            rank_RH = np.cumsum(theirs_RM, axis=1, dtype=np.int32)[:, right]
            nth_RH = np.cumsum(theirs_RH, axis=1, dtype=np.int32)
            rank_RH = np.where(theirs_RH, rank_RH, rank_H - rank_RH)
            nth_RH = np.where(theirs_RH, nth_RH, nth_RH - nth_H)
            difference_R: np.ndarray = (nth_RH / rank_RH).sum(axis=1) / num_shown
            return difference_R

        return differences


def _column(table: pa.Table, name: str, missing: float | None) -> np.ndarray:
    column = table[name].combine_chunks()
    values: np.ndarray = (column if missing is None else column.fill_null(missing)).to_numpy(
        zero_copy_only=False
    )
    return values
