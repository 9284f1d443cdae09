"""Which landmark a query shows, by the labelled photos of the index, and when that is none I know.

Every labelled photo of the index votes, so a label given now counts in the next answer.

Axes: Q queries, K voters of each, S sampled photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from landseer.pipeline.indexing.photos import NAME_COLUMN, PLACE_COLUMNS
from landseer.recipe import RecognitionOptions
from landseer.reranking import Bank, calibrate, recognise
from landseer.reranking.voting.votes import NO_LABEL, vote
from landseer.search import LivingIndex
from landseer.types import PADDING, Descriptors, Ranking, Recognition

LABELLED = "not landmark is null"
_SAMPLE = 200
_DEEP = 200
"""Neighbours among which those of other landmarks are looked for."""
_FEWEST = 20
"""Labelled photos with which a threshold can be measured."""
_FALSE_ACCEPTS = 0.05
"""Of 200 strangers 10 decide; a smaller share would hang on one or two of them."""
_RANDOM_PAIRS = 0.999


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What some of the voters say."""

    landmark: int
    name: str
    country: str | None
    share: float
    """Of all votes."""
    photos: tuple[str, ...]
    """The voters for it, nearest first."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which landmark a photo shows."""

    known: bool
    """Whether the votes are enough to name it."""
    landmark: int | None
    """That with most votes, also where they are not enough; None: nobody voted."""
    name: str | None
    country: str | None
    confidence: float
    """The votes for it divided by the number of voters: no probability."""
    votes: tuple[Vote, ...]


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """From when on the votes of an index are enough."""

    confidence: float | None = None
    """Of the winner, at least; None: too few labels to measure it."""
    cosine: float | None = None
    """In that case: what the nearest voter must reach, or nothing is known."""

    def enough(self, confidence: float, nearest: float) -> bool:
        """Whether a landmark with this confidence, whose nearest voter has this score, is named."""
        if self.confidence is not None:
            return confidence >= self.confidence
        return self.cosine is not None and nearest >= self.cosine


def verdict_of(
    voters: Sequence[tuple[str, float]],
    records: Mapping[str, Mapping[str, Any]],
    options: RecognitionOptions,
    certainty: Certainty,
    *,
    strangers: Ranking | None = None,
) -> Verdict | None:
    """What the nearest labelled photos (id, score), best first, say of one query; None where there are none."""
    if not voters:
        return None
    ranking, bank = _voters_of([voters], records)
    found = recognise(ranking, bank, options, non_landmarks=strangers)
    landmark, confidence = int(found.landmark_Q[0]), float(found.confidence_Q[0])
    votes = _votes(ranking, bank, records, options)
    winner = next((each for each in votes if each.landmark == landmark), None)
    nearest = next((score for photo, score in voters if records[photo]["landmark"] == landmark), -np.inf)
    return Verdict(
        known=winner is not None and certainty.enough(confidence, nearest),
        landmark=None if winner is None else landmark,
        name=None if winner is None else winner.name,
        country=None if winner is None else winner.country,
        confidence=confidence,
        votes=votes,
    )


def measured(index: LivingIndex, options: RecognitionOptions) -> Certainty:
    """From when on votes are enough, measured on the index's own labelled photos.

    Each of a sample votes on none: first by all others, which may know its landmark, then by those of other landmarks
    alone, to which it is a stranger.  The threshold is the lowest at which one stranger in twenty is named.  With
    fewer than 20 labelled photos, or one landmark, a query must be nearer to its voter than 999 in 1000 pairs of photos
    of the index are to each other, those of one landmark left out.
    """
    labelled = index.ids_where(LABELLED)
    rng = np.random.default_rng(0)
    if len(labelled) >= _FEWEST:
        sample = [
            labelled[n]
            for n in np.sort(rng.choice(len(labelled), min(_SAMPLE, len(labelled)), replace=False))
        ]
        found = _threshold(index, sample, options)
        if found is not None:
            return Certainty(confidence=found)
    every = index.ids_where()
    if len(every) < 3:
        return Certainty()
    some = [every[n] for n in rng.choice(len(every), min(_SAMPLE, len(every)), replace=False)]
    records, rows_SD = index.photos(some), index.descriptors(some).rows_ND.astype(np.float32)
    label_S = np.array(
        [-place if (own := records[p]["landmark"]) is None else own + 1 for place, p in enumerate(some, 1)]
    )
    first, second = np.triu_indices(len(some), 1)
    different = label_S[first] != label_S[second]
    cosines = (rows_SD[first] * rows_SD[second]).sum(axis=1)[different]
    return Certainty(cosine=float(np.quantile(cosines, _RANDOM_PAIRS)) if len(cosines) else None)


