"""Check a run before anything is written, and claim its folder."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from landseer.matching import MatchingSetup
from landseer.models import require_possible
from landseer.pipeline.members import require_fittable
from landseer.pipeline.rerank import bank_photos, matcher_of, photos_without_landmark
from landseer.pipeline.setting import Machine, Setting
from landseer.recipe import Recipe, StageOptions, fingerprint
from landseer.storage import open_artifact, read_json
from landseer.storage.artifact import sha256_of
from landseer.training import Subset, hold_out, training_subset
from landseer.training.distributed import barrier, rank
from landseer.types import Collection


def prepare(
    recipe: Recipe,
    collection: Collection,
    out: Path,
    *,
    also: Mapping[str, Collection],
    weights: Path | None,
    machine: Machine,
    scored: bool,
    matching: MatchingSetup | None = None,
) -> Setting:
    """Check all that can be checked beforehand, then claim the folder *out* for the run (on the first process).

    *scored* says whether the run is to be scored on the collection, too; *matching* names the files with which photos
    are matched then.  Raises ``ValueError`` where something is
    missing or cannot be, and where *out* is another run's or no run's; nothing is written then.
    """
    _check_also(recipe, also)
    if scored:
        _check_scored(collection)
    identity = _identity(recipe, collection, also, weights)
    held = hold_out(collection, recipe.data, seed=recipe.seed)
    setup = matching or MatchingSetup()
    setting = Setting(
        recipe=recipe,
        collection=held,
        also=also,
        out=out,
        identity=identity,
        weights=weights,
        subset=training_subset(held, subset="clean", min_photos=recipe.data.min_photos),
        subset_of=_subsets(recipe, held, also),
        machine=machine,
        matching=setup,
        matcher=matcher_of(recipe, setup, held.in_split("query", "index")) if scored else None,
    )
    require_fittable(setting)
    if scored:
        _check_voters(setting)
        _check_matching(setting)
    for stage in recipe.stages:
        if (stage.patience or stage.judge == "mAP") and setting.held_out_of(stage) is None:
            raise ValueError(
                f"stages.{stage.name}: patience and judge need photos to validate on, and collection "
                f"{stage.collection!r} has none of split 'validation' with a landmark of the stage"
            )
    taken = any(part.model.weights == "file" for part in recipe.parts)
    for part in recipe.parts:
        # the file is for members that take one; where none does, it was given in vain
        given = weights if part.model.weights == "file" or not taken else None
        require_possible(part.model, weights=given)
        _check_kept_heads(recipe.stages_of(part))
    if rank() == 0:
        _claim(setting)
    barrier()
    return setting


def _check_also(recipe: Recipe, also: Mapping[str, Collection]) -> None:
    wanted = list(dict.fromkeys(stage.collection for stage in recipe.stages if stage.collection))
    for name in also:
        if name not in wanted:
            near = difflib.get_close_matches(name, wanted, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"they name: {', '.join(wanted) or 'none'}"
            raise ValueError(f"--also {name}: no stage learns from a collection of that name; {hint}")
    for stage in recipe.stages:
        if stage.collection and stage.collection not in also:
            raise ValueError(
                f"stages.{stage.name}.collection: which collection {stage.collection!r} is was not said; "
                f"add --also {stage.collection}=COLLECTION"
            )


def _check_voters(setting: Setting) -> None:
    """Raise ``ValueError`` where photos that are to vote are not there."""
    bank_photos(setting.collection, setting.recipe.bank)
    if setting.recipe.recognition.penalty:
        photos_without_landmark(setting.collection)


def _check_matching(setting: Setting) -> None:
    """Raise ``ValueError`` where no photo can be matched, or part of the run was with other weights."""
    if setting.matcher is None:
        return
    setting.matcher.require(setting.collection.in_split("query", "index").ids)
    digests = setting.matching.digests()
    for manifest in setting.out.rglob("reranked/manifest.json"):
        made_by = open_artifact(manifest.parent, "ranking").made_by
        if any(made_by.get(name) != digest for name, digest in digests.items()):
            raise ValueError(
                f"{manifest.parent} was matched with other weights than these; give the same, or choose another --out"
            )


def _check_kept_heads(stages: Sequence[StageOptions]) -> None:
    for before, stage in pairwise(stages):
        if stage.keep == "all" and stage.collection != before.collection:
            raise ValueError(
                f'stages.{stage.name}.keep: "all" keeps the head by landmark, but stage {before.name!r} before it '
                'learned from another collection, whose landmarks are other ones; say "all-but-head"'
            )


def _check_scored(collection: Collection) -> None:
    if collection.truth is None:
        raise ValueError(
            "the collection has no queries with known answers, so a run cannot be scored; import a solution file"
        )
    for split, role in (("index", "gallery"), ("query", "queries"), ("train", "training photos")):
        if not len(collection.in_split(split)):
            raise ValueError(
                f"the collection has no photos of split {split!r}, so a run would have no {role}"
            )


def _subsets(recipe: Recipe, collection: Collection, also: Mapping[str, Collection]) -> dict[str, Subset]:
    """What each stage learns from; stages that learn from the same share it, for it may be large."""
    found: dict[tuple[str, str, bool], Subset] = {}
    by_stage = {}
    for stage in recipe.stages:
        key = (stage.collection, stage.subset, stage.sampler == "continents")
        if key not in found:
            try:
                found[key] = training_subset(
                    also[stage.collection] if stage.collection else collection,
                    subset=stage.subset,
                    min_photos=recipe.data.min_photos,
                    continents=stage.sampler == "continents",
                )
            except ValueError as error:
                raise ValueError(f"stages.{stage.name}: {error}") from None
        by_stage[stage.name] = found[key]
    return by_stage


def _identity(
    recipe: Recipe, collection: Collection, also: Mapping[str, Collection], weights: Path | None
) -> str:
    digest = ""
    if weights is not None:
        if not weights.is_file():
            raise ValueError(f"weights {weights} do not exist; give a .safetensors or .pth file")
        digest = sha256_of(weights)
    parts = [fingerprint(recipe), collection.fingerprint, digest]
    parts += [f"{name}={other.fingerprint}" for name, other in sorted(also.items())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _claim(setting: Setting) -> None:
    """Write ``run.json``, or refuse a folder that another run, or anything else, owns."""
    out, file = setting.out, setting.out / "run.json"
    if file.exists():
        if read_json(file)["run"] != setting.identity:
            raise ValueError(
                f"{out} belongs to a run of another recipe, collection or weights file; choose another --out"
            )
        return
    if out.exists() and any(entry.name != "run.part" for entry in out.iterdir()):
        raise ValueError(f"{out} exists and is not a run folder; choose another --out")
    facts = {
        "run": setting.identity,
        "recipe": asdict(setting.recipe),
        "collection": setting.collection.fingerprint,
        "also": {name: other.fingerprint for name, other in setting.also.items()},
        "weights": setting.weights.name if setting.weights else None,
    }
    out.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    part.rename(file)
