"""One stage of training: from an embedder and photos to a better embedder, whatever happens on the way.

Axes: N photos, D descriptor components, C landmarks of the label space.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from landseer.losses import MarginHead, ShardedHead
from landseer.models import Embedder, remade
from landseer.recipe import StageOptions
from landseer.storage.artifact import fingerprint_of
from landseer.training import distributed
from landseer.training.average import interpolate
from landseer.training.checkpoint import Checkpoints, load_whole
from landseer.training.folder import Stage
from landseer.training.head import KeptHead
from landseer.training.loader import epoch_batches, sampler_of, with_ratios
from landseer.training.log import Callback, Log
from landseer.training.state import State, begin, finite, take_step, training_mode
from landseer.training.subset import Subset
from landseer.training.validation import judge

Progress = Callable[[int, int, Mapping[str, float]], None]
LOG = "log.jsonl"
_RATE_STEPS = 20  # images/s is a mean over so many steps


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What stays the same all through a stage."""

    subset: Subset
    stage: StageOptions
    held_out: Subset | None
    seed: int
    workers: int
    total: int
    """Steps, where every photo can be read and patience does not end."""
    least: int
    """Photos that a step needs of each process."""
    fill: tuple[int, int, int]
    progress: Progress | None
    checkpoints: Checkpoints | None
    every: int


def train_stage(
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    seed: int,
    held_out: Subset | None = None,
    kept: KeptHead | None = None,
    workers: int = 2,
    device: str = "cpu",
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = (),
    folder: Path | None = None,
    checkpoint_every: int = 0,
    shard_head: bool = False,
) -> Stage:
    """Train a copy of *embedder* on *subset* as *stage* says.

    *held_out* are the photos each epoch is judged by; *kept* is the head of the stage before.  With a *folder*, the
    log lies there, and checkpoints: one every *checkpoint_every* steps (0: none) and one after each epoch that was
    judged better than all before.  The same call goes on from the newest.

    Where several processes have joined (``distributed.joined``) each calls this with the same arguments, a folder
    that all of them see, and its own *device*; a batch is shared out to them, only the first writes and is asked
    to tell *progress* and *callbacks*.  With *shard_head* each holds its part of the head's rows; then only the
    first process gets the whole stage.

    On a CPU the same arguments give the same weights to the bit, whatever *workers* is and however often the
    training was killed.  *progress* is told (steps done, steps in all, {"loss", "lr", "epoch", "images/s"});
    *callbacks* are told every entry of the log.  Raises ``ValueError`` where the loss or a weight stops being
    finite, where no photo can be read, where *folder* is another training's, and for options that this embedder,
    subset or device cannot take.
    """
    _check(embedder, stage, held_out, device, shard_head)
    if stage.aspects.sizes:
        subset = with_ratios(subset, workers=workers)
        held_out = with_ratios(held_out, workers=workers) if held_out else None
    if stage.pooling or stage.gem_p is not None:
        embedder = remade(embedder, pooling=stage.pooling or None, gem_p=stage.gem_p)
    with _seeded(seed):
        identity = _identity(embedder, subset, stage, seed=seed, held_out=held_out, kept=kept)
        if len(set(distributed.everyones(identity))) > 1:
            raise ValueError(
                "the processes were given different settings, photos or weights; start them alike"
            )
        checkpoints = Checkpoints(folder, identity) if folder else None
        first = distributed.rank() == 0
        red, green, blue = (min(255, max(0, round(255 * value))) for value in embedder.mean)
        job = _Job(
            subset=subset,
            stage=stage,
            held_out=held_out,
            seed=seed,
            workers=workers,
            total=stage.epochs * sampler_of(subset, stage).num_batches(),
            least=_least(embedder),
            fill=(red, green, blue),
            progress=progress if first else None,
            checkpoints=checkpoints,
            every=checkpoint_every,
        )
        found = checkpoints.newest() if checkpoints else None
        state = begin(
            embedder,
            subset,
            stage,
            kept=kept,
            workers=workers,
            device=device,
            fresh=found is None,
            shard_head=shard_head and distributed.world() > 1,
        )
        if not first:
            torch.manual_seed(seed + distributed.rank())  # dropout is not the same in every part of a batch
        if checkpoints and found:
            checkpoints.load(found, state)
        best = _Best(job, state)
        log = Log(folder / LOG if folder and first else None, callbacks if first else ())
        with log.opened(step=state.step, epoch=state.epoch):
            while state.epoch < stage.epochs and not (stage.patience and state.waited >= stage.patience):
                _train_epoch(job, state, log)
                _end_epoch(job, state, log, best)
        # the last step's loss was taken before the last step
        _require_finite(job, state)
        judged, head = best.weights(state)
        tuned = copy.deepcopy(embedder)  # as before the stage: nothing frozen, no BatchNorm that needs others
        tuned.load_state_dict(judged.state_dict())
        interpolate(tuned, embedder, stage.interpolate)
        if isinstance(head, ShardedHead):
            head = _whole(head, subset, stage) or head
    return Stage(
        embedder=tuned.eval(),
        head=head,
        landmark_C=subset.landmark_C,
        losses=log.losses,
        validation=log.validation,
        unreadable=state.unreadable,
    )


