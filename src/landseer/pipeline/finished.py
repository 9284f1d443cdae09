"""What a finished run left: its numbers, what must be known beside them, its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from landseer.evaluation import is_calibrated
from landseer.pipeline.measure import OVERLAP, Measured, read_measured, read_numbers
from landseer.pipeline.members import fitted_notes
from landseer.pipeline.setting import trains
from landseer.pipeline.trained import stage_folders
from landseer.recipe import Recipe, options_from
from landseer.reporting import RunPage, StageNumbers, Trust, write_page
from landseer.storage import read_json
from landseer.training import load_losses
from landseer.types import Collection, Report

PAGE = "report.html"


@dataclass(frozen=True, kw_only=True)
class MeasuredStage:
    """One model of a run at one point of its training."""

    member: str | None
    """None where the recipe has one model."""
    stage: str | None
    """The stage that it went through last; None for a member that goes through none."""
    folder: Path
    report: Report


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run.  ``trained`` is None where the recipe trains nothing."""

    out: Path
    title: str
    untrained: Measured
    trained: Measured | None
    stages: tuple[MeasuredStage, ...]
    """Each model after its last stage, and after the others where the recipe asks for it; members in order."""
    warnings: tuple[str, ...]
    """What must stand wherever the numbers stand: stand-ins, photos that were trained on and are scored."""
    notes: tuple[str, ...]
    """What else a reader should know."""
    reranking: tuple[str, ...]
    """The methods that the answers went through, in order."""
    did_nothing: bool
    """Whether everything was there already."""

    @property
    def page(self) -> Path:
        """The report."""
        return self.out / PAGE

    @property
    def final(self) -> Measured:
        """The trained model, or the untrained one where nothing was trained."""
        return self.trained or self.untrained


def write_run_page(out: Path, collection: Collection) -> Path:
    """Write ``report.html`` of the finished run in *out*, anew if it is there; returns its path."""
    file = out / "run.json"
    if not file.is_file():
        raise ValueError(f"{out} is not a run folder (it has no run.json); give the --out of landseer run")
    facts = read_json(file)
    if facts["collection"] != collection.fingerprint:
        raise ValueError(
            f"{out} was run on another collection ({facts['collection']}); give that one as --data"
        )
    recipe = options_from(Recipe, facts["recipe"])
    result = read_run(out, recipe, did_nothing=False)
    untrained, final = result.untrained, result.final
    compared = result.trained is not None
    page = RunPage(
        title=result.title,
        report=final.report,
        baseline=untrained.report if compared else None,
        per_query=final.retrieval.per_query,
        baseline_per_query=untrained.retrieval.per_query if compared else None,
        ranking=final.ranking,
        baseline_ranking=untrained.ranking if compared else None,
        collection=collection,
        losses=_losses(out, recipe),
        unreadable=final.unreadable,
        notes=[*result.warnings, *result.notes],
        stages=[
            StageNumbers(model=found.member or "", stage=found.stage or "", report=found.report)
            for found in result.stages
        ],
        trust=_trust(untrained if compared else None, final),
    )
    write_page(page, out / PAGE)
    return out / PAGE


def read_run(out: Path, recipe: Recipe, *, did_nothing: bool) -> RunResult:
    """What a finished run left."""
    untrained = read_measured(out / "untrained")
    trained = read_measured(out / "trained") if trains(recipe) else None
    return RunResult(
        out=out,
        title=recipe.title,
        untrained=untrained,
        trained=trained,
        stages=tuple(
            MeasuredStage(member=member, stage=stage, folder=folder, report=read_numbers(folder))
            for member, stage, folder in _points(out, recipe)
        ),
        warnings=tuple(_warnings(recipe, trained or untrained)),
        notes=(*_notes(recipe, trained or untrained), *fitted_notes(out)),
        reranking=tuple(options.method for options in recipe.reranking),
        did_nothing=did_nothing,
    )


def is_finished(out: Path, recipe: Recipe) -> bool:
    """Whether the run in *out* has all that it will ever have."""
    measured = [out / "untrained", *(folder for _, _, folder in _points(out, recipe))]
    measured += [out / "trained"] if trains(recipe) else []
    return (out / PAGE).exists() and all((folder / "recognition").exists() for folder in measured)


def _points(out: Path, recipe: Recipe) -> list[tuple[str | None, str | None, Path]]:
    """Each point at which a model is measured: member, the stage that it went through last, the folder."""
    found: list[tuple[str | None, str | None, Path]] = []
    for part in recipe.parts:
        member, home = (part.name, out / "members" / part.name) if recipe.members else (None, out)
        if recipe.evaluation.every_stage:
            after = enumerate(part.stages[:-1], start=1)
            found += [(member, stage, home / "after" / f"{number}-{stage}") for number, stage in after]
        if recipe.members or part.stages:
            found.append((member, part.stages[-1] if part.stages else None, home / "trained"))
    return found


def _trust(untrained: Measured | None, final: Measured) -> Trust | None:
    """What the page tells of recognition; None for a run of a version that did not yet say which answers are sure."""
    report, per_query = final.recognition.report, final.recognition.per_query
    if "accepted" not in per_query.column_names:
        return None
    return Trust(
        per_query=per_query,
        baseline_per_query=None if untrained is None else untrained.recognition.per_query,
        calibrated=is_calibrated(report),
        calibration=report.protocol["calibration"].removeprefix("none: "),
    )


def _losses(out: Path, recipe: Recipe) -> list[dict[str, float | int | str]]:
    """Of every step of every stage; the stages of members have the member's name before their own."""
    return [
        {**entry, "stage": f"{part.name}/{entry['stage']}" if recipe.members else entry["stage"]}
        for part in recipe.parts
        for folder in stage_folders(out / "members" / part.name if recipe.members else out)
        for entry in load_losses(folder)
    ]


def _warnings(recipe: Recipe, final: Measured) -> Iterator[str]:
    for part in recipe.parts:
        if part.model.substitute_for:
            member = f" (member {part.name})" if recipe.members else ""
            yield (
                f"{part.model.backbone}{member} stands in for {part.model.substitute_for}: "
                "this is not a reproduction of it."
            )
    overlap = int(final.report.made_by[OVERLAP])
    if overlap:
        yield f"{overlap} of the photos that are scored were trained on: the numbers flatter the model."


def _notes(recipe: Recipe, final: Measured) -> Iterator[str]:
    if final.searched is not None:
        steps = ", ".join(options.method for options in recipe.reranking)
        before, after = (
            f"{report.value('mAP@100', 'Private and Public'):.4f}"
            for report in (final.searched, final.report)
        )
        yield f"Answers are re-ranked ({steps}): mAP@100 of the search alone {before}, re-ranked {after}."
    models = [part.model for part in recipe.parts]
    for backbone in dict.fromkeys(model.backbone for model in models if model.weights == "hub"):
        yield f"The weights of {backbone} came from the hub and were not measured by this project."
    for backbone in dict.fromkeys(model.backbone for model in models if model.weights == "none"):
        yield f"{f'{backbone} of the ensemble' if recipe.members else 'The backbone'} started from random weights."
