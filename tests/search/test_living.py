"""The living index against a dictionary of rows, and what it refuses."""

from __future__ import annotations

import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from landseer.search import LivingIndex, open_index, score
from landseer.search.living import view, writer
from landseer.types import PADDING, Descriptors

DIM = 3
COUNTRIES = ("FR", "DE", None)


def descriptors(ids, rows=None, *, dim=DIM, seed=0, normalised=False, dtype=np.float32):
    if rows is None:
        rows = np.random.default_rng(seed).standard_normal((len(ids), dim))
    return Descriptors(ids=tuple(ids), rows_ND=np.asarray(rows, dtype), normalised=normalised)


def records(ids, **columns):
    return [
        {"id": photo, **{name: values[n] for name, values in columns.items()}} for n, photo in enumerate(ids)
    ]


def new_index(path, **facts):
    return LivingIndex.create(path, **{"model": "m", "dim": DIM, "normalised": False, **facts})


def slow_answers(query_D, rows, k):
    """(row number, score) of the best, by the definition; *rows* maps row number -> vector."""
    found = sorted(((-score(query_D, vector), row) for row, vector in rows.items()))
    return [(row, -negative) for negative, row in found[:k]]


def answers(ranking, query):
    return [
        (int(row), value)
        for row, value in zip(ranking.positions_QK[query], ranking.scores_QK[query], strict=True)
        if row != PADDING
    ]


def hard_rows(rng, num, dim):
    """Rows that repeat, vanish, tie, nearly tie, or are of other magnitudes."""
    pool = np.concatenate([np.zeros((1, dim)), np.ones((1, dim)), rng.integers(-1, 2, size=(4, dim))])
    rows = pool[rng.integers(len(pool), size=num)].astype(np.float64)
    kind = rng.integers(0, 4, size=(num, 1))
    rows = np.where(kind == 1, rows * (1 + 2.0**-23), rows)
    rows = np.where(kind == 2, rows * 10.0 ** rng.integers(-20, 15, size=(num, 1)), rows)
    return np.where(kind == 3, rng.standard_normal((num, dim)), rows).astype(np.float32)


