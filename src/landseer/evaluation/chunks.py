"""Rankings of the parts of a gallery -> the ranking of the whole, exactly.

A gallery with a million distractors is described and searched part by part; what each part answers is enough to know
what the whole would.

Axes: Q queries, K answers a query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from landseer.types import PADDING, Ranking

_WAITING = 4
"""Parts are merged once their answers are so many times as many as may be wanted of all."""
_CELLS_AT_ONCE = 2**22


def merge_rankings(rankings: Iterable[Ranking], *, k: int | None = None) -> Ranking:
    """The first *k* answers (default: as many as are certain) of the galleries of *rankings* taken together.

    Equal, position by position, to a ranking of the concatenated galleries ordered by (score descending, position
    ascending), as long as each part is ordered so.  *rankings* are taken one by one, so they need not be in
    memory together.  Raises ``ValueError`` where their queries or kinds of score differ, where a photo is in
    two galleries, and where a part was cut before *k*, so that answers of the whole may be missing.
    """
    parts = iter(rankings)
    merged = next(parts, None)
    if merged is None:
        raise ValueError("there is no ranking to merge")
    fingerprints = [merged.gallery_fingerprint]
    known = set(merged.gallery_ids)
    certain = _certain(merged)
    gallery_ids = list(merged.gallery_ids)
    positions, scores = [merged.positions_QK], [merged.scores_QK]
    for number, part in enumerate(parts, start=2):
        _require_fitting(merged, part, number)
        twice = next((photo for photo in part.gallery_ids if photo in known), None)
        if twice is not None:
            raise ValueError(
                f"photo {twice!r} of gallery {number} is in an earlier one, too; merge parts once each"
            )
        positions.append(
            np.where(part.positions_QK == PADDING, PADDING, part.positions_QK + len(gallery_ids))
        )
        scores.append(part.scores_QK)
        known.update(part.gallery_ids)
        gallery_ids += part.gallery_ids
        fingerprints.append(part.gallery_fingerprint)
        certain = min(certain, _certain(part))
        # now and then, so that memory stays bounded where parts are cut, and time where they are not
        if sum(table_QK.shape[1] for table_QK in positions) > _WAITING * certain:
            positions, scores = _merged(positions, scores, depth=certain)
    depth = min(certain, len(gallery_ids))
    if k is not None and k > depth and depth < len(gallery_ids):
        raise ValueError(
            f"a part holds only {depth} answers a query, so {k} of the whole are not certain; rank deeper"
        )
    depth = depth if k is None else min(k, depth)
    positions, scores = _merged(positions, scores, depth=depth)
    return Ranking(
        query_ids=merged.query_ids,
        gallery_ids=tuple(gallery_ids),
        positions_QK=positions[0],
        scores_QK=scores[0],
        score_kind=merged.score_kind,
        gallery_fingerprint=hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:16],
    )


def _certain(ranking: Ranking) -> int:
    """How many answers of the whole this part allows: all where it ranks its whole gallery."""
    width = ranking.positions_QK.shape[1]
    if width >= len(ranking.gallery_ids) and not np.any(
        ranking.positions_QK[:, : len(ranking.gallery_ids)] == PADDING
    ):
        return np.iinfo(np.int64).max
    # a row that ends early says nothing of the photos it leaves out
    return int(np.sum(ranking.positions_QK != PADDING, axis=1).min(initial=width))


def _merged(
    positions: Sequence[np.ndarray], scores: Sequence[np.ndarray], *, depth: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """All tables side by side, ordered anew, the first *depth* columns: one table of positions and one of scores."""
    num, width = len(positions[0]), sum(table_QK.shape[1] for table_QK in positions)
    depth = min(depth, width)
    position_QK, score_QK = np.empty((num, depth), np.int64), np.empty((num, depth), np.float32)
    step = max(1, _CELLS_AT_ONCE // max(1, width))
    for start in range(0, num, step):
        rows = slice(start, start + step)
        beside_BK = np.concatenate([table_QK[rows] for table_QK in scores], axis=1)
        # stable: of equal scores the earlier part's come first, and each part has its own in order
        order_BK = np.argsort(-beside_BK, axis=1, kind="stable")[:, :depth]
        score_QK[rows] = np.take_along_axis(beside_BK, order_BK, axis=1)
        beside_BK = np.concatenate([table_QK[rows] for table_QK in positions], axis=1)
        position_QK[rows] = np.take_along_axis(beside_BK, order_BK, axis=1)
    return [position_QK], [score_QK]


def _require_fitting(first: Ranking, part: Ranking, number: int) -> None:
    if part.query_ids != first.query_ids:
        raise ValueError(f"ranking {number} answers other queries than the first; rank the same queries")
    if part.score_kind != first.score_kind:
        raise ValueError(f"ranking {number} scores by {part.score_kind}, the first by {first.score_kind}")
