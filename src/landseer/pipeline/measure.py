"""Describe, search, recognise and evaluate with one model, and read what is there already.

The folder of a measured model: ``model``, ``index``, ``query``, ``bank`` (descriptors), ``ranking``, ``retrieval`` and
``recognition`` (numbers and the queries behind them).  Each is an artifact; what is there is read, not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.evaluation import Evaluated, evaluate_recognition, evaluate_retrieval
from landseer.extraction import extract
from landseer.models import Embedder, load_embedder, save_embedder
from landseer.recipe import Recipe, fingerprint
from landseer.reranking import recognise_nearest
from landseer.search import search_exact
from landseer.storage import (
    load_descriptors,
    load_ranking,
    load_report,
    open_artifact,
    read_table,
    save_ranking,
    save_report,
)
from landseer.training import Subset
from landseer.types import Collection, Descriptors, Ranking, Report

Watch = Callable[[str, int, int, Mapping[str, float]], None]
"""Told (what is going on, units done, units in all, facts such as loss and lr)."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured on, and by what rules."""

    recipe: Recipe
    collection: Collection
    subset: Subset
    """The labelled photos that name the nearest landmark, and, where training is asked for, the landmarks of it."""
    facts: Mapping[str, str]
    workers: int
    device: str
    watch: Watch
    trained_ids: frozenset[str]
    """Every photo that the neck, a head or a stage may have learned from."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model scored: the numbers, the queries behind them, the answers behind those."""

    retrieval: Evaluated
    recognition: Evaluated
    ranking: Ranking
    unreadable: Mapping[str, str]

    @property
    def report(self) -> Report:
        """Retrieval and recognition in one report."""
        parts = (self.retrieval.report, self.recognition.report)
        protocol = {
            f"{part.protocol['metric']}: {key}": value
            for part in parts
            for key, value in part.protocol.items()
            if key != "metric"
        }
        return Report(
            title=parts[0].title,
            numbers=tuple(number for part in parts for number in part.numbers),
            protocol=protocol,
            made_by={**parts[1].made_by, **parts[0].made_by},
        )


def trains(recipe: Recipe) -> bool:
    """Whether anything in *recipe* is learned from the training photos."""
    return bool(recipe.stages) or recipe.model.neck != "none"


def measure(name: str, folder: Path, make: Callable[[], Embedder], setting: Setting) -> Measured:
    """Do what is missing of measuring the model that *make* gives, in *folder*; *name* says which it is."""
    if not (folder / "recognition").exists():
        if not (folder / "model").exists():
            save_embedder(make(), folder / "model", made_by=setting.facts)
        _describe_and_score(name, folder, setting)
    return read_measured(folder)


def read_measured(folder: Path) -> Measured:
    """What ``measure`` left in *folder*, every file checked."""
    unreadable: dict[str, str] = {}
    for part in ("index", "query", "bank"):
        unreadable.update(load_descriptors(folder / part, mmap=True, check=False).unreadable)
    return Measured(
        retrieval=_read_evaluated(folder / "retrieval"),
        recognition=_read_evaluated(folder / "recognition"),
        ranking=load_ranking(folder / "ranking"),
        unreadable=unreadable,
    )


def _read_evaluated(folder: Path) -> Evaluated:
    return Evaluated(report=load_report(folder), per_query=read_table(folder / "per_query.parquet"))


def _describe_and_score(name: str, folder: Path, setting: Setting) -> None:
    descriptors = _describe(name, folder, setting)
    setting.watch(f"searching, {name}", 0, 1, {})
    parents = {part: found.fingerprint for part, found in descriptors.items()}
    k = setting.recipe.search.k
    if not (folder / "ranking").exists():
        found = search_exact(descriptors["query"], descriptors["index"], k=k)
        save_ranking(found, folder / "ranking", made_by={**setting.facts, "k": k}, parents=parents)
    common = _scoring(folder, setting)
    if not (folder / "retrieval").exists():
        retrieval = evaluate_retrieval(
            load_ranking(folder / "ranking"), landmark_of=_landmark_of_queries(setting.collection), **common
        )
        _save(retrieval, folder / "retrieval", parents)
    bank = descriptors["bank"]
    row_of = dict(zip(setting.subset.ids, setting.subset.row_N, strict=True))
    landmark_N = setting.subset.landmark_C[np.array([row_of[photo] for photo in bank.ids], dtype=np.int64)]
    recognition = evaluate_recognition(recognise_nearest(descriptors["query"], bank, landmark_N), **common)
    _save(recognition, folder / "recognition", parents)


def _save(evaluated: Evaluated, path: Path, parents: Mapping[str, str]) -> None:
    save_report(evaluated.report, path, tables={"per_query": evaluated.per_query}, parents=parents)


def _describe(name: str, folder: Path, setting: Setting) -> dict[str, Descriptors]:
    collection, subset = setting.collection, setting.subset
    in_bank = pc.is_in(collection.photos["id"], value_set=pa.array(subset.ids, pa.string()))
    parts = {
        "index": collection.in_split("index"),
        "query": collection.in_split("query"),
        "bank": collection.select(in_bank),
    }
    embedder = load_embedder(folder / "model")

    def watcher(part: str) -> Callable[[int, int], None]:
        return lambda done, total: setting.watch(f"describing {part} photos, {name}", done, total, {})

    return {
        part: extract(
            embedder,
            photos,
            folder / part,
            options=setting.recipe.descriptors,
            workers=setting.workers,
            device=setting.device,
            progress=watcher(part),
        )
        for part, photos in parts.items()
    }


def _scoring(folder: Path, setting: Setting) -> dict[str, Any]:
    """What both evaluations are told."""
    recipe, collection, subset = setting.recipe, setting.collection, setting.subset
    scored = collection.in_split("index", "query")
    model = open_artifact(folder / "model", "model")
    return {
        "truth": collection.truth,
        "trained_landmarks": {int(landmark) for landmark in subset.landmark_C} if trains(recipe) else None,
        "resamples": recipe.evaluation.resamples,
        "seed": recipe.seed,
        "title": recipe.title,
        "made_by": {
            "program": model.program,
            "recipe": fingerprint(recipe),
            "collection": collection.fingerprint,
            "model": model.fingerprint,
            "photos trained on that are scored": str(len(setting.trained_ids.intersection(scored.ids))),
        },
    }


def _landmark_of_queries(collection: Collection) -> dict[str, int]:
    queries = collection.in_split("query")
    return {
        query: int(landmark)
        for query, landmark in zip(queries.ids, queries.landmark_N, strict=True)
        if landmark >= 0
    }
