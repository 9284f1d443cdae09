"""Which photos a stage trains on, and the rows of the head their landmarks stand in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from landseer.types import Collection


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Training photos and their label space.

    ``row_N`` int64 is the head row of each photo's landmark; ``landmark_C`` int64, sorted, is the landmark of
    each row.
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    row_N: np.ndarray
    landmark_C: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def training_subset(
    collection: Collection, *, subset: Literal["clean", "full"], min_photos: int = 1
) -> Subset:
    """The photos of ``split=train`` with a landmark (``clean``: marked clean as well), in collection order.

    Landmarks with fewer than *min_photos* of them are left out.  Raises ``ValueError`` where fewer than two
    landmarks remain.
    """
    photos = collection.photos
    mask = pc.and_(pc.equal(photos["split"], "train"), pc.is_valid(photos["landmark"]))
    if subset == "clean":
        mask = pc.and_(mask, photos["clean"])
    chosen = collection.select(mask)
    landmarks, row_N, counts = np.unique(chosen.landmark_N, return_inverse=True, return_counts=True)
    enough = counts >= min_photos
    if enough.sum() < 2:
        raise ValueError(
            f"training needs at least 2 landmarks with {min_photos} {subset} training photos each, "
            f"but the collection has {int(enough.sum())}; check split, landmark and clean"
        )
    kept = enough[row_N]
    new_row = np.cumsum(enough) - 1
    return Subset(
        root=collection.root,
        ids=tuple(photo for photo, keep in zip(chosen.ids, kept, strict=True) if keep),
        paths=tuple(path for path, keep in zip(chosen.paths, kept, strict=True) if keep),
        row_N=new_row[row_N[kept]].astype(np.int64),
        landmark_C=landmarks[enough].astype(np.int64),
    )
