"""The protocols: GLDv2, ILIAS, Revisited Oxford and Paris, places, nearest neighbours."""

# ruff: noqa: D102  (what each method of a protocol is, the abstract class says once)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from landseer.evaluation.hits import (
    Hits,
    average_precision,
    precision_to_last,
    trapezoidal_average_precision,
)
from landseer.evaluation.protocol import (
    CUTS,
    JUNK,
    Judged,
    Measure,
    Protocol,
    any_within,
    chosen,
    precisions,
    ranks,
    recalls,
    require_k,
)
from landseer.types import Truth


@dataclass(frozen=True, kw_only=True)
class AtK(Protocol):
    """mAP of the first k answers."""

    k: int
    full_divisor: bool = False
    """Divide an AP by m, not by min(m, k): a common mistake."""

    def __post_init__(self) -> None:
        require_k(self.k)

    @property
    def metric(self) -> str:
        return f"mAP@{self.k}"

    @property
    def depth(self) -> int | None:
        return self.k

    def mistakes(self) -> dict[str, Protocol]:
        return {"full divisor": replace(self, full_divisor=True), **super().mistakes()}


@dataclass(frozen=True, kw_only=True)
class Gldv2(AtK):
    """mAP@100 of the Google Landmark challenges."""

    name = "gldv2 retrieval"
    beside = ("P@1", "P@10")
    k: int = 100

    def groups(self, setup: str, split_Q: np.ndarray) -> dict[str, np.ndarray]:
        both_Q = np.ones(len(split_Q), np.bool_)
        return {
            "Private": split_Q == "Private",
            "Public": split_Q == "Public",
            "Private and Public": both_Q,
        }

    def measures(self, hits: Hits) -> list[Measure]:
        first_Q, limits = self._first(hits), (1.0, self.k + 1.0)
        return [
            Measure(
                name=self.metric, value_Q=average_precision(hits, k=self.k, full_divisor=self.full_divisor)
            ),
            *precisions(hits),
            *recalls(hits),
            Measure(name="mean position of first hit", value_Q=first_Q, limits=limits),
            Measure(name="median position of first hit", value_Q=first_Q, statistic="median", limits=limits),
        ]

    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        return {
            "ap": pa.array(average_precision(hits, k=self.k, full_divisor=self.full_divisor)),
            "num_relevant": pa.array(hits.num_relevant_Q),
            "first_hit": ranks(hits.first_Q, self.k),
            "precision_at_10": pa.array(hits.num_within(10) / 10),
        }

    def facts(self, *, has_junk: bool) -> dict[str, str]:
        return {
            "protocol": self.name,
            "metric": self.metric,
            "k": str(self.k),
            "divisor": "m" if self.full_divisor else f"min(m, {self.k})",
            "duplicates": "keep their rank and earn nothing",
            "junk": JUNK[self.junk_late] if has_junk else "none",
            "missing query": "scores 0",
            "split": "Private and Public apart and together; Ignored and queries without relevant photos dropped",
            "query crop": "none",
        }

    def _first(self, hits: Hits) -> np.ndarray:
        """The position of the first hit; k + 1 stands for none."""
        first_Q: np.ndarray = np.minimum(hits.first_Q, self.k + 1.0)
        return first_Q


@dataclass(frozen=True, kw_only=True)
class Ilias(AtK):
    """mAP@1k of ILIAS: the instances of a query's object among any number of distractors."""

    name = "ilias"
    k: int = 1000
    beside = ("P@1",)

    def measures(self, hits: Hits) -> list[Measure]:
        return [
            Measure(
                name=self.metric, value_Q=average_precision(hits, k=self.k, full_divisor=self.full_divisor)
            ),
            Measure(name=f"oracle@{self.k}", value_Q=self._oracle(hits)),
            *precisions(hits),
        ]

    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        return {
            "ap": pa.array(average_precision(hits, k=self.k, full_divisor=self.full_divisor)),
            "num_relevant": pa.array(hits.num_relevant_Q),
            "first_hit": ranks(hits.first_Q, self.k),
            "oracle": pa.array(self._oracle(hits)),
        }

    def facts(self, *, has_junk: bool) -> dict[str, str]:
        return {
            "protocol": self.name,
            "metric": self.metric,
            "k": str(self.k),
            "divisor": "m" if self.full_divisor else f"min(m, {self.k})",
            "ties": "in the order of the ranking",
            "junk": JUNK[self.junk_late] if has_junk else "none",
            "missing query": "scores 0",
            "query crop": "none",
        }

    def _oracle(self, hits: Hits) -> np.ndarray:
        """The AP of the best order of the same k answers."""
        oracle_Q: np.ndarray = hits.num_within(self.k) / np.minimum(hits.num_relevant_Q, self.k)
        return oracle_Q


