"""Score a ranking by any protocol: numbers with intervals, and one row a query behind them.

Axes: Q queries of one setup.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from landseer.evaluation.hits import find_hits
from landseer.evaluation.intervals import cluster_numbers, intervals
from landseer.evaluation.protocol import QUERY_FIELDS, Judged, Measure, Protocol
from landseer.evaluation.protocols import Gldv2, protocol_for
from landseer.types import Number, Ranking, Report, Truth


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The numbers of a run, and the results of each query behind them."""

    report: Report
    per_query: pa.Table


def evaluate(
    ranking: Ranking,
    truth: Truth,
    *,
    protocol: Protocol | None = None,
    trained_landmarks: Collection[int] | None = None,
    landmark_of: Mapping[str, int] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    allow_overlap: bool = False,
    title: str = "Retrieval",
    made_by: Mapping[str, str] | None = None,
) -> Evaluated:
    """Score *ranking* against *truth* by *protocol*, by default the one the truth was made for.

    A query that the ranking lacks scores 0.  *trained_landmarks* adds the groups ``landmarks trained on`` and
    ``landmarks not trained on``; *landmark_of* gives the landmark of queries for which the truth names none (only
    the index knows it).  Intervals come from *resamples* of the landmarks (0: none are drawn, and every interval
    is all that is possible).  Raises ``ValueError`` for a ranked query the truth does not know, for a truth of
    another protocol, where nothing is left to score, and where a query is itself in the gallery, which would
    find itself, unless *allow_overlap* is set.
    """
    protocol = protocol or protocol_for(truth)
    check_ranking(ranking, truth, allow_overlap=allow_overlap)
    parts = []
    for judged in protocol.judged(truth):
        landmarks = [truth.landmarks[q] or _one(landmark_of, truth.query_ids[q]) for q in judged.chosen]
        queries = Queries.of(truth, judged.chosen, truth.split, landmarks, trained_landmarks)
        if queries.ids:  # of Revisited Oxford and Paris no query may be easy
            parts.append(_score(ranking, judged, queries, protocol, resamples=resamples, seed=seed))
    if not parts:
        raise ValueError("no Public or Private query has a relevant photo; there is nothing to score")
    facts = {
        **protocol.facts(has_junk=any(truth.junk) or bool(truth.hard)),
        "answers a query": _answers_text(ranking, protocol),
        "interval": interval_text(resamples, seed),
    }
    report = Report(
        title=title,
        numbers=tuple(number for numbers, _ in parts for number in numbers),
        protocol=facts,
        made_by={"gallery": ranking.gallery_fingerprint, **(made_by or {})},
    )
    return Evaluated(report=report, per_query=pa.concat_tables([table for _, table in parts]))


def evaluate_retrieval(
    ranking: Ranking,
    truth: Truth,
    *,
    k: int = 100,
    full_divisor: bool = False,
    trained_landmarks: Collection[int] | None = None,
    landmark_of: Mapping[str, int] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    allow_overlap: bool = False,
    title: str = "Retrieval",
    made_by: Mapping[str, str] | None = None,
) -> Evaluated:
    """``evaluate`` by the protocol of the Google Landmark challenges: mAP@k, precision and recall at 1, 5, 10,
    and the first hit's position.

    Junk photos are taken out of the answers before ranks are counted (GLDv2 has none).  *full_divisor*
    divides an AP by m instead of min(m, k).
    """
    return evaluate(
        ranking,
        truth,
        protocol=Gldv2(k=k, full_divisor=full_divisor),
        trained_landmarks=trained_landmarks,
        landmark_of=landmark_of,
        resamples=resamples,
        seed=seed,
        allow_overlap=allow_overlap,
        title=title,
        made_by=made_by,
    )


def evaluate_mistakes(
    ranking: Ranking, truth: Truth, *, protocol: Protocol | None = None, allow_overlap: bool = False
) -> dict[str, Evaluated]:
    """What *ranking* scores by the protocol as it is defined, and what each common mistake would make of that.

    No interval is drawn; see ``evaluate`` for the rest.
    """
    protocol = protocol or protocol_for(truth)
    ways = {"as defined": protocol, **protocol.mistakes()}
    return {
        way: evaluate(ranking, truth, protocol=wrong, resamples=0, allow_overlap=allow_overlap)
        for way, wrong in ways.items()
    }


def _score(
    ranking: Ranking, judged: Judged, queries: Queries, protocol: Protocol, *, resamples: int, seed: int
) -> tuple[list[Number], pa.Table]:
    hits = find_hits(ranking, queries.ids, judged.relevant, judged.junk, junk_late=protocol.junk_late)
    measures = protocol.measures(hits)
    groups = {
        **protocol.groups(judged.setup, np.array(queries.split, dtype=object)),
        **({} if judged.setup else queries.by_training()),
    }
    numbers = [
        number
        for group, mask_Q in groups.items()
        if mask_Q.any()
        for number in _numbers(measures, group, mask_Q, queries.cluster_Q, resamples=resamples, seed=seed)
    ]
    split = (judged.setup,) * len(queries.ids) if judged.setup else queries.split
    columns = protocol.columns(hits)
    schema = pa.schema([*QUERY_FIELDS, *(pa.field(name, column.type) for name, column in columns.items())])
    return numbers, queries.table({"split": split, **columns}, schema)


