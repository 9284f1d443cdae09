"""Bonuses for voted landmarks and countries (2nd place, Google Landmark Retrieval 2021).

    score(q, n) = cos(q, n) + alpha * L(q, landmark tag of n) + beta * C(q, country tag of n)

A gallery photo is tagged with landmark and country of its single nearest bank photo.  L and C are a query's votes.

The whole table [Q, N] is never made.  All photos with the same tags get the same bonus, and no bonus is negative.  So
the K best by score are among the K best by cosine of the gallery, those of each voted country, and those of each
pair of tags with a voted landmark: a photo outside all three has K photos with its bonus or a larger one, and
a higher cosine (or an equal one and a lower position), ahead of it.  This holds where the ranking came from exact
search; after another method its own scores take the place of the cosines of its answers.

Over several models (``Context.models``) the cosines are summed, w times each, which is one dot product of rows put
side by side; tags and votes are each model's own.

Axes: Q queries, N gallery photos, K answers or voters, M (query, part) requests, C candidates of some queries, one
after the other, G parts of the gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from landseer.recipe import LandmarkCountryOptions
from landseer.reranking.context import Context
from landseer.reranking.moves import explained
from landseer.reranking.voting.voters import reciprocal_voters
from landseer.reranking.voting.votes import (
    NO_LABEL,
    Shelves,
    Votes,
    cosine_voters,
    count_votes,
    is_there,
    labels_of,
    named_by,
    shelve,
    weights_of,
)
from landseer.reranking.voting.within import Nearest, nearest_within
from landseer.search.scores import best, exact_scores, norm_bounds
from landseer.types import PADDING, Descriptors, Ranking

_METHOD = "landmark-country"
_CANDIDATES_AT_ONCE = 2**20
_CELLS_AT_ONCE = 2**21
_QUERIES_AT_ONCE = 2**12  # with the candidates and 31 bits of a position, 63 bits


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tags:
    """Of one model: the tags of the gallery, int64 ``[N]``, and the bonuses each query gives for them."""

    model: Context
    voters: Ranking
    landmark_N: np.ndarray
    country_N: np.ndarray
    landmarks: Votes
    countries: Votes


def add_landmark_country(
    ranking: Ranking, context: Context, options: LandmarkCountryOptions, *, explain: bool = False
) -> Ranking:
    """Add to every cosine what the query's voters say about the photo's landmark and country, and sort anew.

    Votes of a photo with a negative similarity count as 0.  ``normalise``: a query's landmark votes sum to 1, and
    so do its country votes.  Photos that *ranking* lacks come in where they belong.  Equal scores: the lower position
    first.  Several models whose ``weight`` is 1 give the same sums ``before`` and ``after`` merging; else a
    bonus counts with its model's weight before merging, and plainly after it.

    Raises ``ValueError`` where *context* lacks a vote bank, its countries (unless ``beta`` is 0), voters or
    descriptors, and where ``in_country`` has fewer photos of a voted country than the ranking is wide.
    """
    if not ranking.gallery_ids:
        return replace(ranking, score_kind=_METHOD)
    tags = tuple(_tags(ranking, model, options, context) for model in context.models or (context,))
    queries, gallery = _descriptors(ranking, context)
    width = ranking.positions_QK.shape[1]
    found = [_answers(ranking, context, queries, gallery)]
    if options.beta:
        found.append(_in_countries(ranking, context, tags, queries, gallery))
    if options.alpha:
        parts = _parts(ranking, context, "landmarks and countries", tags)
        requests = _requests([(tag.landmarks, tag.landmark_N) for tag in tags], parts)
        found.append(nearest_within(queries, gallery, parts, requests, k=width, search=context.search))
    positions_QK = np.full(ranking.positions_QK.shape, PADDING, np.int64)
    scores_QK = np.full(ranking.positions_QK.shape, -np.inf, np.float32)
    for part in _blocks(found):
        positions_QK[part], scores_QK[part] = _rows(found, part, tags, k=width)
    after = replace(ranking, positions_QK=positions_QK, scores_QK=scores_QK, score_kind=_METHOD)
    return _explained(ranking, after, tags, options) if explain else after


def _tags(ranking: Ranking, model: Context, options: LandmarkCountryOptions, whole: Context) -> _Tags:
    bank = model.labelled(_METHOD)
    if options.beta and bank.country_N is None:
        raise ValueError(f"{_METHOD} needs countries of the vote bank; none are known, so say beta = 0")
    nearest = cosine_voters(model, "gallery", _METHOD, ranking, k=1)
    if options.voting == "cosine":
        voters = cosine_voters(model, "query", _METHOD, ranking, k=options.voters)
    else:
        voters = reciprocal_voters(ranking, model, options, method=_METHOD)
    weight = model.weight if model is not whole and options.merge == "before" else 1.0
    return _Tags(
        model=model,
        voters=voters,
        landmark_N=labels_of(nearest, bank.landmark_N, k=1)[:, 0],
        country_N=labels_of(nearest, bank.country_N, k=1)[:, 0],
        landmarks=_bonuses(voters, bank.landmark_N, options).times(weight * options.alpha),
        countries=_bonuses(voters, bank.country_N, options).times(weight * options.beta),
    )


def _bonuses(voters: Ranking, label_B: np.ndarray | None, options: LandmarkCountryOptions) -> Votes:
    weight_QK = np.maximum(weights_of(voters, k=options.voters), 0)  # or what follows would not hold
    votes = count_votes(labels_of(voters, label_B, k=options.voters), weight_QK)
    if options.hard:
        return votes.winner_takes_all()
    return votes.shares() if options.normalise else votes


def _descriptors(ranking: Ranking, context: Context) -> tuple[Descriptors, Descriptors]:
    """Rows whose dot product is the similarity: those of the only model, or of all models side by side."""
    if not context.models:
        return context.descriptors(_METHOD, ranking)
    both = [model.descriptors(_METHOD, ranking) for model in context.models]
    weighted = [
        queries.rows_ND.astype(np.float32) * np.float32(model.weight)
        for model, (queries, _) in zip(context.models, both, strict=True)
    ]
    if "rows of all models" not in context._kept:
        context._kept["rows of all models"] = Descriptors(
            ids=ranking.gallery_ids,
            rows_ND=np.concatenate([gallery.rows_ND for _, gallery in both], axis=1),
            normalised=False,
        )
    rows_QD = np.concatenate(weighted, axis=1)
    return (
        Descriptors(ids=ranking.query_ids, rows_ND=rows_QD, normalised=False),
        context._kept["rows of all models"],
    )


def _answers(ranking: Ranking, context: Context, queries: Descriptors, gallery: Descriptors) -> Nearest:
    """The answers of *ranking*, with its scores; where there are several models, with the sums of theirs."""
    there_QK = ranking.positions_QK != PADDING
    position_A, score_A = ranking.positions_QK[there_QK], ranking.scores_QK[there_QK]
    start_Q = np.concatenate([[0], np.cumsum(there_QK.sum(axis=1))])
    if context.models:
        score_A = exact_scores(
            queries.rows_ND,
            norm_bounds(queries.rows_ND, queries.ids),
            gallery.rows_ND,
            norm_bounds(gallery.rows_ND, gallery.ids),
            query_M=np.repeat(np.arange(len(ranking)), np.diff(start_Q)),
            row_M=position_A,
        )
    return Nearest(start_Q=start_Q, position_A=position_A, score_A=score_A)


def _in_countries(
    ranking: Ranking, context: Context, tags: Sequence[_Tags], queries: Descriptors, gallery: Descriptors
) -> Nearest:
    """The nearest photos of each voted country."""
    parts = _parts(ranking, context, "countries", tags)
    requests = _requests([(tag.countries, tag.country_N) for tag in tags], parts)
    given, width = context.in_country, ranking.positions_QK.shape[1]
    if given is None:
        return nearest_within(queries, gallery, parts, requests, k=width, search=context.search)
    if given.query_ids != ranking.query_ids or given.gallery_ids != ranking.gallery_ids:
        raise ValueError(
            f"{_METHOD}: the photos given within countries are of other queries or another gallery"
        )
    _check_enough(given, parts, requests, k=width)
    return _answers(given, context, queries, gallery)


def _check_enough(given: Ranking, parts: Shelves, requests: tuple[np.ndarray, np.ndarray], *, k: int) -> None:
    """Raise ``ValueError`` where *given* has fewer than *k* photos of a part of more."""
    query_M, part_M = requests
    part_N = np.full(len(given.gallery_ids), -1, np.int32)
    part_N[parts.position_M] = np.repeat(np.arange(len(parts.label_L)), parts.size_L)
    for start in range(0, len(query_M), _QUERIES_AT_ONCE):
        few = slice(start, start + _QUERIES_AT_ONCE)
        position_MW = given.positions_QK[query_M[few]]
        same_MW = (part_N[position_MW] == part_M[few, None]) & (position_MW != PADDING)
        short_M = same_MW.sum(axis=1) < np.minimum(parts.size_L[part_M[few]], k)
        if short_M.any():
            query = given.query_ids[int(query_M[few][np.argmax(short_M)])]
            raise ValueError(
                f"{_METHOD}: of a country that query {query!r} was voted to show, fewer than {k} photos are given; "
                "search within the countries anew"
            )


def _parts(ranking: Ranking, context: Context, by: str, tags: Sequence[_Tags]) -> Shelves:
    """The gallery's photos put together where all their tags agree; those without any are left out."""
    name = f"parts of the gallery by {by}"
    if name not in context._kept:
        columns = [tag.country_N for tag in tags]
        named = columns if by == "countries" else [tag.landmark_N for tag in tags]
        known_N = np.any([column_N != NO_LABEL for column_N in named], axis=0) & is_there(ranking.gallery_ids)
        code_N = np.zeros(len(known_N), np.int64)
        for column_N in columns if by == "countries" else columns + named:
            different, rank_N = np.unique(column_N, return_inverse=True)
            code_N = np.unique(code_N * len(different) + rank_N, return_inverse=True)[1]
        context._kept[name] = shelve(np.where(known_N, code_N, NO_LABEL))
    kept: Shelves = context._kept[name]
    return kept


