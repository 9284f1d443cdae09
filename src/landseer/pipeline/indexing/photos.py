"""The photos that are to be indexed: read from a plain folder or a collection, and fitted to what an index has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from landseer.datasets import import_folder
from landseer.pipeline.indexing.model import Progress
from landseer.search import LivingIndex
from landseer.storage import load_collection, read_json
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

Labels = Literal["auto", "folder", "none"]

ROOT_COLUMN, NAME_COLUMN = "root", "landmark_name"
"""What an index from photos keeps beside a collection's columns: where ``path`` starts, the landmark's name."""
PLACE_COLUMNS = ("landmark_country", "landmark_latitude", "landmark_longitude")
"""Where the landmark lies, if the collection says so of any: what the photo itself says stands in its own columns."""
_AT_ONCE = 10_000


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Photos to be indexed."""

    source: Path
    collection: Collection
    plain: bool
    """Whether it is a plain folder, whose landmarks have names but numbers of the moment."""
    num_refused: int = 0
    refused: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The folder that paths start from."""
        return str(self.collection.root.resolve())

    def named(self, prefix: str) -> Photos:
        """The same with *prefix* and a slash before every id."""
        if not prefix:
            return self
        photos = self.collection.photos
        ids = pa.array([f"{prefix}/{photo}" for photo in self.collection.ids], pa.string())
        place = photos.column_names.index("id")
        photos = photos.set_column(place, photos.schema.field("id"), ids)
        return replace(self, collection=replace(self.collection, photos=photos, truth=None))

    def in_index(self, index: LivingIndex) -> np.ndarray:
        """For each photo, whether *index* has one of its id."""
        return np.array(index.holds(self.collection.ids), bool)

    def refuse_strangers(self, index: LivingIndex) -> None:
        """Raise ``ValueError`` where *index* has one of the ids from another folder."""
        for ids in _chunks(self.collection.select(self.in_index(index)).ids):
            for photo, record in index.photos(ids).items():
                if record.get(ROOT_COLUMN, self.root) != self.root:
                    raise ValueError(
                        f"{index.path} has a photo {photo!r} from {record[ROOT_COLUMN]} already, and {self.source} "
                        "has another of that id; add it with --prefix NAME, or --replace the one that is there"
                    )

    def chosen(self, chosen_N: np.ndarray, index: LivingIndex) -> Collection:
        """The photos where *chosen_N* holds, with the columns of an index and landmarks that mean the same there.

        Raises ``ValueError`` where a number is another landmark's in *index*.
        """
        fitted = _fitted(index, self.collection.select(chosen_N), self)
        roots = pa.array([self.root] * len(fitted), pa.string())
        return replace(fitted, photos=_appended(fitted.photos, ROOT_COLUMN, roots))


def _whole(collection: Collection) -> Collection:
    """Without columns of lists, which an index cannot keep: ``crop`` is one, so photos are described whole."""
    fields = collection.photos.schema
    lists = [
        field.name for field in fields if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
    ]
    return replace(collection, photos=collection.photos.drop_columns(lists)) if lists else collection


def read_photos(photos: Path, labels: Labels, progress: Progress | None) -> Photos:
    """Those of a plain folder, or of a collection folder.  Raises ``ValueError`` where there is none."""
    if _is_collection(photos):
        collection = _whole(load_collection(photos))
        if not len(collection):
            raise ValueError(f"the collection {photos} has no photos")
        return Photos(source=photos, collection=collection, plain=False)
    require_folder(photos)
    collection, summary = import_folder(photos.resolve(), labels=labels, progress=progress)
    refused = [problem for problem in summary.problems if problem.refused]
    return Photos(
        source=photos,
        collection=collection,
        plain=True,
        num_refused=sum(problem.count for problem in refused),
        refused=tuple(line for problem in refused for line in problem.examples),
    )


def require_folder(photos: Path) -> None:
    """Raise ``ValueError`` where *photos* is no folder."""
    if not photos.is_dir():
        raise ValueError(f"{photos} is no folder of photos")


def _is_collection(photos: Path) -> bool:
    """Whether it is a collection's folder; a file of that name that is something else belongs to a plain folder."""
    try:
        return (photos / "manifest.json").is_file() and read_json(photos / "manifest.json").get(
            "kind"
        ) == "collection"
    except (ValueError, AttributeError):
        return False


def root_of(index: LivingIndex, root: str) -> Path:
    """The folder that paths start from: a relative *root* lies in the index itself, and goes with its copies."""
    return index.path.resolve() / root


