"""What a collection's labels look like: the long tail of landmarks, countries and continents, kinds, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.geography import CONTINENTS, continent_of
from landseer.types import KINDS, SPLITS, Collection

NUM_LARGEST = 10
"""Landmarks with most photos that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStatistics:
    """The photos of one split; ``clean`` counts those of the labelled that are called clean."""

    photos: int
    labelled: int
    clean: int
    landmarks: int

    @property
    def clean_share(self) -> float | None:
        """Clean among labelled photos, 0 to 1; None where none is labelled."""
        return self.clean / self.labelled if self.labelled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTail:
    """How photos spread over landmarks."""

    split: str
    """Whose photos: ``train``, or ``all`` where no training photo is labelled."""
    counts: tuple[int, ...]
    """Photos of each landmark, most first."""
    largest: tuple[tuple[int, str, int], ...]
    """Landmark, name and photos of the first."""
    singles: int
    """Landmarks with one photo; nothing can be learnt of these by pairs."""
    median: float
    mean: float
    half: int
    """So many landmarks, the largest, have half of the photos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelStatistics:
    """Numbers of photos."""

    photos: int
    splits: Mapping[str, SplitStatistics]
    kinds: Mapping[str, int]
    tail: LongTail | None
    """None where no photo is labelled."""
    countries: Mapping[str, int]
    """ISO 3166 alpha-2 code -> photos, most first."""
    continents: Mapping[str, int]
    """Most first; those without a photo are left out."""
    without_country: int
    conflicting_countries: int
    """Photos whose country is not that of their landmark."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; of the long tail how many landmarks have 1, 2 to 3, 4 to 7 ... photos."""
        tail = None
        if self.tail is not None:
            tail = {key: value for key, value in asdict(self.tail).items() if key != "counts"}
            tail["largest"] = [list(entry) for entry in self.tail.largest]
            tail["landmarks"] = len(self.tail.counts)
            tail["landmarks_by_photos"] = doubling_bins(self.tail.counts)
        splits = {
            name: {**asdict(each), "clean_share": each.clean_share} for name, each in self.splits.items()
        }
        return {**asdict(self), "splits": splits, "tail": tail}


def label_statistics(collection: Collection) -> LabelStatistics:
    """Count what *collection* says of its photos.

    The country of a photo is its own, else its landmark's.  Raises ``ValueError`` for a country ISO 3166 does not know.
    """
    photos = collection.photos
    own = photos["country"].combine_chunks()
    at = pc.index_in(photos["landmark"], value_set=collection.landmarks["landmark"].combine_chunks())
    of_landmark = collection.landmarks["country"].combine_chunks().take(at.combine_chunks())
    country = pc.coalesce(own, of_landmark)
    countries = _counted(country)
    continents = dict.fromkeys(CONTINENTS, 0)
    for code, num in countries.items():
        continents[continent_of(code)] += num
    conflicts = pc.fill_null(pc.not_equal(own, of_landmark), False)
    return LabelStatistics(
        photos=len(collection),
        splits={split: _split(collection.in_split(split)) for split in SPLITS},
        kinds={kind: int(pc.sum(pc.equal(photos["kind"], kind)).as_py() or 0) for kind in KINDS},
        tail=_tail(collection),
        countries=countries,
        continents=_most_first({name: num for name, num in continents.items() if num}),
        without_country=country.null_count,
        conflicting_countries=int(pc.sum(conflicts).as_py() or 0),
    )


def doubling_bins(counts: tuple[int, ...]) -> dict[str, int]:
    """``{"1": .., "2-3": .., "4-7": ..}`` -> how many of *counts* (at least 1) lie there."""
    bins: dict[str, int] = {}
    for power in range(max(counts).bit_length()):
        low, high = 1 << power, (2 << power) - 1
        name = str(low) if low == high else f"{low}-{high}"
        bins[name] = sum(low <= count <= high for count in counts)
    return bins


def _split(part: Collection) -> SplitStatistics:
    labelled = part.landmark_N >= 0
    clean = np.asarray(part.photos["clean"].to_numpy(), np.bool_)
    return SplitStatistics(
        photos=len(part),
        labelled=int(labelled.sum()),
        clean=int((labelled & clean).sum()),
        landmarks=len(np.unique(part.landmark_N[labelled])),
    )


def _tail(collection: Collection) -> LongTail | None:
    train = collection.in_split("train").landmark_N
    split = "train" if np.any(train >= 0) else "all"
    landmark_N = train if split == "train" else collection.landmark_N
    found, counts = np.unique(landmark_N[landmark_N >= 0], return_counts=True)
    if not len(found):
        return None
    order = np.lexsort((found, -counts))
    found, counts = found[order], counts[order]
    largest = zip(found[:NUM_LARGEST].tolist(), counts[:NUM_LARGEST].tolist(), strict=True)
    return LongTail(
        split=split,
        counts=tuple(counts.tolist()),
        largest=tuple((landmark, collection.name_of(landmark), num) for landmark, num in largest),
        singles=int((counts == 1).sum()),
        median=float(np.median(counts)),
        mean=float(counts.mean()),
        half=int(np.searchsorted(np.cumsum(counts), counts.sum() / 2) + 1),
    )


def _counted(values: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    return _most_first(
        dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    )


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
