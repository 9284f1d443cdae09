"""Every noun comes back from its folder as it went in, and damage to any byte is noticed."""

from __future__ import annotations

import datetime
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landseer import storage
from landseer.types import (
    LANDMARK_SCHEMA,
    PHOTO_SCHEMA,
    SCORED_SPLITS,
    Collection,
    Descriptors,
    Number,
    Ranking,
    Report,
    Truth,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
IDS = st.lists(TEXT, unique=True, max_size=8).map(tuple)
NUMBERS = st.integers(0, 2**32 - 1)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MADE_BY = {"recipe": "0123456789abcdef"}


def truth() -> Truth:
    return Truth(
        query_ids=("q1", "q2", "q3"),
        relevant=(("a", "b"), (), ("c",)),
        junk=((), (), ("a",)),
        landmarks=((7,), (), (7, -3)),
        split=("Public", "Ignored", "Private"),
        recognition_split=("Public", "Public", "Private"),
    )


def collection(root: Path) -> Collection:
    photos = [
        {"id": "a", "path": "a.jpg", "landmark": 7, "kind": "landmark", "clean": True, "split": "train"},
        {
            "id": "ü 塔",
            "path": "s.tar::b.jpg",
            "kind": "none",
            "clean": False,
            "split": "index",
            "country": "NA",
        },
        {
            "id": "q1",
            "path": "c.jpg",
            "landmark": -3,
            "kind": "unknown",
            "clean": False,
            "split": "query",
            "taken": datetime.datetime(2019, 5, 1, 12, 30, 0, 5000),
            "latitude": 48.25,
            "longitude": -16.5,
        },
    ]
    table = pa.Table.from_pylist(photos, schema=PHOTO_SCHEMA).append_column(
        "camera", pa.array(["X", None, "Y"])
    )
    landmarks = pa.Table.from_pylist(
        [{"landmark": -3, "name": "Łódź"}, {"landmark": 7, "country": "NA", "source_landmark": 9}],
        schema=LANDMARK_SCHEMA,
    )
    return Collection(photos=table, landmarks=landmarks, root=root, truth=truth())


def descriptors() -> Descriptors:
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    return Descriptors(ids=tuple("abcde"), rows_ND=rows, unreadable={"f": "zero bytes"})


def ranking() -> Ranking:
    return Ranking(
        query_ids=("q1", "q2"),
        gallery_ids=("a", "b", "c"),
        positions_QK=np.array([[2, 0, -1], [1, 0, 2]]),
        scores_QK=np.array([[0.5, 0.25, -np.inf], [1, 1, -1]], np.float32),
        score_kind="tier",
        gallery_fingerprint="fedc",
    )


def report() -> Report:
    numbers = (
        Number(name="mAP@100", value=0.5, low=0.25, high=0.75, num_queries=9, group="Private"),
        Number(name="GAP", value=math.nan, low=math.nan, high=math.nan, num_queries=0, group="Public"),
    )
    return Report(title="A run", numbers=numbers, protocol={"k": "100"}, made_by={"recipe": "01"})


def same(left: object, right: object) -> bool:
    """Equality of two nouns, arrays and tables by content, NaN equal to NaN, fingerprints aside."""
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, pa.Table):
        return left.equals(right)
    if hasattr(left, "__dataclass_fields__"):
        names = [entry.name for entry in fields(left) if entry.name != "fingerprint"]
        return type(left) is type(right) and all(same(getattr(left, n), getattr(right, n)) for n in names)
    if isinstance(left, tuple):
        return isinstance(right, tuple) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return left == right


SAVED: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "collection": (
        lambda path: storage.save_collection(
            collection(path.parent), path, made_by=MADE_BY, summary={"missing": ["x.jpg"]}
        ),
        storage.load_collection,
    ),
    "descriptors": (
        lambda path: storage.save_descriptors(descriptors(), path, made_by=MADE_BY),
        storage.load_descriptors,
    ),
    "ranking": (lambda path: storage.save_ranking(ranking(), path, made_by=MADE_BY), storage.load_ranking),
    "report": (
        lambda path: storage.save_report(report(), path, tables={"queries": pa.table({"ap": [0.5, 1.0]})}),
        storage.load_report,
    ),
}


