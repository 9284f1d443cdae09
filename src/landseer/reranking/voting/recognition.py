"""Which landmark a query shows, and in which country, from labelled photos like it.

Axes: Q queries, K voters of each, N photos of the bank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landseer.recipe.recognition_options import RecognitionOptions
from landseer.reranking.context import Bank
from landseer.reranking.voting.votes import NO_LABEL, vote
from landseer.types import PADDING, Ranking, Recognition


@dataclass(frozen=True, kw_only=True)
class RecognisedCountries:
    """In which country each query was taken, ISO 3166 alpha-2 (None: not known), and its votes, float32 ``[Q]``."""

    query_ids: tuple[str, ...]
    countries: tuple[str | None, ...]
    confidence_Q: np.ndarray


def recognise(
    voters: Ranking, bank: Bank, options: RecognitionOptions, *, non_landmarks: Ranking | None = None
) -> Recognition:
    """The landmark with most votes of each query's nearest bank photos, the votes as its confidence.

    *voters* ranks the photos of *bank* for every query.  One without a landmark keeps its place among the voters
    but votes for none, so a photo like many such is named with less confidence.  Without any vote the landmark is -1
    and the confidence 0.  ``penalty`` needs *non_landmarks*: the nearest photos known to show no landmark, for the same
    queries.  Raises ``ValueError`` where voters are missing or of another bank.
    """
    _check(voters, bank, options)
    landmark_Q, vote_Q = vote(
        voters, bank.landmark_N, k=options.voters, similarity=options.similarity, power=options.power
    ).winners()
    if options.normalise:
        vote_Q = vote_Q / options.voters
    named_Q = landmark_Q != NO_LABEL
    if options.penalty:
        vote_Q = vote_Q - options.penalty * np.where(named_Q, _likeness(voters, non_landmarks, options), 0)
    if options.most_queries is not None:
        different, which_Q, count = np.unique(landmark_Q, return_inverse=True, return_counts=True)
        banned = (count > options.most_queries) & (different != NO_LABEL)
        vote_Q = np.where(banned[which_Q], -count[which_Q], vote_Q)
    return Recognition(
        query_ids=voters.query_ids, landmark_Q=landmark_Q, confidence_Q=vote_Q.astype(np.float32)
    )


def recognise_countries(voters: Ranking, bank: Bank, options: RecognitionOptions) -> RecognisedCountries:
    """The country with most votes of the same voters.  Penalty and ban are about landmarks and do not count here.

    Raises ``ValueError`` where voters are missing or of another bank, or no country of the bank is known.
    """
    _check(voters, bank, options)
    if bank.country_N is None:
        raise ValueError("of no photo of the bank is the country known; none can be recognised")
    country_Q, vote_Q = vote(
        voters, bank.country_N, k=options.voters, similarity=options.similarity, power=options.power
    ).winners()
    if options.normalise:
        vote_Q = vote_Q / options.voters
    return RecognisedCountries(
        query_ids=voters.query_ids,
        countries=tuple(None if c == NO_LABEL else bank.countries[c] for c in country_Q.tolist()),
        confidence_Q=vote_Q.astype(np.float32),
    )


def _check(voters: Ranking, bank: Bank, options: RecognitionOptions) -> None:
    if not len(bank):
        raise ValueError("the bank of labelled photos is empty; recognition needs at least one")
    if voters.gallery_ids != bank.ids:
        raise ValueError("the voters given are of another bank; search the queries in this one")
    if voters.positions_QK.shape[1] < min(options.voters, len(bank)):
        raise ValueError(
            f"{voters.positions_QK.shape[1]} voters a query are given, but {options.voters} vote; search for as many"
        )


def _likeness(voters: Ranking, non_landmarks: Ranking | None, options: RecognitionOptions) -> np.ndarray:
    """The mean cosine of each query to its nearest photos without a landmark, float64 ``[Q]``; without any 0."""
    if non_landmarks is None:
        raise ValueError("a penalty needs photos known to show no landmark (kind none); none were given")
    if non_landmarks.query_ids != voters.query_ids:
        raise ValueError(
            "the photos without a landmark were searched for other queries than those that are voted on"
        )
    num, width = options.penalty_neighbours, non_landmarks.positions_QK.shape[1]
    if width < min(num, len(non_landmarks.gallery_ids)):
        raise ValueError(
            f"{width} photos without a landmark a query are given, but {num} count; search for as many"
        )
    there_QK = non_landmarks.positions_QK[:, :num] != PADDING
    sum_Q = np.where(there_QK, non_landmarks.scores_QK[:, :num].astype(np.float64), 0).sum(axis=1)
    return np.asarray(sum_Q / np.maximum(there_QK.sum(axis=1), 1))
