"""What training left in the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from landseer.recipe import Recipe
from landseer.training import load_losses, load_validation


@dataclass(frozen=True, kw_only=True)
class TrainedStage:
    """One stage that is done."""

    member: str | None
    """None where the recipe has one model."""
    stage: str
    folder: Path
    steps: int
    loss: float
    """Of the last step."""
    validation: Mapping[str, float]
    """What was measured on held-out photos after the last epoch; empty where none are held out."""

    @property
    def model(self) -> Path:
        """The model folder that the stage left."""
        return self.folder / "model"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Every stage of every model, in order."""

    out: Path
    stages: tuple[TrainedStage, ...]
    did_nothing: bool
    """Whether everything was there already."""


def read_stages(recipe: Recipe, out: Path) -> tuple[TrainedStage, ...]:
    """The finished stages of the run in *out*, members one after the other."""
    found = []
    for part in recipe.parts:
        for folder in stage_folders(out / "members" / part.name if recipe.members else out):
            losses, validation = load_losses(folder), load_validation(folder)
            last = validation[-1] if validation else {}
            found.append(
                TrainedStage(
                    member=part.name if recipe.members else None,
                    stage=folder.name.split("-", 1)[1],
                    folder=folder,
                    steps=len(losses),
                    loss=float(losses[-1]["loss"]),
                    validation={
                        key: float(value)
                        for key, value in last.items()
                        if key not in ("stage", "step", "epoch") and value is not None
                    },
                )
            )
    return tuple(found)


def stage_folders(folder: Path) -> list[Path]:
    """The finished stages of one model, in order, where *folder* is its run's or its member's."""
    return sorted((folder / "stages").glob("*-*"), key=lambda stage: int(stage.name.split("-")[0]))
