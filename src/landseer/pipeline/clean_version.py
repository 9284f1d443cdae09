"""A collection's training photos as cleaning sees them, and the version that says what was decided.

Axes: C photos of the collection; N training photos with a descriptor, by id, so that the order of the collection plays
no part.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.cleaning import NO_LANDMARK, REASONS, UNLABELLED, Decision, Evidence
from landseer.cleaning.decide import NO_DESCRIPTOR
from landseer.matching import Photo
from landseer.storage.foreign.writing import write_whole
from landseer.types import Collection, Descriptors

SCORE, REASON, MARGIN, INLIERS = "clean_score", "clean_reason", "clean_margin", "clean_inliers"
"""The columns that cleaning adds to the photo table."""
_SPOKEN = {1: REASONS[-1], -1: REASONS[-2]}


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPhotos:
    """The training photos that have a descriptor, by id."""

    row_N: np.ndarray
    """Rows of the collection."""
    label_N: np.ndarray
    """Number of the landmark among ``landmarks``, or below 0."""
    landmarks: np.ndarray
    descriptors: Descriptors
    collection: Collection
    """These photos alone."""
    without: np.ndarray
    """Rows of the collection: labelled, with no descriptor since they could not be read."""
    key_N: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        known = zip(self.collection.ids, self.collection.paths, strict=True)
        keys = np.fromiter((Photo(*photo).key for photo in known), np.uint64, count=len(self.row_N))
        object.__setattr__(self, "key_N", keys)


def training_photos(whole: Collection, descriptors: Descriptors) -> TrainingPhotos:
    """The training photos in order of their ids.  Raises ``ValueError`` where descriptors are missing."""
    table = whole.photos
    train_C = np.asarray(pc.equal(table["split"], "train"))
    none_C = np.asarray(pc.equal(table["kind"], "none"))
    label_C = np.where(none_C, NO_LANDMARK, np.where(whole.landmark_N < 0, UNLABELLED, whole.landmark_N))
    described = set(descriptors.ids)
    has_C = np.array([photo in described for photo in whole.ids], bool)
    labelled_C = train_C & (label_C >= 0)
    if not labelled_C.any():
        raise ValueError("the collection has no training photo with a landmark, so there is nothing to clean")
    unreadable_C = np.array([photo in descriptors.unreadable for photo in whole.ids], bool)
    missing = np.flatnonzero(labelled_C & ~has_C & ~unreadable_C)
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {labelled_C.sum()} labelled training photos have no descriptor (the first: "
            f"{whole.ids[missing[0]]!r}); describe them all: landseer extract MODEL --data C --split train --out D"
        )
    rows = np.flatnonzero(train_C & has_C)
    rows = rows[np.argsort(np.array([whole.ids[row] for row in rows], dtype=object), kind="stable")]
    landmarks, numbers = np.unique(label_C[rows], return_inverse=True)
    known = landmarks >= 0
    ids = [whole.ids[row] for row in rows]
    taken = descriptors.take(ids)
    return TrainingPhotos(
        row_N=rows,
        label_N=np.where(known[numbers], numbers - np.count_nonzero(~known), landmarks[numbers]),
        landmarks=landmarks[known],
        descriptors=taken,
        collection=replace(whole, photos=table.take(pa.array(rows))),
        without=np.flatnonzero(labelled_C & ~has_C),
    )


def by_hand(words: Mapping[str, int], whole: Collection, photos: TrainingPhotos) -> np.ndarray:
    """The overrides of the photos, int8 ``[N]``."""
    judged = {photo for photo, label in zip(photos.collection.ids, photos.label_N, strict=True) if label >= 0}
    judged |= {whole.ids[row] for row in photos.without}
    known = set(whole.ids)
    for photo in words:
        if photo not in judged:
            why = "is no labelled training photo" if photo in known else "is not in the collection"
            raise ValueError(f"the overrides name photo {photo!r}, which {why}; leave the line out")
    return np.array([words.get(photo, 0) for photo in photos.collection.ids], np.int8)


def cleaned_version(
    whole: Collection,
    photos: TrainingPhotos,
    evidence: Evidence,
    decision: Decision,
    *,
    words: Mapping[str, int],
    least_neighbours: int,
) -> Collection:
    """*whole* with ``clean`` as decided and the columns that say why."""
    table = whole.photos
    train_C = np.asarray(pc.equal(table["split"], "train"))
    none_C = np.asarray(pc.equal(table["kind"], "none"))
    clean_C = np.asarray(table["clean"]) & ~train_C & ~none_C
    clean_C[photos.row_N] = decision.kept_N
    by_hand = np.array([words.get(whole.ids[row], 0) for row in photos.without], np.int8)
    clean_C[photos.without] = by_hand > 0
    reason_C = np.full(len(whole), REASONS[0], dtype=object)
    reason_C[photos.row_N] = np.array(REASONS, dtype=object)[decision.reason_N]
    reason_C[photos.without] = REASONS[NO_DESCRIPTOR]
    reason_C[photos.without[by_hand != 0]] = [_SPOKEN[word] for word in by_hand[by_hand != 0].tolist()]
    judged_N = photos.label_N >= 0

    def column(values_N: np.ndarray, kind: pa.DataType) -> pa.Array:
        spread = np.zeros(len(whole), values_N.dtype)
        spread[photos.row_N] = values_N
        empty = np.ones(len(whole), bool)
        empty[photos.row_N] = ~judged_N | np.isnan(values_N.astype(np.float64))
        return pa.array(spread, kind, mask=empty)

    support_N = evidence.best_NF[:, least_neighbours - 1]
    for name, values in (
        ("clean", pa.array(clean_C)),
        (SCORE, column(decision.score_N, pa.float32())),
        (REASON, pa.array(reason_C.tolist(), pa.string(), mask=reason_C == REASONS[0])),
        (MARGIN, column(evidence.margin_N, pa.float32())),
        (INLIERS, column(support_N, pa.int32())),
    ):
        place = table.schema.get_field_index(name)
        kind = pa.field(name, values.type, nullable=name != "clean")
        table = table.append_column(kind, values) if place < 0 else table.set_column(place, kind, values)
    return replace(whole, photos=table, fingerprint="")


def write_train_clean(collection: Collection, path: Path) -> None:
    """The clean training photos as GLDv2's ``train_clean.csv``: ``landmark_id,images``, by landmark, then by id.

    Raises ``ValueError`` where *path* exists, and for an id that such a cell cannot hold.
    """
    photos = collection.photos
    clean = photos.filter(pc.and_(pc.equal(photos["split"], "train"), photos["clean"]))
    of: dict[int, list[str]] = {}
    for photo, landmark in zip(clean["id"].to_pylist(), clean["landmark"].to_pylist(), strict=True):
        if not photo or any(letter.isspace() for letter in photo):
            raise ValueError(f"photo {photo!r} has a blank in its id, which ends an id in {path.name}")
        of.setdefault(landmark, []).append(photo)
    with write_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("landmark_id", "images"))
        writer.writerows((landmark, " ".join(sorted(of[landmark]))) for landmark in sorted(of))
