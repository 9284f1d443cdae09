"""A folder of photos becomes a living index that answers from the first part on, grows, and is searched by photo.

The index keeps its model in ``models/FINGERPRINT`` and names it in its settings, so that whoever adds or searches
needs nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from landseer.datasets import import_folder
from landseer.extraction import extract
from landseer.extraction.extract import device_of
from landseer.extraction.plan import require_sizes
from landseer.models import Embedder, Ensemble
from landseer.photos import UnreadablePhoto, load_sized
from landseer.pipeline.model import load_model, open_model, save_model
from landseer.recipe import DescriptorOptions
from landseer.search import LivingIndex, open_index
from landseer.storage import load_collection, read_json
from landseer.storage.artifact import fingerprint_of
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors

Progress = Callable[[str, int, int | None], None]
"""Told what is going on, units done, units in all (None: not known yet)."""
Labels = Literal["auto", "folder", "none"]
Single = tuple[Embedder, DescriptorOptions]

MODELS = "models"
PART = "describing"
"""Folder in the index with the part under way; only the one writer touches it."""
ROOT_COLUMN, NAME_COLUMN = "root", "landmark_name"
"""What an index from photos keeps beside a collection's columns: where ``path`` starts, the landmark's name."""
_AT_ONCE = 10_000


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """What ``build_index`` or ``add_to_index`` did."""

    path: Path
    added: int
    there_already: int
    """Photos of the folder that the index had before."""
    num_unreadable: int
    unreadable: tuple[str, ...]
    """``'id': reason``, one each; of files that are broken from the first byte on, only the first few."""
    photos: int
    """Photos in the index now."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What an index answers to one query photo."""

    query: str
    answers: tuple[Mapping[str, Any], ...]
    """Best first: ``rank`` from 1, ``score``, and all that the index knows, at least ``id``; ``path`` is complete."""
    unreadable: str | None = None
    """Why the query could not be read; then there are no answers."""


def build_index(
    photos: Path,
    out: Path,
    *,
    model: Path | None = None,
    weights: Path | None = None,
    labels: Labels = "auto",
    workers: int | None = None,
    device: str = "cpu",
    commit_every: int = 1000,
    progress: Progress | None = None,
) -> Indexed:
    """Make the index *out* of *photos*, a plain folder or a collection folder, described by what *model* names.

    Photos are described and added *commit_every* at a time, so others can search while it grows.  Stopped or
    killed at any moment, the same call goes on: it describes only what the index lacks.  A photo that cannot be
    read is tried again then.  *model* and *weights* are those of ``open_model``, *labels* that of
    ``import_folder``.

    Raises ``ValueError`` for an ensemble, where *out* is no index or one of another model or other photos, and
    for what importing and describing refuse.
    """
    single = _single(open_model(model, weights=weights), model)
    work = _Work(single=single, workers=workers, device=device, commit_every=commit_every, progress=progress)
    fingerprint = _fingerprint(single)
    source = _root_of(photos)
    settings = {"model": f"{MODELS}/{fingerprint}", "photos": source}
    if out.exists():
        with open_index(out, write=True) as index:
            if index.model != fingerprint:
                raise ValueError(
                    f"{out} exists already and has another model; name the one it was built with, or another --out"
                )
            if index.settings.get("photos") != source:
                raise ValueError(
                    f"{out} was built from {index.settings.get('photos')}, not {source}; "
                    "add photos with landseer index add, or choose another --out"
                )
            return _fill(index, _read(photos, labels, progress), work)
    read = _read(photos, labels, progress)
    with LivingIndex.create(
        out, model=fingerprint, dim=single[0].dim, dtype=single[1].dtype, settings=settings
    ) as index:
        return _fill(index, read, work)


