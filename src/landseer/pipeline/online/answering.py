"""Queries answered by one state of an index: searched, re-ranked if asked, and recognised by its labelled photos.

Re-ranking works on a pool: the photos nearest to a query and the labelled photos nearest to it.  Its cost does not grow
with the index, and all methods that need no more than descriptors and labels can be used.

Axes: Q queries, D components.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from landseer.pipeline.indexing.settings import IndexSettings, settings_of
from landseer.pipeline.online.attention import Box
from landseer.pipeline.online.seeing import Seen
from landseer.pipeline.online.votes import LABELLED, Certainty, Verdict, pool_bank, verdict_of
from landseer.reranking import Context, rerank
from landseer.search import LivingIndex
from landseer.types import Descriptors, Ranking

POOL = 400
"""Photos nearest to a query that re-ranking sees."""
POOL_LABELLED = 100
"""Labelled photos nearest to it that are among them, too."""
NO_LANDMARK = "kind = 'none'"


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """One photo asked about: seen just now, or one of the index by its id."""

    photo: Seen | str
    own: str | None = None
    """The photo of the index that it is a part of, and that is no answer; of a photo by its id, that id."""
    k: int = 20
    where: str | None = None
    rerank: bool = False
    explain: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A photo of the index that is like the query."""

    rank: int
    score: float
    record: Mapping[str, Any]
    why: str | None = None
    """Why re-ranking moved it; None where it did not, or was not asked."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What an index says to one query."""

    answers: tuple[Answer, ...]
    verdict: Verdict | None
    """None: the index has no labelled photo."""
    box: Box | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Queries of one filter, with their descriptors."""

    queries: Sequence[Query]
    rows: Descriptors
    """Under names that differ and mean nothing."""
    owns: Sequence[str | None]
    """The photo of the index that is no answer to the query, since it is the query."""


def answered(
    index: LivingIndex,
    asked: Asked,
    settings: IndexSettings,
    certainty: Callable[[], Certainty],
) -> list[Reply]:
    """The replies to queries that share one filter and are of the model of *index*."""
    start = time.perf_counter()
    rows, queries = asked.rows, asked.queries
    where = queries[0].where
    pooled = any(query.rerank for query in queries)
    width = max(*(query.k for query in queries), POOL if pooled else 0, settings.recognition.voters) + 1
    found = _without(asked.owns, index.search(rows, k=width, where=where, model=index.model))
    records = index.photos({photo for each in found for photo, _ in each})
    voters = _voters(index, asked, found, records, settings)
    records |= index.photos({photo for each in voters for photo, _ in each} - set(records))
    strangers = _strangers(index, rows, settings)
    searched = time.perf_counter() - start
    replies = []
    for number, query in enumerate(queries):
        begun = time.perf_counter()
        answers: list[tuple[str, float, str | None]]
        if query.rerank and settings.reranking:
            pool = _Pool(rows.take([rows.ids[number]]), found[number], voters[number], records)
            answers = _reranked(index, pool, query, settings)
        else:
            answers = [(photo, score, None) for photo, score in found[number] if photo in records]
        reply = Reply(
            answers=tuple(
                Answer(rank=rank, score=score, record=records[photo], why=why)
                for rank, (photo, score, why) in enumerate(answers[: query.k], start=1)
            ),
            verdict=verdict_of(
                [each for each in voters[number] if each[0] in records][: settings.recognition.voters],
                records,
                settings.recognition,
                certainty(),
                strangers=None if strangers is None else _row(strangers, number),
            ),
            seconds={"search": searched, "rerank": time.perf_counter() - begun if query.rerank else 0.0},
        )
        replies.append(reply)
    return replies


def reranked(
    index: LivingIndex, rows: Descriptors, *, k: int, where: str | None
) -> dict[str, tuple[Answer, ...]]:
    """The answers to photos described before, by id, put in order by what the index keeps of a recipe."""
    queries = [Query(photo=photo, k=k, where=where, rerank=True, explain=True) for photo in rows.ids]
    asked = Asked(queries=queries, rows=rows, owns=[None] * len(queries))
    replies = answered(index, asked, settings_of(index), Certainty)
    return {photo: reply.answers for photo, reply in zip(rows.ids, replies, strict=True)}


_Found = list[tuple[str, float]]


def _without(owns: Sequence[str | None], ranking: Ranking) -> list[_Found]:
    """The answers of each query, which is none of them."""
    return [
        [(photo, score) for photo, score in ranking.answers(number) if photo != own]
        for number, own in enumerate(owns)
    ]


def _voters(
    index: LivingIndex,
    asked: Asked,
    found: Sequence[_Found],
    records: Mapping[str, Mapping[str, Any]],
    settings: IndexSettings,
) -> list[_Found]:
    """The nearest labelled photos of each query, whatever its filter; more of them where it is re-ranked."""
    need = settings.recognition.voters
    voters: list[_Found] = []
    lacking = []
    for number, query in enumerate(asked.queries):
        there = [
            each for each in found[number] if each[0] in records and records[each[0]]["landmark"] is not None
        ]
        enough = need if not query.rerank else POOL_LABELLED
        # the first of all answers are the first of the labelled ones; under a filter they are not
        if query.where is not None or len(there) < enough:
            lacking.append(number)
        voters.append(there)
    if lacking:
        rows = asked.rows.take([asked.rows.ids[number] for number in lacking])
        most = max(POOL_LABELLED if asked.queries[number].rerank else need for number in lacking)
        again = _without(
            [asked.owns[number] for number in lacking],
            index.search(rows, k=most + 1, where=LABELLED, model=index.model),
        )
        for number, each in zip(lacking, again, strict=True):
            voters[number] = each
    return voters


def _strangers(index: LivingIndex, rows: Descriptors, settings: IndexSettings) -> Ranking | None:
    """Photos known to show no landmark, where these count against a query."""
    options = settings.recognition
    if not options.penalty:
        return None
    return index.search(rows, k=options.penalty_neighbours, where=NO_LANDMARK, model=index.model)


def _row(ranking: Ranking, number: int) -> Ranking:
    """The answers of one query, under the name that a verdict has for it."""
    return replace(
        ranking,
        query_ids=("0",),
        positions_QK=ranking.positions_QK[number : number + 1],
        scores_QK=ranking.scores_QK[number : number + 1],
    )


@dataclass(frozen=True)
class _Pool:
    """What is near one query."""

    row: Descriptors
    found: _Found
    voters: _Found
    records: Mapping[str, Mapping[str, Any]]


def _reranked(
    index: LivingIndex, pool: _Pool, query: Query, settings: IndexSettings
) -> list[tuple[str, float, str | None]]:
    """The answers in a new order, with the reasons where they were asked for."""
    first = [each for each in pool.found[:POOL] if each[0] in pool.records]
    if not first:
        return []
    voting = [photo for photo, _ in pool.voters if photo in pool.records]
    # under a filter a voter votes all the same, but is no answer
    ids = tuple(dict.fromkeys([*(photo for photo, _ in first), *(voting if query.where is None else ())]))
    both = index.descriptors(tuple(dict.fromkeys([*ids, *voting])))
    bank = pool_bank(pool.records, both)
    ranking = Ranking(
        query_ids=pool.row.ids,
        gallery_ids=ids,
        positions_QK=np.arange(len(first), dtype=np.int64)[None],
        scores_QK=np.array([[score for _, score in first]], np.float32),
    )
    context = Context(queries=pool.row, gallery=both.take(ids), bank=bank)
    done = rerank(ranking, settings.chain(bank), context, explain=query.explain).ranking
    reasons = done.reasons[0] if done.reasons else {}
    return [
        (ids[position], float(score), reasons.get(position))
        for position, score in zip(done.positions_QK[0].tolist(), done.scores_QK[0].tolist(), strict=True)
        if position >= 0
    ]