@dataclass(frozen=True, kw_only=True)
class Revisited(Protocol):
    """Revisited Oxford and Paris, Easy, Medium and Hard: trapezoidal AP, and P@k to the last relevant photo."""

    name = "revisited"
    beside = tuple(f"mP@{k}" for k in CUTS)
    rectangular: bool = False
    """Take the precision at each hit alone, not the trapezoid before it: a common mistake."""
    queries: Literal["cropped", "uncropped", "not stated"] = "not stated"
    """Whether the queries were cropped to their boxes before they were described.  Only a label."""

    @property
    def metric(self) -> str:
        return "mAP"

    @property
    def depth(self) -> int | None:
        return None

    def judged(self, truth: Truth) -> Iterator[Judged]:
        if not truth.hard:
            raise ValueError(
                "this truth does not say which relevant photos are easy and which hard, as revisited needs; "
                "landseer import revisited makes one that does"
            )
        rows = list(zip(truth.relevant, map(set, truth.hard), truth.junk, strict=True))
        easy = [tuple(photo for photo in good if photo not in hard) for good, hard, _ in rows]
        yield chosen("Easy", truth, easy, [(*bad, *hard) for _, hard, bad in rows])
        yield chosen("Medium", truth, truth.relevant, truth.junk)
        yield chosen(
            "Hard", truth, truth.hard, [(*row[2], *good) for row, good in zip(rows, easy, strict=True)]
        )

    def measures(self, hits: Hits) -> list[Measure]:
        cuts = [Measure(name=f"mP@{k}", value_Q=precision_to_last(hits, k)) for k in CUTS]
        return [Measure(name=self.metric, value_Q=self._ap(hits)), *cuts]

    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        return {
            "ap": pa.array(self._ap(hits)),
            "num_relevant": pa.array(hits.num_relevant_Q),
            "first_hit": ranks(hits.first_Q, None),
            **{f"precision_at_{k}": pa.array(precision_to_last(hits, k)) for k in CUTS},
        }

    def facts(self, *, has_junk: bool) -> dict[str, str]:
        crops = {
            "cropped": "to the box of the query",
            "uncropped": "none (a mistake, on purpose: the protocol crops to the box of the query)",
            "not stated": "not stated; the protocol crops to the box of the query",
        }
        return {
            "protocol": self.name,
            "metric": self.metric,
            "average precision": "rectangular (a mistake, on purpose)" if self.rectangular else "trapezoidal",
            "divisor": "m",
            "mP@k": "of the first min(k, rank of the last relevant photo)",
            "setups": "Easy: hard is junk; Medium: easy and hard are relevant; Hard: easy is junk",
            "junk": JUNK[self.junk_late] if has_junk else "none",
            "missing query": "scores 0",
            "query crop": crops[self.queries],
        }

    def mistakes(self) -> dict[str, Protocol]:
        return {"rectangular AP": replace(self, rectangular=True), **super().mistakes()}

    def _ap(self, hits: Hits) -> np.ndarray:
        return average_precision(hits, k=None) if self.rectangular else trapezoidal_average_precision(hits)