def add_to_index(
    index: str | Path,
    photos: Path,
    *,
    prefix: str = "",
    labels: Labels = "auto",
    workers: int | None = None,
    device: str = "cpu",
    commit_every: int = 1000,
    progress: Progress | None = None,
) -> Indexed:
    """Add those of *photos*, a plain folder or a collection folder, that the index lacks, with its own model.

    A photo's id is the one a collection gives it, in a plain folder its path; *prefix* and a slash stand before
    it.  Photos the index has from the same folder are passed over.  Raises ``ValueError``, and adds nothing,
    where it has one of the ids from another folder.
    """
    with open_index(index, write=True) as opened:
        work = _Work(
            single=_model_of(opened),
            workers=workers,
            device=device,
            commit_every=commit_every,
            progress=progress,
        )
        return _fill(opened, _read(photos, labels, progress).named(prefix), work)


def search_index(
    index: str | Path,
    photos: Iterable[str | Path],
    *,
    k: int = 10,
    where: str | None = None,
    workers: int | None = None,
    device: str = "cpu",
) -> list[Answers]:
    """The *k* photos of the index most like each of *photos*, among those that *where* selects.

    The photos are described by the index's own model.  One that cannot be read gets no answers and the reason.
    Raises ``ValueError`` for a wrong filter and where the index is damaged.
    """
    asked = [str(photo) for photo in photos]
    with open_index(index) as opened, tempfile.TemporaryDirectory() as folder:
        work = _Work(single=_model_of(opened), workers=workers, device=device)
        model = opened.model
        collection, reasons = _queries(asked)
        rows = None
        if len(collection):
            rows, bad = work.describe(collection, Path(folder) / PART)
            reasons.update(bad)
        found: dict[str, tuple[Mapping[str, Any], ...]] = {}
        if rows is not None:
            ranking = opened.search(rows, k=k, where=where, model=model, device=device)
            for number, query in enumerate(ranking.query_ids):
                found[query] = _known(opened, ranking.answers(number))
    return [
        Answers(query=query, answers=found.get(str(number), ()), unreadable=reasons.get(str(number)))
        for number, query in enumerate(asked)
    ]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """How photos are described here: by which model, on what, how many at a time, and who is told."""

    single: Single
    workers: int | None
    device: str
    commit_every: int = 1
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse before long work what describing would refuse."""
        device_of(self.device)
        require_sizes(*self.single)
        if self.commit_every < 1:
            raise ValueError(f"commit_every: must be at least 1, not {self.commit_every}")

    def describe(
        self, collection: Collection, folder: Path, *, before: int = 0, total: int = 0
    ) -> tuple[Descriptors | None, Mapping[str, str]]:
        """Descriptors of *collection*, made in *folder*, and id -> reason of photos that could not be read.

        There are no descriptors where none could be.  Progress counts from *before* to *total*.
        """
        progress = self.progress
        model, options = self.single
        try:
            rows = extract(
                model,
                collection,
                folder,
                options=options,
                workers=self.workers,
                device=self.device,
                progress=progress and (lambda done, _: progress("describing photos", before + done, total)),
            )
        except ValueError:
            reasons = _if_none_can_be_read(collection)
            if reasons is None:
                raise
            return None, reasons
        return rows, rows.unreadable


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Photos to be indexed."""

    source: Path
    collection: Collection
    plain: bool
    """Whether it is a plain folder, whose landmarks have names but numbers of the moment."""
    num_refused: int
    refused: tuple[str, ...]

    def named(self, prefix: str) -> _Read:
        """The same with *prefix* and a slash before every id."""
        if not prefix:
            return self
        photos = self.collection.photos
        ids = pa.array([f"{prefix}/{photo}" for photo in self.collection.ids], pa.string())
        place = photos.column_names.index("id")
        photos = photos.set_column(place, photos.schema.field("id"), ids)
        return replace(self, collection=replace(self.collection, photos=photos, truth=None))


def _read(photos: Path, labels: Labels, progress: Progress | None) -> _Read:
    if _is_collection(photos):
        collection = load_collection(photos)
        if not len(collection):
            raise ValueError(f"the collection {photos} has no photos")
        return _Read(source=photos, collection=collection, plain=False, num_refused=0, refused=())
    if not photos.is_dir():
        raise ValueError(f"{photos} is no folder of photos")
    collection, summary = import_folder(photos.resolve(), labels=labels, progress=progress)
    refused = [problem for problem in summary.problems if problem.refused]
    return _Read(
        source=photos,
        collection=collection,
        plain=True,
        num_refused=sum(problem.count for problem in refused),
        refused=tuple(line for problem in refused for line in problem.examples),
    )


