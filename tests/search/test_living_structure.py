"""The structure of a living index: faster, never trusted, and never a different answer but for its recall."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from landseer.cli import cli
from landseer.search import LivingIndex, open_index, score
from landseer.search.approximate import codes, fitting, plan
from landseer.search.living import structure, view, writer
from landseer.types import PADDING, Descriptors

DIM, NUM, K = 32, 1500, 10
COUNTRIES = ("FR", "DE")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Codes for indexes that a test can build; segments of a few hundred rows."""
    patch = pytest.MonkeyPatch()
    patch.setattr(plan, "_FEWEST_ROWS", 20)
    patch.setattr(plan, "_CANDIDATE_COMPONENTS", 0)
    patch.setattr(fitting, "SAMPLE", 60)
    patch.setattr(writer, "_SEGMENT_BYTES", 400 * DIM * 4)
    yield
    patch.undo()


def clustered(num, *, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, num // 20), DIM))
    rows = centres[rng.integers(len(centres), size=num)] + 0.5 * rng.standard_normal((num, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def descriptors(ids, rows):
    return Descriptors(ids=tuple(ids), rows_ND=rows)


def records(ids):
    return [{"id": photo, "country": COUNTRIES[n % 2], "landmark": n % 50} for n, photo in enumerate(ids)]


ROWS = clustered(NUM + 400)
IDS = [f"p{n}" for n in range(NUM)]
QUERIES = descriptors(
    [f"q{n}" for n in range(12)], clustered(NUM + 400, seed=0)[NUM::40][:10].repeat(2, axis=0)[:12]
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A closed index of three segments with its structure."""
    path = tmp_path_factory.mktemp("built") / "index"
    with LivingIndex.create(path, model="m", dim=DIM) as index:
        for start in range(0, NUM, 500):
            part = slice(start, start + 500)
            index.add(descriptors(IDS[part], ROWS[part]), records(IDS)[part], model="m")
        measured = index.build_structure(k=K, recall=0.9)
    assert measured.num_queries == 60 and measured.value >= 0.9
    return path


@pytest.fixture
def path(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.fixture
def scans(monkeypatch):
    """How many searches went by the codes."""
    found = []
    true = codes.Codes.find
    monkeypatch.setattr(
        codes.Codes, "find", lambda *args, **how: found.append(how["num"]) or true(*args, **how)
    )
    return found


def all_candidates(monkeypatch):
    """Let every row be a candidate: then the answers are those of exact search."""
    monkeypatch.setattr(structure, "MOST_CANDIDATES", 10**9)
    true = structure.Structure.load
    monkeypatch.setattr(
        structure.Structure,
        "load",
        lambda path: replace(found := true(path), plan=replace(found.plan, num_candidates=10**6)),
    )


def same(one, other):
    assert np.array_equal(one.positions_QK, other.positions_QK)
    assert np.array_equal(one.scores_QK, other.scores_QK)
    assert one.gallery_ids == other.gallery_ids
    assert one.gallery_fingerprint == other.gallery_fingerprint


def recall_of(index, *, k=K, where=None):
    """Measured the slow way; every score and its order are checked on the way."""
    found = index.search(QUERIES, k=k, where=where, recall=0.9)
    true = index.search(QUERIES, k=k, where=where)
    for query, positions, scores in zip(QUERIES.rows_ND, found.positions_QK, found.scores_QK, strict=True):
        rows = index.descriptors([found.gallery_ids[row] for row in positions if row != PADDING]).rows_ND
        assert [score(query, row) for row in rows] == [s for s in scores if s > -np.inf]
    assert ((found.positions_QK == PADDING) == (true.positions_QK == PADDING)).all()
    return float((found.scores_QK >= true.scores_QK[:, -1:]).mean())


def test_it_answers_with_exact_scores_and_its_recall(path, scans):
    with open_index(path) as index:
        assert 0.8 < recall_of(index) <= 1
        assert scans and max(scans) < NUM // 4
        scans.clear()
        index.search(QUERIES, k=K)
        assert not scans, "without a recall the search is exact"


@pytest.mark.parametrize("listed", [False, True])
def test_untouched_it_answers_alone(path, monkeypatch, listed):
    if listed:
        monkeypatch.setattr(plan, "_ROWS_FOR_LISTS", 1000)
    with open_index(path) as index:
        index.build_structure(k=K, recall=0.9)
        assert structure.Structure.load(path / "structure").plan.kind == ("lists" if listed else "codes")
        assert recall_of(index) > 0.8
        monkeypatch.setattr(view.View, "search", lambda *_, **how: pytest.fail("it was searched exactly"))
        index.search(QUERIES, k=K, recall=0.9)


def test_photos_added_since_are_found_exactly(path, scans):
    """A copy of each query comes in: it is its own best answer, always."""
    with open_index(path, write=True) as index, open_index(path) as other:
        other.search(QUERIES, k=K, recall=0.9)
        copies = [f"new{n}" for n in range(12)]
        index.add(descriptors(copies, QUERIES.rows_ND), records(copies), model="m")
        for each in (index, other):
            found = each.search(QUERIES, k=K, recall=0.9)
            assert (found.scores_QK[:, 0] >= 1 - 1e-6).all()
            assert all(found.gallery_ids[row].startswith("new") for row in found.positions_QK[:, 0])
    assert scans


def test_removed_photos_are_passed_over(path, scans):
    with open_index(path, write=True) as index:
        best = index.search(QUERIES, k=3)
        gone = {best.gallery_ids[row] for row in best.positions_QK.ravel()}
        index.remove(gone)
        found = index.search(QUERIES, k=K, recall=0.9)
        assert not gone & {found.gallery_ids[row] for row in found.positions_QK.ravel()}
        assert recall_of(index) > 0.8
    assert scans


def test_a_removed_crowd_does_not_hide_the_answers(path, scans):
    """All candidates of a query are removed: it is answered exactly, the others are not."""
    with open_index(path, write=True) as index:
        one = QUERIES.take(("q0",))
        crowd = index.search(one, k=300)
        index.remove([crowd.gallery_ids[row] for row in crowd.positions_QK[0]])
        scans.clear()
        same(index.search(one, k=K, recall=0.9), index.search(one, k=K))
        assert scans


@pytest.mark.parametrize("where", ["country = 'FR'", "landmark < 45", "landmark = 3", "landmark = 99"])
def test_filters_hold(path, where):
    with open_index(path) as index:
        allowed = set(index.ids_where(where))
        found = index.search(QUERIES, k=K, where=where, recall=0.9)
        assert {found.gallery_ids[row] for row in found.positions_QK.ravel() if row != PADDING} <= allowed
        assert recall_of(index, where=where) > 0.8


def test_a_selective_filter_is_exact(path, scans):
    with open_index(path) as index:
        same(
            index.search(QUERIES, k=K, where="landmark = 3", recall=0.9),
            index.search(QUERIES, k=K, where="landmark = 3"),
        )
    assert not scans


def test_compaction_moves_rows_and_the_structure_stays(path, scans, caplog):
    with open_index(path, write=True) as index:
        index.remove(IDS[::7])
        before = index.search(QUERIES, k=K, recall=0.9)
        index.compact()
        after = index.search(QUERIES, k=K, recall=0.9)
    assert np.array_equal(before.positions_QK, after.positions_QK)
    assert len(scans) >= 2 and not caplog.records


def test_rows_that_are_not_what_the_structure_saw_are_searched_exactly(path, monkeypatch, caplog):
    """An index that was put back from a copy gives row numbers out again, to other photos."""
    with open_index(path, write=True) as index:
        index.remove(IDS)
        index.compact()
    true = structure.Structure.load
    with open_index(path, write=True) as index:
        index.add(descriptors(IDS, ROWS[::-1][:NUM].copy()), records(IDS), model="m")
        shifted = lambda path: replace(found := true(path), row_P=found.row_P + NUM)  # noqa: E731
        monkeypatch.setattr(structure.Structure, "load", shifted)
        same(index.search(QUERIES, k=K, recall=0.9), index.search(QUERIES, k=K))
    assert "lacks" in caplog.text


def test_with_every_row_a_candidate_it_is_exact_search(path, monkeypatch):
    all_candidates(monkeypatch)
    with open_index(path, write=True) as index:
        for where in (None, "country = 'FR'", "landmark < 45"):
            same(index.search(QUERIES, k=K, where=where, recall=0.9), index.search(QUERIES, k=K, where=where))


class Life(RuleBasedStateMachine):
    """Random changes after the structure was built, each also made to a dictionary."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(writer, "_MOST_SMALL", 3)
        all_candidates(self.patch)
        self.rng = np.random.default_rng(seed)
        self.folder = Path(tempfile.mkdtemp())
        self.index = LivingIndex.create(self.folder / "index", model="m", dim=DIM)
        self.reader = open_index(self.folder / "index")
        self.vector_of: dict[str, tuple[int, np.ndarray]] = {}
        self.next_row, self.model = 0, "m"
        self.add(120, 0.0)
        self.build()

    def teardown(self):
        if hasattr(self, "index"):
            self.index.close()
            self.reader.close()
            shutil.rmtree(self.folder)
            self.patch.undo()

    @rule(num=st.integers(1, 40), share=st.sampled_from([0.0, 0.3]))
    def add(self, num, share):
        ids = [photo for photo in self.vector_of if self.rng.random() < share]
        ids += [f"p{self.next_row + n}" for n in range(num)]
        rows = clustered(len(ids), seed=int(self.rng.integers(2**31)))
        rows[self.rng.random(len(ids)) < 0.2] = rows[0]  # equal scores
        self.index.add(
            descriptors(ids, rows), [{"id": photo} for photo in ids], model=self.model, replace=True
        )
        for photo, row in zip(ids, rows, strict=True):
            self.vector_of[photo] = self.next_row, row
            self.next_row += 1

    @rule(share=st.sampled_from([0.1, 0.6]))
    def remove(self, share):
        gone = [photo for photo in self.vector_of if self.rng.random() < share]
        self.index.remove(gone)
        for photo in gone:
            del self.vector_of[photo]

    @rule()
    def compact(self):
        self.index.compact()

    @precondition(lambda self: len(self.vector_of) > 60)
    @rule()
    def build(self):
        self.reader.build_structure(k=K, recall=0.5)

    @precondition(lambda self: self.vector_of)
    @rule()
    def another_model(self):
        self.model += "m"
        self.index.begin_rebuild(model=self.model, dim=DIM)
        ids = list(self.vector_of)
        rows = clustered(len(ids), seed=int(self.rng.integers(2**31)))
        self.index.stage(descriptors(ids, rows), model=self.model)
        self.index.finish_rebuild()
        self.vector_of = {p: (self.vector_of[p][0], row) for p, row in zip(ids, rows, strict=True)}

    @rule(k=st.integers(1, K))
    def search(self, k):
        queries = clustered(3, seed=int(self.rng.integers(2**31)))
        if self.vector_of:
            queries[0] = next(iter(self.vector_of.values()))[1]
        found = self.reader.search(descriptors(["a", "b", "c"], queries), k=k, recall=0.5)
        for number, query in enumerate(queries):
            true = sorted((-score(query, vector), row) for row, vector in self.vector_of.values())[:k]
            answers = zip(found.positions_QK[number].tolist(), found.scores_QK[number], strict=True)
            assert [(-value, row) for row, value in answers if row != PADDING] == true


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)


def test_every_flipped_byte_is_told_and_answers_stay_exact(path, scans, caplog):
    """Of each file some bytes, of the manifest all over, through a reader that stays open."""
    rng = np.random.default_rng(0)
    num = 0
    with open_index(path) as index:
        exact = index.search(QUERIES, k=K)
        for file in sorted((path / "structure").iterdir()):
            whole = file.read_bytes()
            positions = (
                [p for p in range(0, len(whole), 31) if not whole[p : p + 1].isspace()]
                if file.suffix == ".json"
                else [0, 7, len(whole) - 1, *rng.integers(0, len(whole), 15).tolist()]
            )
            for position in positions:
                damaged = bytearray(whole)
                damaged[position] ^= 1 << int(rng.integers(8))
                file.write_bytes(damaged)
                caplog.clear()
                index._structure._seen = ()  # as a process that opens the index now
                same(index.search(QUERIES, k=K, recall=0.9), exact)
                index.search(QUERIES, k=K, recall=0.9)
                lines = [record.getMessage() for record in caplog.records]
                assert len(lines) == 1 and "searching exactly: " in lines[0] and "\n" not in lines[0], (
                    file,
                    lines,
                )
                num += 1
            file.write_bytes(whole)
        assert not scans
        index._structure._seen = ()
        index.search(QUERIES, k=K, recall=0.9)
        assert scans and num > 60


@pytest.mark.parametrize("name", ["manifest.json", "codes.faiss", "rows"])
def test_a_missing_or_short_file_is_told(path, scans, caplog, name):
    file = path / "structure" / name
    whole = file.read_bytes()
    for change in (lambda: file.write_bytes(whole[:-2]), file.unlink):
        change()
        caplog.clear()
        with open_index(path) as index:
            same(index.search(QUERIES, k=K, recall=0.9), index.search(QUERIES, k=K))
        assert len(caplog.records) == 1
    assert not scans


def test_the_structure_of_another_index_or_model_is_not_used(path, built, tmp_path, scans, caplog):
    with LivingIndex.create(tmp_path / "other", model="m", dim=DIM) as index:
        index.add(descriptors(IDS, ROWS[:NUM][::-1].copy()), records(IDS), model="m")
        shutil.copytree(built / "structure", tmp_path / "other" / "structure")
        same(index.search(QUERIES, k=K, recall=0.9), index.search(QUERIES, k=K))
    with open_index(path, write=True) as index:
        index.begin_rebuild(model="n", dim=DIM)
        index.stage(descriptors(IDS, ROWS[:NUM][::-1].copy()), model="n")
        index.finish_rebuild()
        same(index.search(QUERIES, k=K, recall=0.9), index.search(QUERIES, k=K))
    assert [
        record.getMessage().endswith("was built for other descriptors; build it again")
        for record in caplog.records
    ] == [True, True]
    assert not scans


@pytest.mark.parametrize(("k", "recall"), [(K + 1, 0.9), (K, 0.91)])
def test_more_than_it_was_built_for_is_exact(path, scans, caplog, k, recall):
    with open_index(path) as index:
        same(index.search(QUERIES, k=k, recall=recall), index.search(QUERIES, k=k))
    assert not scans and f"not recall@{k} of {recall:g}" in caplog.text


def test_no_structure_is_told_once(tmp_path, caplog):
    with LivingIndex.create(tmp_path / "index", model="m", dim=DIM) as index:
        index.add(descriptors(IDS[:30], ROWS[:30]), records(IDS[:30]), model="m")
        for _ in range(3):
            same(index.search(QUERIES, k=K, recall=0.9), index.search(QUERIES, k=K))
    assert (
        len(caplog.records) == 1 and "is not there; landseer index rebuild --recall builds it" in caplog.text
    )


def test_it_says_once_when_building_it_again_would_help(path, caplog):
    with open_index(path, write=True) as index:
        for num, told in ((300, 0), (90, 1), (10, 1)):
            new = [f"new{len(index) + n}" for n in range(num)]
            index.add(descriptors(new, ROWS[NUM : NUM + num]), records(new), model="m")
            index.search(QUERIES, k=K, recall=0.9)
            assert sum("build it again" in record.getMessage() for record in caplog.records) == told, num
    assert "lacks 390 of 1890 photos" in caplog.text


def test_a_reader_that_is_open_sees_a_new_structure(path, scans):
    with open_index(path, write=True) as index, open_index(path) as other:
        other.search(QUERIES, k=K, recall=0.9)
        index.remove(IDS[:700])
        index.compact()
        other.build_structure(k=3, recall=0.7)
        scans.clear()
        index.search(QUERIES, k=3, recall=0.7)
        other.search(QUERIES, k=3, recall=0.7)
        assert len(scans) == 2 and max(scans) < 100


def test_an_empty_index_has_an_exact_structure(tmp_path, caplog):
    with LivingIndex.create(tmp_path / "index", model="m", dim=DIM) as index:
        assert index.build_structure(k=K, recall=0.9).num_queries == 0
        assert (index.search(QUERIES, k=K, recall=0.9).positions_QK == PADDING).all()


def test_damaged_rows_are_told_as_ever(path):
    segment = max((path / "segments").iterdir())
    content = bytearray(segment.read_bytes())
    content[-3] ^= 1
    segment.write_bytes(content)
    with open_index(path) as index, pytest.raises(ValueError, match="block 0 of its rows changed"):
        index.search(QUERIES, k=K, recall=0.9)


def test_queries_can_be_given(path):
    with open_index(path) as index:
        given = descriptors([f"g{n}" for n in range(100)], ROWS[NUM : NUM + 100])
        assert index.build_structure(k=K, recall=0.9, queries=given).num_queries == 50
        with pytest.raises(ValueError, match="the queries have 4 components"):
            index.build_structure(queries=descriptors(["x"], np.ones((1, 4), np.float32)))


def test_the_index_says_what_its_structure_is_worth(path):
    with open_index(path) as index:
        told = index.info().structure
    assert told.startswith("recall@10 0.9") and "codes of 4 bits for every 2 components" in told
    done = CliRunner().invoke(cli, ["index", "info", str(path)])
    assert done.exit_code == 0 and f"structure    {told}\n" in done.output
    file = path / "structure" / "manifest.json"
    whole = file.read_text()
    file.write_text(whole.replace('"epoch": ', '"epoch": 1'))
    with open_index(path) as index:
        assert index.info().structure.startswith("of no use: ")
    shutil.rmtree(path / "structure")
    with open_index(path) as index:
        assert index.info().structure is None
    assert "structure" not in CliRunner().invoke(cli, ["index", "info", str(path)]).output


def test_a_structure_of_another_model_is_said_to_be_of_no_use(path):
    found = replace(structure.Structure.load(path / "structure"), epoch=7)
    found.save(path / "structure")
    with open_index(path) as index:
        assert index.info().structure == "of no use: built for other descriptors; build it again"
