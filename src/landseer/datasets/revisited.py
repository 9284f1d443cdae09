"""Revisited Oxford and Paris: the published ground truth, as a pickle or as JSON, and a folder of photos.

Radenovic, Iscen, Tolias, Avrithis, Chum: *Revisiting Oxford and Paris*, CVPR 2018.  The file holds ``imlist`` (names
of the gallery's photos), ``qimlist`` (of the queries), and ``gnd``: for each query the positions in ``imlist`` that
are ``easy``, ``hard`` and ``junk``, and ``bbx``, the box of the query that shows the landmark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.sheet import Sheet
from landseer.datasets.shelf import attach_paths, find_photos
from landseer.datasets.summary import Findings, Progress, Summary
from landseer.datasets.tables import landmark_table, photo_table
from landseer.storage.foreign.pickles import ARRAYS, load_plain_pickle
from landseer.types import Collection, Truth

_ENDINGS = (".pkl", ".json")
_GRADES = ("easy", "hard", "junk")
_FARTHEST_PX = 1e9
"""No photo has so many pixels in a row."""


def import_revisited(
    source: Path,
    *,
    photos: Path | None = None,
    check_files: bool = True,
    keep_missing: bool = False,
    progress: Progress | None = None,
) -> tuple[Collection, Summary]:
    """Read the ground truth *source* (``gnd_*.pkl`` or ``.json``, or a folder with one) and the photos it names.

    Photos lie below *photos* at any depth and are called ``NAME.jpg``; by default they lie below ``jpg`` beside the
    ground truth, or where there is no such folder below its own.  Queries with the same relevant photos show one
    landmark, numbered from 0 in the order of the queries; a photo of several has none in the table.  The extra
    column ``crop`` holds each query's box: left, top, right, bottom in pixels of the photo as it is stored.
    Without *check_files* nobody looks for photos; those whose file is missing are left out unless *keep_missing*.
    Raises ``ValueError`` for a file that is no such ground truth, or a pickle that asks for more than arrays.
    """
    file = _file_of(source)
    known = _ground_truth(file)
    root = photos or (file.parent / "jpg" if (file.parent / "jpg").is_dir() else file.parent)
    findings = Findings()
    landmark_Q, landmarks_of = _landmarks(known)
    sheet = _sheet(known, file.name, landmark_Q, landmarks_of)
    plain = pc.binary_join_element_wise(sheet["id"], ".jpg", "")
    if check_files:
        found = find_photos(root, ".", progress=progress)
        sheet = attach_paths(sheet, found, findings, keep_missing=keep_missing, otherwise=plain)
    else:
        sheet = sheet.with_column("path", plain)
    if not len(sheet):
        raise ValueError(
            f"not one of {findings.missing_files} photos lies below {root}; name their folder with --photos, or "
            "import the rows alone with --no-file-check"
        )
    _note_lost_answers(known, sheet, findings)
    findings.notes.append("queries with the same relevant photos are taken to show one landmark")
    findings.notes.append("queries have a box in the column crop, to which landseer extract crops them")
    collection = Collection(
        photos=_photos(sheet),
        landmarks=landmark_table(sorted(set(landmark_Q)))[0],
        root=root,
        truth=_truth(known, landmark_Q),
    )
    return collection, findings.summarise(collection, source="revisited", files_checked=check_files)


@dataclass(frozen=True, kw_only=True)
class _GroundTruth:
    """What the file says, checked: names, for each query the names of each grade, and its box."""

    gallery: tuple[str, ...]
    queries: tuple[str, ...]
    graded: tuple[Mapping[str, tuple[str, ...]], ...]
    boxes: list[list[float]]


def _file_of(source: Path) -> Path:
    """*source* itself, or the one ground truth in the folder *source*; of a pickle and its JSON the JSON."""
    if not source.is_dir():
        return source
    files = sorted(file for ending in _ENDINGS for file in source.glob(f"gnd_*{ending}"))
    names = sorted({file.stem for file in files})
    if len(names) != 1:
        what = f"several ground truths ({', '.join(names)})" if names else "no gnd_*.pkl or gnd_*.json"
        raise ValueError(f"{source} holds {what}; name the file itself")
    return next((file for file in files if file.suffix == ".json"), files[0])


def _ground_truth(file: Path) -> _GroundTruth:
    if file.suffix not in _ENDINGS:
        raise ValueError(
            f"{file} is no ground truth of Revisited Oxford or Paris; name a gnd_*.pkl or gnd_*.json"
        )
    read = load_plain_pickle(file, admitted=ARRAYS) if file.suffix == ".pkl" else _parsed(file)
    if not isinstance(read, dict) or not {"imlist", "qimlist", "gnd"} <= read.keys():
        raise ValueError(
            f"{file} lacks imlist, qimlist or gnd; is it a ground truth of Revisited Oxford or Paris?"
        )
    gallery, queries = (_names(read[name], f"{file}, {name}") for name in ("imlist", "qimlist"))
    both = set(gallery) & set(queries)
    if both or len({*gallery, *queries}) != len(gallery) + len(queries):
        first = f", {min(both)!r} for one" if both else ""
        raise ValueError(
            f"{file} names a photo twice{first}; queries are no part of the gallery in the revisited sets"
        )
    entries = _listed(read["gnd"], f"{file}, gnd")
    if len(entries) != len(queries):
        raise ValueError(f"{file} has {len(queries)} queries but {len(entries)} entries of gnd")
    graded, boxes = [], []
    for query, entry in zip(queries, entries, strict=True):
        where = f"{file}, query {query!r}"
        if not isinstance(entry, dict) or not {*_GRADES, "bbx"} <= entry.keys():
            raise ValueError(
                f"{where} lacks easy, hard, junk or bbx; old Oxford5k and Paris6k files are not read"
            )
        graded.append({grade: _members(entry[grade], gallery, f"{where}, {grade}") for grade in _GRADES})
        listed = [photo for grade in _GRADES for photo in graded[-1][grade]]
        if len(set(listed)) < len(listed):
            twice = next(photo for photo in listed if listed.count(photo) > 1)
            raise ValueError(f"{where} has {twice!r} in two of easy, hard and junk; one photo has one grade")
        boxes.append(_box(entry["bbx"], where))
    return _GroundTruth(gallery=gallery, queries=queries, graded=tuple(graded), boxes=boxes)


def _listed(values: Any, where: str) -> list[Any]:
    """The entries of a list or of an array."""
    found = values.ravel().tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(found, list | tuple):
        raise ValueError(f"{where} must be a list")
    return list(found)


def _names(values: Any, where: str) -> tuple[str, ...]:
    names = _listed(values, where)
    # a damaged file may hold letters that no file name can have
    if not names or not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise ValueError(f"{where} must be a list of names")
    return tuple(str(name) for name in names)


def _members(values: Any, gallery: Sequence[str], where: str) -> tuple[str, ...]:
    numbers = _listed(values, where)
    if not all(_is_number(number, int, np.integer) and 0 <= number < len(gallery) for number in numbers):
        raise ValueError(f"{where} must be positions in imlist, 0 to {len(gallery) - 1}")
    return tuple(gallery[number] for number in dict.fromkeys(map(int, numbers)))


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _box(values: Any, where: str) -> list[float]:
    box = _listed(values, f"{where}, bbx")
    if len(box) != 4 or not all(
        _is_number(side, int, float, np.number) and -_FARTHEST_PX < side < _FARTHEST_PX for side in box
    ):
        raise ValueError(f"{where}, bbx must be four numbers: left, top, right, bottom")
    left, top, right, bottom = (float(side) for side in box)
    if left >= right or top >= bottom:
        raise ValueError(
            f"{where}, bbx {[left, top, right, bottom]} is empty: left, top, right, bottom are wanted"
        )
    return [left, top, right, bottom]


def _sheet(
    known: _GroundTruth, name: str, landmark_Q: Sequence[int], landmarks_of: Mapping[str, set[int]]
) -> Sheet:
    """One row a photo, the gallery first; rows are numbered through both lists."""
    ids = [*known.gallery, *known.queries]
    columns = {
        "id": pa.array(ids, pa.string()),
        "split": pa.array(["index"] * len(known.gallery) + ["query"] * len(known.queries)),
        "landmark": pa.array([*_single(known.gallery, landmarks_of), *landmark_Q], pa.int64()),
        "crop": pa.array([None] * len(known.gallery) + known.boxes, pa.list_(pa.float64())),
    }
    return Sheet(name, pa.table(columns), np.arange(1, 1 + len(ids)))


def _photos(sheet: Sheet) -> pa.Table:
    labelled = sheet["landmark"].is_valid()
    columns = {
        **{name: sheet[name] for name in ("id", "path", "landmark", "split")},
        "kind": pc.if_else(labelled, "landmark", "unknown"),
        "clean": labelled,
    }
    return photo_table(columns, extra={"crop": sheet["crop"]})


def _note_lost_answers(known: _GroundTruth, sheet: Sheet, findings: Findings) -> None:
    inside = set(sheet["id"].to_pylist())
    lost = [
        f"photo {photo!r} of query {query!r}"
        for query, graded in zip(known.queries, known.graded, strict=True)
        for photo in (*graded["easy"], *graded["hard"])
        if photo not in inside
    ]
    findings.add(
        "relevant photos that are not in the index",
        "kept in the truth, so that a search without them scores less",
        count=len(lost),
        examples=lost,
    )


def _landmarks(known: _GroundTruth) -> tuple[list[int], dict[str, set[int]]]:
    """The landmark of each query, and photo -> the landmarks it shows."""
    numbers: dict[frozenset[str], int] = {}
    of_query: list[int] = []
    of_photo: dict[str, set[int]] = {}
    for graded in known.graded:
        shown = frozenset(graded["easy"]) | frozenset(graded["hard"])
        landmark = numbers.setdefault(shown, len(numbers))
        of_query.append(landmark)
        for photo in shown:
            of_photo.setdefault(photo, set()).add(landmark)
    return of_query, of_photo


def _single(photos: Sequence[str], landmarks_of: Mapping[str, set[int]]) -> list[int | None]:
    found = (landmarks_of.get(photo, set()) for photo in photos)
    return [next(iter(shown)) if len(shown) == 1 else None for shown in found]


def _truth(known: _GroundTruth, landmark_Q: Sequence[int]) -> Truth:
    num = len(known.queries)
    return Truth(
        query_ids=known.queries,
        relevant=tuple((*graded["easy"], *graded["hard"]) for graded in known.graded),
        junk=tuple(graded["junk"] for graded in known.graded),
        landmarks=tuple((landmark,) for landmark in landmark_Q),
        split=("Public",) * num,
        recognition_split=("Public",) * num,
        hard=tuple(graded["hard"] for graded in known.graded),
    )


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read as JSON ({error}); is it damaged?") from None
