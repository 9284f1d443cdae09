"""Photos known to show no landmark, beside those of a source that has no place for them."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.shelf import find_photos
from landseer.datasets.tables import photo_table
from landseer.types import Collection


def with_strangers(collection: Collection, folder: str) -> Collection:
    """*collection* and every photo below *folder* of its root, as training photos of kind none.

    A photo's id is its file's name without the ending.  Recognition is calibrated on such photos.  Raises
    ``ValueError`` where an id is there already.
    """
    found = find_photos(collection.root, folder)
    found = found.take(pc.sort_indices(found, [("path", "ascending")]))
    ids = found["stem"]
    both = pc.filter(ids, pc.is_in(ids, value_set=collection.photos["id"].combine_chunks()))
    if len(both):
        raise ValueError(f"{folder} has a photo {both[0].as_py()!r} whose id another photo has; rename it")
    columns = {"id": ids, "path": found["path"], "kind": "none", "split": "train", "clean": False}
    photos = photo_table(columns)
    for field in collection.photos.schema.names[len(photos.schema.names) :]:
        kind = collection.photos.schema.field(field).type
        photos = photos.append_column(field, pa.nulls(len(photos), kind))
    return replace(
        collection, photos=pa.concat_tables([collection.photos, photos.cast(collection.photos.schema)])
    )
