"""Any number of methods, one after the other, each with what it cost and what it moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from landseer.recipe import (
    DiffusionOptions,
    ExpansionOptions,
    LandmarkCountryOptions,
    NearestLabelOptions,
    ReciprocalOptions,
    RerankingOptions,
    SpatialOptions,
    TraversalOptions,
    TwoStageOptions,
)
from landseer.reranking.context import Context
from landseer.reranking.cost import peak_memory
from landseer.reranking.neighbours.diffusion import diffuse
from landseer.reranking.neighbours.expansion import expand, passed_on
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal
from landseer.reranking.neighbours.traversal import traverse
from landseer.reranking.spatial import verify_spatially
from landseer.reranking.voting.landmark_country import add_landmark_country
from landseer.reranking.voting.nearest_label import compare_nearest_labels
from landseer.reranking.voting.two_stage import sort_and_insert
from landseer.types import PADDING, Ranking

_METHODS: Mapping[type, Callable[..., Ranking]] = {
    ExpansionOptions: expand,
    ReciprocalOptions: rerank_reciprocal,
    DiffusionOptions: diffuse,
    TraversalOptions: traverse,
    TwoStageOptions: sort_and_insert,
    LandmarkCountryOptions: add_landmark_country,
    NearestLabelOptions: compare_nearest_labels,
    SpatialOptions: verify_spatially,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one method cost and did."""

    method: str
    seconds: float
    peak_bytes: int
    """By how much the process's memory rose at most; 0 where the system does not tell."""
    moved: int
    """Answers that stand at another rank than before, those that were not there before included."""


@dataclass(frozen=True, kw_only=True)
class Reranked:
    """The ranking that a chain left, and what each of its methods did."""

    ranking: Ranking
    steps: tuple[Step, ...]


def rerank(
    ranking: Ranking, chain: Sequence[RerankingOptions], context: Context, *, explain: bool = False
) -> Reranked:
    """Apply the methods of *chain* in order; each works on what the one before it left.

    With *explain* the answers carry the reasons of all methods that moved them, in that order.  Raises
    ``ValueError`` where a method needs what *context* has not.
    """
    steps = []
    told: list[dict[int, list[str]]] = [{} for _ in range(len(ranking))]
    for options in chain:
        before = ranking
        start = time.perf_counter()
        with peak_memory() as peak:
            ranking = _METHODS[type(options)](ranking, context, options, explain=explain)
        steps.append(
            Step(
                method=options.method,
                seconds=time.perf_counter() - start,
                peak_bytes=peak.bytes,
                moved=num_moved(before, ranking),
            )
        )
        if ranking.reasons:
            for so_far, reasons in zip(told, ranking.reasons, strict=True):
                for position, why in reasons.items():
                    so_far.setdefault(position, []).append(
                        f"{options.method}: {why}" if len(chain) > 1 else why
                    )
            ranking = replace(ranking, reasons=())
        if isinstance(options, ExpansionOptions) and options.pass_on:
            context = passed_on(context)
    if explain:
        ranking = replace(ranking, reasons=_of_answers(ranking, told))
    return Reranked(ranking=ranking, steps=tuple(steps))


def _of_answers(ranking: Ranking, told: Sequence[Mapping[int, list[str]]]) -> tuple[Mapping[int, str], ...]:
    """What was told of the photos that are still among the answers."""
    return tuple(
        {position: "; ".join(reasons[position]) for position in row.tolist() if position in reasons}
        for row, reasons in zip(ranking.positions_QK, told, strict=True)
    )


def num_moved(before: Ranking, after: Ranking) -> int:
    """Answers of *after* at another rank than in *before*."""
    width = min(before.positions_QK.shape[1], after.positions_QK.shape[1])
    there = after.positions_QK != PADDING
    same: Any = before.positions_QK[:, :width] == after.positions_QK[:, :width]
    return int(there.sum() - np.sum(same & there[:, :width]))
