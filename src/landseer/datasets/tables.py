"""The two tables of a collection, put together from whatever a source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.borders import countries_at
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA

_CATEGORY_MARK = "Category:"


def readable_name(category: str) -> str:
    """The name in a Wikimedia category: ``.../wiki/Category:Eiffel_Tower`` -> ``Eiffel Tower``."""
    name = category.rsplit(_CATEGORY_MARK, 1)[-1] if _CATEGORY_MARK in category else category
    return " ".join(unquote(name).replace("_", " ").split())


def photo_table(columns: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> pa.Table:
    """A photo table from at least ``id`` and ``path``; a single value fills its column, absent ones are
    empty.

    Columns of *extra* follow those of ``PHOTO_SCHEMA``.
    """
    num = len(columns["id"])
    made = []
    for field in PHOTO_SCHEMA:
        values = columns.get(field.name)
        if values is None:
            made.append(pa.nulls(num, field.type))
        elif isinstance(values, str | bool):
            made.append(pa.repeat(pa.scalar(values, field.type), num))
        else:
            made.append(values.cast(field.type))
    table = pa.table(made, schema=PHOTO_SCHEMA)
    for name, values in (extra or {}).items():
        table = table.append_column(name, values)
    return table


def landmark_table(
    landmarks: Sequence[int],
    *,
    name: Mapping[int, str] | None = None,
    category: Mapping[int, str] | None = None,
    country: Mapping[int, str] | None = None,
    position: Mapping[int, tuple[float, float]] | None = None,
    source_landmark: Mapping[int, int] | None = None,
    extra: Mapping[str, Mapping[int, str]] | None = None,
) -> tuple[pa.Table, int]:
    """One row a landmark, ids ascending; what a mapping does not tell is null.

    A landmark with a position and no country gets the country at that position, if that is certain.  Returns
    the table and how many countries were found in that way.
    """
    ids = sorted(landmarks)
    names, categories, countries = dict(name or {}), category or {}, dict(country or {})
    positions = position or {}
    for landmark, text in categories.items():
        names.setdefault(landmark, readable_name(text))
    lost = [landmark for landmark in ids if landmark in positions and landmark not in countries]
    places = np.array([positions[landmark] for landmark in lost], dtype=np.float64).reshape(-1, 2)
    found = {
        landmark: code
        for landmark, code in zip(lost, countries_at(places[:, 0], places[:, 1]), strict=True)
        if code
    }
    countries.update(found)
    columns: dict[str, Mapping[int, Any]] = {
        "name": names,
        "category": categories,
        "country": countries,
        "latitude": {landmark: place[0] for landmark, place in positions.items()},
        "longitude": {landmark: place[1] for landmark, place in positions.items()},
        "source_landmark": source_landmark or {},
    }
    table = pa.table(
        [pa.array(ids, pa.int64())]
        + [
            pa.array([values.get(landmark) for landmark in ids], LANDMARK_SCHEMA.field(key).type)
            for key, values in columns.items()
        ],
        schema=LANDMARK_SCHEMA,
    )
    for key, values in (extra or {}).items():
        table = table.append_column(key, pa.array([values.get(landmark) for landmark in ids], pa.string()))
    return table, len(found)


def country_of_label(landmark: pa.ChunkedArray, landmarks: pa.Table) -> pa.ChunkedArray:
    """The country of each photo's landmark, null where either is not known."""
    at = pc.index_in(landmark, value_set=landmarks["landmark"].combine_chunks())
    return landmarks["country"].combine_chunks().take(at.combine_chunks())
