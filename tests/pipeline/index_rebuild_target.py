"""Run as a process of its own: has children rebuild an index, one after the other, that kill themselves on the way.

Expects as globals: ``INDEX``, ``MODEL`` (a recipe) and ``PIPE``, which brings the file-system step at which the next
child is to die (0: never; None: that is all) and takes its exit code.
"""

from __future__ import annotations

import os
import runpy
import traceback
from pathlib import Path

from landseer.models import require_possible
from landseer.pipeline import rebuild_index
from landseer.recipe import load_recipe

KILLS = runpy.run_path(str(Path(__file__).parents[1] / "search" / "living_kill_target.py"))


def rebuild(index, model, die_at):
    code = 1
    try:
        KILLS["die_before_step"](die_at)
        rebuild_index(index, model=model, workers=1, commit_every=3)
        code = 0
    except ValueError:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__rebuild_target__":
    require_possible(load_recipe(MODEL).model, weights=None)  # noqa: F821 - it imports timm, once and not in each child
    while (die_at := PIPE.recv()) is not None:  # noqa: F821
        child = os.fork()
        if child == 0:
            rebuild(INDEX, MODEL, die_at)  # noqa: F821
        PIPE.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: F821
