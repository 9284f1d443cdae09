"""Truths made from what a collection says of its photos: same landmark, or taken nearby.

Axes: Q queries, N gallery photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from landseer.types import Collection, Truth

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius of the Earth in metres (IUGG)."""
_METRES_PER_DEGREE = EARTH_RADIUS_M * np.pi / 180


def truth_by_landmark(collection: Collection, queries: Sequence[str], gallery: Sequence[str]) -> Truth:
    """For each of *queries* the photos of *gallery* with its landmark are relevant, and itself is junk.

    A query without a landmark has nothing relevant.  Raises ``ValueError`` for an id that is not in
    *collection*, and where no query has a landmark.
    """
    row_of = _rows(collection)
    landmark_Q = collection.landmark_N[_rows_of(queries, row_of, "query")]
    if not np.any(landmark_Q >= 0):
        raise ValueError(
            "no query has a landmark; neighbours by labels need a collection whose queries have one"
        )
    gallery = tuple(dict.fromkeys(gallery))
    members: dict[int, list[str]] = defaultdict(list)
    landmark_N = collection.landmark_N[_rows_of(gallery, row_of, "gallery photo")]
    for photo, landmark in zip(gallery, landmark_N.tolist(), strict=True):
        if landmark >= 0:
            members[landmark].append(photo)
    # one tuple a landmark, shared by its queries: memory grows with the gallery, not with queries x photos
    shared = {landmark: tuple(photos) for landmark, photos in members.items()}
    inside = set(gallery)
    relevant = [shared.get(landmark, ()) for landmark in landmark_Q.tolist()]
    return _truth(
        queries,
        [
            tuple(photo for photo in photos if photo != query) if query in inside else photos
            for query, photos in zip(queries, relevant, strict=True)
        ],
        [(query,) if query in inside else () for query in queries],
        [(landmark,) if landmark >= 0 else () for landmark in landmark_Q.tolist()],
    )


def truth_within(
    collection: Collection, queries: Sequence[str], gallery: Sequence[str], *, metres: float = 25.0
) -> Truth:
    """For each of *queries* the photos of *gallery* taken within *metres* are relevant, and itself is junk.

    Raises ``ValueError`` for an id that is not in *collection*, and for a photo without latitude and longitude:
    how far it is from a query nobody knows.
    """
    if not metres > 0:
        raise ValueError(f"metres must be above 0, not {metres}")
    row_of = _rows(collection)
    gallery = tuple(dict.fromkeys(gallery))
    rows_Q, rows_N = _rows_of(queries, row_of, "query"), _rows_of(gallery, row_of, "gallery photo")
    place_Q2, place_N2 = _places(collection, queries, rows_Q), _places(collection, gallery, rows_N)
    order_N = np.argsort(place_N2[:, 0], kind="stable")
    sorted_N2 = place_N2[order_N]
    # a photo within so many metres is within so many degrees of latitude, and a hair more for rounding
    reach = metres / _METRES_PER_DEGREE + 1e-9
    low_Q = np.searchsorted(sorted_N2[:, 0], place_Q2[:, 0] - reach)
    high_Q = np.searchsorted(sorted_N2[:, 0], place_Q2[:, 0] + reach)
    relevant = []
    for query, place, low, high in zip(queries, place_Q2, low_Q, high_Q, strict=True):
        near = order_N[low:high][distance_m(place, sorted_N2[low:high]) <= metres]
        relevant.append(tuple(gallery[n] for n in np.sort(near) if gallery[n] != query))
    inside = set(gallery)
    landmarks = [(landmark,) if landmark >= 0 else () for landmark in collection.landmark_N[rows_Q].tolist()]
    return _truth(queries, relevant, [(query,) if query in inside else () for query in queries], landmarks)


def distance_m(place: np.ndarray, place_N2: np.ndarray) -> np.ndarray:
    """Great-circle distances in metres by the haversine formula: float64 ``[N]``.

    *place* is (latitude, longitude) in degrees, *place_N2* one such row a photo.
    """
    latitude, longitude = np.radians(place)
    latitude_N, longitude_N = np.radians(place_N2.T)
    half_chord_N = (
        np.sin((latitude_N - latitude) / 2) ** 2
        + np.cos(latitude) * np.cos(latitude_N) * np.sin((longitude_N - longitude) / 2) ** 2
    )
    distance_N: np.ndarray = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half_chord_N, 1.0)))
    return distance_N


def _rows(collection: Collection) -> dict[str, int]:
    return {photo: row for row, photo in enumerate(collection.ids)}


def _rows_of(photos: Sequence[str], row_of: dict[str, int], role: str) -> np.ndarray:
    missing = next((photo for photo in photos if photo not in row_of), None)
    if missing is not None:
        raise ValueError(
            f"{role} {missing!r} of the ranking is not in the collection; is this the collection of another set?"
        )
    return np.array([row_of[photo] for photo in photos], np.int64)


def _places(collection: Collection, photos: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """(latitude, longitude) in degrees of each photo, float64 ``[n, 2]``."""
    columns = [collection.photos[name].to_numpy()[rows] for name in ("latitude", "longitude")]
    places = np.stack(columns, axis=1).astype(np.float64)
    lost = np.flatnonzero(np.isnan(places).any(axis=1))
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(photos)} photos have no latitude and longitude, {photos[lost[0]]!r} for one; "
            "places needs those of every query and gallery photo"
        )
    return places


def _truth(
    queries: Sequence[str],
    relevant: Sequence[tuple[str, ...]],
    junk: Sequence[tuple[str, ...]],
    landmarks: Sequence[tuple[int, ...]],
) -> Truth:
    return Truth(
        query_ids=tuple(queries),
        relevant=tuple(relevant),
        junk=tuple(junk),
        landmarks=tuple(landmarks),
        split=("Public",) * len(queries),
        recognition_split=("Public",) * len(queries),
    )
