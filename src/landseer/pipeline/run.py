"""One recipe on one collection: train, describe, search, recognise, evaluate, report.

Everything lies in one run folder, each part an artifact of its own, so a run that was stopped goes on with the first
part that is missing, and a finished one has nothing left to do::

    RUN/run.json            the recipe and what it was run on
    RUN/untrained/          the same backbone and pooling before any training (see ``measure``)
    RUN/training/1-NAME/    log.jsonl of a stage and, while it is trained, its checkpoints
    RUN/stages/1-NAME/      what each stage left: model, head, label space, losses
    RUN/trained/            the trained model, measured the same way
    RUN/report.html         the page
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from landseer.models import Embedder, build_embedder, remade
from landseer.pipeline.measure import Measured, Setting, Watch, measure, read_measured, trains
from landseer.recipe import ModelOptions, Recipe, StageOptions, fingerprint
from landseer.reporting import RunPage, write_page
from landseer.storage import read_json
from landseer.storage.artifact import sha256_of
from landseer.training import (
    Callback,
    KeptHead,
    Subset,
    finish_stage,
    hold_out,
    load_losses,
    load_stage_head,
    load_stage_model,
    save_stage,
    start_neck,
    train_stage,
    training_subset,
    validation_subset,
)
from landseer.types import Collection

PAGE = "report.html"
CHECKPOINT_EVERY = 500
"""Steps."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run.  ``trained`` is None where the recipe trains nothing."""

    out: Path
    title: str
    untrained: Measured
    trained: Measured | None
    did_nothing: bool
    """Whether everything was there already."""

    @property
    def page(self) -> Path:
        """The report."""
        return self.out / PAGE

    @property
    def final(self) -> Measured:
        """The trained model, or the untrained one where nothing was trained."""
        return self.trained or self.untrained