def _threshold(index: LivingIndex, sample: Sequence[str], options: RecognitionOptions) -> float | None:
    """None where all labelled photos are of one landmark."""
    rows = index.descriptors(sample)
    ranking = index.search(rows, k=_DEEP + 1, where=LABELLED)
    answers = [ranking.answers(number) for number in range(len(rows))]
    records = index.photos({photo for each in answers for photo, _ in each} | set(sample))
    familiar, strange, truth = [], [], []
    for photo, each in zip(sample, answers, strict=True):
        own = records[photo]["landmark"] if photo in records else None
        others = [(other, score) for other, score in each if other != photo and other in records]
        familiar.append(others[: options.voters])
        truth.append(NO_LABEL if own is None else own)
        foreign = [(other, score) for other, score in others if records[other]["landmark"] != own]
        if len(foreign) >= options.voters:
            strange.append(foreign[: options.voters])
    if not strange:
        return None
    plain = replace(options, penalty=0.0)
    found = [recognise(*_voters_of(part, records), plain) for part in (familiar, strange)]
    both = Recognition(
        query_ids=tuple(map(str, range(len(familiar) + len(strange)))),
        landmark_Q=np.concatenate([part.landmark_Q for part in found]),
        confidence_Q=np.concatenate([part.confidence_Q for part in found]),
    )
    truth_Q = np.array([*truth, *[NO_LABEL] * len(strange)], np.int64)
    if np.all(truth_Q == NO_LABEL):
        return None
    return calibrate(both, truth_Q, false_accepts=_FALSE_ACCEPTS).confidence


def _voters_of(
    answers: Sequence[Sequence[tuple[str, float]]], records: Mapping[str, Mapping[str, Any]]
) -> tuple[Ranking, Bank]:
    """The labelled photos (id, score) near each query, as a ranking of a bank of just those."""
    ids = tuple(dict.fromkeys(photo for each in answers for photo, _ in each))
    place = {photo: number for number, photo in enumerate(ids)}
    width = max((len(each) for each in answers), default=0)
    position_QK = np.full((len(answers), width), PADDING, np.int64)
    score_QK = np.full((len(answers), width), -np.inf, np.float32)
    for row, each in enumerate(answers):
        position_QK[row, : len(each)] = [place[photo] for photo, _ in each]
        score_QK[row, : len(each)] = [score for _, score in each]
    labels = [records[photo]["landmark"] for photo in ids]
    bank = Bank(
        ids=ids,
        landmark_N=np.array([NO_LABEL if label is None else label for label in labels], np.int64),
    )
    queries = tuple(map(str, range(len(answers))))
    return Ranking(query_ids=queries, gallery_ids=ids, positions_QK=position_QK, scores_QK=score_QK), bank


def _votes(
    voters: Ranking, bank: Bank, records: Mapping[str, Mapping[str, Any]], options: RecognitionOptions
) -> tuple[Vote, ...]:
    """Who voted for what, most votes first."""
    shares = vote(
        voters, bank.landmark_N, k=options.voters, similarity=options.similarity, power=options.power
    ).shares()
    found = []
    for landmark, share in zip(shares.label_NK[0].tolist(), shares.vote_NK[0].tolist(), strict=True):
        if landmark == NO_LABEL:
            continue
        photos = tuple(
            photo
            for photo, _ in voters.answers(0)[: options.voters]
            if records[photo]["landmark"] == landmark
        )
        found.append(
            Vote(
                landmark=landmark,
                name=name_of(records[photos[0]]) or f"landmark {landmark}",
                country=next(
                    (country_of(records[photo]) for photo in photos if country_of(records[photo])), None
                ),
                share=float(share),
                photos=photos,
            )
        )
    return tuple(sorted(found, key=lambda each: -each.share))


def name_of(record: Mapping[str, Any]) -> str | None:
    """The name of the landmark that a photo shows, or its number; None: it shows none that is known."""
    landmark = record.get("landmark")
    if landmark is None:
        return None
    return str(record.get(NAME_COLUMN) or f"landmark {landmark}")


def country_of(record: Mapping[str, Any]) -> str | None:
    """The photo's own country, else that of its landmark."""
    found = record.get("country") or record.get(PLACE_COLUMNS[0])
    return None if found is None else str(found)


def pool_bank(records: Mapping[str, Mapping[str, Any]], rows: Descriptors) -> Bank | None:
    """The labelled photos among *rows*, as a vote bank; None where there are none."""
    ids = tuple(photo for photo in rows.ids if records[photo]["landmark"] is not None)
    if not ids:
        return None
    countries = tuple(sorted({country for photo in ids if (country := country_of(records[photo]))}))
    code_of = {country: code for code, country in enumerate(countries)}
    return Bank(
        ids=ids,
        landmark_N=np.array([records[photo]["landmark"] for photo in ids], np.int64),
        country_N=np.array([code_of.get(country_of(records[photo]) or "", -1) for photo in ids], np.int16),
        countries=countries,
        descriptors=rows.take(ids),
    )