def collection_at(root: Path, paths: Mapping[str, str], *, split: str) -> Collection:
    """A collection of the photos at *paths* (id -> path below *root*) of which nothing else is known."""
    num = len(paths)
    columns: dict[str, list[Any]] = {
        "id": list(paths),
        "path": list(paths.values()),
        "kind": ["unknown"] * num,
        "clean": [False] * num,
        "split": [split] * num,
    }
    photos = pa.table(
        [pa.array(columns.get(field.name, [None] * num), field.type) for field in PHOTO_SCHEMA],
        schema=PHOTO_SCHEMA,
    )
    return Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=root)


def _fitted(index: LivingIndex, collection: Collection, photos: Photos) -> Collection:
    """*collection* with landmarks that mean the same in *index*, and their names as a column.

    Folders of one path are one landmark, whenever they come; the numbers of a collection are its own, and a
    ``ValueError`` where the index calls one of them otherwise.
    """
    name_of = _names(collection, plain=photos.plain)
    known = _known_landmarks(index) if name_of else {}
    number_of = _numbers(name_of, known) if photos.plain else {number: number for number in name_of}
    for number, name in name_of.items() if not photos.plain else ():
        if known.get(number, name) != name:
            raise ValueError(
                f"landmark {number} is {known[number]!r} in {index.path} but {name!r} in {photos.source}; "
                "number the landmarks of one of them otherwise"
            )
    table = collection.photos
    numbers = table["landmark"].to_pylist()
    mapped = pa.array([None if number is None else number_of[number] for number in numbers], pa.int64())
    table = table.set_column(table.column_names.index("landmark"), table.schema.field("landmark"), mapped)
    names = pa.array([None if number is None else name_of[number] for number in numbers], pa.string())
    table = _appended(table, NAME_COLUMN, names)
    for column, place_of in _places(collection).items():
        table = _appended(table, column, pa.array([place_of.get(number) for number in numbers]))
    return replace(collection, photos=table, landmarks=_landmarks(number_of.values()), truth=None)


def _places(collection: Collection) -> dict[str, dict[int | None, Any]]:
    """Column -> landmark -> value, for what the landmark table knows of any of the landmarks that photos show."""
    shown = set(collection.photos["landmark"].to_pylist())
    found = {}
    for column in PLACE_COLUMNS:
        values = collection.landmarks[column.removeprefix("landmark_")].to_pylist()
        numbers = collection.landmarks["landmark"].to_pylist()
        known = {
            number: value
            for number, value in zip(numbers, values, strict=True)
            if value is not None and number in shown
        }
        if known:
            found[column] = known
    return found


def _numbers(name_of: Mapping[int, str], known: Mapping[int, str]) -> dict[int, int]:
    """Number of the moment -> number in the index: that of the same name, or the next free one."""
    taken = {name: number for number, name in known.items()}
    free = max(known, default=-1) + 1
    new = [number for number, name in name_of.items() if name not in taken]
    found = {number: taken[name] for number, name in name_of.items() if name in taken}
    return {**found, **{number: free + place for place, number in enumerate(new)}}


def _landmarks(numbers: Iterable[int]) -> pa.Table:
    """A landmark table of which nothing but the numbers is known."""
    ordered = sorted(numbers)
    return pa.table(
        {
            field.name: pa.array(ordered if field.name == "landmark" else [None] * len(ordered), field.type)
            for field in LANDMARK_SCHEMA
        }
    )


def _names(collection: Collection, *, plain: bool) -> dict[int, str]:
    """Landmark -> name of those that photos show; in a plain folder the path of its folder."""
    return {
        number: PurePosixPath(path).parent.as_posix() if plain else collection.name_of(number)
        for number, path in zip(collection.photos["landmark"].to_pylist(), collection.paths, strict=True)
        if number is not None
    }


def _known_landmarks(index: LivingIndex) -> dict[int, str]:
    """Landmark -> name in the index."""
    found: dict[int, str] = {}
    for ids in _chunks(index.ids_where("not landmark is null")):
        for record in index.photos(ids).values():
            found[record["landmark"]] = record.get(NAME_COLUMN) or f"landmark {record['landmark']}"
    return found


def _appended(photos: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in photos.column_names:
        raise ValueError(f"the photo table has a column {name!r}, which an index keeps itself; rename it")
    return photos.append_column(name, values)


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while chunk := list(islice(left, _AT_ONCE)):
        yield chunk
