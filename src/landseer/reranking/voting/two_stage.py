"""Sort and insert by voted landmarks: two-stage discriminative re-ranking (Yokoo et al., CVPRW 2020).

Sort: the answers of the query's landmark go ahead of the others, both in the order they had.  Insert: the gallery's
other photos of that landmark follow them, best vote first, where the query's and their own vote sum to more
than tau.  The row is cut to its width.

An order only is defined; the scores that stand for it are a tier plus the answer's own score.

Axes: N gallery photos, Q queries, B of them at once, K answers, W places for photos to be inserted, R rows' candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from landseer.recipe import TwoStageOptions
from landseer.reranking.context import Context
from landseer.reranking.moves import explained
from landseer.reranking.voting.votes import (
    NO_LABEL,
    Shelves,
    cosine_voters,
    is_there,
    named_by,
    shelve,
    vote,
)
from landseer.types import PADDING, Ranking

_METHOD = "two-stage"
_CELLS_AT_ONCE = 2**21
_TIERS = np.array([4, 2, 0, -np.inf], np.float32)
_LEADING, _INSERTED, _OTHER, _DROPPED = range(4)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Voted:
    """The landmark of each photo and its votes, both int64 and float64 ``[N]``; ``mean_N``: divided by the voters."""

    label_N: np.ndarray
    score_N: np.ndarray
    mean_N: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gallery:
    """What is worked out once for a gallery: its votes, its photos by landmark, and where each stands there."""

    voted: _Voted
    shelves: Shelves
    place_N: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """What all queries share.  ``room``: how many photos of a landmark have to be looked at."""

    ranking: Ranking
    queries: _Voted
    gallery: _Gallery
    options: TwoStageOptions
    room: int


def sort_and_insert(
    ranking: Ranking, context: Context, options: TwoStageOptions, *, explain: bool = False
) -> Ranking:
    """Answers of the query's landmark first, then photos of it that the search missed, then the rest.

    The label of a photo is the one with most votes of its ``voters`` nearest bank photos.  A query without a
    label, or with a vote below ``least_vote``, stays as it is.  Where no answer has the query's label the
    inserted photos are the first.  Without the sort-step they follow the last answer of the label, and all up
    to that one count as leading.

    A score is 4 for leading answers, 2 for inserted ones, 0 for the rest, plus a number in [-1, 1]: for an
    answer of the search its cosine, or s / (1 + abs(s)) of a score s of another kind; for an inserted photo the mean
    vote of its voters, in the order of the gallery the lowest so far.  So no score is above the one before it.
    Raises ``ValueError`` where *context* has no vote bank or no voters.
    """
    voters = cosine_voters(context, "query", _METHOD, ranking, k=options.voters)
    if not ranking.gallery_ids:
        return replace(ranking, score_kind="tier")
    gallery = _gallery(ranking, context, options)
    width = ranking.positions_QK.shape[1]
    task = _Task(
        ranking=ranking,
        queries=_sure(_voted(voters, context, options), options),
        gallery=gallery,
        options=options,
        room=_room(gallery.shelves, width, options),
    )
    positions_QK = np.full(ranking.positions_QK.shape, PADDING, np.int64)
    scores_QK = np.full(ranking.positions_QK.shape, -np.inf, np.float32)
    step = max(1, _CELLS_AT_ONCE // max(1, width + task.room))
    for start in range(0, len(ranking), step):
        part = slice(start, start + step)
        positions_QK[part], scores_QK[part] = _rows(task, part)
    after = replace(ranking, positions_QK=positions_QK, scores_QK=scores_QK, score_kind="tier")
    return _explained(task, after, context) if explain else after


def _voted(voters: Ranking, context: Context, options: TwoStageOptions) -> _Voted:
    bank = context.labelled(_METHOD)
    votes = vote(voters, bank.landmark_N, k=options.voters, similarity=options.similarity)
    label_N, sum_N = votes.winners()
    mean_N = sum_N / options.voters
    return _Voted(label_N=label_N, score_N=mean_N if options.normalise else sum_N, mean_N=mean_N)


def _sure(queries: _Voted, options: TwoStageOptions) -> _Voted:
    """The queries, those voted on with too little without a landmark."""
    if options.least_vote is None:
        return queries
    label_Q = np.where(queries.score_N >= options.least_vote, queries.label_N, NO_LABEL)
    return replace(queries, label_N=label_Q)


def _gallery(ranking: Ranking, context: Context, options: TwoStageOptions) -> _Gallery:
    voters = cosine_voters(context, "gallery", _METHOD, ranking, k=options.voters)
    name = f"landmarks of the gallery by {options.voters} {options.similarity} {options.normalise} {options.order}"
    if name not in context._kept:
        voted = _voted(voters, context, options)
        eligible_N = np.where(is_there(ranking.gallery_ids), voted.label_N, NO_LABEL)
        shelves = shelve(eligible_N, voted.score_N if options.order == "score" else None)
        place_N = np.full(len(eligible_N), len(eligible_N))  # for those on no shelf: beyond any
        first_M = np.repeat(shelves.start_L[:-1], shelves.size_L)
        place_N[shelves.position_M] = np.arange(len(first_M)) - first_M
        context._kept[name] = _Gallery(voted=voted, shelves=shelves, place_N=place_N)
    kept: _Gallery = context._kept[name]
    return kept


def _room(shelves: Shelves, width: int, options: TwoStageOptions) -> int:
    """As many photos as may matter.

    Best vote first, what may be inserted is a beginning of the shelf; among its first *width* photos those that
    the row does not have yet are as many as it has room for.
    """
    if not options.insert:
        return 0
    longest = int(shelves.size_L.max(initial=0))
    return min(longest, width) if options.order == "score" else longest


def _rows(task: _Task, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores ``[B, K]`` of some queries."""
    ranking, voted = task.ranking, task.gallery.voted
    position_BK = ranking.positions_QK[part]
    there_BK = position_BK != PADDING
    label_B1 = task.queries.label_N[part, None]
    positive_BK = there_BK & (voted.label_N[position_BK] == label_B1) & (label_B1 != NO_LABEL)
    member_BW, insert_BW = _insertions(task, part, position_BK, positive_BK)
    leading_BK = positive_BK
    if not task.options.sort:  # everything up to the last positive
        leading_BK = np.logical_or.accumulate(positive_BK[:, ::-1], axis=1)[:, ::-1]
    tier_BK = np.where(there_BK, np.where(leading_BK, _LEADING, _OTHER), _DROPPED)
    tier_BW = np.where(insert_BW, _INSERTED, _DROPPED)
    own_BW = np.clip(voted.mean_N[member_BW], -1, 1).astype(np.float32)
    if task.options.order == "gallery":
        own_BW = np.minimum.accumulate(np.where(insert_BW, own_BW, np.float32(1)), axis=1)
    tier_BR = np.concatenate([tier_BK, tier_BW], axis=1).astype(np.uint8)
    order_BK = np.argsort(tier_BR, axis=1, kind="stable")[:, : position_BK.shape[1]]
    tier_BK = np.take_along_axis(tier_BR, order_BK, axis=1)
    position_BR = np.concatenate([position_BK, member_BW], axis=1)
    own_BR = np.concatenate([_own(ranking.score_kind, ranking.scores_QK[part]), own_BW], axis=1)
    return (
        np.where(tier_BK == _DROPPED, PADDING, np.take_along_axis(position_BR, order_BK, axis=1)),
        _TIERS[tier_BK] + np.take_along_axis(own_BR, order_BK, axis=1),
    )


