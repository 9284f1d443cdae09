"""Train the stages of every model of a recipe, one folder a stage.

::

    RUN/run.json                the recipe and what it was run on
    RUN/training/1-NAME/        log.jsonl of a stage and, while it is trained, its checkpoints
    RUN/stages/1-NAME/          what each stage left: model, head, label space, losses
    RUN/members/MEMBER/         training/ and stages/ of each member, where a recipe has members

Under ``torchrun`` every process calls the same; the first one writes, the others wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from landseer.models import Embedder, remade
from landseer.pipeline.model import built, seed_of, untrained_model
from landseer.pipeline.prepare import prepare
from landseer.pipeline.setting import Machine, Setting, Watch, cores
from landseer.pipeline.trained import TrainResult, read_stages
from landseer.recipe import MemberOptions, Recipe, StageOptions
from landseer.training import (
    Callback,
    Entry,
    finish_stage,
    load_stage_head,
    load_stage_model,
    save_stage,
    start_neck,
    train_stage,
)
from landseer.training.distributed import barrier, joined, rank
from landseer.types import Collection

CHECKPOINT_EVERY = 500
"""Steps."""


def train_recipe(
    recipe: Recipe,
    collection: Collection,
    out: Path,
    *,
    also: Mapping[str, Collection] | None = None,
    weights: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    checkpoint_every: int = CHECKPOINT_EVERY,
    shard_head: bool = False,
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Do what is missing of training the models of *recipe* in the run folder *out*, and say how it went.

    ``run_recipe`` with the same *out* goes on with measuring, and so does this after it.  *also* gives the
    collections that stages name.  Under ``torchrun`` every process calls this with the same arguments and sees the
    same folder; *shard_head* then spreads the rows of the head over the processes.  A training killed at any moment
    goes on from the last checkpoint.  *watch* and *callbacks* are told on the first process only.  Raises
    ``ValueError`` where there is nothing to train, for a collection that cannot be trained on, and where *out*
    belongs to another run.
    """
    if not recipe.stages:
        raise ValueError(
            "the recipe has no [[stages]], so there is nothing to train; landseer run measures it"
        )
    with joined(device) as place:
        first = rank() == 0
        machine = Machine(
            workers=workers or cores(),
            device=place,
            watch=watch if watch is not None and first else lambda *_: None,
            checkpoint_every=checkpoint_every,
            callbacks=callbacks if first else (),
            shard_head=shard_head,
        )
        setting = prepare(
            recipe, collection, out, also=also or {}, weights=weights, machine=machine, scored=False
        )
        folders = [folder for part in recipe.parts for _, folder in _stages(part, setting)]
        finished = all(folder.exists() for folder in folders)
        barrier()  # before the first process adds to them
        if not finished:
            # a mistake in the last member is found now, not after days of training the others
            untrained_model(recipe, weights=weights)
        for part in recipe.parts:
            for _ in trained_stages(part, setting):
                pass
    return TrainResult(out=out, stages=read_stages(recipe, out), did_nothing=finished)


def trained_stages(part: MemberOptions, setting: Setting) -> Iterator[tuple[StageOptions, Path]]:
    """Each stage of *part* with its folder, as soon as it is done; one that was begun goes on."""
    before: Path | None = None
    for stage, folder in _stages(part, setting):
        work = setting.folder_of(part) / "training" / folder.name
        if not folder.exists():
            _train(part, stage, setting, before=before, folder=folder, work=work)
        barrier()  # every process sees the folder
        if rank() == 0:
            finish_stage(work)
        yield stage, folder
        before = folder


def final_model(part: MemberOptions, setting: Setting) -> Embedder:
    """What the last stage of *part* left, or what it starts from where it has none."""
    folders = [folder for _, folder in _stages(part, setting)]
    return load_stage_model(folders[-1]) if folders else _started(part, setting)


def _stages(part: MemberOptions, setting: Setting) -> list[tuple[StageOptions, Path]]:
    stages = enumerate(setting.recipe.stages_of(part), start=1)
    home = setting.folder_of(part) / "stages"
    return [(stage, home / f"{number}-{stage.name}") for number, stage in stages]


def _train(
    part: MemberOptions,
    stage: StageOptions,
    setting: Setting,
    *,
    before: Path | None,
    folder: Path,
    work: Path,
) -> None:
    machine, later = setting.machine, _work_after(part, stage, setting)
    what = f"training{_of(part, setting)}, stage {stage.name}"

    def watch(done: int, total: int, facts: Mapping[str, float]) -> None:
        left = (total - done) * stage.batch * _pixels(stage) + later
        speed = facts.get("images/s", 0.0) * _pixels(stage)
        setting.watch(what, done, total, {**facts, "all_training_left_s": left / speed} if speed else facts)

    def told(callback: Callback, entry: Entry) -> None:
        callback({**entry, "stage": f"{part.name}/{stage.name}"} if setting.recipe.members else entry)

    result = train_stage(
        # from the folder, so that a run that was stopped here and one that was not go on from the same
        _started(part, setting)
        if before is None
        else _carried(load_stage_model(before), part, stage, setting),
        setting.subset_of[stage.name],
        stage,
        seed=seed_of(setting.recipe.seed, part.name, stage.name),
        held_out=setting.held_out_of(stage),
        kept=None if before is None else load_stage_head(before),
        workers=machine.workers,
        device=machine.device,
        progress=watch,
        callbacks=[partial(told, callback) for callback in machine.callbacks],
        folder=work,
        checkpoint_every=machine.checkpoint_every,
        shard_head=machine.shard_head,
    )
    if rank() == 0:
        parents = {"collection": setting.collection_of(stage).fingerprint}
        save_stage(
            result,
            folder,
            made_by={**setting.facts, "stage": asdict(stage)},
            parents=parents,
            descriptors=part.descriptors,
        )


def _work_after(part: MemberOptions, stage: StageOptions, setting: Setting) -> float:
    """Pixels that the stages after this one will see, those of later members included."""
    all_stages = [
        (other.name, one, folder) for other in setting.recipe.parts for one, folder in _stages(other, setting)
    ]
    now = [(name, one.name) for name, one, _ in all_stages].index((part.name, stage.name))
    return sum(
        one.epochs * len(setting.subset_of[one.name]) * _pixels(one)
        for _, one, folder in all_stages[now + 1 :]
        if not folder.exists()
    )


def _pixels(stage: StageOptions) -> float:
    sizes = stage.aspects.sizes or ((stage.size, stage.size),)
    return sum(width * height for width, height in sizes) / len(sizes)


def _carried(embedder: Embedder, part: MemberOptions, stage: StageOptions, setting: Setting) -> Embedder:
    """What *stage* keeps of the embedder of the stage before."""
    if stage.keep != "backbone":
        return embedder
    seed = seed_of(setting.recipe.seed, part.name, stage.name)
    return _with_started_neck(remade(embedder, new_neck=True, seed=seed), part, setting)


def _started(part: MemberOptions, setting: Setting) -> Embedder:
    return _with_started_neck(built(part, setting.recipe, weights=setting.weights), part, setting)


def _with_started_neck(embedder: Embedder, part: MemberOptions, setting: Setting) -> Embedder:
    if part.model.neck_start == "whitening":
        start_neck(
            embedder,
            setting.subset,
            size_px=part.descriptors.size,
            workers=setting.machine.workers,
            device=setting.machine.device,
            progress=lambda done, total: setting.watch(
                f"starting the neck{_of(part, setting)}", done, total, {}
            ),
        )
    return embedder


def _of(part: MemberOptions, setting: Setting) -> str:
    return f" of {part.name}" if setting.recipe.members else ""