def finish_stage(folder: Path) -> None:
    """Drop the checkpoints in *folder* once the stage is saved elsewhere; the log stays."""
    Checkpoints(folder, "").clear()


def _whole(head: ShardedHead, subset: Subset, stage: StageOptions) -> MarginHead | None:
    """All processes' rows in one head, in the first process."""
    state = head.full_state()
    if state is None:
        return None
    with torch.device("meta"):
        whole = MarginHead(
            head.rows.shape[1], head.num_landmarks, options=stage.loss, photos_C=subset.photos_C.clip(min=1)
        )
    whole.load_state_dict(state, assign=True)
    return whole


def _check(
    embedder: Embedder, stage: StageOptions, held_out: Subset | None, device: str, shard_head: bool
) -> None:
    where, world = f"stages.{stage.name}", distributed.world()
    if not stage.aspects.sizes:
        embedder.require_size(stage.size, f"{where}.size")
    for width, height in stage.aspects.sizes:
        embedder.require_size((width, height), f"{where}.aspects.sizes")
    if stage.batch // world < _least(embedder):
        raise ValueError(
            f"{where}.batch: the BatchNorm of the neck needs at least 2 photos a step"
            + (f" in each of {world} processes" if world > 1 else "")
        )
    if shard_head and stage.precision == "fp16":
        raise ValueError(f'{where}.precision: a sharded head needs "bf16" or "float32"')
    if stage.precision == "fp16" and torch.device(device).type != "cuda":
        raise ValueError(
            f'{where}.precision: "fp16" needs a CUDA device, not {device}; use "bf16" or "float32"'
        )
    if stage.patience and not held_out:
        raise ValueError(f"{where}.patience: there is no photo to validate on; hold some out")


def _least(embedder: Embedder) -> int:
    # a BatchNorm without positions to average over needs two photos
    return 2 if embedder.options.neck == "fc-bn" else 1


def _train_epoch(job: _Job, state: State, log: Log) -> None:
    """What is left of the epoch that *state* stands in."""
    training_mode(state, job.stage)
    clock: deque[tuple[float, int]] = deque([(time.perf_counter(), 0)], maxlen=_RATE_STEPS + 1)
    batches = epoch_batches(
        job.subset,
        job.stage,
        seed=job.seed,
        epoch=state.epoch,
        workers=job.workers,
        start=state.batch,
        fill=job.fill,
    )
    for batch in batches:
        state.batch += 1
        state.unreadable.update(batch.unreadable)
        counts = distributed.everyones(len(batch.row_B))
        if min(counts) < job.least:
            continue
        number = state.step
        loss, rate = take_step(state, job.stage, batch, counts=counts, total=job.total, least=job.least)
        if not math.isfinite(loss):
            raise _diverged(job.stage, f"the loss is {loss} at step {number}")
        log.add({"stage": job.stage.name, "step": number, "epoch": state.epoch, "loss": loss, "lr": rate})
        if job.checkpoints and job.every and state.step % job.every == 0:
            _save(job, state, log)
        clock.append((time.perf_counter(), clock[-1][1] + sum(counts)))
        if job.progress is not None:
            speed = (clock[-1][1] - clock[0][1]) / max(1e-9, clock[-1][0] - clock[0][0])
            facts = {"loss": loss, "lr": rate, "epoch": state.epoch, "images/s": speed}
            job.progress(state.step, job.total, facts)
    if not state.step:
        raise ValueError("none of the training photos could be read; check the collection's root")