def _insertions(
    task: _Task, part: slice, position_BK: np.ndarray, positive_BK: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gallery photos of each query's landmark, in the order they would be inserted ``[B, W]``, and which may be."""
    gallery, options = task.gallery, task.options
    shelves, score_B1 = gallery.shelves, task.queries.score_N[part, None]
    if not task.room:
        return np.empty((len(score_B1), 0), np.int64), np.empty((len(score_B1), 0), np.bool_)
    shelf_B = shelves.find(task.queries.label_N[part])
    size_B = np.where(shelf_B < 0, 0, shelves.size_L[shelf_B])
    place_W = np.arange(min(task.room, int(size_B.max(initial=0))))
    insert_BW = place_W < size_B[:, None]
    member_BW = shelves.position_M[np.where(insert_BW, shelves.start_L[shelf_B][:, None] + place_W, 0)]
    row_P, column_P = np.nonzero(positive_BK)  # all that the row has of this landmark already
    known_P = gallery.place_N[position_BK[row_P, column_P]]
    within_P = known_P < len(place_W)
    insert_BW[row_P[within_P], known_P[within_P]] = False
    own_BW = gallery.voted.score_N[member_BW]
    if options.threshold is not None:
        insert_BW &= score_B1 + own_BW > options.threshold
    if options.positive:
        insert_BW &= (score_B1 > 0) & (own_BW > 0)
    return member_BW, insert_BW


def _own(score_kind: str, score_BK: np.ndarray) -> np.ndarray:
    """Scores of answers brought into [-1, 1], in the same order; 0 for padding."""
    score_BK = np.where(np.isneginf(score_BK), np.float32(0), score_BK)
    squeezed: np.ndarray = (
        np.clip(score_BK, -1, 1) if score_kind == "cosine" else score_BK / (1 + np.abs(score_BK))
    )
    return squeezed


def _explained(task: _Task, after: Ranking, context: Context) -> Ranking:
    bank, before, num = context.labelled(_METHOD), task.ranking, task.options.voters
    asking = cosine_voters(context, "query", _METHOD, before, k=num)
    shown = cosine_voters(context, "gallery", _METHOD, before, k=num)

    def why(query: int, position: int) -> str:
        label = int(task.queries.label_N[query])
        if task.gallery.voted.label_N[position] != label:
            return f"behind photos of landmark {label}, which the query was voted to show"
        by_query = named_by(asking, query, bank.landmark_N, label, bank, k=num)
        by_photo = named_by(shown, position, bank.landmark_N, label, bank, k=num)
        return (
            f"landmark {label} voted {task.queries.score_N[query]:.2f} by {by_query}; "
            f"this photo {task.gallery.voted.score_N[position]:.2f} by {by_photo}"
        )

    return replace(after, reasons=explained(before, after, why))
