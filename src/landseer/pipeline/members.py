"""The ensemble of a run, from what each of its members left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from landseer.models import Ensemble, Member, load_embedder
from landseer.pipeline.model import Opened
from landseer.pipeline.setting import Setting


def ensemble_of(setting: Setting) -> Opened:
    """All members as they are at their end."""
    members = tuple(
        Member(
            name=part.name,
            weight=part.weight,
            embedder=load_embedder(setting.folder_of(part) / "trained" / "model"),
            descriptors=part.descriptors,
        )
        for part in setting.recipe.parts
    )
    return Ensemble(members=members, unit=setting.recipe.descriptors.renormalise), None


def lend_rows(setting: Setting, folder: Path) -> None:
    """Give the ensemble that is to be measured in *folder* the rows that its members were measured with.

    They lie down where ``extract_ensemble`` keeps those of members that it has done, so no photo is described again.
    """
    for name in ("index", "query", "bank"):
        work = folder / f".{name}.members"
        for part in setting.recipe.parts:
            # rows that were rounded to float16 are not those that an ensemble joins
            if (folder / name).exists() or (work / part.name).exists() or part.descriptors.dtype != "float32":
                continue
            lent = work / f".{part.name}.lent"
            shutil.rmtree(lent, ignore_errors=True)  # there if a kill fell between the two next steps
            there = setting.folder_of(part) / "trained" / name
            shutil.copytree(there, lent, copy_function=_link)
            lent.rename(work / part.name)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
