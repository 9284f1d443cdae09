"""Run as a process of its own: changes an index at random until it is killed, and keeps a log of what it did.

Expects as globals: ``INDEX``, ``LOG`` (each step is a line before it begins and a line once it returned), ``SEED``,
``DIE_AT`` (kill itself at this file-system step; 0: never).  As ``__create_target__`` it makes ``INDEX`` and a copy of
it, ``COPY``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import zlib
from pathlib import Path

import numpy as np

from landseer.search import LivingIndex, open_index
from landseer.search.living import writer
from landseer.types import Descriptors

DIM = 16
MODELS = ("m0", "m1")


def row_of(photo: str, version: int, model: str) -> np.ndarray:
    """The descriptor a photo must have."""
    return np.random.default_rng(zlib.crc32(f"{photo} {version} {model}".encode())).random(DIM, np.float32)


def rows_of(versions: dict[str, int], model: str) -> Descriptors:
    rows = np.array([row_of(photo, version, model) for photo, version in versions.items()], np.float32)
    return Descriptors(ids=tuple(versions), rows_ND=rows.reshape(-1, DIM), normalised=False)


def after(state: dict, step: dict) -> dict:
    """What the index holds after a step: ``{"model": str, "versions": id -> version, "landmarks": id -> landmark}``."""
    gone, come = step.get("remove", ()), step.get("add", {})
    versions = {photo: version for photo, version in state["versions"].items() if photo not in gone}
    # a photo that is put in the place of another comes without its landmark
    landmarks = {
        photo: landmark
        for photo, landmark in state["landmarks"].items()
        if photo not in gone and photo not in come
    }
    return {
        "model": step.get("model", state["model"]),
        "versions": {**versions, **come},
        "landmarks": {**landmarks, **step.get("label", {})},
    }


def die_before_step(number: int) -> None:
    steps = [0]

    def counted(call):
        def counting(*args, **kwargs):
            steps[0] += 1
            if steps[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    for name in ("fsync", "unlink", "pwrite", "mkdir", "link", "rename"):
        setattr(os, name, counted(getattr(os, name)))


def live(path: Path, log: Path, seed: int, die_at: int) -> None:
    writer._MOST_SMALL, writer._SEGMENT_BYTES, writer.SMALL_BYTES = 5, 4096, 4096
    rng = random.Random(seed)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if die_at:
        die_before_step(die_at)
    with open_index(path, write=True) as index:
        os.write(handle, b'"open"\n')
        for number in range(10**9):
            here = list(index.ids_where())
            other = MODELS[index.model == MODELS[0]]
            kind = rng.choice(
                [
                    "add",
                    "add",
                    "add",
                    "label",
                    "label",
                    "replace",
                    "remove",
                    "remove",
                    "compact",
                    "rebuild",
                    "finish",
                ]
            )
            some = [photo for photo in here if rng.random() < rng.choice((0.02, 0.1, 0.5))]
            new = {f"p{seed}-{number}-{n}": 0 for n in range(rng.choice((1, 5, 40)))}
            step, call = {}, index.refresh
            if kind == "add":
                step = {"add": new}
                call = _adding(index, new, index.model, replace=False)
            elif kind == "replace" and some:
                known = index.photos(some)
                new |= {photo: known[photo]["version"] + 1 for photo in some}
                step = {"add": new}
                call = _adding(index, new, index.model, replace=True)
            elif kind == "remove" and some:
                step = {"remove": some}
                call = _removing(index, some)
            elif kind == "label" and some:
                step = {"label": {photo: rng.randrange(1000) for photo in some}}
                call = _labelling(index, step["label"])
            elif kind == "compact" and index.info().rebuild is None:
                call = index.compact
            elif kind == "rebuild":
                index.begin_rebuild(model=other, dim=DIM, normalised=False)
                due = {record["id"]: record["version"] for record in index.unstaged(rng.choice((10, 1000)))}
                call = _staging(index, due, other)
            elif kind == "finish" and index.info().rebuild and not index.unstaged(1):
                step = {"model": other}
                call = index.finish_rebuild
            os.write(handle, json.dumps(step).encode() + b"\n")
            call()
            os.write(handle, b'"done"\n')


def _adding(index, versions, model, *, replace):
    table = [{"id": photo, "version": version} for photo, version in versions.items()]
    return lambda: index.add(rows_of(versions, model), table, model=model, replace=replace)


def _removing(index, ids):
    return lambda: index.remove(ids)


def _labelling(index, landmarks):
    return lambda: index.update({photo: {"landmark": landmark} for photo, landmark in landmarks.items()})


def _staging(index, versions, model):
    return lambda: index.stage(rows_of(versions, model), model=model)


def create(path: Path, copy: Path, die_at: int) -> None:
    die_before_step(die_at)
    with LivingIndex.create(path, model="m0", dim=DIM, normalised=False) as index:
        versions = {f"p{number}": 0 for number in range(5)}
        _adding(index, versions, "m0", replace=False)()
        index.copy(copy)


if __name__ == "__create_target__":
    create(INDEX, COPY, DIE_AT)  # noqa: F821
if __name__ == "__kill_target__":
    live(INDEX, LOG, SEED, DIE_AT)  # noqa: F821
