"""Describe, search, recognise and evaluate with one model, and read what is there already.

The folder of a measured model: ``model``, ``index``, ``query``, ``bank`` (descriptors; where recognition can be
calibrated ``held-out`` and ``none``, too), ``ranking``, ``retrieval`` and ``recognition`` (numbers and the queries
behind them).  Where the recipe re-ranks, ``reranked`` is what came of the ranking, ``retrieval`` scores that, and
``searched`` scores the ranking as it was.  Each is an artifact; what is there is read, not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landseer.evaluation import Evaluated, evaluate_retrieval
from landseer.pipeline.members import folder_alone
from landseer.pipeline.model import Opened, describe, load_model, model_manifest, save_model
from landseer.pipeline.recognise_run import calibration_photos, score_recognition
from landseer.pipeline.rerank import (
    Triple,
    bank_photos,
    context_of,
    photos_without_landmark,
    prepare_matching,
    rerank_into,
    tell_unreadable,
)
from landseer.pipeline.setting import DESCRIBED, NONE, Setting
from landseer.recipe import fingerprint
from landseer.search import search_exact
from landseer.storage import (
    load_descriptors,
    load_ranking,
    load_report,
    read_table,
    save_ranking,
    save_report,
)
from landseer.types import Collection, Descriptors, Ranking, Report

OVERLAP = "photos trained on that are scored"
"""What a report's ``made_by`` calls their number."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model scored: the numbers, the queries behind them, the answers behind those."""

    retrieval: Evaluated
    recognition: Evaluated
    ranking: Ranking
    """As it was scored, re-ranked where the recipe re-ranks."""
    unreadable: Mapping[str, str]
    searched: Report | None = None
    """Of the ranking before it was re-ranked; None where it was not."""

    @property
    def report(self) -> Report:
        """Retrieval and recognition in one report."""
        return _joined(self.retrieval.report, self.recognition.report)


def measure(name: str, folder: Path, make: Callable[[], Opened], setting: Setting) -> None:
    """Do what is missing of measuring the model that *make* gives, in *folder*; *name* says which it is."""
    if not (folder / "recognition").exists():
        if not (folder / "model").exists():
            save_model(make(), folder / "model", made_by=setting.facts)
        _describe_and_score(name, folder, setting)


def read_measured(folder: Path) -> Measured:
    """What ``measure`` left in *folder*, every file checked."""
    unreadable: dict[str, str] = {}
    for part in DESCRIBED:
        if not (folder / part).exists():
            continue
        unreadable.update(load_descriptors(folder / part, mmap=True, check=False).unreadable)
    return Measured(
        retrieval=_read_evaluated(folder / "retrieval"),
        recognition=_read_evaluated(folder / "recognition"),
        ranking=load_ranking(_final(folder)),
        unreadable=unreadable,
        searched=load_report(folder / "searched") if (folder / "searched").exists() else None,
    )


def _final(folder: Path) -> Path:
    """The ranking that counts."""
    return folder / "reranked" if (folder / "reranked").exists() else folder / "ranking"


def read_numbers(folder: Path) -> Report:
    """The numbers alone of what ``measure`` left in *folder*."""
    return _joined(load_report(folder / "retrieval"), load_report(folder / "recognition"))