def _is_collection(photos: Path) -> bool:
    """A file of that name which is something else belongs to a plain folder."""
    try:
        return (photos / "manifest.json").is_file() and read_json(photos / "manifest.json").get(
            "kind"
        ) == "collection"
    except (ValueError, AttributeError):
        return False


def _root_of(photos: Path) -> str:
    return str(photos.resolve())


def _fill(index: LivingIndex, read: _Read, work: _Work) -> Indexed:
    """Describe and add what *index* lacks, part by part; its model is put in place first."""
    folder = index.path / str(index.settings["model"])
    if not folder.exists():  # else a build ended before it came to this
        save_model(work.single, folder, made_by={"index": index.model})
    collection = read.collection
    there = np.array(index.holds(collection.ids), bool)
    root = str(collection.root.resolve())
    _refuse_strangers(index, collection.select(there), root, read)
    lacking = _with_columns(_fitted(index, collection.select(~there), read), root)
    unreadable: dict[str, str] = {}
    added = 0
    for start in range(0, len(lacking), work.commit_every):
        part = replace(lacking, photos=lacking.photos.slice(start, work.commit_every), truth=None)
        shutil.rmtree(index.path / PART, ignore_errors=True)  # a killed process may have left one
        rows, bad = work.describe(part, index.path / PART / "part", before=start, total=len(lacking))
        unreadable.update(bad)
        if rows is not None:
            added += index.add(rows, part.photos, model=index.model)
        shutil.rmtree(index.path / PART, ignore_errors=True)
    if added:
        index.compact()
    return Indexed(
        path=index.path,
        added=added,
        there_already=int(there.sum()),
        num_unreadable=read.num_refused + len(unreadable),
        unreadable=(*read.refused, *(f"{photo!r}: {reason}" for photo, reason in unreadable.items())),
        photos=len(index),
    )


def _refuse_strangers(index: LivingIndex, there: Collection, root: str, read: _Read) -> None:
    """Raise ``ValueError`` where *index* has an id of *there* from another folder than *root*."""
    for ids in _chunks(there.ids):
        for photo, record in index.photos(ids).items():
            if record.get(ROOT_COLUMN, root) != root:
                raise ValueError(
                    f"{index.path} has a photo {photo!r} from {record[ROOT_COLUMN]} already, "
                    f"and {read.source} has another of that id; add it with --prefix NAME"
                )


def _fitted(index: LivingIndex, collection: Collection, read: _Read) -> Collection:
    """*collection* with landmarks that mean the same in *index*, and their names as a column.

    Folders of one path are one landmark, whenever they come; the numbers of a collection are its own, and a
    ``ValueError`` where the index calls one of them otherwise.
    """
    name_of = _names(collection, plain=read.plain)
    numbers = collection.photos["landmark"].to_pylist()
    known = _known_landmarks(index) if name_of else {}
    number_of = {number: number for number in name_of}
    if read.plain:
        taken = {name: number for number, name in known.items()}
        free = max(known, default=-1) + 1
        new = [number for number, name in name_of.items() if name not in taken]
        number_of = {number: taken[name] for number, name in name_of.items() if name in taken}
        number_of.update({number: free + place for place, number in enumerate(new)})
    else:
        for number, name in name_of.items():
            if known.get(number, name) != name:
                raise ValueError(
                    f"landmark {number} is {known[number]!r} in {index.path} but {name!r} in {read.source}; "
                    "number the landmarks of one of them otherwise"
                )
    photos = collection.photos
    mapped = pa.array([None if number is None else number_of[number] for number in numbers], pa.int64())
    photos = photos.set_column(photos.column_names.index("landmark"), photos.schema.field("landmark"), mapped)
    names = pa.array([None if number is None else name_of[number] for number in numbers], pa.string())
    landmarks = pa.table(
        {
            field.name: pa.array(
                sorted(number_of.values()) if field.name == "landmark" else [None] * len(number_of),
                field.type,
            )
            for field in LANDMARK_SCHEMA
        }
    )
    photos = _appended(photos, NAME_COLUMN, names)
    return replace(collection, photos=photos, landmarks=landmarks, truth=None)


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


