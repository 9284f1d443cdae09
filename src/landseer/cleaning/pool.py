"""The photos of one collection, and of those it must not leak into, as one list.

Axes: N photos of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.types import SPLITS, Collection

EVALUATED = ("query", "index")
"""The splits of another collection into which training photos may leak."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The photos of ``collections``, one after another; the first is the one that is checked.

    Ids within the pool all differ: those of the first collection are its own, the others' are prefixed.  ``names`` says
    what each collection is called; of all but the first only queries and index photos are here.
    """

    collections: tuple[Collection, ...]
    names: tuple[str, ...]

    @staticmethod
    def of(collection: Collection, against: Mapping[str, Collection], *, name: str = "") -> Pool:
        """*collection*, called *name*, and the evaluated photos of those *against* which it is checked, by name.

        Raises ``ValueError`` for one of these that has none.
        """
        others = []
        for number, (other, known) in enumerate(against.items(), start=1):
            evaluated = known.in_split(*EVALUATED)
            if not len(evaluated):
                raise ValueError(f"{other} has no photo in split query or index, so nothing can leak into it")
            others.append(_renamed(evaluated, f"{number}:"))
        return Pool(collections=(collection, *others), names=(name, *against))

    def __len__(self) -> int:
        return sum(len(collection) for collection in self.collections)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids within the pool."""
        return tuple(photo for collection in self.collections for photo in collection.ids)

    @cached_property
    def source_N(self) -> np.ndarray:
        """The number of each photo's collection, int64."""
        return np.repeat(np.arange(len(self.collections)), [len(each) for each in self.collections])

    @cached_property
    def split_N(self) -> np.ndarray:
        """The split of each photo as its place in ``SPLITS``, int64."""
        return self._column("split", SPLITS)

    @cached_property
    def landmark_N(self) -> np.ndarray:
        """The landmark of each photo in its own collection, int64, -1 where there is none."""
        return np.concatenate([collection.landmark_N for collection in self.collections])

    @cached_property
    def clean_N(self) -> np.ndarray:
        """Whether the label of each photo is called clean."""
        return np.concatenate(
            [np.asarray(each.photos["clean"].to_numpy(), np.bool_) for each in self.collections]
        )

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths below the root of each photo's collection."""
        return tuple(path for collection in self.collections for path in collection.paths)

    def root(self, row: int) -> Path:
        """Where the path of photo number *row* starts."""
        return self.collections[int(self.source_N[row])].root

    def shown_id(self, row: int) -> str:
        """The id of photo number *row* in its own collection."""
        source = int(self.source_N[row])
        return self.ids[row] if source == 0 else self.ids[row].partition(":")[2]

    def _column(self, name: str, known: tuple[str, ...]) -> np.ndarray:
        values = pa.array(known, pa.string())
        return np.concatenate(
            [
                pc.index_in(each.photos[name], value_set=values).to_numpy().astype(np.int64)
                for each in self.collections
            ]
        )


def _renamed(collection: Collection, prefix: str) -> Collection:
    photos = collection.photos
    at = photos.column_names.index("id")
    ids = pc.binary_join_element_wise(prefix, photos["id"], "")
    return replace(collection, photos=photos.set_column(at, photos.schema.field("id"), ids), truth=None)
