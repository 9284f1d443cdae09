"""What was seen before it is asked: copies across splits, landmarks by id, category, name and words."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from landseer.cleaning.duplicates import Duplicates
from landseer.cleaning.leaks import (
    category_title,
    landmark_leaks,
    landmarks_of_queries,
    landmarks_trained_on,
    names_in_ids,
    own_landmark_leaks,
    photo_leaks,
    place_words,
    trained_share,
    words_of,
)
from landseer.cleaning.pictures import Link
from landseer.cleaning.pool import Pool
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Truth

WIKI = "http://commons.wikimedia.org/wiki/Category:"


def collection(photos, landmarks=(), truth=None, fingerprint=""):
    """*photos*: id -> (split, landmark); *landmarks*: id -> (name, category)."""
    rows = [
        {"id": photo, "path": photo, "landmark": landmark, "kind": "unknown", "clean": True, "split": split}
        for photo, (split, landmark) in photos.items()
    ]
    known = dict(landmarks) or {n: (None, None) for _, n in photos.values() if n is not None}
    table = [{"landmark": n, "name": name, "category": category} for n, (name, category) in known.items()]
    return Collection(
        photos=pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist(table, schema=LANDMARK_SCHEMA),
        root=Path(),
        truth=truth,
        fingerprint=fingerprint,
    )


def leaks_of(ours, others=None, files=None, links=()):
    pool = Pool.of(ours, others or {})
    file_N = np.arange(len(pool)) if files is None else np.array(files)
    found = photo_leaks(pool, Duplicates(file_N=file_N, links=tuple(links), copies=(), scenes=(), compared=0))
    return [(pool.ids[leak.earlier], pool.ids[leak.later], leak.kind, leak.copies) for leak in found]


SPLITS = {
    "t1": ("train", 1),
    "t2": ("train", 1),
    "v": ("validation", 1),
    "i": ("index", 1),
    "q": ("query", 1),
}


def test_equal_files_leak_from_each_earlier_split_into_each_later_one():
    assert leaks_of(collection(SPLITS), files=[0, 0, 0, 0, 4]) == [
        ("t1", "v", "bytes", 2),
        ("t1", "i", "bytes", 2),
        ("v", "i", "bytes", 1),
    ]
    assert leaks_of(collection(SPLITS), files=[0, 0, 2, 3, 4]) == [], (
        "two of train are doubled, nothing leaks"
    )


def test_a_picture_leaks_whichever_row_stands_first_and_a_scene_does_not():
    picture = Link(first=1, second=4, kind="picture", likeness=0.9)
    scene = Link(first=0, second=3, kind="scene", inliers=99)
    assert leaks_of(collection(SPLITS), links=[picture, scene]) == [("t2", "q", "picture", 1)]
    turned = dict(reversed(SPLITS.items()))
    picture = Link(first=0, second=3, kind="picture", likeness=0.9)
    assert leaks_of(collection(turned), links=[picture]) == [("t2", "q", "picture", 1)]


def test_the_surest_copy_is_told_and_all_are_counted():
    links = [
        Link(first=0, second=4, kind="picture", likeness=0.8),
        Link(first=1, second=4, kind="picture", likeness=0.95),
    ]
    assert leaks_of(collection(SPLITS), links=links) == [("t2", "q", "picture", 2)]
    between_files = [Link(first=0, second=1, kind="picture", likeness=0.8)]
    assert leaks_of(collection(SPLITS), links=between_files, files=[0, 1, 2, 3, 1]) == [
        ("t2", "q", "bytes", 2)
    ]


def test_another_collection_is_only_leaked_into():
    other = collection({"a": ("query", None), "b": ("index", None), "c": ("train", None)})
    ours = collection({"t": ("train", None), "q": ("query", None)})
    assert leaks_of(ours, {"other": other}, files=[0, 1, 0, 0]) == [
        ("t", "1:a", "bytes", 1),
        ("t", "1:b", "bytes", 1),
    ]
    assert leaks_of(ours, {"other": other}, files=[0, 1, 1, 1]) == [], (
        "queries of both: nothing was trained on"
    )
    with pytest.raises(ValueError, match="other has no photo in split query or index"):
        Pool.of(ours, {"other": collection({"c": ("train", None)})})


def test_within_a_collection_landmarks_are_the_same_by_id():
    truth = Truth(
        query_ids=("q1", "q2", "q3"),
        relevant=((), (), ()),
        junk=((), (), ()),
        landmarks=((1, 3), (), ()),
        split=("Public",) * 3,
        recognition_split=("Public",) * 3,
    )
    photos = {
        "a": ("train", 1), "b": ("train", 1), "c": ("train", 2), "d": ("train", 9), "i": ("index", 2),
        "q1": ("query", 3), "q2": ("query", 4), "q3": ("query", None),
    }  # fmt: skip
    known = collection(photos, truth=truth)
    assert landmarks_of_queries(known) == {"q1": (1, 3), "q2": (4,), "q3": ()}
    found = own_landmark_leaks(known)
    assert [(leak.landmark, leak.how, leak.photos, leak.queries) for leak in found] == [
        (1, "id", 2, 1),
        (2, "id", 1, 0),
    ]
    share = trained_share(known, found)
    assert (share.queries, share.seen, share.unknown, share.share) == (3, 1, 1, 0.5)


TRAINED = collection(
    {str(n): ("train", n) for n in range(1, 9)},
    {
        1: ("Tour d'Or", WIKI + "Tour_d%27Or,_Seville"),
        2: ("Sacré-Cœur", WIKI + "Basilique_du_Sacré-Cœur_de_Montmartre"),
        3: ("All Souls College", WIKI + "All_Souls_College,_Oxford"),
        4: ("Christ Church", WIKI + "Christ_Church_(Dublin)"),
        5: ("Musée d'Orsay", WIKI + "Musée_d'Orsay,_Paris"),
        6: ("Old Mill", None),
        7: ("St Mary", WIKI + "St_Mary,_Ghent"),
        8: (None, None),
        99: ("never trained on", WIKI + "Nowhere"),
    },
)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (("anything", WIKI.replace("http", "https") + "Tour_d'Or,_Seville"), [("category", 1)]),
        (("Tour d’Or", None), [("name", 1)]),
        (("Sacre Coeur", None), [("name", 2)]),
        (("College, All Souls", None), [("name", 3)]),
        (("Old Mill", WIKI + "Old_Mill,_Springfield"), [("name", 6)]),
        (("St Mary", WIKI + "St_Mary,_Leeds"), []),  # both have categories, and these differ
        (("All Souls", None), []),  # a name is no part of a name
        (("never trained on", WIKI + "Nowhere"), []),
    ],
)
def test_between_collections_landmarks_are_the_same_by_category_or_name(named, expected):
    other = collection({"q": ("query", 50)}, {50: named})
    found = landmark_leaks(TRAINED, other)
    assert [(leak.how, leak.trained) for leak in found] == expected
    assert landmarks_trained_on(TRAINED, other) == ({50} if expected else set())


def test_names_are_read_from_the_ids_of_queries_where_there_are_no_others():
    ids = [
        "all_souls_000013", "all_souls_000026", "oxford_002985", "christ_church_000179", "oxford_000001",
        "oxford_000002", "ashmolean_000058",
    ]  # fmt: skip
    landmarks = [0, 0, 0, 1, 2, 2, 3]
    other = collection({photo: ("query", n) for photo, n in zip(ids, landmarks, strict=True)})
    assert place_words(tuple(ids)) == {"oxford", "all"}, "of seven ids; a quarter is more among thousands"
    many = {f"oxford_{n:06}": ("index", None) for n in range(100, 120)}
    other = collection({**{photo: ("query", n) for photo, n in zip(ids, landmarks, strict=True)}, **many})
    assert place_words(other.ids) == {"oxford"}
    assert names_in_ids(other) == {0: ("all souls",), 1: ("christ church",), 3: ("ashmolean",)}
    found = landmark_leaks(TRAINED, other)
    assert [(leak.name, leak.how, leak.trained, leak.queries) for leak in found] == [
        ("all souls", "words and place", 3, 3),
        ("christ church", "words", 4, 1),
    ]
    share = trained_share(other, found)
    assert (share.queries, share.seen, share.unknown) == (7, 3, 0), "words alone are a hint, not counted"
    assert landmarks_trained_on(TRAINED, other) == {0}


def test_glued_names_are_found_with_the_place_in_front():
    queries = {f"paris_museedorsay_{n:06}": ("query", 0) for n in range(3)}
    found = landmark_leaks(TRAINED, collection(queries))
    assert [(leak.name, leak.how, leak.trained) for leak in found] == [("museedorsay", "words and place", 5)]


def test_words_of_a_name_may_stand_apart_and_short_ones_only_as_words():
    trained = collection(
        {"t1": ("train", 1), "t2": ("train", 2)},
        {1: ("Camera of John Radcliffe", WIKI + "Oxford"), 2: ("Newton Square, Oxford", None)},
    )
    ids = {"radcliffe_camera_01": ("query", 0), "new_01": ("query", 1)}
    more = {f"oxford_{n}": ("index", None) for n in range(20)}
    found = landmark_leaks(trained, collection({**ids, **more}))
    assert [(leak.name, leak.how, leak.trained) for leak in found] == [
        ("radcliffe camera", "words and place", 1)
    ]


def test_ids_that_are_numbers_say_nothing():
    other = collection({"0a1b2c": ("query", 1), "77": ("query", 2), "": ("query", 3)})
    assert names_in_ids(other) == {}
    assert landmark_leaks(TRAINED, other) == ()
    assert landmarks_trained_on(TRAINED, other) == set(range(1, 9)), "without names ids are all there is"


def test_one_collection_is_known_by_its_ids():
    one = collection({"t": ("train", 5), "q": ("query", 5)}, {5: ("a", None)}, fingerprint="same")
    assert landmarks_trained_on(one, one) == {5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Tour d'Or_(Séville)", ("tour", "d", "or", "seville")),
        ("ŒUVRE Straße Łódź Ærø İzmir", ("oeuvre", "strasse", "lodz", "aero", "izmir")),
        ("東京タワー", ("東京タワー",)),
        ("  -- ", ()),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_category_titles():
    assert category_title(WIKI + "Tour_d%27Or") == "Tour d'Or"
    assert category_title("Category:Caf%C3%A9") == "Café"
    assert category_title("plain title") == "plain title"