def run_recipe(
    recipe: Recipe,
    collection: Collection,
    out: Path,
    *,
    weights: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    checkpoint_every: int = CHECKPOINT_EVERY,
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Do what is missing of the run of *recipe* on *collection* in the folder *out*, and give its results.

    *weights* is the FILE of ``--weights``.  Training sees photos of ``split=train`` only, unless the recipe says
    that what counts is scored elsewhere; those that the recipe holds out are ``split=validation`` to the whole run.
    A run killed at any moment goes on from the last checkpoint (one every *checkpoint_every* steps of a stage) and
    ends with the same weights.  *callbacks* are told every entry of the training logs.  Raises ``ValueError`` for a
    collection that cannot be trained on and scored, and where *out* belongs to another run.
    """
    _check_collection(collection)
    identity = _identity(recipe, collection, weights)
    collection = hold_out(collection, recipe.data, seed=recipe.seed)
    subset = training_subset(collection, subset="clean", min_photos=recipe.data.min_photos)
    for stage in recipe.stages:
        _subset_of(stage, recipe, collection)  # a stage that cannot be is refused before anything is written
    _claim(out, identity, recipe, collection, weights)
    finished = (out / PAGE).exists()
    setting = Setting(
        recipe=recipe,
        collection=collection,
        subset=subset,
        facts={"run": identity, "recipe": fingerprint(recipe)},
        workers=workers or len(os.sched_getaffinity(0)),
        device=device,
        watch=watch or (lambda *_: None),
        trained_ids=frozenset(subset.ids).union(
            *(_subset_of(stage, recipe, collection).ids for stage in recipe.stages if stage.subset == "all")
        ),
    )
    # without the neck: only training gives it a meaning
    plain = replace(recipe.model, neck="none", neck_start="random")
    untrained = measure("untrained", out / "untrained", lambda: _build(plain, recipe, weights), setting)
    if trains(recipe):
        measure(
            "trained",
            out / "trained",
            lambda: _trained(setting, out, weights, checkpoint_every, callbacks),
            setting,
        )
    trained = read_measured(out / "trained") if (out / "trained").exists() else None
    result = RunResult(
        out=out, title=recipe.title, untrained=untrained, trained=trained, did_nothing=finished
    )
    if not finished:
        setting.watch("writing the report", 0, 1, {})
        write_run_page(out, collection)
    return result


def write_run_page(out: Path, collection: Collection) -> Path:
    """Write ``report.html`` of the finished run in *out*, anew if it is there; returns its path."""
    file = out / "run.json"
    if not file.is_file():
        raise ValueError(f"{out} is not a run folder (it has no run.json); give the --out of landseer run")
    facts = read_json(file)
    if facts["collection"] != collection.fingerprint:
        raise ValueError(
            f"{out} was run on another collection ({facts['collection']}); give that one as --data"
        )
    untrained = read_measured(out / "untrained")
    trained = read_measured(out / "trained") if (out / "trained").exists() else None
    final = trained or untrained
    page = RunPage(
        title=facts["recipe"]["title"],
        report=final.report,
        baseline=untrained.report if trained else None,
        per_query=final.retrieval.per_query,
        baseline_per_query=untrained.retrieval.per_query if trained else None,
        ranking=final.ranking,
        baseline_ranking=untrained.ranking if trained else None,
        collection=collection,
        losses=[entry for folder in stage_folders(out) for entry in load_losses(folder)],
        unreadable=final.unreadable,
        notes=_notes(facts),
    )
    write_page(page, out / PAGE)
    return out / PAGE


def stage_folders(out: Path) -> list[Path]:
    """The stage folders of a run, in order."""
    return sorted((out / "stages").glob("*-*"), key=lambda folder: int(folder.name.split("-")[0]))


def _notes(facts: dict[str, dict[str, object]]) -> list[str]:
    model = facts["recipe"]["model"]
    assert isinstance(model, dict), "run.json was checked when it was written"
    notes = []
    if model["substitute_for"]:
        notes.append(
            f"{model['backbone']} stands in for {model['substitute_for']}: this is not a reproduction of it."
        )
    if model["weights"] == "hub":
        notes.append(
            f"The weights of {model['backbone']} came from the hub and were not measured by this project."
        )
    if model["weights"] == "none":
        notes.append("The backbone started from random weights.")
    return notes


def _check_collection(collection: Collection) -> None:
    if collection.truth is None:
        raise ValueError(
            "the collection has no queries with known answers, so a run cannot be scored; import a solution file"
        )
    for split, role in (("index", "gallery"), ("query", "queries"), ("train", "training photos")):
        if not len(collection.in_split(split)):
            raise ValueError(
                f"the collection has no photos of split {split!r}, so a run would have no {role}"
            )


def _identity(recipe: Recipe, collection: Collection, weights: Path | None) -> str:
    digest = ""
    if weights is not None:
        if not weights.is_file():
            raise ValueError(f"weights {weights} do not exist; give a .safetensors or .pth file")
        digest = sha256_of(weights)
    return hashlib.sha256(f"{fingerprint(recipe)} {collection.fingerprint} {digest}".encode()).hexdigest()[
        :16
    ]


def _claim(out: Path, identity: str, recipe: Recipe, collection: Collection, weights: Path | None) -> None:
    """Write ``run.json``, or refuse a folder that another run, or anything else, owns."""
    file = out / "run.json"
    if file.exists():
        if read_json(file)["run"] != identity:
            raise ValueError(
                f"{out} belongs to a run of another recipe, collection or weights file; choose another --out"
            )
        return
    if out.exists() and any(entry.name != "run.part" for entry in out.iterdir()):
        raise ValueError(f"{out} exists and is not a run folder; choose another --out")
    facts = {
        "run": identity,
        "recipe": asdict(recipe),
        "collection": collection.fingerprint,
        "weights": weights.name if weights else None,
    }
    out.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    part.rename(file)


def _build(options: ModelOptions, recipe: Recipe, weights: Path | None) -> Embedder:
    embedder = build_embedder(options, weights=weights, seed=recipe.seed)
    embedder.require_size(recipe.descriptors.size, "descriptors.size")
    for number, stage in enumerate(recipe.stages):
        embedder.require_size(stage.size, f"stages[{number}].size")
    return embedder


def _trained(
    setting: Setting, out: Path, weights: Path | None, checkpoint_every: int, callbacks: Sequence[Callback]
) -> Embedder:
    """The model after every stage; a stage that is there already is loaded, one that was begun goes on."""
    recipe = setting.recipe
    embedder: Embedder | None = None
    kept: KeptHead | None = None
    for number, stage in enumerate(recipe.stages, start=1):
        name = f"{number}-{stage.name}"
        folder, work = out / "stages" / name, out / "training" / name
        if not folder.exists():
            subset = _subset_of(stage, recipe, setting.collection)
            watched = recipe.data.validation != "none"
            result = train_stage(
                _started(setting, weights) if embedder is None else _carried(embedder, stage, setting),
                subset,
                stage,
                seed=recipe.seed,
                held_out=validation_subset(setting.collection, subset.landmark_C) if watched else None,
                kept=kept,
                workers=setting.workers,
                device=setting.device,
                progress=lambda *told, name=stage.name: setting.watch(f"training, stage {name}", *told),
                callbacks=callbacks,
                folder=work,
                checkpoint_every=checkpoint_every,
            )
            parents = {"collection": setting.collection.fingerprint}
            save_stage(result, folder, made_by={**setting.facts, "stage": asdict(stage)}, parents=parents)
        finish_stage(work)
        # from the folder, so that a run that was stopped here and one that was not go on from the same
        embedder, kept = load_stage_model(folder), load_stage_head(folder)
    return embedder or _started(setting, weights)


def _subset_of(stage: StageOptions, recipe: Recipe, collection: Collection) -> Subset:
    return training_subset(
        collection,
        subset=stage.subset,
        min_photos=recipe.data.min_photos,
        continents=stage.sampler == "continents",
    )


def _carried(embedder: Embedder, stage: StageOptions, setting: Setting) -> Embedder:
    """What *stage* keeps of the embedder of the stage before."""
    if stage.keep != "backbone":
        return embedder
    return _with_started_neck(remade(embedder, new_neck=True, seed=setting.recipe.seed), setting)


def _started(setting: Setting, weights: Path | None) -> Embedder:
    return _with_started_neck(_build(setting.recipe.model, setting.recipe, weights), setting)


def _with_started_neck(embedder: Embedder, setting: Setting) -> Embedder:
    if setting.recipe.model.neck_start == "whitening":
        start_neck(
            embedder,
            setting.subset,
            size_px=setting.recipe.descriptors.size,
            workers=setting.workers,
            device=setting.device,
            progress=lambda done, total: setting.watch("starting the neck", done, total, {}),
        )
    return embedder