def _numbers(
    measures: Sequence[Measure],
    group: str,
    mask_Q: np.ndarray,
    cluster_Q: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> list[Number]:
    """One number a measure, on the queries of *mask_Q*."""
    _, cluster_Q = np.unique(cluster_Q[mask_Q], return_inverse=True)
    values = [measure.value_Q[mask_Q] for measure in measures]
    found = intervals(
        values,
        [measure.statistic for measure in measures],
        cluster_Q,
        resamples=resamples,
        seed=seed,
        limits=[measure.limits for measure in measures],
    )
    return [
        Number(
            name=measure.name,
            value=float(np.mean(value_Q) if measure.statistic == "mean" else np.median(value_Q)),
            low=low,
            high=high,
            num_queries=len(value_Q),
            group=group,
        )
        for measure, value_Q, (low, high) in zip(measures, values, found, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The scored queries, in order, and how they are grouped."""

    ids: tuple[str, ...]
    split: tuple[str, ...]
    landmarks: tuple[tuple[int, ...], ...]
    seen: tuple[bool | None, ...]
    cluster_Q: np.ndarray

    @staticmethod
    def of(
        truth: Truth,
        scored: Sequence[int],
        splits: tuple[str, ...],
        landmarks: Sequence[tuple[int, ...]],
        trained_landmarks: Collection[int] | None,
    ) -> Queries:
        """The queries number *scored* of *truth*, in the split that *splits* has for each."""
        trained = None if trained_landmarks is None else set(trained_landmarks)
        return Queries(
            ids=tuple(truth.query_ids[q] for q in scored),
            split=tuple(splits[q] for q in scored),
            landmarks=tuple(landmarks),
            seen=tuple(
                None if trained is None or not shown else not trained.isdisjoint(shown) for shown in landmarks
            ),
            cluster_Q=cluster_numbers([next(iter(shown), None) for shown in landmarks]),
        )

    def by_training(self) -> dict[str, np.ndarray]:
        """Name -> bool ``[Q]``: the queries whose landmark was trained on, and the others, where that is known."""
        return groups_by_training(self.seen)

    def table(self, columns: Mapping[str, object], schema: pa.Schema) -> pa.Table:
        """One row a query: id, split, landmark, seen and *columns*."""
        landmark = [next(iter(shown), None) for shown in self.landmarks]
        known = {"query": self.ids, "split": self.split, "landmark": landmark, "seen": self.seen, **columns}
        arrays = {
            field.name: column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for field in schema
            for column in (known[field.name],)
        }
        return pa.table(arrays, schema=schema)


def groups_by_training(seen: Sequence[bool | None]) -> dict[str, np.ndarray]:
    """Name -> bool ``[Q]`` of the queries whose landmark was trained on, and of those whose was not."""
    return {
        "landmarks trained on": np.array([known is True for known in seen], np.bool_),
        "landmarks not trained on": np.array([known is False for known in seen], np.bool_),
    }


def check_ranking(ranking: Ranking, truth: Truth, *, allow_overlap: bool) -> None:
    """Raise ``ValueError`` for a ranking that *truth* cannot judge, or whose queries would find themselves."""
    if len(set(ranking.query_ids)) != len(ranking):
        raise ValueError("a query occurs more than once in the ranking")
    refuse_strangers(ranking.query_ids, truth)
    if not allow_overlap:
        both = set(ranking.query_ids).intersection(ranking.gallery_ids)
        if both:
            raise ValueError(
                f"{len(both)} queries are in the gallery themselves, {min(both)!r} for one, and would find "
                "themselves; rank against a gallery without them, or allow the overlap"
            )


def refuse_strangers(query_ids: Sequence[str], truth: Truth) -> None:
    """Raise ``ValueError`` for the first query that *truth* does not know."""
    known = set(truth.query_ids)
    strange = next((query for query in query_ids if query not in known), None)
    if strange is not None:
        raise ValueError(
            f"query {strange!r} was answered but is not in the truth; is this the truth of another set?"
        )


def interval_text(resamples: int, seed: int) -> str:
    """How the intervals of a report came about."""
    if not resamples:
        return "none drawn"
    return f"95 %, percentile bootstrap over landmarks, {resamples} resamples, seed {seed}"


def _answers_text(ranking: Ranking, protocol: Protocol) -> str:
    """How many answers there were, and whether the protocol would have looked at more."""
    given, in_all = ranking.positions_QK.shape[1], len(ranking.gallery_ids)
    looked_at = in_all if protocol.depth is None else min(protocol.depth, in_all)
    if given >= looked_at:
        return str(given)
    return f"{given}, though {protocol.name} looks at {looked_at}: what lies deeper counts as missed"


def _one(landmark_of: Mapping[str, int] | None, query: str) -> tuple[int, ...]:
    return (landmark_of[query],) if landmark_of is not None and query in landmark_of else ()
