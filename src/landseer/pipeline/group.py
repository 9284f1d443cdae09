"""Unlabelled photos to places: groups to be named in a folder of tables, and a collection that carries the names.

The folder: ``groups.csv`` and ``photos.csv``, which a person edits; ``groups.html`` to look at; ``grouping.json``, what
made it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.cleaning import group_tables
from landseer.cleaning.grouping import Grouping, group_photos
from landseer.cleaning.links import Places, Strangers, places_of
from landseer.matching import MatchingSetup
from landseer.pipeline.rerank import tell_unreadable
from landseer.pipeline.setting import Watch
from landseer.recipe.cleaning_options import LEAST_INLIERS
from landseer.recipe.grouping_options import GroupingOptions
from landseer.reporting.group_page import GroupShown, render_groups
from landseer.storage import load_collection, read_json, save_collection
from landseer.storage.artifact import sha256_of
from landseer.storage.foreign import read_descriptors
from landseer.types import LANDMARK_SCHEMA, SPLITS, Collection, Descriptors

FACTS, PAGE = "grouping.json", "groups.html"
_MINUTE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was written as landmarks."""

    landmarks: int
    named: int
    photos: int
    unknown: int
    """Photos of the tables that show no known place."""


def group_collection(
    data: Path,
    descriptors: str | Path,
    out: Path,
    *,
    root: Path | None = None,
    options: GroupingOptions | None = None,
    matching: MatchingSetup | None = None,
    onto: Path | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Grouping:
    """Group the photos of *descriptors* that have no landmark in the collection *data*; write the folder *out*.

    *onto* names an earlier folder, perhaps edited: its groups and names stay, and only photos that it does not list are
    placed, in its groups or in new ones.  Raises ``ValueError`` where *out* exists, where photos or descriptors are
    missing, and for a folder *onto* that cannot be read; nothing is written then.
    """
    options, tell = options or GroupingOptions(), watch or (lambda *_: None)
    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    collection = load_collection(data, root=root)
    rows = _unlabelled(collection, read_descriptors(descriptors))
    setup = matching or MatchingSetup()
    matcher = None
    if options.mode == "geometry":
        matcher = setup.matcher(collection)
        matcher.require(rows.ids)
    before, strangers = _earlier(onto, rows)
    first = _first_number(collection, before)
    if matcher is not None and matcher.shelf is not None:
        asked = [photo for photo in rows.ids if photo not in before.place_of]
        matcher.prepare(
            asked, progress=lambda done, total: tell("describing points of photos", done, total, {})
        )
    known = {photo: place for photo, place in before.place_of.items() if place is not None}
    grouping = group_photos(
        rows,
        options,
        count=matcher.verify_pairs if matcher else None,
        inliers=options.inliers or LEAST_INLIERS[setup.options.features.extractor],
        places=_places(collection, rows),
        known=known,
        seen=frozenset(before.place_of),
        strangers=strangers,
        first=first,
        device=device,
        watch=lambda what, done, total: tell(what, done, total, {}),
    )
    facts = {
        "collection": collection.fingerprint,
        "descriptors": rows.fingerprint,
        "dim": rows.dim,
        "options": asdict(options),
        "matching": {**asdict(setup.options), **setup.digests()} if matcher else None,
        "strangers": asdict(grouping.strangers),
    }
    tell("writing the groups", 0, 1, {})
    _write(grouping, collection, out, facts, before.name_of)
    if matcher is not None:
        tell_unreadable(matcher)
    return grouping


def apply_groups(
    data: Path, groups: Path, out: Path, *, root: Path | None = None, split: str | None = None
) -> Applied:
    """Write the collection *out*: *data* whose photos show the places that the tables in *groups* say.

    A place becomes a landmark of its number, with its name and the middle of its photos' known positions; its photos
    are ``kind=landmark`` and ``clean``, and of *split* if one is named (photos of ``train`` vote).  All other photos
    stay as they are.  Raises ``ValueError`` where the tables name photos that are not in the collection or have a
    landmark, or numbers that other landmarks have; nothing is written then.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"--split: unknown split {split!r} (known: {', '.join(SPLITS)})")
    collection = load_collection(data, root=root)
    said = group_tables.read_tables(groups)
    _check_applicable(collection, said)
    place_N = np.array(
        [-1 if (n := said.place_of.get(photo)) is None else n for photo in collection.ids], np.int64
    )
    numbers = np.unique(place_N[place_N >= 0])
    if not len(numbers):
        raise ValueError(
            f"{groups / group_tables.PHOTOS} puts no photo in a group, so there is nothing to apply"
        )
    hashes = {name: sha256_of(groups / name) for name in (group_tables.GROUPS, group_tables.PHOTOS)}
    save_collection(
        replace(
            collection,
            photos=_labelled(collection.photos, place_N, split),
            landmarks=_with_landmarks(collection, place_N, numbers, said.name_of),
        ),
        out,
        made_by={"group": hashes, "split": split},
        parents={"collection": collection.fingerprint},
    )
    return Applied(
        landmarks=len(numbers),
        named=sum(int(number) in said.name_of for number in numbers),
        photos=int((place_N >= 0).sum()),
        unknown=sum(place is None for place in said.place_of.values()),
    )


def _unlabelled(collection: Collection, rows: Descriptors) -> Descriptors:
    if rows.metric != "cosine" or not rows.normalised:
        raise ValueError(
            "photos are grouped by the cosine of unit rows; extract descriptors that are normalised"
        )
    row_of = {photo: row for row, photo in enumerate(collection.ids)}
    strange = next((photo for photo in rows.ids if photo not in row_of), None)
    if strange is not None:
        raise ValueError(
            f"the descriptors have a photo {strange!r} that the collection does not know; give the collection it is of"
        )
    kinds = collection.photos["kind"].to_pylist()
    chosen = [
        photo
        for photo in rows.ids
        if collection.landmark_N[row_of[photo]] < 0 and kinds[row_of[photo]] != "none"
    ]
    if not chosen:
        raise ValueError(
            "all photos of the descriptors have a landmark already, or show none; nothing to group"
        )
    return rows if len(chosen) == len(rows) else replace(rows.take(chosen), fingerprint=rows.fingerprint)


def _earlier(onto: Path | None, rows: Descriptors) -> tuple[group_tables.Edited, Strangers | None]:
    """What an earlier folder says of the photos that have a descriptor now."""
    if onto is None:
        return group_tables.Edited(place_of={}, name_of={}), None
    said = group_tables.read_tables(onto)
    missing = set(said.place_of) - set(rows.ids)
    if missing:
        raise ValueError(
            f"{onto} groups {len(missing)} photos that have no descriptor, or a landmark, now (the first: "
            f"{min(missing)!r}); give descriptors of all its photos"
        )
    told = read_json(onto / FACTS)
    if told["dim"] != rows.dim:
        raise ValueError(
            f"{onto} was made from descriptors of {told['dim']} components, not {rows.dim}; use one model"
        )
    return said, Strangers(**told["strangers"])


def _first_number(collection: Collection, before: group_tables.Edited) -> int:
    """One more than every number that a landmark or group has."""
    numbers = [0, *before.name_of, *(number for number in before.place_of.values() if number is not None)]
    return max(int(pc.max(collection.landmarks["landmark"]).as_py() or 0), *numbers) + 1


def _places(collection: Collection, rows: Descriptors) -> Places:
    row_of = {photo: row for row, photo in enumerate(collection.ids)}
    row_N = np.array([row_of[photo] for photo in rows.ids], np.int64)
    photos = collection.photos
    latitude_N, longitude_N = (
        pc.fill_null(photos[name], float("nan")).to_numpy()[row_N] for name in ("latitude", "longitude")
    )
    taken_N = pc.fill_null(photos["taken"].cast(pa.int64()).cast(pa.float64()), float("nan")).to_numpy()[
        row_N
    ]
    return places_of(latitude_N, longitude_N, taken_N / _MINUTE_MS)


def _write(
    grouping: Grouping,
    collection: Collection,
    out: Path,
    facts: Mapping[str, Any],
    name_of: Mapping[int, str],
) -> None:
    shown = [
        GroupShown(
            number=group.number,
            name=name_of.get(group.number, ""),
            members=group.members,
            confidence=group.confidence,
            spread=group.spread,
            proven=group.proven,
        )
        for group in grouping.groups
    ]
    page = render_groups(shown, collection, num_alone=len(grouping.alone))
    with _appearing(out) as part:
        group_tables.write_tables(grouping, part, name_of=name_of)
        (part / PAGE).write_text(page, encoding="utf-8")
        (part / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder that becomes *out* when all is written.  It is no artifact: its tables are there to be edited."""
    part = out.with_name(f".{out.name[:40]}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror}); choose another --out") from None
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_applicable(collection: Collection, said: group_tables.Edited) -> None:
    landmark_of = dict(zip(collection.ids, collection.landmark_N.tolist(), strict=True))
    taken = set(collection.landmarks["landmark"].to_pylist())
    for photo, place in said.place_of.items():
        if place is None:
            continue
        if photo not in landmark_of:
            raise ValueError(
                f"photo {photo!r} is in a group, but not in the collection; give the one that was grouped"
            )
        if landmark_of[photo] >= 0:
            raise ValueError(
                f"photo {photo!r} is in group {place}, but shows landmark {landmark_of[photo]} in the collection; "
                "give the one that was grouped, without its groups"
            )
        if place in taken:
            raise ValueError(
                f"photo {photo!r} is in group {place}, but that is the number of another landmark of the collection; "
                "take a larger one"
            )


def _labelled(photos: pa.Table, place_N: np.ndarray, split: str | None) -> pa.Table:
    grouped = pa.array(place_N >= 0)
    columns = {"landmark": pa.array(place_N), "kind": pa.scalar("landmark"), "clean": pa.scalar(True)}
    if split is not None:
        columns["split"] = pa.scalar(split)
    for name, value in columns.items():
        position = photos.schema.get_field_index(name)
        changed = pc.if_else(grouped, value, photos[name])
        photos = photos.set_column(position, photos.schema.field(position), changed)
    return photos


def _with_landmarks(
    collection: Collection, place_N: np.ndarray, numbers: np.ndarray, name_of: Mapping[int, str]
) -> pa.Table:
    """The landmark table with a row for each new place."""
    latitude_L, longitude_L = _middles(collection, place_N, numbers)
    columns: dict[str, Any] = {
        "landmark": numbers,
        "name": [name_of.get(int(number)) for number in numbers],
        "latitude": latitude_L,
        "longitude": longitude_L,
    }
    table = pa.table(
        {
            field.name: pa.array(columns.get(field.name, [None] * len(numbers)), field.type, from_pandas=True)
            for field in LANDMARK_SCHEMA
        },
        schema=LANDMARK_SCHEMA,
    )
    return pa.concat_tables([collection.landmarks, table], promote_options="default")


def _middles(
    collection: Collection, place_N: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of the middle of each place's known positions, NaN where none is: float64 ``[L]`` each."""
    lat_N, lon_N = (
        pc.fill_null(collection.photos[name], float("nan")).to_numpy() for name in ("latitude", "longitude")
    )
    point_N3 = places_of(lat_N, lon_N, np.zeros(len(lat_N))).point_N3
    counted = (place_N >= 0) & ~np.isnan(point_N3[:, 0])
    at_M = np.searchsorted(numbers, place_N[counted])
    sum_L3 = np.zeros((len(numbers), 3))
    np.add.at(sum_L3, at_M, point_N3[counted])
    sum_L3[np.bincount(at_M, minlength=len(numbers)) == 0] = np.nan
    latitude_L = np.degrees(np.arctan2(sum_L3[:, 2], np.hypot(sum_L3[:, 0], sum_L3[:, 1])))
    return latitude_L, np.degrees(np.arctan2(sum_L3[:, 1], sum_L3[:, 0]))
