"""Run as a process of its own: an extraction that dies by ``kill -9`` before file-system step ``DIE_AT``.

Expects ``PHOTOS``, ``OUT``, ``DIE_AT`` (0: never), ``PAUSE_S`` (a batch) and ``STEPS`` (where to write how
many steps there were) as globals.
"""

from __future__ import annotations

import os
import runpy
import signal
import time
from pathlib import Path

from landseer.extraction import extract
from landseer.recipe import DescriptorOptions

NUM, UNREADABLE = 30, (3, 17)
OPTIONS = DescriptorOptions(size=16, batch=4)
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


def run(photos: Path, out: Path, *, die_at: int, pause_s: float, steps_file: Path | None) -> None:
    world = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    collection = world["draw_photos"](photos, NUM, unreadable=UNREADABLE)
    steps = die_before_step(die_at)
    extract(
        world["SmallEmbedder"](),
        collection,
        out,
        options=OPTIONS,
        workers=2,
        commit_every=COMMIT_EVERY,
        progress=lambda done, total: time.sleep(pause_s),
    )
    if steps_file:
        steps_file.write_text(str(steps[0]))


if __name__ == "__kill_target__":
    run(PHOTOS, OUT, die_at=DIE_AT, pause_s=PAUSE_S, steps_file=STEPS)  # noqa: F821
