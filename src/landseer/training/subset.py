"""Which photos a stage trains on, which it only watches, and the rows of the head their landmarks stand in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.samplers import continents_in
from landseer.recipe import DataOptions
from landseer.types import Collection

_LEAST_FOR_ONE = 4  # the 2020 winners held one photo out of each landmark with at least so many clean ones


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Photos and their label space.

    ``row_N`` int64 is the head row of each photo's landmark; ``landmark_C`` int64, sorted, is the landmark of
    each row.  ``clean_N`` bool and ``continent_N`` (a place in ``datasets.samplers.POOLS``) are there where
    weights or a sampler ask for them.
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    row_N: np.ndarray
    landmark_C: np.ndarray
    clean_N: np.ndarray | None = None
    continent_N: np.ndarray | None = None
    ratio_N: np.ndarray | None = None
    """Height / width of each photo, where batches go by shape."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def photos_C(self) -> np.ndarray:
        """Photos of each row's landmark, int64 ``[C]``."""
        return np.bincount(self.row_N, minlength=len(self.landmark_C))

    def take(self, chosen_N: np.ndarray) -> Subset:
        """The photos where the mask *chosen_N* holds, with the same label space."""
        position_M = np.flatnonzero(chosen_N)

        def part(column_N: np.ndarray | None) -> np.ndarray | None:
            return None if column_N is None else column_N[position_M]

        return replace(
            self,
            ids=tuple(self.ids[position] for position in position_M),
            paths=tuple(self.paths[position] for position in position_M),
            row_N=self.row_N[position_M],
            clean_N=part(self.clean_N),
            continent_N=part(self.continent_N),
            ratio_N=part(self.ratio_N),
        )


def training_subset(
    collection: Collection,
    *,
    subset: Literal["clean", "c2x", "full", "all"],
    min_photos: int = 1,
    continents: bool = False,
) -> Subset:
    """The labelled photos that a stage may train on, in collection order.

    Of ``split=train``: ``clean`` takes those marked clean, ``full`` all, ``c2x`` all photos of the landmarks that
    ``clean`` has; ``all`` adds to ``full`` the index and query photos of the same landmarks.  Landmarks with fewer
    than *min_photos* (of c2x: clean ones) are left out.  Raises ``ValueError`` where fewer than two landmarks
    remain.
    """
    photos = collection.photos
    labelled = pc.and_(pc.equal(photos["split"], "train"), pc.is_valid(photos["landmark"]))
    if subset in ("clean", "c2x"):
        labelled = pc.and_(labelled, photos["clean"])
    chosen = collection.select(labelled)
    landmark_C, counts_C = np.unique(chosen.landmark_N, return_counts=True)
    landmark_C = landmark_C[counts_C >= min_photos].astype(np.int64)
    if len(landmark_C) < 2:
        rule = "clean" if subset == "c2x" else subset
        raise ValueError(
            f"training needs at least 2 landmarks with {min_photos} {rule} training photos each, "
            f"but the collection has {len(landmark_C)}; check split, landmark and clean"
        )
    if subset == "c2x":
        chosen = collection.in_split("train")
    elif subset == "all":
        chosen = collection.in_split("train", "index", "query")
    return _labelled(chosen, landmark_C, continents=continents)


def validation_subset(collection: Collection, landmark_C: np.ndarray) -> Subset | None:
    """The photos of ``split=validation`` whose landmark a head of *landmark_C* knows; None where there is none."""
    found = _labelled(collection.in_split("validation"), landmark_C, continents=False)
    return found if len(found) else None


def hold_out(collection: Collection, options: DataOptions, *, seed: int) -> Collection:
    """*collection* as a run sees it: the photos that *options* hold out of training are ``split=validation``.

    Which ones is drawn by *seed*, from clean training photos.  ``one-each`` follows the 2020 winners.  The
    identity stays the collection's own.
    """
    if options.validation == "none":
        return collection
    photos = collection.photos
    able = pc.and_(pc.equal(photos["split"], "train"), pc.is_valid(photos["landmark"]))
    able_N = pc.and_(able, photos["clean"]).to_numpy(zero_copy_only=False)
    position_M = np.flatnonzero(able_N)
    landmarks, row_M, counts_C = np.unique(
        collection.landmark_N[position_M], return_inverse=True, return_counts=True
    )
    if options.validation == "one-each":
        held_C = (counts_C >= _LEAST_FOR_ONE).astype(np.int64)
    else:
        # 0.29 x 100 is a hair below 29 in binary
        held_C = np.floor(np.round(options.validation_share * counts_C, 6)).astype(np.int64)
    if not held_C.sum():
        raise ValueError(
            f"data.validation: no landmark has enough clean training photos to hold one out "
            f'by "{options.validation}" (the largest of {len(landmarks)} has {counts_C.max(initial=0)})'
        )
    order_M = np.lexsort((np.random.default_rng([seed, 1]).random(len(row_M)), row_M))
    # the place of each photo among its landmark's, in random order
    place_M = np.arange(len(row_M)) - np.repeat(np.cumsum(counts_C) - counts_C, counts_C)
    held = position_M[order_M[place_M < held_C[row_M[order_M]]]]
    splits = np.array(photos["split"].to_pylist(), dtype=object)
    splits[held] = "validation"
    column = photos.schema.get_field_index("split")
    held_out = photos.set_column(column, photos.schema.field(column), pa.array(list(splits), pa.string()))
    return replace(collection, photos=held_out)


def _labelled(collection: Collection, landmark_C: np.ndarray, *, continents: bool) -> Subset:
    """The photos of *collection* whose landmark is one of *landmark_C* (sorted)."""
    chosen = collection.select(
        np.isin(collection.landmark_N, landmark_C)
        & pc.is_valid(collection.photos["landmark"]).to_numpy(zero_copy_only=False)
    )
    return Subset(
        root=collection.root,
        ids=chosen.ids,
        paths=chosen.paths,
        row_N=np.searchsorted(landmark_C, chosen.landmark_N).astype(np.int64),
        landmark_C=landmark_C,
        clean_N=chosen.photos["clean"].to_numpy(zero_copy_only=False),
        continent_N=continents_in(chosen) if continents else None,
    )
