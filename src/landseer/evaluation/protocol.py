"""What is measured, on which queries, by whose definition: one object a protocol.

A protocol says which photos are relevant and which are junk, how a query's answers become figures, and how all that
reads in a report.  ``landseer.evaluation.evaluate`` does the rest, the same for all.  ``docs/evaluation.md`` has the
definitions and their sources.

Axes: Q queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from landseer.evaluation.hits import Hits
from landseer.types import Truth

CUTS = (1, 5, 10)
"""The k of the precisions and recalls beside a headline."""
QUERY_FIELDS = (
    pa.field("query", pa.string()),
    pa.field("split", pa.string()),
    pa.field("landmark", pa.int64()),
    pa.field("seen", pa.bool_()),
)
"""The columns every table of queries begins with.  ``split`` is Public or Private, or of Revisited Oxford and Paris
the setup; ``landmark`` is the first, if any; ``seen``: trained on, null if unknown."""
ALL_QUERIES = "all queries"
JUNK = {False: "removed before ranks are counted", True: "removed after the cut (a mistake, on purpose)"}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The queries that are scored, by number in the truth, and the relevant and junk photos of each."""

    setup: str
    chosen: Sequence[int]
    relevant: Sequence[Sequence[str]]
    junk: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of each query, and how those of a group become one number."""

    name: str
    value_Q: np.ndarray
    statistic: Literal["mean", "median"] = "mean"
    limits: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """How a ranking is scored.  The first measure is the headline."""

    name: ClassVar[str]
    column: ClassVar[str] = "ap"
    """The column of the table of queries that the headline is the mean of."""
    beside: ClassVar[tuple[str, ...]]
    """The numbers a table shows beside the headline."""
    junk_late: bool = False
    """Whether junk is taken out only after the answers were cut: a common mistake."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The name of the headline number."""

    @property
    @abstractmethod
    def depth(self) -> int | None:
        """How many answers a query are looked at, None: all."""

    @abstractmethod
    def measures(self, hits: Hits) -> list[Measure]:
        """The figures of each query, the headline first."""

    @abstractmethod
    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        """What the table of queries says of each."""

    @abstractmethod
    def facts(self, *, has_junk: bool) -> dict[str, str]:
        """The definition in words, for the report."""

    def judged(self, truth: Truth) -> Iterator[Judged]:
        """The queries scored, once a setup.  Raises ``ValueError`` where this is no truth for the protocol."""
        if truth.hard:
            raise ValueError(
                f"this truth grades relevant photos as easy and hard, which {self.name} does not know; use revisited"
            )
        yield chosen("", truth, truth.relevant, truth.junk)

    def groups(self, setup: str, split_Q: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> bool ``[Q]`` of the groups of queries that are reported apart."""
        return {setup or ALL_QUERIES: np.ones(len(split_Q), np.bool_)}

    def mistakes(self) -> dict[str, Protocol]:
        """What is done wrong -> this protocol with that mistake."""
        return {"junk removed after the cut": replace(self, junk_late=True)}


def chosen(
    setup: str,
    truth: Truth,
    relevant: Sequence[Sequence[str]],
    junk: Sequence[Sequence[str]],
    *,
    unanswerable: bool = False,
) -> Judged:
    """The queries that are not Ignored and have something relevant; *unanswerable*: those that have not, too."""
    chosen = [
        q for q, split in enumerate(truth.split) if split != "Ignored" and (relevant[q] or unanswerable)
    ]
    return Judged(
        setup=setup, chosen=chosen, relevant=[relevant[q] for q in chosen], junk=[junk[q] for q in chosen]
    )


def require_k(k: int) -> None:
    """Raise ``ValueError`` unless answers are looked at."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")


def precisions(hits: Hits) -> list[Measure]:
    """Hits among the first k, divided by k."""
    return [Measure(name=f"P@{k}", value_Q=hits.num_within(k) / k) for k in CUTS]


def recalls(hits: Hits) -> list[Measure]:
    """The share of the relevant photos among the first k."""
    return [Measure(name=f"R@{k}", value_Q=hits.num_within(k) / hits.num_relevant_Q) for k in CUTS]


def any_within(hits: Hits, k: int) -> np.ndarray:
    """Whether there is a hit among the first *k*: float64 ``[Q]``."""
    return (hits.first_Q <= k).astype(np.float64)


def ranks(first_Q: np.ndarray, k: int | None) -> pa.Array:
    """Ranks as whole numbers, null where there is none among the first *k*."""
    absent_Q = ~np.isfinite(first_Q) if k is None else first_Q > k
    return pa.array(np.where(absent_Q, 0, first_Q).astype(np.int64), mask=absent_Q)