def test_a_collection_comes_back(tmp_path):
    before = collection(tmp_path)
    saved = storage.save_collection(before, tmp_path / "c", made_by=MADE_BY, parents={"collection": "0"})
    after = storage.load_collection(tmp_path / "c")
    assert same(after, before)
    assert after.fingerprint == saved.fingerprint != ""
    assert after.photos.schema.equals(before.photos.schema)
    assert after.name_of(-3) == "Łódź"
    assert after.name_of(7) == "landmark 7"


def test_a_collection_moves_with_its_photos(tmp_path):
    storage.save_collection(collection(tmp_path), tmp_path / "c", made_by=MADE_BY)
    moved = storage.load_collection(tmp_path / "c", root=tmp_path / "elsewhere")
    assert moved.root == tmp_path / "elsewhere"
    here = replace(collection(tmp_path), root=tmp_path / "there")
    again = storage.save_collection(here, tmp_path / "d", made_by=MADE_BY)
    assert again.fingerprint == moved.fingerprint, "where photos lie is no part of the identity"


def test_a_collection_is_what_its_rows_say(tmp_path):
    first = storage.save_collection(collection(tmp_path), tmp_path / "c", made_by=MADE_BY)
    fewer = storage.save_collection(
        collection(tmp_path).select(np.array([True, True, False])), tmp_path / "d", made_by=MADE_BY
    )
    assert first.fingerprint != fewer.fingerprint


def test_a_collection_of_nothing_comes_back(tmp_path):
    empty = Collection(
        photos=PHOTO_SCHEMA.empty_table(), landmarks=LANDMARK_SCHEMA.empty_table(), root=tmp_path
    )
    storage.save_collection(empty, tmp_path / "c", made_by=MADE_BY)
    after = storage.load_collection(tmp_path / "c")
    assert same(after, empty)
    assert len(after) == 0
    with pytest.raises(ValueError, match="holds no truth"):
        storage.load_truth(tmp_path / "c")


@QUICK
@given(IDS, st.data())
def test_any_truth_comes_back(ids, data):
    def each(entries: st.SearchStrategy) -> tuple:
        return tuple(data.draw(entries) for _ in ids)

    splits = st.sampled_from(SCORED_SPLITS)
    before = Truth(
        query_ids=ids,
        relevant=each(st.lists(TEXT.map("r".__add__), unique=True, max_size=4).map(tuple)),
        junk=each(st.lists(TEXT.map("j".__add__), max_size=4).map(tuple)),
        landmarks=each(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(tuple)),
        split=each(splits),
        recognition_split=each(splits),
    )
    with tempfile.TemporaryDirectory() as folder:
        storage.save_collection(
            replace(collection(Path(folder)), truth=before), Path(folder, "c"), made_by=MADE_BY
        )
        assert same(storage.load_truth(Path(folder, "c")), before)


@QUICK
@given(
    IDS, st.integers(0, 5), st.sampled_from([np.float32, np.float16]), NUMBERS, st.booleans(), st.booleans()
)
def test_any_descriptors_come_back(ids, dim, dtype, seed, normalised, mmap):
    rows = np.random.default_rng(seed).normal(size=(len(ids), dim)).astype(dtype)
    before = Descriptors(
        ids=ids, rows_ND=rows, metric="euclidean", normalised=normalised, unreadable={"x": "gone\n"}
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = storage.save_descriptors(before, Path(folder, "d"), made_by=MADE_BY)
        after = storage.load_descriptors(Path(folder, "d"), made_by=saved.fingerprint, mmap=mmap)
        assert same(after, before)
        assert same(saved, before)
        assert after.fingerprint == saved.fingerprint


@QUICK
@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 6), NUMBERS)
def test_any_ranking_comes_back(num_queries, k, filled, seed):
    rng = np.random.default_rng(seed)
    filled = min(filled, k)
    positions = np.full((num_queries, k), -1)
    scores = np.full((num_queries, k), -np.inf, np.float32)
    for row in range(num_queries):
        positions[row, :filled] = rng.permutation(9)[:filled]
        scores[row, :filled] = -np.sort(-rng.normal(size=filled))
    before = Ranking(
        query_ids=tuple(f"q{row}" for row in range(num_queries)),
        gallery_ids=tuple("abcdefghi"),
        positions_QK=positions,
        scores_QK=scores,
        score_kind="votes",
        gallery_fingerprint="f",
    )
    with tempfile.TemporaryDirectory() as folder:
        storage.save_ranking(before, Path(folder, "r"), made_by=MADE_BY)
        assert same(storage.load_ranking(Path(folder, "r")), before)