class Life(RuleBasedStateMachine):
    """Random changes, each also made to a dictionary; every search is compared with it."""

    @initialize(seed=st.integers(0, 2**32 - 1), prepared=st.booleans())
    def begin(self, seed, prepared):
        self.rng = np.random.default_rng(seed)
        self.folder = Path(tempfile.mkdtemp())
        self.index = new_index(self.folder / "index")
        self.reader = open_index(self.folder / "index")
        if prepared:
            self.reader.prepare()
        self.row_of: dict[str, int] = {}  # live photos
        self.vector_of: dict[int, np.ndarray] = {}
        self.facts_of: dict[int, tuple] = {}  # row -> (country, landmark)
        self.next_row = self.next_id = 0
        self.staged: dict[int, np.ndarray] | None = None
        self.model, self.dim = "m", DIM

    def teardown(self):
        if hasattr(self, "index"):
            self.index.close()
            self.reader.close()
            shutil.rmtree(self.folder)

    def write(self, ids, *, replace):
        rows = hard_rows(self.rng, len(ids), self.dim)
        facts = [(COUNTRIES[self.rng.integers(3)], int(self.rng.integers(20))) for _ in ids]
        table = records(ids, country=[c for c, _ in facts], landmark=[n for _, n in facts], path=list(ids))
        self.rng.shuffle(table)
        self.index.add(descriptors(ids, rows), table, model=self.model, replace=replace)
        for photo, vector, fact in zip(ids, rows, facts, strict=True):
            old = self.row_of.get(photo)
            self.vector_of.pop(old, None), self.facts_of.pop(old, None)
            self.row_of[photo] = self.next_row
            self.vector_of[self.next_row], self.facts_of[self.next_row] = vector, fact
            self.next_row += 1

    def some(self, share):
        return [photo for photo in self.row_of if self.rng.random() < share]

    @rule(num=st.integers(1, 30))
    def add(self, num):
        self.write([f"p{self.next_id + n}" for n in range(num)], replace=False)
        self.next_id += num

    @rule(share=st.sampled_from([0.05, 0.3]), num=st.integers(0, 3))
    def replace(self, share, num):
        ids = [*self.some(share), *(f"p{self.next_id + n}" for n in range(num))]
        self.next_id += num
        self.write(ids, replace=True)

    @rule(share=st.sampled_from([0.05, 0.5, 0.95, 1.0]))
    def remove(self, share):
        ids = self.some(share)
        assert self.index.remove(ids) == len(ids)
        for photo in ids:
            row = self.row_of.pop(photo)
            del self.vector_of[row], self.facts_of[row]

    @precondition(lambda self: self.staged is None)
    @rule()
    def compact(self):
        self.index.compact()

    @rule()
    def open_again(self):
        self.index.close()
        self.index = open_index(self.folder / "index", write=True)

    @rule()
    def begin_rebuild(self):
        dim = int(self.dim == DIM) + DIM
        self.index.begin_rebuild(model=f"m{dim}", dim=dim, normalised=False)
        self.staged = self.staged or {}

    @precondition(lambda self: self.staged is not None)
    @rule(limit=st.integers(1, 60))
    def stage(self, limit):
        dim = int(self.dim == DIM) + DIM
        ids = [record["id"] for record in self.index.unstaged(limit)]
        due = sorted(set(self.vector_of) - set(self.staged))
        assert [self.row_of[photo] for photo in ids] == due[:limit]
        self.rng.shuffle(ids)
        rows = hard_rows(self.rng, len(ids), dim)
        self.index.stage(descriptors(ids, rows), model=f"m{dim}")
        self.staged.update(zip([self.row_of[photo] for photo in ids], rows, strict=True))

    @precondition(lambda self: self.staged is not None)
    @rule(abandon=st.booleans())
    def end_rebuild(self, abandon):
        if abandon:
            self.index.abandon_rebuild()
        else:
            if set(self.vector_of) - set(self.staged):
                with pytest.raises(ValueError, match="no descriptor of model"):
                    self.index.finish_rebuild()
            left_out = [photo for photo, row in self.row_of.items() if row not in self.staged]
            self.index.finish_rebuild(drop=left_out)
            for photo in left_out:
                del self.facts_of[self.row_of.pop(photo)]
            self.vector_of = {row: self.staged[row] for row in self.facts_of}
            self.dim = int(self.dim == DIM) + DIM
            self.model = f"m{self.dim}"
        self.staged = None

    @rule(k=st.integers(1, 40), landmark=st.integers(0, 19))
    def search(self, k, landmark):
        queries = hard_rows(self.rng, 3, self.dim)
        filters = {
            None: lambda country, number: True,
            f"landmark = {landmark}": lambda country, number: number == landmark,
            "country != 'FR'": lambda country, number: country == "DE",
            f"country is null or landmark < {landmark}": lambda country, number: (
                country is None or number < landmark
            ),
        }
        for where, holds in filters.items():
            rows = {row: self.vector_of[row] for row, fact in self.facts_of.items() if holds(*fact)}
            found = self.reader.search(descriptors(["a", "b", "c"], queries), k=k, where=where)
            for number, query in enumerate(queries):
                assert answers(found, number) == slow_answers(query, rows, k)
            id_of = {row: photo for photo, row in self.row_of.items()}
            assert found.gallery_ids == tuple(id_of.get(row, "") for row in range(self.next_row))

    @invariant()
    def holds_what_it_should(self):
        if not hasattr(self, "index"):
            return
        for index in (self.index, self.reader):
            assert len(index) == len(self.row_of)
            assert set(index.ids_where()) == set(self.row_of)
        ids = list(self.row_of)
        known = self.reader.photos([*ids, "nobody"])
        assert {photo: (facts["country"], facts["landmark"]) for photo, facts in known.items()} == {
            photo: self.facts_of[row] for photo, row in self.row_of.items()
        }
        rows = self.reader.descriptors(ids).rows_ND
        expected = [self.vector_of[self.row_of[photo]] for photo in ids]
        assert np.array_equal(rows, np.array(expected, np.float32).reshape(len(ids), self.dim))


