"""What a run is about, as all of its parts see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from landseer.matching import Matcher, MatchingSetup
from landseer.recipe import MemberOptions, Recipe, StageOptions, fingerprint
from landseer.training import Callback, Subset, validation_subset
from landseer.types import Collection

Watch = Callable[[str, int, int, Mapping[str, float]], None]
"""Told (what is going on, units done, units in all, facts such as loss and lr)."""

HELD_OUT, NONE = "held-out", "none"
"""The folders of photos that recognition is calibrated on: held out of training, and known to show no landmark."""
DESCRIBED = ("index", "query", "bank", HELD_OUT, NONE)
"""The folders of a model's descriptors; the last two are there where something asks for them."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run may use here; none of it changes a result."""

    workers: int
    device: str
    watch: Watch
    checkpoint_every: int
    callbacks: Sequence[Callback]
    shard_head: bool = False


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is run on what, in which folder."""

    recipe: Recipe
    collection: Collection
    """The run's own, as the run sees it: photos that the recipe holds out are ``split=validation``."""
    also: Mapping[str, Collection]
    """The other collections that stages learn from, by name."""
    out: Path
    identity: str
    weights: Path | None
    subset: Subset
    """The clean training photos: they name the nearest landmark, and a neck may start from them."""
    subset_of: Mapping[str, Subset]
    """What each stage learns from, by the stage's name."""
    machine: Machine
    matching: MatchingSetup = field(default_factory=MatchingSetup)
    """Where the networks that match photos lie, and a folder for points; the recipe says the rest."""
    matcher: Matcher | None = None
    """Of the queries and the index; None where the recipe matches no photos."""

    @property
    def facts(self) -> dict[str, str]:
        """What every artifact of the run says it was made by."""
        return {"run": self.identity, "recipe": fingerprint(self.recipe)}

    def watch(self, what: str, done: int, total: int, facts: Mapping[str, float]) -> None:
        """Tell the caller what is going on."""
        self.machine.watch(what, done, total, facts)

    def collection_of(self, stage: StageOptions) -> Collection:
        """The collection that *stage* learns from."""
        return self.also[stage.collection] if stage.collection else self.collection

    def held_out_of(self, stage: StageOptions) -> Subset | None:
        """The photos that *stage* is validated on; None where the recipe holds none out or there is none."""
        if self.recipe.data.validation == "none":
            return None
        return validation_subset(self.collection_of(stage), self.subset_of[stage.name].landmark_C)

    def folder_of(self, part: MemberOptions) -> Path:
        """Where a member's stages and scores lie: a folder of its own, or the run's where it has one model."""
        return self.out / "members" / part.name if self.recipe.members else self.out

    @cached_property
    def trained_landmarks(self) -> frozenset[int] | None:
        """Landmarks of the run's own collection that a model learns from; None where nothing is learned at all.

        Those of other collections are other names.
        """
        if not trains(self.recipe):
            return None
        learned = [self.subset_of[stage.name] for stage in self.recipe.stages if not stage.collection]
        whitens = self.recipe.descriptors.whitening.kind != "none"
        if whitens or any(part.model.neck_start == "whitening" for part in self.recipe.parts):
            learned.append(self.subset)
        return frozenset(int(landmark) for subset in learned for landmark in subset.landmark_C)

    @cached_property
    def num_scored_and_trained(self) -> int:
        """Index and query photos, by id, that a neck, a head or a stage may have learned from."""
        scored = set(self.collection.in_split("index", "query").ids)
        known = (subset.ids for subset in (self.subset, *self.subset_of.values()))
        return len(scored.intersection(photo for ids in known for photo in ids))


def trains(recipe: Recipe) -> bool:
    """Whether anything in *recipe* is learned from the training photos, or fitted on some of them at the end."""
    return recipe.descriptors.fitted or any(part.stages or part.model.neck != "none" for part in recipe.parts)


def cores() -> int:
    """Cores for each process of this run on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