def _requests(voted: Sequence[tuple[Votes, np.ndarray]], parts: Shelves) -> tuple[np.ndarray, np.ndarray]:
    """Which queries give a bonus to which parts, by query: votes of each model, and its tags of the gallery."""
    first_G = parts.position_M[parts.start_L[:-1]]
    keys = []
    for votes, tag_N in voted:
        by_tag = shelve(tag_N[first_G])
        query_M, place_M = np.nonzero(votes.vote_NK > 0)
        shelf_M = by_tag.find(votes.label_NK[query_M, place_M])
        query_M, shelf_M = query_M[shelf_M >= 0], shelf_M[shelf_M >= 0]
        size_M = by_tag.size_L[shelf_M]
        step_M = np.arange(size_M.sum()) - np.repeat(np.cumsum(size_M) - size_M, size_M)
        part_M = by_tag.position_M[np.repeat(by_tag.start_L[shelf_M], size_M) + step_M]
        keys.append(np.repeat(query_M, size_M) * len(first_G) + part_M)
    query, part = np.divmod(np.unique(np.concatenate(keys)), max(1, len(first_G)))
    return query, part


def _blocks(found: Sequence[Nearest]) -> Iterator[slice]:
    """Queries, some at a time, with no more candidates than fit, padded or not, but at least one query."""
    start_Q = np.sum([one.start_Q for one in found], axis=0)
    start, num = 0, len(start_Q) - 1
    while start < num:
        fits = int(np.searchsorted(start_Q, start_Q[start] + _CANDIDATES_AT_ONCE, side="left")) - 1
        stop = min(max(start + 1, fits), start + _QUERIES_AT_ONCE, num)
        widest = int(np.diff(start_Q[start : stop + 1]).max())
        stop = min(stop, start + max(1, _CELLS_AT_ONCE // max(1, widest)))
        yield slice(start, stop)
        start = stop


def _rows(
    found: Sequence[Nearest], part: slice, tags: Sequence[_Tags], *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores ``[part, K]`` of the best candidates."""
    query_C, position_C, score_C = _different(found, part)
    total_C = score_C.astype(np.float64)
    for tag in tags:
        for votes, tag_N in ((tag.landmarks, tag.landmark_N), (tag.countries, tag.country_N)):
            tag_C = tag_N[position_C]
            for label_Q, vote_Q in zip(votes.label_NK[part].T, votes.vote_NK[part].T, strict=True):
                if vote_Q.any():
                    total_C += (tag_C == label_Q[query_C]) * vote_Q[query_C]
    num = part.stop - part.start
    return best(query_C, position_C, total_C.astype(np.float32), num_queries=num, k=k)


def _different(found: Sequence[Nearest], part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, position and cosine of all candidates by query and position, each once, as the first of *found* has it."""
    queries, positions, scores = (
        np.concatenate(column) for column in zip(*(n.of(part) for n in found), strict=True)
    )
    num_bits = len(queries).bit_length()
    key = (((queries << 31) | positions) << num_bits) | np.arange(len(queries))
    key.sort()
    place = key & ((1 << num_bits) - 1)
    key >>= num_bits
    first = np.ones(len(key), np.bool_)
    first[1:] = key[1:] != key[:-1]
    key = key[first]
    return key >> 31, key & (2**31 - 1), scores[place[first]]


def _explained(
    before: Ranking, after: Ranking, tags: Sequence[_Tags], options: LandmarkCountryOptions
) -> Ranking:
    def why(query: int, position: int) -> str:
        parts = []
        for number, tag in enumerate(tags, 1):
            bank = tag.model.labelled(_METHOD)
            which = f" (model {number})" if len(tags) > 1 else ""
            landmark, country = int(tag.landmark_N[position]), int(tag.country_N[position])
            bonus = _bonus(tag.landmarks, query, landmark)
            if bonus:
                names = named_by(tag.voters, query, bank.landmark_N, landmark, bank, k=options.voters)
                parts.append(f"landmark {landmark}{which} voted +{bonus:.2f} by {names}")
            bonus = _bonus(tag.countries, query, country)
            if bonus:
                parts.append(f"country {bank.countries[country]}{which} +{bonus:.2f}")
        return "; ".join(parts) or "no vote for its landmark or country, unlike others"

    return replace(after, reasons=explained(before, after, why))


def _bonus(votes: Votes, query: int, label: int) -> float:
    if label == NO_LABEL:
        return 0.0
    return float(votes.vote_NK[query][votes.label_NK[query] == label].sum())