def _joined(retrieval: Report, recognition: Report) -> Report:
    parts = (retrieval, recognition)
    protocol = {
        f"{part.protocol['metric']}: {key}": value
        for part in parts
        for key, value in part.protocol.items()
        if key != "metric"
    }
    return Report(
        title=retrieval.title,
        numbers=tuple(number for part in parts for number in part.numbers),
        protocol=protocol,
        made_by={**recognition.made_by, **retrieval.made_by},
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
    landmark_of = _landmark_of_queries(setting.collection)
    if setting.recipe.reranking:
        if not (folder / "searched").exists():
            searched = evaluate_retrieval(load_ranking(folder / "ranking"), landmark_of=landmark_of, **common)
            _save(searched, folder / "searched", parents)
        if not (folder / "reranked").exists():
            setting.watch(f"re-ranking, {name}", 0, 1, {})
            _rerank(folder, descriptors, setting, parents)
    if not (folder / "retrieval").exists():
        retrieval = evaluate_retrieval(load_ranking(_final(folder)), landmark_of=landmark_of, **common)
        _save(retrieval, folder / "retrieval", parents)
    recognition = score_recognition(descriptors, setting, {**common, "landmark_of": landmark_of})
    _save(recognition, folder / "recognition", parents)


def _rerank(
    folder: Path, descriptors: Mapping[str, Descriptors], setting: Setting, parents: Mapping[str, str]
) -> None:
    """Apply the recipe's chain; where an ensemble was searched, its members are given, too."""
    members = setting.recipe.parts if setting.recipe.members and folder == setting.out / "trained" else ()
    models = [_triple(folder_alone(part, setting)) for part in members]
    joint = (descriptors["query"], descriptors["index"], descriptors["bank"])
    ranking, matcher, match = load_ranking(folder / "ranking"), setting.matcher, None
    if matcher is not None:
        match = prepare_matching(matcher, ranking, setting.recipe.reranking, setting.watch)
    rerank_into(
        ranking,
        setting.recipe.reranking,
        context_of(joint, setting.collection, models=models, match=match),
        folder / "reranked",
        made_by={**setting.facts, **setting.matching.digests()},
        parents=parents,
        explain=True,
    )
    if matcher is not None:
        tell_unreadable(matcher)


def _triple(folder: Path) -> Triple:
    queries, gallery, bank = (
        load_descriptors(folder / part, check=False) for part in ("query", "index", "bank")
    )
    return queries, gallery, bank


def _save(evaluated: Evaluated, path: Path, parents: Mapping[str, str]) -> None:
    save_report(evaluated.report, path, tables={"per_query": evaluated.per_query}, parents=parents)


def _describe(name: str, folder: Path, setting: Setting) -> dict[str, Descriptors]:
    collection = setting.collection
    parts = {
        "index": collection.in_split("index"),
        "query": collection.in_split("query"),
        "bank": bank_photos(collection, setting.recipe.bank),
    }
    if setting.recipe.recognition.penalty:
        parts[NONE] = photos_without_landmark(collection)
    calibrates = calibration_photos(setting)
    if not isinstance(calibrates, str):
        parts.update(calibrates)
    opened = load_model(folder / "model")

    def watcher(part: str) -> Callable[[int, int], None]:
        return lambda done, total: setting.watch(f"describing {part} photos, {name}", done, total, {})

    return {
        part: describe(
            opened,
            photos,
            folder / part,
            workers=setting.machine.workers,
            device=setting.machine.device,
            progress=watcher(part),
        )
        for part, photos in parts.items()
    }


def _scoring(folder: Path, setting: Setting) -> dict[str, Any]:
    """What both evaluations are told."""
    recipe, collection = setting.recipe, setting.collection
    model = model_manifest(folder / "model")
    return {
        "truth": collection.truth,
        "trained_landmarks": setting.trained_landmarks,
        "resamples": recipe.evaluation.resamples,
        "seed": recipe.seed,
        "title": recipe.title,
        "made_by": {
            "program": model.program,
            "recipe": fingerprint(recipe),
            "collection": collection.fingerprint,
            **{f"collection {called}": other.fingerprint for called, other in setting.also.items()},
            "model": model.fingerprint,
            **setting.matching.digests(),
            OVERLAP: str(setting.num_scored_and_trained),
        },
    }


def _landmark_of_queries(collection: Collection) -> dict[str, int]:
    queries = collection.in_split("query")
    return {
        query: int(landmark)
        for query, landmark in zip(queries.ids, queries.landmark_N, strict=True)
        if landmark >= 0
    }
