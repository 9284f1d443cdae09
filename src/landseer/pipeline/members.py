"""What a run answers with at its end: its one model, or its members joined; weighted and whitened as it was fitted.

What is fitted lies in ``RUN/fitted``: the artifacts ``weights`` and ``whitening``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from landseer.models import (
    Ensemble,
    Member,
    Whitening,
    fit_whitening,
    join_descriptors,
    load_embedder,
    load_whitening,
    save_whitening,
)
from landseer.pipeline.model import Opened, describe
from landseer.pipeline.setting import DESCRIBED, Setting
from landseer.pipeline.weights import FittedWeights, fit_weights, load_weights, save_weights, some_landmarks
from landseer.recipe import MemberOptions, Recipe
from landseer.storage import load_descriptors
from landseer.types import Collection, Descriptors


def combines(recipe: Recipe) -> bool:
    """Whether what a run answers with is more than a model alone: several members, or a whitening."""
    return bool(recipe.members) or recipe.descriptors.whitening.kind != "none"


def folder_alone(part: MemberOptions, setting: Setting) -> Path:
    """Where *part* is measured as it is: not joined with others, not whitened."""
    if setting.recipe.members or not combines(setting.recipe):
        return setting.folder_of(part) / "trained"
    untrained = not part.stages and part.model.neck == "none"
    return setting.out / ("untrained" if untrained else "plain")


def ensemble_of(setting: Setting) -> Opened:
    """All members as they are at their end, with the weights and the whitening that the recipe asks for.

    What is fitted is fitted now, where a run that was stopped has not done so, on rows of photos that each member
    was measured with.  Raises ``ValueError`` where those photos are too few.
    """
    recipe = setting.recipe
    weights = [part.weight for part in recipe.parts]
    if recipe.descriptors.member_weights == "fitted":
        weights = list(_weights(setting).weights)
    whitening = None if recipe.descriptors.whitening.kind == "none" else _whitening(setting, weights)
    members = tuple(
        Member(
            name=part.name,
            weight=weight,
            embedder=load_embedder(folder_alone(part, setting) / "model"),
            descriptors=part.descriptors,
        )
        for part, weight in zip(recipe.parts, weights, strict=True)
    )
    unit = recipe.descriptors.renormalise or whitening is not None
    return Ensemble(members=members, unit=unit, whitening=whitening), None


def lend_rows(setting: Setting, folder: Path) -> None:
    """Give the ensemble that is to be measured in *folder* the rows that its members were measured with.

    They lie down where ``extract_ensemble`` keeps those of members that it has done, so no photo is described again.
    """
    for name in DESCRIBED:
        work = folder / f".{name}.members"
        for part in setting.recipe.parts:
            there = folder_alone(part, setting) / name
            if not there.exists():
                continue
            # rows that were rounded to float16 are not those that an ensemble joins
            if (folder / name).exists() or (work / part.name).exists() or part.descriptors.dtype != "float32":
                continue
            lent = work / f".{part.name}.lent"
            shutil.rmtree(lent, ignore_errors=True)  # there if a kill fell between the two next steps
            shutil.copytree(there, lent, copy_function=_link)
            lent.rename(work / part.name)


def require_fittable(setting: Setting) -> None:
    """Refuse before any training what could not be fitted after it.

    Raises ``ValueError`` where weights are to be fitted and a stage learns from a photo that is held out, or no
    landmark has two such photos; and where the training photos are fewer than a whitening's axes.
    """
    options = setting.recipe.descriptors.whitening
    if options.kind != "none" and options.dim >= len(setting.subset):
        raise ValueError(
            f"descriptors.whitening.dim: {len(setting.subset)} clean training photos span fewer than "
            f"{options.dim} axes; ask for fewer"
        )
    if setting.recipe.descriptors.member_weights == "fitted":
        _held_out(setting)


def fitted_notes(out: Path) -> Iterator[str]:
    """What was fitted in the run folder *out*, one sentence each."""
    if (out / "fitted" / "weights").exists():
        found = load_weights(out / "fitted" / "weights")
        weights = ", ".join(f"{name} {weight:g}" for name, weight in found.by_name.items())
        yield (
            f"The members' weights were fitted on {found.num_photos} photos held out of training: {weights} "
            f"(mAP@100 of these photos {found.mean_average_precision:.4f}, with the given weights "
            f"{found.before:.4f})."
        )
    if (out / "fitted" / "whitening").exists():
        whitening = load_whitening(out / "fitted" / "whitening")
        yield (
            f"The rows are whitened ({whitening.kind}, {len(whitening.mean_D)} to {whitening.dim} components, "
            f"ridge {whitening.facts['ridge']:g}), fitted on {whitening.facts['photos']} clean training photos."
        )


def _weights(setting: Setting) -> FittedWeights:
    path = setting.out / "fitted" / "weights"
    if not path.exists():
        photos, parts = _held_out(setting), setting.recipe.parts
        rows = [_described(part, photos, setting) for part in parts]
        ids = _in_all(photos.ids, rows)
        row_of = {photo: row for row, photo in enumerate(photos.ids)}
        landmark_N = photos.landmark_N[np.array([row_of[photo] for photo in ids], dtype=np.int64)]
        setting.watch("fitting the members' weights", 0, 1, {})
        found = fit_weights(
            [part.take(ids) for part in rows],
            landmark_N,
            start=[part.weight for part in parts],
            names=[part.name for part in parts],
        )
        save_weights(
            found,
            path,
            made_by=setting.facts,
            parents={n.name: r.fingerprint for n, r in zip(parts, rows, strict=True)},
        )
    return load_weights(path)


def _held_out(setting: Setting) -> Collection:
    """Photos that no stage learns from, to fit weights on."""
    photos = setting.collection.in_split("validation")
    photos = photos.select(photos.landmark_N >= 0)
    for stage in setting.recipe.stages:
        both = set(photos.ids).intersection(setting.subset_of[stage.name].ids)
        if both:
            raise ValueError(
                f"descriptors.member_weights: {len(both)} photos that are held out, {min(both)!r} the first, are "
                f"among those that stage {stage.name!r} learns from; weights must be fitted on others"
            )
    return some_landmarks(photos, seed=setting.recipe.seed)


def _described(part: MemberOptions, photos: Collection, setting: Setting) -> Descriptors:
    """The held-out photos, by *part* alone, beside what else it was measured with."""
    folder = folder_alone(part, setting)
    return describe(
        (load_embedder(folder / "model"), part.descriptors),
        photos,
        folder / "validation",
        workers=setting.machine.workers,
        device=setting.machine.device,
        progress=lambda done, total: setting.watch(
            f"describing validation photos, member {part.name}", done, total, {}
        ),
    )


def _whitening(setting: Setting, weights: Sequence[float]) -> Whitening:
    path, options = setting.out / "fitted" / "whitening", setting.recipe.descriptors.whitening
    if not path.exists():
        setting.watch("fitting the whitening", 0, 1, {})
        parts = [
            load_descriptors(folder_alone(part, setting) / "bank", mmap=True, check=False)
            for part in setting.recipe.parts
        ]
        ids = _in_all(setting.subset.ids, parts)
        landmark_of = dict(zip(setting.subset.ids, setting.subset.row_N.tolist(), strict=True))
        work = path.with_name(".joined")
        shutil.rmtree(work, ignore_errors=True)  # there if this was killed
        whitening = fit_whitening(
            join_descriptors(parts, weights, ids=ids, out=work),
            kind="learned" if options.kind == "learned" else "pca",
            landmark_N=np.array([landmark_of[photo] for photo in ids], dtype=np.int64)
            if options.kind == "learned"
            else None,
            dim=options.dim or None,
            ridge=options.ridge,
            scale=options.scale,
            scored=setting.collection.in_split("index", "query").ids,
        )
        save_whitening(whitening, path, made_by=setting.facts)
        shutil.rmtree(work)
    return load_whitening(path)


def _in_all(ids: Sequence[str], parts: Sequence[Descriptors]) -> list[str]:
    """Those of *ids* that every part has a row of."""
    there = set(ids).intersection(*(part.ids for part in parts))
    return [photo for photo in ids if photo in there]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
