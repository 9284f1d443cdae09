"""Recognition within a run: which photos it may be calibrated on, how it is scored, how it is read again.

What is calibrated on trains no stage, votes for nothing and is never asked about: photos that the recipe holds out
(``[data] validation``) and training photos known to show no landmark (``kind = none``).  Where a run lacks either,
confidences stay votes, and the report says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.evaluation import Calibrated, Evaluated, evaluate_recognition, is_calibrated, recognition_in
from landseer.pipeline.recognise import Recogniser
from landseer.pipeline.rerank import bank_of, bank_photos
from landseer.pipeline.setting import HELD_OUT, NONE, Setting
from landseer.reranking import Threshold
from landseer.storage import load_report, read_table
from landseer.storage.foreign import is_recognition, read_recognition
from landseer.types import Collection, Descriptors, Recognition

_PER_QUERY = "per_query.parquet"


def calibration_photos(setting: Setting) -> dict[str, Collection] | str:
    """The photos of ``HELD_OUT`` and of ``NONE`` that the run may calibrate on, or in words why there are none."""
    recipe, collection = setting.recipe, setting.collection
    if recipe.recognition.most_queries is not None:
        return "[recognition] most_queries makes a confidence depend on what else is asked"
    if recipe.data.validation == "none":
        return "the recipe holds no photos out of training ([data] validation)"
    learned = {photo for subset in (setting.subset, *setting.subset_of.values()) for photo in subset.ids}
    photos = collection.photos
    fresh = pa.array(np.array([photo not in learned for photo in collection.ids], np.bool_))
    none = pc.equal(photos["kind"], "none")
    answered = pc.or_(none, pc.is_valid(photos["landmark"]))
    found = {
        HELD_OUT: collection.select(
            pc.and_(fresh, pc.and_(pc.equal(photos["split"], "validation"), answered))
        ),
        NONE: collection.select(pc.and_(fresh, pc.and_(pc.equal(photos["split"], "train"), none))),
    }
    known = bank_photos(collection, recipe.bank).landmark_N
    if not np.isin(found[HELD_OUT].landmark_N, known).any():
        return "no photo held out of training shows a landmark that the vote bank knows"
    if not len(found[NONE]):
        return "the collection has no training photo known to show no landmark (kind none)"
    return found


def score_recognition(
    descriptors: Mapping[str, Descriptors], setting: Setting, scoring: Mapping[str, Any]
) -> Evaluated:
    """Name the landmark of every query by the votes of the bank, calibrate where that can be, and score it.

    *descriptors* has ``query`` and ``bank``, ``none`` for the penalty, and both of ``calibration_photos``;
    *scoring* goes to ``evaluate_recognition``.
    """
    queries = descriptors["query"]
    recogniser = Recogniser(
        bank=bank_of(setting.collection, descriptors["bank"]),
        options=setting.recipe.recognition,
        non_landmarks=descriptors.get(NONE),
    )
    found = recogniser.landmarks(queries, recogniser.voters(queries))
    why_not = calibration_photos(setting)
    if isinstance(why_not, str):
        return evaluate_recognition(found, not_calibrated=why_not, **scoring)
    threshold = recogniser.calibrated(setting.collection, descriptors[HELD_OUT], queries.ids)
    calibrated = Calibrated(how=_how(threshold, setting), accepted_Q=threshold.accepts(found))
    return evaluate_recognition(threshold.probabilities(found), calibrated=calibrated, **scoring)


def _how(threshold: Threshold, setting: Setting) -> str:
    lowest = f"{threshold.confidence:.4f}" if np.isfinite(threshold.confidence) else "any"
    return (
        f"on {threshold.num_known} photos of known landmarks that were held out of training and "
        f"{threshold.num_unknown} of none: votes of {lowest} or more are sure enough, so that at most "
        f"{setting.recipe.recognition.false_accepts:g} of the latter are given a landmark"
    )


@dataclass(frozen=True, kw_only=True)
class Named:
    """Which landmarks were named, and whether the confidences are probabilities."""

    recognition: Recognition
    calibrated: Calibrated | None
    why_not: str


def names_landmarks(place: str | Path) -> bool:
    """Whether *place* is a recognition: its scores in a run, a submission, or what ``recognise`` writes."""
    table = Path(place) / _PER_QUERY
    return is_recognition(place) or (table.is_file() and "predicted" in read_table(table).column_names)


def read_named(place: str | Path, *, probabilities: bool = False) -> Named:
    """A recognition folder of a run (``RUN/trained/recognition``), or a file of any program.

    A folder says itself whether its confidences are *probabilities*.  Raises ``ValueError`` for a folder with scores
    of something else, and for a file that cannot be read.
    """
    folder = Path(place)
    if not folder.is_dir():
        how = Calibrated(how="elsewhere, as --probabilities says") if probabilities else None
        return Named(
            recognition=read_recognition(folder), calibrated=how, why_not="a file does not say on what"
        )
    report, per_query = load_report(folder), read_table(folder / _PER_QUERY)
    recognition = recognition_in(per_query)
    if not is_calibrated(report):
        why_not = report.protocol.get("calibration", "not said").removeprefix("none: ")
        return Named(recognition=recognition, calibrated=None, why_not=why_not)
    accepted_Q = per_query["accepted"].combine_chunks().to_numpy(zero_copy_only=False)
    how = Calibrated(how=report.protocol["calibration"], accepted_Q=accepted_Q)
    return Named(recognition=recognition, calibrated=how, why_not="")
