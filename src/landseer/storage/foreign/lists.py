"""Answers as text files list them, one (query, photo) a line -> a Ranking.

Axes: Q queries, K answers, M listed answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.types import PADDING, Ranking

ORDER = "order"
"""The ``score_kind`` of a ranking that came without scores: 0, -1, -2 and so on down a row."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Answers in file order.  ``where`` says of answer number m where it stands, for messages."""

    path: Path
    queries: pa.Array
    photos: pa.Array
    score_M: np.ndarray | None
    where: Callable[[int], str]
    all_queries: tuple[str, ...] = ()
    """Queries the file names though it lists no answer for them."""


def ranking_of_list(
    listed: Listed,
    *,
    query_ids: tuple[str, ...] | None,
    gallery_ids: tuple[str, ...] | None,
    score_kind: str = "foreign",
) -> Ranking:
    """Sort the answers of each query by score, equal scores in file order; without scores, file order it is.

    *query_ids* and *gallery_ids* fix which there are and their order; else they come as they first appear.
    Raises ``ValueError`` that names the line for an id that is none of these, a photo listed twice for a query and
    a score that is no number.
    """
    queries = query_ids if query_ids is not None else _in_order(listed.queries, listed.all_queries)
    gallery = gallery_ids if gallery_ids is not None else _in_order(listed.photos, ())
    query_M = _positions(listed, listed.queries, queries, "query")
    photo_M = _positions(listed, listed.photos, gallery, "photo")
    _refuse_repeats(listed, query_M, photo_M, len(gallery))
    score_M = _scores(listed)
    order_M = np.lexsort((np.arange(len(query_M)), -score_M, query_M))
    query_M, photo_M, score_M = query_M[order_M], photo_M[order_M], score_M[order_M]
    num_Q = np.bincount(query_M, minlength=len(queries))
    start_Q = np.concatenate([[0], np.cumsum(num_Q)[:-1]]).astype(np.int64) if len(queries) else num_Q
    column_M = np.arange(len(query_M)) - start_Q[query_M]
    shape = (len(queries), int(num_Q.max(initial=0)))
    positions_QK = np.full(shape, PADDING, np.int64)
    scores_QK = np.full(shape, -np.inf, np.float32)
    positions_QK[query_M, column_M] = photo_M
    scores_QK[query_M, column_M] = -column_M if listed.score_M is None else score_M
    return Ranking(
        query_ids=queries,
        gallery_ids=gallery,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
        score_kind=ORDER if listed.score_M is None else score_kind,
    )


def _in_order(values: pa.Array, more: tuple[str, ...]) -> tuple[str, ...]:
    return more or tuple(pc.unique(values).to_pylist())


def _positions(listed: Listed, values: pa.Array, known: tuple[str, ...], noun: str) -> np.ndarray:
    found = pc.index_in(values, value_set=pa.array(known, pa.string()))
    if found.null_count:
        first = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"{listed.path}, {listed.where(first)}: {noun} {values[first].as_py()!r} is none of the "
            f"{len(known)} ids given for the {'queries' if noun == 'query' else 'gallery'}"
        )
    return np.asarray(found.to_numpy(), np.int64)


def _refuse_repeats(listed: Listed, query_M: np.ndarray, photo_M: np.ndarray, num_photos: int) -> None:
    pair_M = query_M * max(1, num_photos) + photo_M
    order_M = np.argsort(pair_M, kind="stable")
    again = np.flatnonzero(np.diff(pair_M[order_M]) == 0)
    if again.size:
        second = int(order_M[again + 1].min())
        query, photo = listed.queries[second].as_py(), listed.photos[second].as_py()
        raise ValueError(
            f"{listed.path}, {listed.where(second)}: photo {photo!r} is listed twice for query {query!r}"
        )


def _scores(listed: Listed) -> np.ndarray:
    if listed.score_M is None:
        return np.zeros(len(listed.queries), np.float64)
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(listed.score_M.astype(np.float32)))
    if bad.size:
        first = int(bad[0])
        raise ValueError(
            f"{listed.path}, {listed.where(first)}: score {listed.score_M[first]} is not a finite number"
        )
    return listed.score_M
