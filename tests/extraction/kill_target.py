"""Run as a process of its own: an extraction that dies by ``kill -9`` before file-system step ``DIE_AT``.

Expects as globals: ``KIND`` (what is extracted: ``square``, ``aspects`` or ``ensemble``), ``PHOTOS``, ``OUT``,
``DIE_AT`` (0: never), ``PAUSE_S`` (a batch) and ``STEPS`` (where to write how many steps there were).
"""

from __future__ import annotations

import os
import runpy
import signal
import time
from pathlib import Path

from landseer.extraction import extract, extract_ensemble
from landseer.models import Ensemble, Member
from landseer.recipe import AspectOptions, DescriptorOptions

NUM, UNREADABLE = 30, (3, 17)
OPTIONS = DescriptorOptions(size=16, batch=4)
ASPECTS = DescriptorOptions(
    aspects=AspectOptions(splits=(0.8, 1.2), sizes=((24, 16), (20, 20), (16, 24))), batch=4
)
SHAPES = ((28, 20), (20, 28), (24, 24))
COMMIT_EVERY = 8


def die_before_step(number: int) -> list[int]:
    """Kill this process at call *number* of those that sync, rename or remove files."""
    steps = [0]

    def counted(call):
        def counting(*args, **kwargs):
            steps[0] += 1
            if steps[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    os.fsync, os.rename, os.unlink = counted(os.fsync), counted(os.rename), counted(os.unlink)
    return steps


def run(kind: str, photos: Path, out: Path, *, die_at: int, pause_s: float, steps_file: Path | None) -> None:
    world = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    collection = world["draw_photos"](photos, NUM, unreadable=UNREADABLE, shapes=SHAPES)
    options = {"square": OPTIONS, "aspects": ASPECTS}
    machine = {
        "workers": 2,
        "commit_every": COMMIT_EVERY,
        "progress": lambda done, total: time.sleep(pause_s),
    }
    steps = die_before_step(die_at)
    if kind == "ensemble":
        members = (
            Member(name=name, weight=1.0, embedder=world["SmallEmbedder"](seed=seed), descriptors=how)
            for seed, (name, how) in enumerate(options.items())
        )
        extract_ensemble(Ensemble(members=tuple(members)), collection, out, **machine)
    else:
        extract(world["SmallEmbedder"](), collection, out, options=options[kind], **machine)
    if steps_file:
        steps_file.write_text(str(steps[0]))


if __name__ == "__kill_target__":
    run(KIND, PHOTOS, OUT, die_at=DIE_AT, pause_s=PAUSE_S, steps_file=STEPS)  # noqa: F821