def test_a_report_comes_back(tmp_path):
    storage.save_report(
        report(), tmp_path / "r", parents={"ranking": "9"}, tables={"q": pa.table({"ap": [1.0]})}
    )
    assert same(storage.load_report(tmp_path / "r"), report())
    assert storage.read_table(tmp_path / "r" / "q.parquet")["ap"].to_pylist() == [1.0]
    assert "NaN" not in (tmp_path / "r" / "report.json").read_text(), "other programs read JSON without NaN"


def test_descriptors_made_by_other_settings_are_refused(tmp_path):
    storage.save_descriptors(descriptors(), tmp_path / "d", made_by=MADE_BY, fingerprint="aaaa")
    assert storage.load_descriptors(tmp_path / "d", made_by="aaaa").fingerprint == "aaaa"
    with pytest.raises(ValueError, match=r"made by other settings \(aaaa, not bbbb\); make it again"):
        storage.load_descriptors(tmp_path / "d", made_by="bbbb")


def test_no_noun_is_taken_for_another(tmp_path):
    for name, (save, _) in SAVED.items():
        save(tmp_path / name)
    for name in SAVED:
        for other, (_, load) in SAVED.items():
            if other != name:
                with pytest.raises(ValueError, match=f"is a landseer {name}, not a {other}"):
                    load(tmp_path / name)


def damage_is_noticed(tmp_path: Path, noun: str, *, flips: int | None) -> None:
    """Flip bits of every file, *flips* positions a file or all: the load fails clearly or gives the same."""
    save, load = SAVED[noun]
    save(tmp_path / noun)
    before = load(tmp_path / noun)
    rng = np.random.default_rng(3)
    noticed = 0
    for file in sorted((tmp_path / noun).iterdir()):
        intact = file.read_bytes()
        positions = range(len(intact))
        if flips is not None and flips < len(intact):
            positions = rng.choice(len(intact), size=flips, replace=False)
        for position in positions:
            damaged = bytearray(intact)
            damaged[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            try:
                assert same(load(tmp_path / noun), before), (
                    f"{file.name}, byte {position}: damage went unnoticed"
                )
            except ValueError:
                noticed += 1
        file.write_bytes(intact)
    assert noticed > 0
    assert same(load(tmp_path / noun), before)


@pytest.mark.parametrize("noun", SAVED)
def test_damage_is_noticed(tmp_path, noun):
    damage_is_noticed(tmp_path, noun, flips=200)


@pytest.mark.slow
@pytest.mark.parametrize("noun", SAVED)
def test_damage_of_any_byte_is_noticed(tmp_path, noun):
    damage_is_noticed(tmp_path, noun, flips=None)


@pytest.mark.parametrize("noun", SAVED)
def test_a_file_that_is_gone_or_cut_is_named(tmp_path, noun):
    save, load = SAVED[noun]
    save(tmp_path / noun)
    for file in sorted((tmp_path / noun).iterdir()):
        shutil.copytree(tmp_path / noun, tmp_path / "copy")
        copy = tmp_path / "copy" / file.name
        copy.write_bytes(copy.read_bytes()[:-2])  # more than a last line break
        with pytest.raises(ValueError, match=file.name):
            load(tmp_path / "copy")
        copy.unlink()
        with pytest.raises(ValueError, match=file.name):
            load(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")


def test_an_array_swapped_for_a_pickle_is_refused(tmp_path):
    """Even where the checksums are not compared, nothing is unpickled."""
    storage.save_descriptors(descriptors(), tmp_path / "d", made_by=MADE_BY)
    rows = tmp_path / "d" / "rows.npy"
    size = rows.stat().st_size
    np.save(rows, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    with rows.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ValueError, match=r"rows\.npy cannot be read as an array"):
        storage.load_descriptors(tmp_path / "d", check=False)
    with pytest.raises(ValueError, match=r"rows\.npy is damaged"):
        storage.load_descriptors(tmp_path / "d")
