"""A flipped byte is told, or every answer stays what it was; nothing damaged is answered from."""

from __future__ import annotations

import errno
import random
import shutil
import sqlite3

import numpy as np
import pytest

from landseer.search import LivingIndex, open_index, verify_index
from landseer.search.living import segments, writer
from landseer.types import Descriptors

DIM, NUM = 64, 9000
"""Segments of more than one block of rows, and many groups of photo records."""
WHERES = (None, "landmark = 3", "country = 'FR' and taken >= '2019'", "stars > 2")


def photo_rows(num=NUM):
    rows = np.random.default_rng(0).standard_normal((num, DIM)).astype(np.float32)
    ids = tuple(f"photo{n}" for n in range(num))
    table = [
        {
            "id": photo,
            "path": f"{photo}.jpg",
            "landmark": n % 10,
            "country": "FR" if n % 3 else "DE",
            "taken": f"{2015 + n % 7}-03-04",
            "stars": n % 5,
        }
        for n, photo in enumerate(ids)
    ]
    return Descriptors(ids=ids, rows_ND=rows, normalised=False), table


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index of several segments with removed photos, closed, and its answers."""
    path = tmp_path_factory.mktemp("whole") / "index"
    rows, table = photo_rows()
    with LivingIndex.create(path, model="m", dim=DIM, normalised=False) as index:
        for start in (0, NUM // 2):
            part = slice(start, start + NUM // 2)
            some = Descriptors(ids=rows.ids[part], rows_ND=rows.rows_ND[part], normalised=False)
            index.add(some, table, model="m")
        index.remove(rows.ids[10:40])
    return path, answers(path)


def answers(path):
    """All that an index says: opened anew, searched with and without filters, every record."""
    queries = Descriptors(
        ids=("a", "b"),
        rows_ND=np.random.default_rng(9).standard_normal((2, DIM)).astype(np.float32),
        normalised=False,
    )
    with open_index(path) as index:
        found = [index.search(queries, k=20, where=where) for where in WHERES]
        said = [(len(index), index.ids_where("landmark < 5")), index.photos([found[0].gallery_ids[1]])]
        rankings = [(f.gallery_ids, f.positions_QK.tolist(), f.scores_QK.tolist()) for f in found]
    return repr((said, rankings))


def flip(file, position, bit):
    with file.open("r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)[0]
        handle.seek(position)
        handle.write(bytes([byte ^ (1 << bit)]))


def told_or_harmless(path, expected):
    """``told`` by a search, or ``harmless``; a wrong answer fails."""
    try:
        said = answers(path)
    except ValueError as error:
        assert "\n" not in str(error)
        return "told"
    assert said == expected, "a wrong answer without a word"
    return "harmless"


def run_flips(whole, tmp_path, num, seed):
    path, expected = whole
    rng = random.Random(seed)
    copy = tmp_path / "index"
    shutil.copytree(path, copy)
    files = [file for file in sorted(copy.rglob("*")) if file.is_file() and file.stat().st_size]
    outcomes = []
    for _ in range(num):
        file = rng.choice(files)
        position, bit = rng.randrange(file.stat().st_size), rng.randrange(8)
        flip(file, position, bit)
        outcomes.append((told_or_harmless(copy, expected), bool(verify_index(copy)), file.name))
        for original in path.rglob("*"):
            if original.is_file():
                shutil.copyfile(original, copy / original.relative_to(path))
    return outcomes


def test_flipped_bytes_are_told_or_harmless(whole, tmp_path):
    outcomes = run_flips(whole, tmp_path, 25, seed=1)
    assert sum(outcome == "told" for outcome, _, _ in outcomes) >= 10
    assert all(verified for outcome, verified, _ in outcomes if outcome == "told"), (
        "verify names what a search tells"
    )


@pytest.mark.slow
def test_many_flipped_bytes_are_told_or_harmless(whole, tmp_path):
    outcomes = run_flips(whole, tmp_path, 300, seed=2)
    assert all(verified for outcome, verified, _ in outcomes if outcome == "told")
    assert {name for outcome, _, name in outcomes if outcome == "told"} > {
        "catalogue.sqlite",
        "manifest.json",
    }


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "index")
    return tmp_path / "index"


def test_a_damaged_block_is_named_with_its_photos(whole, copy):
    file = copy / "segments" / "00000000.rows"
    data_start = file.stat().st_size - NUM // 2 * DIM * 4
    flip(file, data_start + segments.BLOCK_BYTES + 5, 0)
    with pytest.raises(
        ValueError, match=r"00000000.rows is damaged: block 1 of its rows changed; .landseer index verify"
    ):
        answers(copy)
    with open_index(copy) as index:  # rows that are picked out are checked, too, and only where they lie
        index.descriptors(["photo1"])
        with pytest.raises(ValueError, match="block 1 of its rows changed"):
            index.descriptors(["photo4499"])
    query = Descriptors(ids=("q",), rows_ND=np.ones((1, DIM), np.float32), normalised=False)
    with open_index(copy) as index, pytest.raises(ValueError, match="block 1 of its rows changed"):
        index.search(query, k=1, where="id = 'photo4400'")
    (problem,) = verify_index(copy)
    first = segments.BLOCK_BYTES // (DIM * 4)
    assert problem.ids == tuple(f"photo{n}" for n in range(first, NUM // 2))
    assert str(problem).endswith(
        f"block 1 changed (photos photo{first}, photo{first + 1}, photo{first + 2} and 401 more)"
    )
    with open_index(copy, write=True) as index:  # the way out
        assert len(index.search(query, k=10, where="id in ('photo1', 'photo8999')").answers(0)) == 2
        index.remove(problem.ids)
        index.compact()
        assert index.verify() == []
        assert len(index.search(query, k=10).answers(0)) == 10


@pytest.mark.parametrize("position", [0, 8 + 8 * 100, 8 + 8 * (NUM // 2) + 3])
def test_a_damaged_head_is_told(copy, position):
    """The magic, a row number, an id."""
    flip(copy / "segments" / "00000001.rows", position, 1)
    with pytest.raises(
        ValueError, match=r"00000001.rows is damaged: its head \(row numbers and ids\) changed"
    ):
        open_index(copy)
    (problem,) = verify_index(copy)
    assert problem.what.endswith("is damaged: its head (row numbers and ids) changed")


@pytest.mark.parametrize(
    "name", ["catalogue.sqlite", "generation", "manifest.json", "segments/00000001.rows", "segments"]
)
def test_a_missing_file_is_named(copy, name):
    shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    with pytest.raises(ValueError, match=name.rpartition("/")[2]):
        answers(copy)
    assert verify_index(copy)


def test_a_shortened_segment_is_named(copy):
    file = copy / "segments" / "00000001.rows"
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"00000001.rows is damaged: it has \d+ bytes, not \d+"):
        open_index(copy)
    assert [problem.file for problem in verify_index(copy)] == [str(file)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE photos SET landmark = 3 WHERE row = 4", "photo records 0 to 255 changed"),
        ("DELETE FROM photos WHERE row = 400", "photo records 256 to 511 changed"),
        ("DELETE FROM removed WHERE row = 12", "list of removed photos changed"),
        ("INSERT INTO removed VALUES (3)", "list of removed photos changed"),
        ("DELETE FROM segments WHERE number = 1", "the state changed"),
        ("UPDATE state SET facts = replace(facts, 'float32', 'float16')", "the state changed"),
        ("DELETE FROM state", "the state changed"),
        ("DELETE FROM photo_groups WHERE number = 2", "photo records 512 to 767 changed"),
        ("UPDATE live SET row = 5 WHERE id = 'photo1'", "table of ids changed"),
        ("UPDATE live SET row = 5 WHERE id = 'photo4'", None),
    ],
)
def test_a_changed_catalogue_is_told(copy, statement, message):
    with sqlite3.connect(copy / "catalogue.sqlite") as db:
        db.execute(statement)
    db.close()
    if message:
        with pytest.raises(ValueError, match=message):
            answers(copy)
    assert verify_index(copy)


def test_a_damaged_log_does_not_lose_changes_silently(copy, tmp_path):
    """SQLite drops the end of a damaged write-ahead log without a word."""
    rows, _ = photo_rows(2)
    with open_index(copy, write=True) as index, open_index(copy):
        index.add(Descriptors(ids=("x", "y"), rows_ND=rows.rows_ND, normalised=False),
                  [{"id": "x"}, {"id": "y"}], model="m")  # fmt: skip
        shutil.copytree(copy, tmp_path / "killed")  # as a kill leaves it
    log = tmp_path / "killed" / "catalogue.sqlite-wal"
    flip(log, log.stat().st_size // 2, 3)
    for write in (False, True):
        with pytest.raises(ValueError, match="has lost acknowledged changes"):
            open_index(tmp_path / "killed", write=write)
    assert len(list((tmp_path / "killed" / "segments").iterdir())) == 3, "what the log named is still there"


def test_adding_beside_a_damaged_block_is_done_and_says_what_waits(copy, caplog, monkeypatch):
    """Joining small segments comes after the commit: its failure is no failure of the add."""
    monkeypatch.setattr(writer, "_MOST_SMALL", 3)
    flip(copy / "segments" / "00000000.rows", (copy / "segments" / "00000000.rows").stat().st_size - 1, 2)
    rows, _ = photo_rows(1)
    with open_index(copy, write=True) as index:
        assert (
            index.add(
                Descriptors(ids=("x",), rows_ND=rows.rows_ND, normalised=False), [{"id": "x"}], model="m"
            )
            == 1
        )
        assert index.holds(["x"]) == [True]
    assert "small segments stay as they are" in caplog.text


def test_a_full_disk_is_told_and_leaves_the_index_as_it_was(whole, copy, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    rows, _ = photo_rows(1)
    with open_index(copy, write=True) as index:
        with monkeypatch.context() as patch:
            patch.setattr(segments.os, "fsync", full)
            with pytest.raises(ValueError, match=r"no room for .*00000002.rows"):
                index.add(
                    Descriptors(ids=("x",), rows_ND=rows.rows_ND, normalised=False), [{"id": "x"}], model="m"
                )
            with pytest.raises(ValueError, match="no room for"):
                index.compact()
        assert len(list((copy / "segments").iterdir())) == 2
    assert answers(copy) == whole[1]
