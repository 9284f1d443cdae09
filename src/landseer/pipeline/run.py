"""One recipe on one collection: train, describe, search, recognise, evaluate, report.

Everything lies in one run folder, each part an artifact of its own, so a run that was stopped goes on with the first
part that is missing, and a finished one has nothing left to do.  Beside what training leaves (see ``train``)::

    RUN/untrained/              the same backbone and pooling before any training (see ``measure``)
    RUN/trained/                the trained model, or the ensemble of all members, measured the same way
    RUN/plain/                  where a whitening is fitted and there is one model: it as it is, before whitening
    RUN/fitted/                 the whitening and the members' weights, where the recipe fits them
    RUN/after/1-NAME/           the model after a stage that is not its last, where the recipe asks for it
    RUN/members/MEMBER/         after/ and trained/ of each member alone, where a recipe has members
    RUN/report.html             the page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from landseer.matching import MatchingSetup
from landseer.pipeline.finished import RunResult, is_finished, read_run, write_run_page
from landseer.pipeline.measure import measure
from landseer.pipeline.members import combines, ensemble_of, folder_alone, lend_rows
from landseer.pipeline.model import untrained_model
from landseer.pipeline.prepare import prepare
from landseer.pipeline.setting import Machine, Setting, Watch, cores, trains
from landseer.pipeline.train import CHECKPOINT_EVERY, final_model, trained_stages
from landseer.recipe import MemberOptions, Recipe
from landseer.training import Callback, load_stage_model
from landseer.training.distributed import asked_world
from landseer.types import Collection


def run_recipe(
    recipe: Recipe,
    collection: Collection,
    out: Path,
    *,
    also: Mapping[str, Collection] | None = None,
    weights: Path | None = None,
    matching: MatchingSetup | None = None,
    workers: int | None = None,
    device: str = "cpu",
    checkpoint_every: int = CHECKPOINT_EVERY,
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Do what is missing of the run of *recipe* on *collection* in the folder *out*, and give its results.

    *also* gives the collections that stages name; *weights* is the FILE of ``--weights``, *matching* names the
    files with which photos are matched, if the recipe does so (its options are the recipe's).  Training sees photos of
    ``split=train`` only, unless the recipe says that what counts is scored elsewhere; those that the recipe holds
    out are ``split=validation`` to the whole run.  A run killed at any moment goes on from the last checkpoint (one
    every *checkpoint_every* steps of a stage) and ends with the same weights.  *callbacks* are told every entry of
    the training logs.  Raises ``ValueError`` for collections that cannot be trained on and scored, where *out*
    belongs to another run, and under ``torchrun``.
    """
    if asked_world() > 1:
        raise ValueError(
            "a run measures in one process; under torchrun say landseer train, then landseer run with the same --out"
        )
    machine = Machine(
        workers=workers or cores(),
        device=device,
        watch=watch or (lambda *_: None),
        checkpoint_every=checkpoint_every,
        callbacks=callbacks,
    )
    setting = prepare(
        recipe,
        collection,
        out,
        also=also or {},
        weights=weights,
        machine=machine,
        scored=True,
        matching=matching,
    )
    finished = is_finished(out, recipe)
    if not finished:
        _train_and_measure(setting)
        setting.watch("writing the report", 0, 1, {})
        write_run_page(out, collection)
    return read_run(out, recipe, did_nothing=finished)


def _train_and_measure(setting: Setting) -> None:
    recipe, out = setting.recipe, setting.out
    measure("untrained", out / "untrained", lambda: untrained_model(recipe, weights=setting.weights), setting)
    for part in recipe.parts:
        _train_and_measure_part(part, setting)
    if combines(recipe) and trains(recipe):
        lend_rows(setting, out / "trained")
        measure("trained", out / "trained", lambda: ensemble_of(setting), setting)


def _train_and_measure_part(part: MemberOptions, setting: Setting) -> None:
    recipe, folder = setting.recipe, setting.folder_of(part)
    member = f"member {part.name}" if recipe.members else ""
    num_stages = len(part.stages)
    for number, (stage, done) in enumerate(trained_stages(part, setting), start=1):
        if recipe.evaluation.every_stage and number < num_stages:
            name = f"{member} after stage {stage.name}".lstrip()
            opened = partial(lambda done: (load_stage_model(done), part.descriptors), done)
            measure(name, folder / "after" / done.name, opened, setting)
    if recipe.members or trains(recipe):
        measure(
            member or ("before whitening" if combines(recipe) else "trained"),
            folder_alone(part, setting),
            lambda: (final_model(part, setting), part.descriptors),
            setting,
        )
