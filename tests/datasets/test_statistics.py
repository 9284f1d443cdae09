"""What labels look like, counted by hand."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.datasets.statistics import doubling_bins, label_statistics
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection


def collection(rows, countries=None):
    """*rows*: (split, landmark, clean, country)."""
    photos = [
        {"id": str(n), "path": str(n), "landmark": landmark, "clean": clean, "split": split, "country": country,
         "kind": "landmark" if landmark is not None else "none" if n % 2 else "unknown"}
        for n, (split, landmark, clean, country) in enumerate(rows)
    ]  # fmt: skip
    known = sorted({row[1] for row in rows if row[1] is not None})
    table = [{"landmark": n, "name": f"place {n}", "country": (countries or {}).get(n)} for n in known]
    return Collection(
        photos=pa.Table.from_pylist(photos, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist(table, schema=LANDMARK_SCHEMA),
        root=Path(),
    )


ROWS = [
    ("train", 7, True, "FR"),
    ("train", 7, False, None),
    ("train", 7, True, "DE"),
    ("train", 3, False, None),
    ("train", None, False, "JP"),
    ("index", 9, True, None),
    ("query", None, False, None),
]


def test_splits_kinds_and_countries_are_counted():
    found = label_statistics(collection(ROWS, {7: "FR", 3: "JP"}))
    train = found.splits["train"]
    assert (train.photos, train.labelled, train.clean, train.landmarks) == (5, 4, 2, 2)
    assert train.clean_share == 0.5
    assert found.splits["query"].clean_share is None
    assert found.kinds == {"landmark": 5, "none": 0, "unknown": 2}
    assert found.countries == {"FR": 2, "JP": 2, "DE": 1}, "a photo without a country has its landmark's"
    assert list(found.continents.items()) == [("Europe", 3), ("Asia", 2)]
    assert found.without_country == 2
    assert found.conflicting_countries == 1


def test_the_tail_is_of_training_photos_where_there_are_any():
    tail = label_statistics(collection(ROWS)).tail
    assert (tail.split, tail.counts, tail.singles) == ("train", (3, 1), 1)
    assert (tail.median, tail.mean, tail.half) == (2.0, 2.0, 1)
    assert tail.largest == ((7, "place 7", 3), (3, "place 3", 1))
    tail = label_statistics(collection(ROWS[5:])).tail
    assert (tail.split, tail.counts) == ("all", (1,))
    assert label_statistics(collection(ROWS[6:])).tail is None


@given(st.lists(st.integers(1, 12), min_size=1, max_size=200))
def test_half_of_the_photos_show_so_many_landmarks(labels):
    tail = label_statistics(collection([("train", n, False, None) for n in labels])).tail
    counts = sorted((labels.count(n) for n in set(labels)), reverse=True)
    assert list(tail.counts) == counts
    assert 2 * sum(counts[: tail.half]) >= len(labels)
    assert 2 * sum(counts[: tail.half - 1]) < len(labels)


@given(st.lists(st.integers(1, 10_000), min_size=1))
def test_every_landmark_lies_in_one_bin(counts):
    bins = doubling_bins(tuple(counts))
    assert sum(bins.values()) == len(counts)
    for name, num in bins.items():
        low, _, high = name.partition("-")
        assert num == sum(int(low) <= count <= int(high or low) for count in counts)


def test_json_has_bins_for_counts():
    facts = label_statistics(collection(ROWS)).to_dict()
    assert facts["tail"]["landmarks_by_photos"] == {"1": 1, "2-3": 1}
    assert facts["tail"]["landmarks"] == 2
    assert "counts" not in facts["tail"]
    assert facts["splits"]["train"]["clean_share"] == 0.5


def test_an_unknown_country_is_told():
    with pytest.raises(ValueError, match="'XX' is no ISO 3166-1"):
        label_statistics(collection([("train", None, False, "XX")]))
