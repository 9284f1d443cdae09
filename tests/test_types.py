"""Every noun refuses what it must not be, says why, and takes the edge cases it must take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from landseer.types import (
    LANDMARK_SCHEMA,
    PHOTO_SCHEMA,
    Collection,
    Descriptors,
    Number,
    Ranking,
    Recognition,
    Report,
    Truth,
)

PHOTO = {"id": "a", "path": "a.jpg", "landmark": 7, "kind": "landmark", "clean": True, "split": "train"}


def photos(*changes: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(
        [{**PHOTO, "id": str(i), **c} for i, c in enumerate(changes)], schema=PHOTO_SCHEMA
    )


def collection(table: pa.Table | None = None, landmarks: pa.Table | None = None) -> Collection:
    known = pa.Table.from_pylist([{"landmark": 7, "name": "Tower"}, {"landmark": -2}], schema=LANDMARK_SCHEMA)
    return Collection(
        photos=photos({}, {}) if table is None else table,
        landmarks=known if landmarks is None else landmarks,
        root=Path("."),
    )


def recast(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize("name", PHOTO_SCHEMA.names)
def test_a_photo_table_needs_every_column(name):
    with pytest.raises(ValueError, match=f"the photo table has no column '{name}'"):
        collection(photos({}).drop_columns(name))


@pytest.mark.parametrize("name", LANDMARK_SCHEMA.names)
def test_a_landmark_table_needs_every_column(name):
    with pytest.raises(ValueError, match=f"the landmark table has no column '{name}'"):
        collection(landmarks=LANDMARK_SCHEMA.empty_table().drop_columns(name))


@pytest.mark.parametrize("name", PHOTO_SCHEMA.names)
def test_a_photo_column_has_its_type(name):
    message = re.escape(f"photo column '{name}' is binary, not {PHOTO_SCHEMA.field(name).type}")
    with pytest.raises(ValueError, match=message):
        collection(recast(photos({}), name, pa.array([b"x"])))


@pytest.mark.parametrize("name", [entry.name for entry in PHOTO_SCHEMA if not entry.nullable])
def test_a_photo_column_that_must_be_full_is(name):
    column = PHOTO_SCHEMA.field(name)
    with pytest.raises(ValueError, match=f"photo column '{name}' has empty cells"):
        collection(recast(photos({}), name, pa.nulls(1, column.type)))


def test_a_landmark_must_have_its_number():
    table = LANDMARK_SCHEMA.empty_table().set_column(0, "landmark", pa.array([], pa.string()))
    with pytest.raises(ValueError, match="landmark column 'landmark' is string, not int64"):
        collection(landmarks=table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Landmark"}, r"unknown kind 'Landmark' \(known: landmark, none, unknown\)"),
        ({"split": "test"}, r"unknown split 'test' \(known: train, validation, index, query\)"),
        ({"landmark": 8}, "landmark 8 of the photo table is not in the landmark table"),
        ({"id": "0"}, "1 ids occur more than once, the first is '0'"),
    ],
)
def test_a_photo_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        collection(photos({}, change))


def test_a_landmark_stands_once_in_its_table():
    twice = pa.Table.from_pylist([{"landmark": 7}, {"landmark": 7, "name": "Tower"}], schema=LANDMARK_SCHEMA)
    with pytest.raises(ValueError, match="landmark 7 occurs more than once in the landmark table"):
        collection(landmarks=twice)


def test_a_collection_is_read_by_its_properties():
    found = collection(
        photos(
            {}, {"landmark": None, "split": "index"}, {"landmark": -2, "split": "query", "path": "s.tar::c"}
        )
    )
    assert len(found) == 3
    assert found.ids == ("0", "1", "2")
    assert found.paths == ("a.jpg", "a.jpg", "s.tar::c")
    assert found.landmark_N.tolist() == [7, -1, -2]
    assert found.landmark_N.dtype == np.int64
    assert (found.name_of(7), found.name_of(-2), found.name_of(99)) == ("Tower", "landmark -2", "landmark 99")


def test_a_selection_keeps_order_and_the_rest():
    found = collection(photos({"split": "index"}, {}, {"split": "query"}, {"split": "index"}))
    assert found.in_split("query", "index").ids == ("0", "2", "3")
    assert found.in_split().ids == ()
    assert found.select(np.array([True, False, False, True])).ids == ("0", "3")
    assert found.select(pa.chunked_array([[True, False], [True, False]])).ids == ("0", "2")
    assert found.in_split("train").landmarks.equals(found.landmarks)
    with pytest.raises(ValueError, match="unknown split 'test'"):
        found.in_split("train", "test")


def test_a_collection_may_be_empty_and_hold_more_columns():
    empty = collection(PHOTO_SCHEMA.empty_table(), LANDMARK_SCHEMA.empty_table())
    assert (len(empty), empty.ids, empty.landmark_N.tolist()) == (0, (), [])
    assert "camera" in collection(photos({}).append_column("camera", pa.array(["X"]))).photos.column_names


def truth(**changes: object) -> Truth:
    fields = {
        "query_ids": ("q", "r"),
        "relevant": (("a",), ()),
        "junk": ((), ("b",)),
        "landmarks": ((7, 8), ()),
        "split": ("Public", "Ignored"),
        "recognition_split": ("Private", "Ignored"),
    }
    return Truth(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_ids": ("q", "q")}, "a query id occurs more than once in the truth"),
        ({"relevant": ((),)}, "truth has 2 queries but 1 entries of relevant"),
        ({"junk": ((), (), ())}, "truth has 2 queries but 3 entries of junk"),
        ({"landmarks": ()}, "truth has 2 queries but 0 entries of landmarks"),
        ({"split": ("Public",)}, "truth has 2 queries but 1 entries of split"),
        ({"recognition_split": ("Public",)}, "truth has 2 queries but 1 entries of recognition_split"),
        ({"split": ("Public", "public")}, r"unknown split 'public' \(known: Public, Private, Ignored\)"),
        ({"recognition_split": ("", "Public")}, "unknown split ''"),
        ({"relevant": (("a", "a"), ())}, "a relevant id of query 'q' occurs more than once"),
        ({"relevant": ((), ("a", "b"))}, "query 'r' has an id that is both relevant and junk"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        truth(**changes)


def test_a_truth_may_be_empty():
    names = ("query_ids", "relevant", "junk", "landmarks", "split", "recognition_split")
    assert len(truth(**dict.fromkeys(names, ()))) == 0
    assert len(truth()) == 2


ROWS = np.eye(3, 2, dtype=np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Descriptors(ids=(), rows_ND=np.ones(3, np.float32)),
            r"must be a table \[N, D\], not \(3,\)",
        ),
        (
            lambda: Descriptors(ids=("a", "b", "c"), rows_ND=ROWS.astype(np.float64)),
            "or float16, not float64",
        ),
        (lambda: Descriptors(ids=("a", "b"), rows_ND=ROWS), "2 ids but 3 descriptor rows"),
        (lambda: Descriptors(ids=("a", "b", "a"), rows_ND=ROWS), "a photo id occurs more than once"),
    ],
)
def test_descriptors_that_cannot_be_are_refused(make: Callable[[], Descriptors], message):
    with pytest.raises(ValueError, match=message):
        make()


def test_descriptors_give_rows_by_id():
    found = Descriptors(
        ids=("a", "b", "c"), rows_ND=ROWS, metric="euclidean", normalised=False, fingerprint="f"
    )
    taken = found.take(["c", "a"])
    assert taken.ids == ("c", "a")
    assert np.array_equal(taken.rows_ND, ROWS[[2, 0]])
    assert (taken.metric, taken.normalised, taken.fingerprint) == ("euclidean", False, "f")
    assert (len(found), found.dim) == (3, 2)
    assert len(found.take([])) == 0
    with pytest.raises(ValueError, match="no descriptor of photo 'z'"):
        found.take(["a", "z"])


def test_descriptors_may_be_half_precise_or_none():
    assert len(Descriptors(ids=(), rows_ND=np.empty((0, 4), np.float16))) == 0


def ranking(positions: object, scores: object, *, queries: int | None = None, gallery: int = 3) -> Ranking:
    table = np.asarray(positions)
    return Ranking(
        query_ids=tuple(f"q{i}" for i in range(len(table) if queries is None else queries)),
        gallery_ids=tuple("abcdefgh"[:gallery]),
        positions_QK=table,
        scores_QK=np.asarray(scores, np.float32),
    )


INF = np.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ranking([0, 1], [1, 0]), r"positions \(2,\), scores \(2,\) must be one table \[Q, K\]"),
        (lambda: ranking([[0, 1]], [[1]]), r"positions \(1, 2\), scores \(1, 1\) must be one table"),
        (lambda: ranking(np.array([[0]], np.int32), [[1]]), "must be int64 and scores float32, not int32"),
        (lambda: ranking([[0]], [[1]], queries=2), "2 query ids but 1 rows"),
        (lambda: ranking([[3]], [[1]]), "a position lies outside the gallery of 3"),
        (lambda: ranking([[-2]], [[1]]), "a position lies outside the gallery of 3"),
        (lambda: ranking([[0]], [[1]], gallery=0), "a position lies outside the gallery of 0"),
        (lambda: ranking([[-1, 0]], [[-INF, -INF]]), "padding may stand only at the end of a row"),
        (lambda: ranking([[0, -1]], [[1, 0]]), "padding must score -inf"),
        (lambda: ranking([[0]], [[math.nan]]), "no score may be NaN"),
        (lambda: ranking([[0, 1]], [[0, 1]]), "scores must not increase along a row"),
        (lambda: ranking([[0, 1, 0]], [[3, 2, 1]]), "a gallery position occurs twice in a row"),
    ],
)
def test_a_ranking_that_cannot_be_is_refused(make: Callable[[], Ranking], message):
    with pytest.raises(ValueError, match=message):
        make()


def test_scores_in_double_precision_are_refused():
    with pytest.raises(ValueError, match="not int64 and float64"):
        Ranking(query_ids=("q",), gallery_ids=("a",), positions_QK=np.array([[0]]), scores_QK=np.ones((1, 1)))


@pytest.mark.parametrize(
    ("positions", "scores"),
    [
        ([[-1, -1]], [[-INF, -INF]]),
        ([[2, -1, -1]], [[0.5, -INF, -INF]]),
        ([[2, 1], [1, 2]], [[1, 1], [0, -1]]),
        ([[0, 1]], [[INF, -INF]]),
        (np.empty((0, 5), np.int64), np.empty((0, 5))),
        (np.empty((2, 0), np.int64), np.empty((2, 0))),
    ],
)
def test_a_ranking_takes_padding_ties_and_nothing(positions, scores):
    assert len(ranking(positions, scores)) == len(positions)


def test_answers_leave_the_padding_out():
    found = ranking([[2, 0, -1], [-1, -1, -1]], [[0.5, 0.25, -INF], [-INF, -INF, -INF]])
    assert found.answers(0) == [("c", 0.5), ("a", 0.25)]
    assert found.answers(1) == []


def number(value: float, low: float, high: float, num_queries: int = 5, group: str = "Private") -> Number:
    return Number(name="mAP@100", value=value, low=low, high=high, num_queries=num_queries, group=group)


@pytest.mark.parametrize("bounds", [(0.5, 0.6, 0.7), (0.5, 0.3, 0.4), (math.nan, 0, 1), (0.5, math.nan, 1)])
def test_a_number_lies_in_its_interval(bounds):
    with pytest.raises(ValueError, match=r"mAP@100: .+ lies outside its interval"):
        number(*bounds)


def test_a_number_may_be_sure_or_measured_on_nothing():
    assert number(0.5, 0.5, 0.5).value == 0.5
    assert number(math.nan, math.nan, math.nan, num_queries=0).num_queries == 0


def test_a_report_gives_its_numbers_by_name_and_group():
    found = Report(
        title="t", numbers=(number(0.5, 0, 1), number(0.75, 0, 1, group="Public")), protocol={}, made_by={}
    )
    assert found.value("mAP@100", "Public") == 0.75
    with pytest.raises(ValueError, match="the report has no 'GAP' on 'Public'"):
        found.value("GAP", "Public")


def recognition(landmarks: np.ndarray, confidences: np.ndarray) -> Recognition:
    return Recognition(query_ids=("q", "r"), landmark_Q=landmarks, confidence_Q=confidences)


@pytest.mark.parametrize(
    ("landmarks", "confidences", "message"),
    [
        (np.zeros(3, np.int64), np.zeros(2, np.float32), r"2 queries need .+ not \(3,\) and \(2,\)"),
        (np.zeros(2, np.int64), np.zeros((2, 1), np.float32), "2 queries need"),
        (np.zeros(2, np.int32), np.zeros(2, np.float32), "landmarks must be int64 and confidences float32"),
        (np.zeros(2, np.int64), np.zeros(2), "landmarks must be int64 and confidences float32"),
        (np.zeros(2, np.int64), np.array([0, math.nan], np.float32), "no confidence may be NaN"),
    ],
)
def test_a_recognition_that_cannot_be_is_refused(landmarks, confidences, message):
    with pytest.raises(ValueError, match=message):
        recognition(landmarks, confidences)


def test_a_recognition_may_know_no_landmark():
    found = recognition(np.array([-1, 7]), np.array([0, 1], np.float32))
    assert found.landmark_Q.tolist() == [-1, 7]


@pytest.mark.parametrize("noun", [truth(), ranking([[0]], [[1]]), number(0.5, 0, 1)])
def test_a_noun_does_not_change(noun):
    with pytest.raises(AttributeError):
        noun.query_ids = ()
