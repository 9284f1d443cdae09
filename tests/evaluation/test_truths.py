"""Truths by landmark and by distance, against loops over all pairs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation import truth_by_landmark, truth_within
from landseer.evaluation.truths import EARTH_RADIUS_M, distance_m
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Truth


def collection(rows):
    """Rows of (id, landmark, latitude, longitude)."""
    photos = [
        {"id": photo, "path": photo, "landmark": landmark, "kind": "unknown", "clean": False, "split": "index",
         "latitude": latitude, "longitude": longitude}
        for photo, landmark, latitude, longitude in rows
    ]  # fmt: skip
    landmarks = [
        {"landmark": landmark} for landmark in sorted({row[1] for row in rows if row[1] is not None})
    ]
    return Collection(
        photos=pa.Table.from_pylist(photos, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist(landmarks, schema=LANDMARK_SCHEMA),
        root=Path(),
    )


def slow_distance(a, b):
    """The angle between two unit vectors, by cross and dot product, times the radius."""

    def vector(place):
        latitude, longitude = np.radians(place)
        return np.array(
            [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
        )

    u, v = vector(a), vector(b)
    return EARTH_RADIUS_M * np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=40)
@given(PLACES, st.lists(PLACES, min_size=1, max_size=5))
def test_distances_agree_with_vectors(place, others):
    found = distance_m(np.array(place), np.array(others))
    for distance, other in zip(found, others, strict=True):
        assert distance == pytest.approx(slow_distance(place, other), rel=1e-6, abs=0.2)


def test_a_known_distance():
    """Paris to London: 343.5 km on the sphere."""
    paris, london = (48.8566, 2.3522), (51.5074, -0.1278)
    assert distance_m(np.array(paris), np.array([london]))[0] == pytest.approx(343_556, abs=10)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([10.0, 25.0, 80.0]))
def test_nearby_photos_agree_with_all_pairs(seed, metres):
    """About the date line, where longitudes jump, and near a pole, where they crowd."""
    rng = np.random.default_rng(seed)
    latitude = rng.choice([0.0, 51.5, 89.999]) + rng.uniform(-6e-4, 6e-4, 14)
    longitude = (180 + rng.uniform(-6e-4, 6e-4, 14) + 180) % 360 - 180
    rows = [(f"p{n}", None, lat, lon) for n, (lat, lon) in enumerate(zip(latitude, longitude, strict=True))]
    queries, gallery = [row[0] for row in rows[:5]], [row[0] for row in rows[3:]]
    truth = truth_within(collection(rows), queries, gallery, metres=metres)
    place = {row[0]: row[2:] for row in rows}
    for query, good, junk in zip(queries, truth.relevant, truth.junk, strict=True):
        near = [photo for photo in gallery if slow_distance(place[query], place[photo]) <= metres]
        assert list(good) == [photo for photo in near if photo != query]
        assert junk == ((query,) if query in gallery else ())


def test_same_landmark_is_relevant_and_oneself_is_junk():
    known = collection([("a", 1, None, None), ("b", 1, None, None), ("c", 2, None, None), ("d", None, None, None),
                        ("e", 9, None, None)])  # fmt: skip
    truth = truth_by_landmark(known, ("a", "d", "e", "b"), ("b", "c", "d", "a", "b"))
    assert truth.relevant == (("b",), (), (), ("a",))
    assert truth.junk == (("a",), ("d",), (), ("b",))
    assert truth.landmarks == ((1,), (), (9,), (1,))


def test_what_a_truth_cannot_be_made_of_is_refused():
    known = collection([("a", None, 1.0, 2.0), ("b", 3, 1.0, None), ("c", 3, 1.0, 2.0)])
    with pytest.raises(ValueError, match="query 'zz' of the ranking is not in the collection"):
        truth_by_landmark(known, ("zz",), ("a",))
    with pytest.raises(ValueError, match="gallery photo 'yy' of the ranking is not in the collection"):
        truth_within(known, ("a",), ("yy",))
    with pytest.raises(ValueError, match="no query has a landmark"):
        truth_by_landmark(known, ("a",), ("b",))
    with pytest.raises(ValueError, match="1 of 2 photos have no latitude and longitude, 'b' for one"):
        truth_within(known, ("a",), ("c", "b"))
    with pytest.raises(ValueError, match="metres must be above 0, not 0"):
        truth_within(known, ("a",), ("c",), metres=0)


def test_a_graded_truth_checks_itself():
    fields = {
        "query_ids": ("q",),
        "relevant": (("a", "b"),),
        "junk": ((),),
        "landmarks": ((),),
        "split": ("Public",),
        "recognition_split": ("Public",),
    }
    assert Truth(**fields).hard == () and Truth(**fields, hard=(("b",),)).hard == (("b",),)
    with pytest.raises(ValueError, match="query 'q' has a hard id that is not among its relevant ones"):
        Truth(**fields, hard=(("c",),))
    with pytest.raises(ValueError, match="truth has 1 queries but 2 entries of hard"):
        Truth(**fields, hard=((), ()))