def _with_columns(collection: Collection, root: str) -> Collection:
    roots = pa.array([root] * len(collection), pa.string())
    return replace(collection, photos=_appended(collection.photos, ROOT_COLUMN, roots))


def _appended(photos: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in photos.column_names:
        raise ValueError(f"the photo table has a column {name!r}, which an index keeps itself; rename it")
    return photos.append_column(name, values)


def _if_none_can_be_read(collection: Collection) -> dict[str, str] | None:
    """Id -> reason, or None where a photo can be read.  A part of an index may be all broken; an extraction not."""
    reasons: dict[str, str] = {}
    for photo, path in zip(collection.ids, collection.paths, strict=True):
        try:
            load_sized(collection.root, path, (8, 8))
        except UnreadablePhoto as error:
            reasons[photo] = error.reason
        else:
            return None
    return reasons


def _queries(asked: Sequence[str]) -> tuple[Collection, dict[str, str]]:
    """A collection of the photos at these paths, each with its place as id, and place -> reason of the hopeless."""
    paths: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for number, text in enumerate(asked):
        place = Path(text).resolve()
        try:
            path = place.relative_to(place.anchor).as_posix()
            path.encode()
        except UnicodeEncodeError:
            reasons[str(number)] = "a name that is not UTF-8"
        else:
            paths[str(number)] = path
    num = len(paths)
    columns: dict[str, list[Any]] = {
        "id": list(paths),
        "path": list(paths.values()),
        "kind": ["unknown"] * num,
        "clean": [False] * num,
        "split": ["query"] * num,
    }
    photos = pa.table(
        [pa.array(columns.get(field.name, [None] * num), field.type) for field in PHOTO_SCHEMA],
        schema=PHOTO_SCHEMA,
    )
    root = Path(Path.cwd().anchor)
    return Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=root), reasons


def _known(index: LivingIndex, answers: Sequence[tuple[str, float]]) -> tuple[Mapping[str, Any], ...]:
    """The answers with what the index knows of each; one that was removed meanwhile is left out."""
    records = index.photos(photo for photo, _ in answers)
    there = [(records[photo], score) for photo, score in answers if photo in records]
    return tuple(
        {"rank": rank, "score": score, **record, "path": _place_of(record)}
        for rank, (record, score) in enumerate(there, start=1)
    )


def _place_of(record: Mapping[str, Any]) -> str | None:
    path, root = record.get("path"), record.get(ROOT_COLUMN)
    return path if path is None or root is None else str(Path(root) / path)


def _single(opened: tuple[Embedder | Ensemble, DescriptorOptions | None], source: Path | None) -> Single:
    model, options = opened
    if isinstance(model, Ensemble):
        raise ValueError(f"{source} is an ensemble; an index takes a single model so far, one of its members")
    assert options is not None, "only an ensemble comes without"
    return model, options


def _fingerprint(single: Single) -> str:
    """Of the weights and of the way the model sees photos: both make a descriptor."""
    return fingerprint_of("index model", single[0].fingerprint, asdict(single[1]))


def _model_of(index: LivingIndex) -> Single:
    """The model in the index.  Raises ``ValueError`` where it has none, or not the one it was built with."""
    named = index.settings.get("model")
    if not isinstance(named, str):
        raise ValueError(f"{index.path} names no model, so it cannot describe photos; build one from photos")
    folder = index.path / named
    if not folder.exists():
        raise ValueError(f"{folder} is missing; run the landseer index build that made the index again")
    single = _single(load_model(folder), folder)
    if _fingerprint(single) != index.model:
        raise ValueError(f"{folder} is not the model that {index.path} was built with; restore it")
    return single


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while chunk := list(islice(left, _AT_ONCE)):
        yield chunk