@dataclass(frozen=True, kw_only=True)
class Places(Protocol):
    """Place recognition: whether a photo taken near the query's place is among the first N answers."""

    name = "places"
    column = "recall_at_1"
    ns: tuple[int, ...] = (1, 5, 10, 20)
    metres: float = 25.0
    """How near, for the report; ``truth_within`` decides it."""
    beside = ("recall@5", "recall@10")

    @property
    def metric(self) -> str:
        return f"recall@{self.ns[0]}"

    @property
    def depth(self) -> int | None:
        return max(self.ns)

    def judged(self, truth: Truth) -> Iterator[Judged]:
        yield chosen("", truth, truth.relevant, truth.junk, unanswerable=True)

    def measures(self, hits: Hits) -> list[Measure]:
        return [Measure(name=f"recall@{n}", value_Q=any_within(hits, n)) for n in self.ns]

    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        return {
            **{f"recall_at_{n}": pa.array(any_within(hits, n)) for n in self.ns},
            "num_relevant": pa.array(hits.num_relevant_Q),
            "first_hit": ranks(hits.first_Q, None),
        }

    def facts(self, *, has_junk: bool) -> dict[str, str]:
        return {
            "protocol": self.name,
            "metric": self.metric,
            "recall@N": f"queries with a photo within {self.metres:g} m among the first N",
            "distance": "great circle on a sphere of 6,371,008.8 m",
            "queries without such a photo": "counted as missed",
            "junk": JUNK[self.junk_late] if has_junk else "none",
            "missing query": "missed",
            "query crop": "none",
        }


@dataclass(frozen=True, kw_only=True)
class Knn(Protocol):
    """Neighbours by landmark labels: mAP@R, R-precision, recall and CMC at 1, 5, 10."""

    name = "knn"
    column = "ap_at_r"
    beside = ("R-precision", "CMC@1")

    @property
    def metric(self) -> str:
        return "mAP@R"

    @property
    def depth(self) -> int | None:
        return None

    def measures(self, hits: Hits) -> list[Measure]:
        return [
            Measure(name=self.metric, value_Q=self._ap_at_r(hits)),
            Measure(name="R-precision", value_Q=self._r_precision(hits)),
            *recalls(hits),
            *(Measure(name=f"CMC@{k}", value_Q=any_within(hits, k)) for k in CUTS),
        ]

    def columns(self, hits: Hits) -> dict[str, pa.Array]:
        return {
            "ap_at_r": pa.array(self._ap_at_r(hits)),
            "r_precision": pa.array(self._r_precision(hits)),
            "num_relevant": pa.array(hits.num_relevant_Q),
            "first_hit": ranks(hits.first_Q, None),
        }

    def facts(self, *, has_junk: bool) -> dict[str, str]:
        return {
            "protocol": self.name,
            "metric": self.metric,
            "relevant": "gallery photos of the query's landmark, R of them, never the query itself",
            "mAP@R": "the precision at each hit among the first R, summed, over R",
            "R@k": "share of the R found among the first k",
            "CMC@k": "queries with a hit among the first k",
            "junk": JUNK[self.junk_late] if has_junk else "none",
            "missing query": "scores 0",
            "query crop": "none",
        }

    def _ap_at_r(self, hits: Hits) -> np.ndarray:
        within_H = hits.cut_H <= hits.num_relevant_Q[hits.query_H]
        ap_Q: np.ndarray = hits.sums(within_H * hits.nth_H / hits.rank_H) / hits.num_relevant_Q
        return ap_Q

    def _r_precision(self, hits: Hits) -> np.ndarray:
        precision_Q: np.ndarray = hits.num_within(hits.num_relevant_Q) / hits.num_relevant_Q
        return precision_Q


PROTOCOLS: Mapping[str, type[Protocol]] = {
    "gldv2": Gldv2,
    "revisited": Revisited,
    "ilias": Ilias,
    "places": Places,
    "knn": Knn,
}
"""What ``--protocol`` knows."""


def protocol_for(truth: Truth) -> Protocol:
    """The protocol that *truth* was made for: Revisited where its photos are graded, else GLDv2's."""
    return Revisited() if truth.hard else Gldv2()