def _end_epoch(job: _Job, state: State, log: Log, best: _Best) -> None:
    """Judge the epoch where photos are held out, and step over into the next."""
    epoch, improved = state.epoch, False
    for found in distributed.everyones(state.unreadable):
        state.unreadable.update(found)
    if job.held_out:
        judged = judge(state, job.held_out, job.stage, workers=job.workers)
        if not math.isfinite(judged.loss):
            raise _diverged(job.stage, f"the validation loss is {judged.loss} after epoch {epoch}")
        entry: dict[str, float | int | str] = {
            "stage": job.stage.name,
            "step": state.step,
            "epoch": epoch,
            "validation_loss": judged.loss,
        }
        if judged.mean_average_precision is not None:
            entry["validation_map"] = judged.mean_average_precision
        log.add(entry)
        improved = judged.penalty < state.least_penalty
        state.least_penalty = min(judged.penalty, state.least_penalty)
        state.waited = 0 if improved else state.waited + 1
    state.epoch, state.batch = epoch + 1, 0
    if improved:
        best.remember(state)
        if job.checkpoints:
            _save(job, state, log, best=True)


def _save(job: _Job, state: State, log: Log, *, best: bool = False) -> None:
    _require_finite(job, state)
    log.sync()
    assert job.checkpoints is not None, "asked only where there are some"
    job.checkpoints.save(state, best=best)


class _Best:
    """The weights of the epoch that was judged best, in memory, where patience will ask for them."""

    def __init__(self, job: _Job, state: State) -> None:
        self._wanted = job.stage.patience > 0
        self._own: list[dict[str, torch.Tensor]] = []
        self._saved: tuple[dict[str, torch.Tensor], ...] = ()
        if self._wanted and state.best and job.checkpoints:
            self._saved = job.checkpoints.weights(state.best)

    def remember(self, state: State) -> None:
        if self._wanted:
            self._own = [
                {key: value.detach().to("cpu", copy=True) for key, value in module.state_dict().items()}
                for module in state.judged()
            ]

    def weights(self, state: State) -> tuple[Embedder, MarginHead]:
        judged = state.judged()
        for module, own in zip(judged, self._own, strict=False):
            module.load_state_dict(own)
        if not self._own:
            for module, saved in zip(judged, self._saved, strict=False):
                load_whole(module, saved)
        return judged


def _identity(
    embedder: Embedder,
    subset: Subset,
    stage: StageOptions,
    *,
    seed: int,
    held_out: Subset | None,
    kept: KeptHead | None,
) -> str:
    """Equal for two calls that must end with the same weights."""
    digest = hashlib.sha256(embedder.fingerprint.encode())
    for photos in (subset, held_out):
        if photos is not None:
            digest.update("\n".join(photos.ids).encode())
            for column in (
                photos.row_N,
                photos.landmark_C,
                photos.clean_N,
                photos.continent_N,
                photos.ratio_N,
            ):
                digest.update(b"|" if column is None else column.tobytes())
    if kept is not None and stage.keep == "all":
        digest.update(kept.landmark_C.tobytes())
        for _, value in sorted(kept.state.items()):
            digest.update(value.contiguous().numpy().tobytes())
    return fingerprint_of(asdict(stage), seed, digest.hexdigest())


def _require_finite(job: _Job, state: State) -> None:
    if not finite(state):
        raise _diverged(job.stage, f"a weight is not finite after step {state.step - 1}")


def _diverged(stage: StageOptions, what: str) -> ValueError:
    return ValueError(f"stage {stage.name!r}: {what}; lower its lr ({stage.lr})")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Dropout and random starts follow *seed*; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
