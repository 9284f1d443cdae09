"""Recognition where the rooms meet: descriptors, a labelled bank and a recipe in, a landmark for each query out.

Axes: Q queries, K neighbours of each.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.pipeline.rerank import bank_of
from landseer.recipe import Recipe, RecognitionOptions, load_recipe
from landseer.reranking import Bank
from landseer.reranking.voting.calibration import Threshold, calibrate
from landseer.reranking.voting.recognition import RecognisedCountries, recognise, recognise_countries
from landseer.reranking.voting.votes import NO_LABEL
from landseer.search import search_exact
from landseer.storage import load_collection
from landseer.storage.foreign import read_descriptors
from landseer.storage.foreign.submissions import RECOGNITION_TABLE
from landseer.storage.foreign.writing import write_whole
from landseer.types import PADDING, Collection, Descriptors, Ranking, Recognition


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """Which landmark each query shows, how sure that is, and in which country it was taken."""

    recognition: Recognition
    """Where calibrated, confidences are probabilities, and the landmark is -1 where it is too unsure."""
    countries: RecognisedCountries
    names: tuple[str | None, ...]
    """Of each query's landmark; None where none is named, or it has no name."""
    threshold: Threshold | None
    """What calibration found; None: not calibrated."""


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """What votes, and how: the same for the queries and for the photos calibrated on."""

    bank: Bank
    options: RecognitionOptions
    non_landmarks: Descriptors | None
    """Photos known to show no landmark: the penalty is their likeness, and calibration rejects them."""

    def voters(self, photos: Descriptors) -> Ranking:
        """The bank photos that vote on each of *photos*."""
        assert self.bank.descriptors is not None
        return _nearest_others(photos, self.bank.descriptors, k=self.options.voters)

    def landmarks(self, photos: Descriptors, voters: Ranking) -> Recognition:
        """The landmark of each of *photos*, given its voters."""
        strangers = None
        if self.options.penalty:
            assert self.non_landmarks is not None
            strangers = _nearest_others(photos, self.non_landmarks, k=self.options.penalty_neighbours)
        return recognise(voters, self.bank, self.options, non_landmarks=strangers)

    def calibrated(self, collection: Collection, judged: Descriptors, query_ids: Sequence[str]) -> Threshold:
        """Threshold and probabilities fitted on *judged* and on the photos known to show no landmark.

        *collection* knows what *judged* show.  Raises ``ValueError`` for a photo of either that votes or is among
        *query_ids*.
        """
        truth_Q = _truth(collection, judged.ids, self.bank)
        parts = [("--calibrate", judged)]
        if self.non_landmarks is not None:
            seen = set(judged.ids)
            more = [photo for photo in self.non_landmarks.ids if photo not in seen]
            parts.append(("--none", self.non_landmarks.take(more)))
            truth_Q = np.append(truth_Q, np.full(len(more), NO_LABEL, np.int64))
        for noun, ids in (("in the vote bank", self.bank.ids), ("among the queries", query_ids)):
            there = set(ids)
            for flag, photos in parts:
                shared = next((photo for photo in photos.ids if photo in there), None)
                if shared is not None:
                    raise ValueError(
                        f"{flag} has a photo {shared!r} that is {noun}, too; "
                        "calibrate on photos that serve nothing else"
                    )
        found = [self.landmarks(photos, self.voters(photos)) for _, photos in parts]
        together = Recognition(
            query_ids=tuple(photo for part in found for photo in part.query_ids),
            landmark_Q=np.concatenate([part.landmark_Q for part in found]),
            confidence_Q=np.concatenate([part.confidence_Q for part in found]),
        )
        return calibrate(together, truth_Q, false_accepts=self.options.false_accepts)


def recognise_folder(
    queries: str | Path,
    *,
    bank: str | Path,
    data: Path,
    recipe: Path | None = None,
    non_landmarks: str | Path | None = None,
    calibration: str | Path | None = None,
    out: Path | None = None,
) -> Recognised:
    """Name the landmark of every photo of *queries* by the votes of *bank*, which the collection *data* labels.

    Photos are given as descriptors, in folders or files of other tools; rows are made unit rows.  *recipe* has
    ``[recognition]`` and ``[bank]`` (None: the defaults).  *non_landmarks* are photos known to show none, for the
    penalty.  *calibration* are photos whose landmark *data* knows: with them, and *non_landmarks*, a threshold and
    probabilities are fitted.  No photo votes on itself.  *out* is the CSV file to write.

    Raises ``ValueError`` where something is missing, does not fit or contradicts the collection, and where *out*
    exists; nothing is written then.
    """
    if out is not None:
        _refuse_out(out)
    settings = Recipe(title="defaults") if recipe is None else load_recipe(recipe)
    options = settings.recognition
    _refuse_lacking(options, calibrates=calibration is not None, none=non_landmarks is not None)
    collection = load_collection(data)
    asked, labelled = _read(queries), _read(bank)
    strangers = None if non_landmarks is None else _read(non_landmarks)
    judged = None if calibration is None else _read(calibration)
    _refuse_misfits(labelled, {"QUERIES": asked, "--none": strangers, "--calibrate": judged})
    if strangers is not None:
        _refuse_landmarks(collection, strangers.ids)
    recogniser = Recogniser(
        bank=bank_of(collection, labelled, settings.bank), options=options, non_landmarks=strangers
    )
    threshold = None if judged is None else recogniser.calibrated(collection, judged, asked.ids)
    voters = recogniser.voters(asked)
    found = recogniser.landmarks(asked, voters)
    if threshold is not None:
        found = threshold.apply(found)
    done = Recognised(
        recognition=found,
        countries=recognise_countries(voters, recogniser.bank, options),
        names=_names(collection, found.landmark_Q),
        threshold=threshold,
    )
    if out is not None:
        _write(found, out)
    return done