@pytest.fixture(scope="module", autouse=True)
def small_steps():
    """Limits so low that a few dozen rows meet them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(writer, "_MOST_SMALL", 4)
    patch.setattr(writer, "_SEGMENT_BYTES", 600)
    patch.setattr(writer, "ROWS_AT_ONCE", 7)
    patch.setattr(view, "_COPIED_BYTES", 60)
    yield
    patch.undo()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)


@pytest.fixture
def index(tmp_path):
    with new_index(tmp_path / "index") as made:
        ids = [f"p{n}" for n in range(40)]
        made.add(descriptors(ids), records(ids, landmark=list(range(40))), model="m")
        yield made


def test_a_removed_crowd_does_not_hide_the_answer(tmp_path):
    """All best rows are removed: asking for a few more than k is not enough."""
    ids = [f"p{n}" for n in range(200)]
    rows = np.ones((200, DIM)) * np.arange(200)[:, None]
    with new_index(tmp_path / "index") as index:
        index.add(descriptors(ids, rows), records(ids), model="m")
        index.remove(ids[100:])
        found = index.search(descriptors(["q"], [[1, 1, 1]]), k=3)
    assert [photo for photo, _ in found.answers(0)] == ["p99", "p98", "p97"]


def test_a_row_number_is_never_used_again(index):
    index.remove([f"p{n}" for n in range(40)])
    index.compact()
    index.add(descriptors(["p0"]), records(["p0"]), model="m")
    found = index.search(descriptors(["q"]), k=2)
    assert found.positions_QK.tolist() == [[40, PADDING]]
    assert found.gallery_ids == ("",) * 40 + ("p0",)


def test_what_is_forgotten_leaves_no_trace_on_disk(index):
    index.add(descriptors(["secret-id"]), records(["secret-id"], path=["secret-path"]), model="m")
    index.remove(["secret-id"])
    index.compact()
    index.close()
    for file in index.path.rglob("*"):
        assert file.is_dir() or b"secret" not in file.read_bytes(), file.name


def test_the_view_of_a_search_outlives_compaction(index):
    with open_index(index.path) as reader:
        before = reader.search(descriptors(["q"]), k=5)
        old = reader._view
        index.remove(["p0", "p7"])
        index.compact()
        again = old.search(descriptors(["q"]), k=5)
        assert np.array_equal(again.positions_QK, before.positions_QK)
        assert len(reader) == 38


def test_a_filter_is_read_in_the_state_that_is_searched(index, monkeypatch):
    """The writer commits between the two."""
    with open_index(index.path) as reader:
        read, calls = reader._catalogue.rows_where, []

        def interrupted(*args, **kwargs):
            if not calls:
                index.remove(["p0"])
                index.add(descriptors(["x"]), records(["x"], landmark=[1]), model="m")
                index.compact()
            calls.append(1)
            return read(*args, **kwargs)

        monkeypatch.setattr(reader._catalogue, "rows_where", interrupted)
        found = reader.search(descriptors(["q"]), k=5, where="landmark < 3")
        assert {photo for photo, _ in found.answers(0)} == {"p1", "p2", "x"}
        assert len(calls) == 2


def test_a_whole_table_with_columns_of_all_kinds_comes_back(tmp_path):
    table = pa.table(
        {
            "id": ["a", "b", "without a descriptor"],
            "path": ["x/a.jpg", "é'\"\\.jpg", "c"],
            "landmark": pa.array([5, None, 6], pa.int64()),
            "kind": ["landmark", "none", "unknown"],
            "clean": [True, False, True],
            "country": ["FR", None, "DE"],
            "taken": pa.array([datetime(2019, 5, 1, 12, 30, 1, 5000), None, None], pa.timestamp("ms")),
            "latitude": [48.85, None, 1.0],
            "longitude": [2.35, None, 1.0],
            "my note": ["l'été", "", "x"],
        }
    )
    with new_index(tmp_path / "index") as index:
        assert index.add(descriptors(["b", "a"]), table, model="m") == 2
        known = index.photos(["a", "b"])
        assert index.columns()[-2:] == ("clean", "my note")
    assert known["a"] == {**table.to_pylist()[0], "taken": "2019-05-01T12:30:01.005"}
    assert known["b"] == table.to_pylist()[1]


def test_float16_rows_are_stored_and_searched_as_such(tmp_path):
    rows = np.random.default_rng(1).standard_normal((30, DIM)).astype(np.float16)
    ids = [f"p{n}" for n in range(30)]
    with new_index(tmp_path / "index", dtype="float16") as index:
        index.add(descriptors(ids, rows, dtype=np.float16), records(ids), model="m")
        assert index.descriptors(ids).rows_ND.dtype == np.float16
        found = index.search(descriptors(["q"], rows[4:5].astype(np.float32)), k=7)
        with pytest.raises(ValueError, match="'x' holds a NaN or an infinity as float16"):
            index.add(descriptors(["x"], [[1e6, 0, 0]]), records(["x"]), model="m")
    assert answers(found, 0) == slow_answers(rows[4], dict(enumerate(rows)), 7)


def test_one_photo_at_a_time_does_not_pile_up_segments(tmp_path):
    with new_index(tmp_path / "index") as index:
        for n in range(30):
            index.add(descriptors([f"p{n}"], seed=n), records([f"p{n}"]), model="m")
        assert index.info().segments < 30
        assert index.info().segments == sum(1 for _ in (tmp_path / "index" / "segments").iterdir())
        assert index.verify() == []


@pytest.mark.parametrize("prepared", [False, True])
def test_a_prepared_index_gives_the_same_answers_as_it_grows(index, prepared):
    with open_index(index.path) as reader:
        if prepared:
            reader.prepare()
        for n in range(3):
            index.add(descriptors([f"x{n}"], seed=n), records([f"x{n}"]), model="m")
            index.remove([f"p{n}"])
            rows = index.descriptors(index.ids_where()).rows_ND
            expected = slow_answers(rows[5], dict(enumerate(rows)), 9)
            found = reader.search(descriptors(["q"], rows[5:6]), k=9)
            assert found.answers(0) == [(index.ids_where()[row], value) for row, value in expected]


def test_the_index_changes_its_fingerprint_with_its_content(index):
    first = index.search(descriptors(["q"]), k=1).gallery_fingerprint
    assert index.search(descriptors(["r"]), k=2).gallery_fingerprint == first
    index.remove(["p1"])
    assert index.search(descriptors(["q"]), k=1).gallery_fingerprint != first


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda i: i.add(descriptors(["p1"]), records(["p1"]), model="m"),
            r"1 of 1 photos are in .* first is 'p1'",
        ),
        (
            lambda i: i.add(descriptors(["x"], dim=5), records(["x"]), model="m"),
            "5 components and the index 3",
        ),
        (
            lambda i: i.add(descriptors(["x"]), records(["x"]), model="n"),
            "of model n and the index of model m",
        ),
        (lambda i: i.add(descriptors(["x"], normalised=True), records(["x"]), model="m"), "normalised True"),
        (lambda i: i.add(descriptors(["x"]), [], model="m"), "no photo record, the first is of 'x'"),
        (lambda i: i.add(descriptors(["x"]), [{"id": "x"}] * 2, model="m"), "'x' has two records"),
        (lambda i: i.add(descriptors(["x"]), [{"id": "x", "kind": "cat"}], model="m"), "unknown kind 'cat'"),
        (lambda i: i.add(descriptors(["x"]), [{"id": "x", "latitude": "N"}], model="m"), "column 'latitude'"),
        (
            lambda i: i.add(descriptors(["x"]), [{"id": "x", "a": [1]}], model="m"),
            r"column 'a': cannot keep '\[1\]'",
        ),
        (lambda i: i.add(descriptors(["x"]), [{"id": "x", 'a"': 1}], model="m"), "without quote"),
        (lambda i: i.add(descriptors(["x"], [[1, np.nan, 0]]), records(["x"]), model="m"), "'x' holds a NaN"),
        (lambda i: i.add(descriptors(["x"]), pa.table({"name": ["x"]}), model="m"), "no column 'id'"),
        (lambda i: i.remove(["p1", "x"]), "1 photos are not in .* first is 'x'"),
        (lambda i: i.search(descriptors(["q"], dim=2), k=1), "the queries have 2 components"),
        (lambda i: i.search(descriptors(["q"]), k=1, model="n"), "the queries are of model n"),
        (lambda i: i.search(descriptors(["q"]), k=0), "k must be at least 1"),
        (lambda i: i.descriptors(["p1", "x"]), "no photo 'x'"),
        (lambda i: i.begin_rebuild(model="m", dim=3), "is of model m already"),
        (lambda i: i.stage(descriptors(["p1"]), model="n"), "no rebuild"),
        (lambda i: open_index(i.path, write=True), "another process is writing to"),
        (lambda i: open_index(i.path).remove(["p1"]), "open it with write=True"),
        (lambda i: LivingIndex.create(i.path, model="m", dim=3), "exists already"),
        (lambda i: open_index(i.path.parent), "is not a landseer index"),
        (lambda i: open_index(i.path / "none"), "is not a folder"),
        (
            lambda i: open_index("milvus://host/name"),
            r"no index behind milvus: yet \(known: a path, file:PATH\)",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_changes_nothing(index, call, message):
    before = index.search(descriptors(["q"]), k=50)
    with pytest.raises(ValueError, match=message) as caught:
        call(index)
    assert "\n" not in str(caught.value)
    after = index.search(descriptors(["q"]), k=50)
    assert before.gallery_fingerprint == after.gallery_fingerprint
    assert np.array_equal(before.positions_QK, after.positions_QK)
    assert index.verify() == []


@pytest.mark.parametrize("facts", [{"dim": 0}, {"dtype": "int8"}, {"metric": "city"}, {"model": ""}])
def test_an_impossible_index_is_not_made(tmp_path, facts):
    with pytest.raises(ValueError):
        new_index(tmp_path / "index", **facts)
    assert list(tmp_path.iterdir()) == []


def test_a_rebuild_says_what_is_in_its_way(index):
    for _ in range(2):  # the second time it goes on
        index.begin_rebuild(model="n", dim=2, normalised=False, settings={"scales": (1, 2)})
    for call, message in (
        (lambda: index.begin_rebuild(model="o", dim=2), "being rebuilt with model n"),
        (index.compact, "is being rebuilt"),
        (lambda: index.stage(descriptors(["x"], dim=2), model="n"), "first is 'x'"),
        (lambda: index.stage(descriptors(["p1"], dim=2), model="m"), "of model m"),
        (index.finish_rebuild, "40 of 40 photos have no descriptor of model n yet, the first is 'p0'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    index.stage(descriptors(["p1"], dim=2), model="n")
    with pytest.raises(ValueError, match="1 photos are staged already"):
        index.stage(descriptors(["p1"], dim=2), model="n")
    assert (index.info().rebuild, index.info().staged, index.model) == ("n", 1, "m")


def test_a_reader_follows_a_rebuild_and_a_lost_part_of_it_can_be_made_again(index):
    index.begin_rebuild(model="n", dim=2, normalised=False)
    with open_index(index.path) as reader:
        for n in range(10):
            index.stage(descriptors([f"p{n}"], dim=2), model="n")
            assert reader.info().staged == n + 1
            assert len(reader.unstaged()) == 39 - n
    index.refresh()
    for facts in index._view.snapshot.segments:
        if facts.epoch == 1:
            (index.path / "segments" / facts.name).unlink()
    with (
        open_index(index.path) as reader,
        pytest.raises(ValueError, match="abandon the rebuild and begin it again"),
    ):
        reader.info()
    assert {problem.what.partition(",")[0] for problem in index.verify()} == {"is missing"}
    index.close()
    with open_index(index.path, write=True) as again:
        again.abandon_rebuild()
        assert again.verify() == []
        assert len(again.search(descriptors(["q"]), k=50).answers(0)) == 40


def test_descriptors_may_be_staged_in_any_order(index):
    """Segments whose row numbers interleave are joined into one whose row numbers rise."""
    index.begin_rebuild(model="n", dim=2, normalised=False)
    rows = hard_rows(np.random.default_rng(7), 40, 2)
    for first in (3, 1, 2, 0):
        numbers = list(range(first, 40, 4))[::-1]
        index.stage(descriptors([f"p{n}" for n in numbers], rows[numbers]), model="n")
    assert index.info().staged == 40
    index.finish_rebuild()
    assert index.verify() == []
    query = np.ones((1, 2), np.float32)
    found = index.search(descriptors(["q"], query), k=40)
    assert answers(found, 0) == slow_answers(query[0], dict(enumerate(rows)), 40)
    assert np.array_equal(index.descriptors([f"p{n}" for n in range(40)]).rows_ND, rows)


def test_uris_lead_to_the_same_index(index, monkeypatch):
    monkeypatch.chdir(index.path.parent)
    for uri in (str(index.path), index.path, "index", "file:index", f"file://{index.path}", "file:%69ndex"):
        with open_index(uri) as found:
            assert len(found) == 40


def test_the_page_on_the_index_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")
    ids = [f"photo{n}" for n in range(30)]
    rows = np.random.default_rng(0).standard_normal((30, 512))
    rows = descriptors(ids, rows / np.linalg.norm(rows, axis=1, keepdims=True), normalised=True)
    table = pa.Table.from_pylist(records(ids, country=["FR", "DE"] * 15, taken=[datetime(2019, 1, 1)] * 30))
    names = {
        "descriptors": rows,
        "queries": rows.take(["photo4"]),
        "collection": SimpleNamespace(photos=table),
    }
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    assert names["answers"][0] == ("photo4", pytest.approx(1)) and len(names["answers"]) == 10
    assert all(known["country"] == "FR" for known in names["known"].values())
    for cell in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        for name in re.findall(r"`(\w+)(?=[(`])", cell):
            assert hasattr(LivingIndex, name) or name in ("path", "generation", "len"), name


def test_threads_share_an_index(index):
    def search(seed):
        for _ in range(10):
            found = index.search(descriptors(["q"], seed=seed), k=50, where=f"landmark >= {seed % 3}")
            assert len(found.answers(0)) >= 37
        return True

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(search, seed) for seed in range(4)]
        for n in range(10):
            index.add(descriptors([f"x{n}"]), records([f"x{n}"], landmark=[50]), model="m")
        assert all(each.result() for each in done)
