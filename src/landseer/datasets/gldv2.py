"""Google Landmarks v2: photos in three directory levels or in tar shards, labels in CSV files.

Train landmarks keep their numbers.  The index numbers its landmarks apart, so its labels are joined to
train's through the category they share; landmarks that only the index knows get new numbers from max(train)
+ 1 on, in the order of their categories, and ``source_landmark`` keeps the index's own number of a
landmark.

Millions of rows pass through columns (pyarrow), never through a loop; loops run over landmarks and queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from landseer.datasets.cells import parse_latitude, parse_longitude
from landseer.datasets.geography import parse_country
from landseer.datasets.sheet import (
    Sheet,
    distinct_ids,
    filled,
    first_of_each,
    parse_cells,
    read_csv,
    unique_ids,
    whole_numbers,
)
from landseer.datasets.shelf import attach_paths, find_photos, layered_paths
from landseer.datasets.solutions import read_answers, truth_of
from landseer.datasets.summary import Findings, Progress, Summary
from landseer.datasets.tables import country_of_label, landmark_table, photo_table
from landseer.types import Collection, Truth

_FOLDERS = ("metadata", ".", "ground_truth")
_DETAILS = ("supercategory", "hierarchical_label", "natural_or_human_made")


def import_gldv2(
    source: Path, *, check_files: bool = True, keep_missing: bool = False, progress: Progress | None = None
) -> tuple[Collection, Summary]:
    """Read a copy of Google Landmarks v2, or any part of it, below *source*.

    CSV files stand in ``metadata/``, in *source* itself or in ``ground_truth/``; every one is optional as
    long as there are photos.  Photos lie below ``train/``, ``index/`` and ``test/``, loose or in tar
    shards.  Without *check_files* nobody looks for photos, and paths are those of loose files.  Photos
    whose file is missing are left out unless *keep_missing*.  Raises ``ValueError`` where *source* is no
    such copy.
    """
    files, findings = _Files(source), Findings()
    train = _train(files, findings)
    index = _index(files, findings)
    if len(train) + len(index) == 0 and files.find("test.csv") is None:
        raise ValueError(f"{source} holds no train.csv, index.csv or test.csv (nor does its folder metadata)")
    labels = _join_labels(files, train, index, findings)
    index = index.with_column("landmark_id", labels.translated(index["landmark_id"]))
    truth, both_solutions = _truth(files, findings)
    queries = _queries(files, index, truth, findings, both_solutions=both_solutions)

    parts = {"train": train, "index": index, "query": queries}
    parts = distinct_ids(parts, findings)
    for split, sheet in parts.items():
        folder = "test" if split == "query" else split
        layered = layered_paths(sheet["id"], folder)
        if check_files:
            found = find_photos(source, folder, progress=progress)
            parts[split] = attach_paths(sheet, found, findings, keep_missing=keep_missing, otherwise=layered)
        else:
            parts[split] = sheet.with_column("path", layered)
    if not any(map(len, parts.values())):
        raise ValueError(
            f"not one of {findings.missing_files} photos lies below {source} in train, index or test; "
            "name the folder that holds these, or import the rows alone with --no-file-check"
        )
    _note_lost_answers(truth, parts["index"], findings)
    landmarks = _landmarks(files, labels, parts, truth, findings)
    collection = Collection(
        photos=pa.concat_tables([_photos(split, sheet, landmarks) for split, sheet in parts.items()]),
        landmarks=landmarks,
        root=source,
        truth=truth,
    )
    return collection, findings.summarise(collection, source="gldv2", files_checked=check_files)


@dataclass(frozen=True)
class _Files:
    source: Path

    def find(self, *names: str) -> Path | None:
        """The first of *names* that is there."""
        places = (self.source / folder / name for name in names for folder in _FOLDERS)
        return next((file for file in places if file.is_file()), None)


@dataclass
class _Labels:
    """Landmarks of both numberings; ``landmark`` is always the collection's own."""

    category: dict[int, str]
    details: Mapping[str, Mapping[int, str]]
    of_index: dict[int, int] = field(default_factory=dict)
    """The index's number -> landmark."""
    in_index: dict[int, int] = field(default_factory=dict)
    """Landmark -> the index's number."""

    def translated(self, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
        """Landmarks of the index's *numbers*."""
        known = pa.array(self.of_index, pa.int64())
        landmarks = pa.array(self.of_index.values(), pa.int64())
        return landmarks.take(pc.index_in(numbers, value_set=known).combine_chunks())


def _train(files: _Files, findings: Findings) -> Sheet:
    file = files.find("train.csv")
    if file is None:
        return _empty("train.csv", clean=pa.array([], pa.bool_()))
    sheet = read_csv(file, findings, columns=("id", "landmark_id"))
    sheet = whole_numbers(filled(sheet, "id", findings), "landmark_id", findings)
    sheet = unique_ids(sheet, findings)
    clean_file = files.find("train_clean.csv")
    if clean_file is None:
        findings.notes.append("no train_clean.csv: no training photo is marked clean")
        return sheet.with_column("clean", pa.repeat(False, len(sheet)))
    return sheet.with_column("clean", _clean(clean_file, sheet, findings))


def _clean(file: Path, train: Sheet, findings: Findings) -> pa.Array:
    """Bool ``[N]``: whether the photo stands in the clean list under the landmark it has in train."""
    rows = whole_numbers(read_csv(file, findings, columns=("landmark_id", "images")), "landmark_id", findings)
    rows = filled(filled(rows, "landmark_id", findings), "images", findings)
    lists = pc.split_pattern(rows["images"].combine_chunks(), " ")
    listed, landmark = (
        lists.flatten(),
        rows["landmark_id"].combine_chunks().take(pc.list_parent_indices(lists)),
    )
    real = pc.not_equal(listed, "")
    listed, landmark = listed.filter(real), landmark.filter(real)
    strange = np.asarray(pc.index_in(listed, value_set=train["id"].combine_chunks()).is_null())
    findings.mark(
        "clean photos that train.csv does not list",
        "passed over",
        strange,
        lambda at: f"{file.name}: {listed[at].as_py()!r} of landmark {landmark[at].as_py()}",
    )
    at = pc.index_in(train["id"], value_set=listed).combine_chunks()
    agrees = pc.equal(landmark.take(at), train["landmark_id"].combine_chunks())
    other = np.asarray(pc.fill_null(pc.invert(agrees), False))
    findings.mark(
        "photos with one landmark in train.csv and another in train_clean.csv",
        "not marked clean",
        other,
        lambda row: f"{train.cell(row, 'id')} has landmark {train['landmark_id'][row].as_py()}",
    )
    return pc.fill_null(agrees, False)


def _index(files: _Files, findings: Findings) -> Sheet:
    """Index photos with their landmarks in the index's numbering."""
    listing, labelling = files.find("index.csv"), files.find("index_image_to_landmark.csv")
    labels = _empty("index_image_to_landmark.csv")
    if labelling is not None:
        labels = read_csv(labelling, findings, columns=("id", "landmark_id"))
        labels = whole_numbers(filled(labels, "id", findings), "landmark_id", findings)
        labels = unique_ids(labels, findings)
    if listing is None:
        return labels
    sheet = unique_ids(filled(read_csv(listing, findings, columns=("id",)), "id", findings), findings)
    unlisted = np.asarray(
        pc.index_in(labels["id"], value_set=sheet["id"].combine_chunks()).combine_chunks().is_null()
    )
    labels.refuse(unlisted, "labels of photos that index.csv does not list", findings)
    at = pc.index_in(sheet["id"], value_set=labels["id"].combine_chunks()).combine_chunks()
    return sheet.with_column("landmark_id", labels["landmark_id"].combine_chunks().take(at))


def _join_labels(files: _Files, train: Sheet, index: Sheet, findings: Findings) -> _Labels:
    category, details = _categories(files, "train", findings)
    index_category, index_details = _categories(files, "index", findings)
    by_category: dict[str, int] = {}
    shared = []
    for landmark in sorted(category):
        if by_category.setdefault(category[landmark], landmark) != landmark:
            shared.append(landmark)
    findings.add(
        "train landmarks whose category another one has, too",
        "index photos of the category go to the lowest number",
        count=len(shared),
        examples=(f"landmark {landmark}: {category[landmark]}" for landmark in shared),
    )
    labels = _Labels(dict(category), details)
    next_new = max([-1, *category, *pc.unique(train["landmark_id"].drop_null()).to_pylist()]) + 1
    used = set(pc.unique(index["landmark_id"].drop_null()).to_pylist())
    nameless = sorted(used - set(index_category))
    findings.add(
        "index landmarks without a category",
        "kept as landmarks of their own, since nothing joins them to train's",
        count=len(nameless),
        examples=(f"index landmark {number}" for number in nameless),
    )
    for number in [*sorted(index_category, key=lambda n: (index_category[n], n)), *nameless]:
        text = index_category.get(number)
        if text is not None and text in by_category:
            landmark = by_category[text]
        else:
            landmark, next_new = next_new, next_new + 1
            if text is not None:
                by_category[text] = landmark
                labels.category[landmark] = text
        labels.of_index[number] = landmark
        labels.in_index.setdefault(landmark, number)
    labels.details = {
        key: {
            **{labels.of_index[number]: text for number, text in index_details.get(key, {}).items()},
            **details.get(key, {}),
        }
        for key in {**index_details, **details}
    }
    return labels


def _categories(
    files: _Files, part: str, findings: Findings
) -> tuple[dict[int, str], dict[str, dict[int, str]]]:
    """Landmark -> category, and detail -> landmark -> text, from ``{part}_label_to_*.csv``."""
    category: dict[int, str] = {}
    details: dict[str, dict[int, str]] = {}
    for name, optional in (("hierarchical", _DETAILS), ("category", ())):
        file = files.find(f"{part}_label_to_{name}.csv")
        if file is None:
            continue
        sheet = read_csv(file, findings, columns=("landmark_id", "category"), optional=optional)
        sheet = _numbered(sheet, findings)
        numbers = sheet["landmark_id"].to_pylist()
        for column in sheet.table.column_names[1:]:
            known = category if column == "category" else details.setdefault(column, {})
            texts = sheet[column].to_pylist()
            known.update((number, text) for number, text in zip(numbers, texts, strict=True) if text)
    return category, details


def _numbered(sheet: Sheet, findings: Findings) -> Sheet:
    """Rows with a landmark number, the first of each."""
    sheet = filled(whole_numbers(sheet, "landmark_id", findings), "landmark_id", findings)
    again = ~first_of_each(sheet["landmark_id"])
    return sheet.refuse(again, f"landmarks that {sheet.name} lists twice", findings)


def _truth(files: _Files, findings: Findings) -> tuple[Truth | None, bool]:
    """The truth of the solution files, and whether both are there."""
    retrieval = files.find(
        "retrieval_solution_v2.1.csv", "retrieval_solution_v2.csv", "retrieval_solution.csv"
    )
    recognition = files.find(
        "recognition_solution_v2.1.csv", "recognition_solution_v2.csv", "recognition_solution.csv"
    )
    listing = files.find("test.csv")
    truth = truth_of(
        read_answers(retrieval, "images", findings) if retrieval else None,
        read_answers(recognition, "landmarks", findings) if recognition else None,
        # test.csv is gone through again, with its defects noted, for the photo table
        read_csv(listing, Findings(), columns=("id",))["id"].drop_null().unique().to_pylist()
        if listing
        else None,
        findings,
    )
    return truth, retrieval is not None and recognition is not None


def _queries(
    files: _Files, index: Sheet, truth: Truth | None, findings: Findings, *, both_solutions: bool
) -> Sheet:
    """Query photos with what the truth says of each: one landmark, none, or nothing certain."""
    file = files.find("test.csv")
    if file is not None:
        sheet = unique_ids(filled(read_csv(file, findings, columns=("id",)), "id", findings), findings)
    else:
        sheet = _empty("test.csv", id=pa.array(truth.query_ids if truth else (), pa.string()))
    ids = sheet["id"].to_pylist()
    landmark: dict[str, int] = {}
    kind: dict[str, str] = {}
    if truth is not None:
        landmark, kind = _shown(index, truth, both_solutions=both_solutions)
    sheet = sheet.with_column("landmark_id", pa.array([landmark.get(query) for query in ids], pa.int64()))
    return sheet.with_column("kind", pa.array([kind.get(query, "unknown") for query in ids], pa.string()))


def _shown(index: Sheet, truth: Truth, *, both_solutions: bool) -> tuple[dict[str, int], dict[str, str]]:
    """Query -> its landmark where there is exactly one, and query -> kind where it is certain.

    The landmark is the one of the recognition solution or, for landmarks that only the index knows and so the
    recognition solution cannot name, the one that all relevant photos have.  A query shows no landmark where
    both solutions score it and neither has an answer.
    """
    every = pa.array([photo for good in truth.relevant for photo in good], pa.string())
    at = pc.index_in(every, value_set=index["id"].combine_chunks())
    found = index["landmark_id"].combine_chunks().take(at)
    of_photo = dict(zip(every.to_pylist(), found.to_pylist(), strict=True))
    landmark: dict[str, int] = {}
    kind: dict[str, str] = {}
    for query, good, named, split in zip(
        truth.query_ids, truth.relevant, truth.landmarks, truth.split, strict=True
    ):
        shown = set(named) or {of_photo[photo] for photo in good}
        if len(shown) == 1 and None not in shown:
            (landmark[query],) = shown
        if named or good:
            kind[query] = "landmark"
        elif both_solutions and split != "Ignored":
            kind[query] = "none"
    return landmark, kind


def _note_lost_answers(truth: Truth | None, index: Sheet, findings: Findings) -> None:
    if truth is None:
        return
    wanted = [
        (query, photo) for query, good in zip(truth.query_ids, truth.relevant, strict=True) for photo in good
    ]
    photos = pa.array([photo for _, photo in wanted], pa.string())
    lost = np.asarray(pc.invert(pc.is_in(photos, value_set=index["id"].combine_chunks())))
    findings.mark(
        "relevant photos that are not in the index",
        "kept in the truth, so that a search without them scores less",
        lost,
        lambda at: f"photo {wanted[at][1]!r} of query {wanted[at][0]!r}",
    )


def _landmarks(
    files: _Files, labels: _Labels, parts: Mapping[str, Sheet], truth: Truth | None, findings: Findings
) -> pa.Table:
    landmarks = set(labels.category) | set(labels.in_index)
    for sheet in parts.values():
        landmarks.update(pc.unique(sheet["landmark_id"].drop_null()).to_pylist())
    if truth is not None:
        landmarks.update(landmark for named in truth.landmarks for landmark in named)
    country = _by_landmark(files.find("index_landmark_country.csv"), {"country": parse_country}, findings)
    position = _by_landmark(files.find("index_landmark_location.csv"), _POSITION, findings)
    country = _joined(country, labels.of_index)
    position = _joined(position, labels.of_index)
    country |= _by_landmark(files.find("landmark_country.csv"), {"country": parse_country}, findings)
    position |= _by_landmark(files.find("landmark_location.csv"), _POSITION, findings)
    table, num_placed = landmark_table(
        sorted(landmarks),
        category=labels.category,
        country={landmark: cells[0] for landmark, cells in country.items()},
        position={landmark: (cells[0], cells[1]) for landmark, cells in position.items()},
        source_landmark=labels.in_index,
        extra=labels.details,
    )
    if num_placed:
        findings.notes.append(f"{num_placed} landmarks without a country got the one at their position")
    return table


_POSITION: Mapping[str, Callable[[str], Any]] = {"latitude": parse_latitude, "longitude": parse_longitude}


def _by_landmark(
    file: Path | None, parsers: Mapping[str, Callable[[str], Any]], findings: Findings
) -> dict[int, tuple[Any, ...]]:
    """Landmark number -> cells, from a file with one row a landmark; rows with a bad cell are refused."""
    if file is None:
        return {}
    sheet = _numbered(read_csv(file, findings, columns=("landmark_id", *parsers)), findings)
    for column, parse in parsers.items():
        kind = pa.string() if column == "country" else pa.float64()
        sheet = parse_cells(filled(sheet, column, findings), column, parse, kind, findings)
    cells = zip(*(sheet[column].to_pylist() for column in parsers), strict=True)
    return dict(zip(sheet["landmark_id"].to_pylist(), cells, strict=True))


def _joined(cells: Mapping[int, tuple[Any, ...]], of_index: Mapping[int, int]) -> dict[int, tuple[Any, ...]]:
    return {of_index[number]: found for number, found in cells.items() if number in of_index}


def _photos(split: str, sheet: Sheet, landmarks: pa.Table) -> pa.Table:
    landmark = sheet["landmark_id"]
    columns: dict[str, Any] = {
        "id": sheet["id"],
        "path": sheet["path"],
        "landmark": landmark,
        "kind": pc.if_else(landmark.is_valid(), "landmark", "unknown"),
        # an index label is the organisers' own answer; train labels are what the web said
        "clean": landmark.is_valid() if split == "index" else False,
        "split": split,
        "country": country_of_label(landmark, landmarks),
    }
    if split == "train":
        columns["clean"] = sheet["clean"]
    if split == "query":
        columns["kind"] = sheet["kind"]
        columns["country"] = pa.nulls(len(sheet), pa.string())  # a query's country is part of the answer
    return photo_table(columns)


def _empty(name: str, **columns: pa.Array) -> Sheet:
    table = pa.table({"id": pa.array([], pa.string()), **columns})
    table = table.append_column("landmark_id", pa.nulls(table.num_rows, pa.int64()))
    return Sheet(name, table, np.arange(table.num_rows))