def _read(path: str | Path) -> Descriptors:
    # votes are cosines: of rows of any other length they would be something else
    return read_descriptors(path, normalise=True)


def _refuse_misfits(labelled: Descriptors, others: Mapping[str, Descriptors | None]) -> None:
    """Raise ``ValueError`` where rows cannot be compared with those of the bank."""
    for flag, rows in others.items():
        if rows is not None and rows.dim != labelled.dim:
            raise ValueError(
                f"the descriptors of {flag} have {rows.dim} components and those of --bank {labelled.dim}; "
                "describe all photos with one model"
            )


def _refuse_lacking(options: RecognitionOptions, *, calibrates: bool, none: bool) -> None:
    """Raise ``ValueError`` where photos of *none* lack or serve nothing, and where *calibrates* cannot be."""
    if options.penalty and not none:
        raise ValueError(
            "[recognition] penalty needs photos known to show no landmark; give their descriptors (--none)"
        )
    if none and not options.penalty and not calibrates:
        raise ValueError(
            "--none serves [recognition] penalty and --calibrate, and neither is asked for; leave it out"
        )
    if calibrates and options.most_queries is not None:
        raise ValueError(
            "[recognition] most_queries makes a confidence depend on what else is asked, so no threshold can be "
            "calibrated; leave out most_queries or --calibrate"
        )


def _refuse_out(out: Path) -> None:
    """Raise ``ValueError`` for a table that could not be written or found again, before anything is computed."""
    if out.suffix.lower() != ".csv":
        raise ValueError(f"{out} is written as a table; give --out a name that ends in .csv")
    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent} is not a folder; make it before --out can write there")


def _refuse_landmarks(collection: Collection, ids: Sequence[str]) -> None:
    """Raise ``ValueError`` for a photo given as one of no landmark that shows one, as the collection says."""
    photos = collection.photos.filter(pc.is_in(collection.photos["id"], value_set=pa.array(ids, pa.string())))
    shows = photos.filter(pc.or_(pc.equal(photos["kind"], "landmark"), pc.is_valid(photos["landmark"])))
    if shows.num_rows:
        raise ValueError(
            f"--none has a photo {shows['id'][0].as_py()!r} that shows a landmark, says the collection; leave it out"
        )


def _truth(collection: Collection, ids: Sequence[str], bank: Bank) -> np.ndarray:
    """The landmark that each photo shows, int64 ``[Q]``; -1: none, or one that the bank lacks."""
    row_of = {photo: row for row, photo in enumerate(collection.ids)}
    strange = next((photo for photo in ids if photo not in row_of), None)
    if strange is not None:
        raise ValueError(
            f"--calibrate has a photo {strange!r} that the collection does not know; leave it out"
        )
    row_Q = np.array([row_of[photo] for photo in ids], np.int64)
    landmark_Q = collection.landmark_N[row_Q]
    kinds = collection.photos["kind"].take(pa.array(row_Q)).to_pylist()
    for photo, landmark, kind in zip(ids, landmark_Q.tolist(), kinds, strict=True):
        if landmark == NO_LABEL and kind != "none":
            raise ValueError(
                f"--calibrate has a photo {photo!r} of which the collection names neither one landmark nor kind "
                "none; leave it out"
            )
    return np.where(np.isin(landmark_Q, bank.landmark_N), landmark_Q, NO_LABEL)


def _nearest_others(photos: Descriptors, gallery: Descriptors, *, k: int) -> Ranking:
    """The *k* photos of *gallery* most like each of *photos*, which is never its own neighbour."""
    row_of = {photo: row for row, photo in enumerate(gallery.ids)}
    own_Q = np.array([row_of.get(photo, PADDING) for photo in photos.ids], np.int64)
    if np.all(own_Q == PADDING):
        return search_exact(photos, gallery, k=k)
    found = search_exact(photos, gallery, k=k + 1)
    # the photo itself goes to the end, and the end is cut off
    order_QK = np.argsort(found.positions_QK == own_Q[:, None], axis=1, kind="stable")[:, :k]
    return replace(
        found,
        positions_QK=np.take_along_axis(found.positions_QK, order_QK, axis=1),
        scores_QK=np.take_along_axis(found.scores_QK, order_QK, axis=1),
    )


def _names(collection: Collection, landmark_Q: np.ndarray) -> tuple[str | None, ...]:
    name_of: dict[int, str | None] = dict(
        zip(
            collection.landmarks["landmark"].to_pylist(),
            collection.landmarks["name"].to_pylist(),
            strict=True,
        )
    )
    return tuple(name_of.get(landmark) or None for landmark in landmark_Q.tolist())


def _write(found: Recognition, out: Path) -> None:
    """The table ``query,landmark,confidence``, cells empty where no landmark is named, confidences with all digits."""
    with write_whole(out) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(RECOGNITION_TABLE)
        for query, landmark, confidence in zip(
            found.query_ids, found.landmark_Q.tolist(), found.confidence_Q, strict=True
        ):
            named = landmark != NO_LABEL
            writer.writerow((query, landmark, str(confidence)) if named else (query, "", ""))
