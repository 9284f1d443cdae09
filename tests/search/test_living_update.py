"""What is known of photos changes in one step; descriptors and row numbers stay."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.search import LivingIndex, open_index
from landseer.types import Descriptors

IDS = tuple(f"p{number}" for number in range(5))
COLUMNS = st.dictionaries(
    st.sampled_from(["landmark", "country", "latitude", "stars", "my own"]),
    st.one_of(st.none(), st.integers(-5, 5)),
    max_size=3,
)


def rows(ids=IDS, seed=0):
    found = np.random.default_rng(seed).standard_normal((len(ids), 4)).astype(np.float32)
    return Descriptors(ids=tuple(ids), rows_ND=found, normalised=False)


def made(path, records=None):
    index = LivingIndex.create(path, model="m", dim=4, normalised=False)
    index.add(rows(), records or [{"id": photo, "stars": 1} for photo in IDS], model="m")
    return index


@pytest.fixture
def index(tmp_path):
    with made(tmp_path / "index") as index:
        yield index


def fitting(values):
    return {name: str(v) if name == "country" and v is not None else v for name, v in values.items()}


@settings(max_examples=12)
@given(st.lists(st.dictionaries(st.sampled_from(IDS), COLUMNS, max_size=4), max_size=4))
def test_records_are_those_of_a_dictionary(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("index") / "index"
    expected = {photo: {"id": photo, "kind": "unknown", "stars": 1} for photo in IDS}
    with made(path) as index, open_index(path) as reader:
        ranking = reader.search(rows(seed=1), k=5)
        for step in steps:
            changes = {photo: fitting(values) for photo, values in step.items()}
            assert index.update(changes) == len(changes)
            for photo, values in changes.items():
                expected[photo].update(values)
        plain = {p: {n: v for n, v in facts.items() if v is not None} for p, facts in expected.items()}
        found = reader.photos(IDS)
        assert {p: {n: v for n, v in facts.items() if v is not None} for p, facts in found.items()} == plain
        for landmark in range(-5, 6):
            mine = [photo for photo in IDS if plain[photo].get("landmark") == landmark]
            assert list(reader.ids_where(f"landmark = {landmark}")) == mine
        again = reader.search(rows(seed=1), k=5)
        assert np.array_equal(again.positions_QK, ranking.positions_QK)
        assert np.array_equal(again.scores_QK, ranking.scores_QK)
        assert reader.verify() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"p0": {"landmark": 1}, "absent": {"landmark": 2}}, "1 photos are not in .*, the first is 'absent'"),
        (
            {"p0": {"landmark": 1}, "p1": {"landmark": "one"}},
            "photo 'p1', column 'landmark': cannot keep 'one'",
        ),
        ({"p0": {"landmark": 1}, "p1": {"id": "other"}}, "photo 'p1' keeps its id"),
        ({"p0": {"landmark": 1}, "p1": {"kind": "building"}}, "unknown kind 'building'"),
        ({"p0": {'a"b': 1}}, "column .* needs a name of printable characters"),
    ],
)
def test_a_mistake_in_one_changes_none(index, changes, words):
    before = index.photos(IDS), index.generation
    with pytest.raises(ValueError, match=words):
        index.update(changes)
    assert (index.photos(IDS), index.generation) == before


def test_only_the_writer_changes_records(index):
    with open_index(index.path) as reader, pytest.raises(ValueError, match="open for reading"):
        reader.update({"p0": {"landmark": 1}})


def test_nothing_to_change_is_no_step(index):
    before = index.generation
    assert index.update({}) == 0
    assert index.generation == before


def test_a_changed_record_is_under_its_checksum(index):
    index.update({"p2": {"country": "FR"}})
    index._open_catalogue()._db.execute("UPDATE photos SET country = 'DE' WHERE id = 'p2'")
    with open_index(index.path) as reader, pytest.raises(ValueError, match="photo records 0 to 255 changed"):
        reader.photos(["p2"])


def test_labels_outlive_compaction_and_a_rebuild(index):
    index.remove(["p1"])
    index.update({"p3": {"landmark": 7, "new column": "x"}})
    index.compact()
    index.begin_rebuild(model="other", dim=4, normalised=False)
    index.stage(rows([p for p in IDS if p != "p1"]), model="other")
    index.finish_rebuild()
    assert index.photos(["p3"])["p3"]["landmark"] == 7
    assert index.ids_where("\"new column\" = 'x'") == ("p3",)


def test_groups_are_counted_as_a_loop_counts_them(tmp_path):
    records = [
        {"id": "p0", "landmark": 5, "name": None, "latitude": 10.0},
        {"id": "p1", "landmark": 2, "name": "two", "latitude": None},
        {"id": "p2", "landmark": 5, "name": "five", "latitude": 20.0},
        {"id": "p3", "landmark": None, "name": "none", "latitude": 1.0},
        {"id": "p4", "landmark": 5, "name": "five", "latitude": 60.0},
    ]
    with made(tmp_path / "index", records) as index:
        index.remove(["p4"])
        found = index.groups("landmark", any_of=("name", "absent"), mean_of=("latitude",))
        assert found == [
            {"landmark": 2, "photos": 1, "cover": "p1", "name": "two", "absent": None, "latitude": None},
            {"landmark": 5, "photos": 2, "cover": "p0", "name": "five", "absent": None, "latitude": 15.0},
        ]
        with pytest.raises(ValueError, match=re.escape("no column 'absent' (known: id, ")):
            index.groups("absent")


def test_pages_put_together_are_all_photos(index):
    index.remove(["p1"])
    for where in (None, "stars = 1", "stars = 2"):
        together, after = [], -1
        while after is not None:
            ids, after, total = index.page(where, after=after, limit=2)
            together += ids
        assert tuple(together) == index.ids_where(where)
        assert total == len(together)
    assert index.page(limit=0) == ((), None, 4)


def test_settings_are_kept_and_change_nothing_else(index):
    before = index.photos(IDS)
    index.keep({"reranking": [{"method": "expansion"}], "pair": (1, 2)})
    with open_index(index.path) as reader:
        assert reader.settings == {"reranking": [{"method": "expansion"}], "pair": [1, 2]}
        assert (reader.model, reader.photos(IDS)) == ("m", before)


def test_a_hidden_column_cannot_be_asked_for(index):
    index.check_filter("stars = 1")
    with pytest.raises(ValueError, match="no column 'stars'"):
        index.check_filter("landmark = 2 or stars = 1", hidden=("stars",))
