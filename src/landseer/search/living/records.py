"""What is known of a photo, as the catalogue keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from landseer.search.living.filters import is_time
from landseer.search.living.state import FIXED
from landseer.types import KINDS

_WHOLE = 2**63


def records_of(ids: Sequence[str], photos: pa.Table | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record for each of *ids*, in that order, from a table or mappings that hold at least ``id``.

    A missing ``kind`` is ``unknown``, any other missing value ``None``.  Records without a descriptor are
    passed over.  Raises ``ValueError`` where an id has none or two, and where a value is none that can be
    kept.
    """
    wanted = set(ids)
    found: dict[str, dict[str, Any]] = {}
    if isinstance(photos, pa.Table):
        if "id" not in photos.column_names:
            raise ValueError(f"the photo table has no column 'id' (it has: {', '.join(photos.column_names)})")
        there = pc.is_in(photos["id"].cast(pa.string()), value_set=pa.array(ids, pa.string()))
        photos = photos.filter(there).to_pylist()
    for row in photos:
        if "id" not in row:
            raise ValueError("a photo record has no 'id'")
        if row["id"] not in wanted:
            continue
        if row["id"] in found:
            raise ValueError(f"photo {row['id']!r} has two records; the ids of the photos must differ")
        found[row["id"]] = _record(row)
    lacking = [photo for photo in ids if photo not in found]
    if lacking:
        raise ValueError(f"{len(lacking)} descriptors have no photo record, the first is of {lacking[0]!r}")
    return [found[photo] for photo in ids]


def changed(record: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """*record* with other *values*; what becomes None is as if it had never been said.

    Raises ``ValueError`` for a value that cannot be kept, and for another id: that would be another photo.
    """
    if values.get("id", record["id"]) != record["id"]:
        raise ValueError(f"photo {record['id']!r} keeps its id; remove it and add another one")
    found = _record({**record, **values})
    return {name: value for name, value in found.items() if name in FIXED or value is not None}


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    photo = row["id"]
    if not isinstance(photo, str) or not photo or "\0" in photo:
        raise ValueError(f"a photo id is a text without NUL, not {photo!r}")
    record = {name: row.get(name) for name in FIXED}
    record["kind"] = record["kind"] or "unknown"
    if record["kind"] not in KINDS:
        raise ValueError(f"photo {photo!r}: unknown kind {record['kind']!r} (known: {', '.join(KINDS)})")
    record.update({name: value for name, value in row.items() if name not in FIXED})
    for name, value in record.items():
        if not isinstance(name, str) or not name.isprintable() or set(name) & set('"\\') or not name:
            raise ValueError(
                f"column {name!r} needs a name of printable characters without quote or backslash"
            )
        record[name] = _value(value, f"photo {photo!r}, column {name!r}", FIXED.get(name, "any"))
    return record


def _value(value: Any, where: str, kind: str) -> Any:
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None).isoformat(timespec="milliseconds")
    elif isinstance(value, date):
        value = value.isoformat()
    elif hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if value is None:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    fits = {"text": (str,), "time": (str,), "number": (int, float), "any": (str, int, float)}[kind]
    unfit = not isinstance(value, fits)
    if isinstance(value, str):
        unfit |= "\0" in value or (
            not value.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in value)
        )
        value = value.replace(" ", "T") if kind == "time" else value
        unfit |= kind == "time" and not is_time(value)
    elif not unfit:
        unfit = not math.isfinite(value) or abs(value) >= _WHOLE
    if unfit:
        raise ValueError(f"{where}: cannot keep {str(value)[:40]!r} ({type(value).__name__})")
    return value
