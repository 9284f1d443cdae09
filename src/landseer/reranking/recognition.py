"""Which landmark a query shows, from labelled photos like it."""

from __future__ import annotations

import numpy as np

from landseer.search import search_exact
from landseer.types import PADDING, Descriptors, Recognition


def recognise_nearest(queries: Descriptors, bank: Descriptors, landmark_N: np.ndarray) -> Recognition:
    """The landmark of the nearest photo of *bank*, with its cosine (dot product) as the confidence.

    *landmark_N* int64 ``[N]`` labels the rows of *bank*; a nearest photo labelled -1 (no landmark) names
    none.  Equally near photos: the first counts.  Raises ``ValueError`` where the labels do not fit the
    bank or the bank is empty.
    """
    if landmark_N.shape != (len(bank),):
        raise ValueError(f"the bank has {len(bank)} photos but labels of shape {landmark_N.shape}")
    if not len(bank):
        raise ValueError("the bank of labelled photos is empty; recognition needs at least one")
    nearest = search_exact(queries, bank, k=1)
    position_Q = nearest.positions_QK[:, 0]
    assert not np.any(position_Q == PADDING)
    return Recognition(
        query_ids=queries.ids,
        landmark_Q=landmark_N[position_Q].astype(np.int64),
        confidence_Q=nearest.scores_QK[:, 0],
    )
