"""An index in a folder that its reader may not write, as a mounted archive."""

from __future__ import annotations

import multiprocessing
import runpy
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from landseer.search import LivingIndex, open_index
from landseer.search.living.catalogue import Catalogue
from landseer.types import Descriptors

TARGET = Path(__file__).with_name("living_nobody_target.py")


def add(index, *numbers):
    rows = np.array([[number, 1] for number in numbers], np.float32)
    ids = tuple(f"p{number}" for number in numbers)
    photos = [{"id": photo, "number": number} for photo, number in zip(ids, numbers, strict=True)]
    index.add(Descriptors(ids=ids, rows_ND=rows, normalised=False), photos, model="m")


def allow(folder, *, write):
    for entry in folder.rglob("*"):
        entry.chmod(
            0o755 if entry.is_dir() and write else 0o555 if entry.is_dir() else 0o644 if write else 0o444
        )
    folder.chmod(0o755 if write else 0o555)


@pytest.fixture
def place():
    """A folder that anyone may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    if (folder / "index").exists():
        allow(folder / "index", write=True)
    shutil.rmtree(folder)


@pytest.fixture
def index(place):
    """An index of three photos that is open for writing."""
    with LivingIndex.create(place / "index", model="m", dim=2, normalised=False) as opened:
        add(opened, 0, 1, 2)
        yield opened


@contextmanager
def nobody(place):
    """Asks a process that may not write what it finds in the index."""
    with LivingIndex.create(place / "warm", model="m", dim=2, normalised=False) as warm:
        add(warm, 0, 1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landseer.search"])
    ours, theirs = context.Pipe()
    values = {"WARM": place / "warm", "INDEX": place / "index", "PIPE": theirs}
    child = context.Process(target=runpy.run_path, args=(str(TARGET), values, "__nobody__"))
    child.start()

    def ask():
        ours.send(True)
        while not ours.poll(0.01):
            assert child.is_alive()
        return ours.recv()

    try:
        yield ask
        ours.send(False)
        child.join()
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()


def known(*numbers):
    return {
        "chosen": [f"p{number}" for number in numbers if number >= 1],
        "answers": [(f"p{number}", float(number)) for number in reversed(numbers)],
        "problems": [],
    }


def test_it_answers_and_follows_what_is_written_later(place, index):
    index.close()
    allow(place / "index", write=False)
    with nobody(place) as ask:
        assert ask() == known(0, 1, 2)
        allow(place / "index", write=True)
        with open_index(place / "index", write=True) as writer:
            add(writer, 3)
        assert ask() == known(0, 1, 2, 3)


def test_it_answers_while_another_process_writes(place, index):
    with nobody(place) as ask:
        add(index, 3)  # in the log alone
        assert ask() == known(0, 1, 2, 3)
        add(index, 4)
        assert ask() == known(0, 1, 2, 3, 4)


def as_a_kill_leaves_it(place, index):
    """One more photo, in the log alone."""
    add(index, 3)
    shutil.copytree(place / "index", place / "copy")
    index.close()
    shutil.rmtree(place / "index")
    (place / "copy").rename(place / "index")


def test_it_answers_where_a_writer_was_killed(place, index):
    as_a_kill_leaves_it(place, index)
    allow(place / "index", write=False)
    with nobody(place) as ask:
        assert ask() == known(0, 1, 2, 3)


def test_a_log_that_must_be_folded_in_first_is_told_in_one_line(place, index):
    as_a_kill_leaves_it(place, index)
    (place / "index" / "catalogue.sqlite-shm").unlink()
    allow(place / "index", write=False)
    with nobody(place) as ask:
        found = ask()
        assert "-wal holds changes that are not folded in yet" in found and "\n" not in found
        allow(place / "index", write=True)
        open_index(place / "index").close()  # as it says
        allow(place / "index", write=False)
        assert ask() == known(0, 1, 2, 3)


def test_a_change_in_the_middle_of_a_reading_is_told(place, index, monkeypatch):
    """SQLite would not notice: the file was opened as one that does not change."""
    index.close()

    def refusing(self, how):
        return sqlite3.connect("file:?mode=ro", uri=True) if how == "mode=ro" else connected(self, how)

    connected = Catalogue._connected
    with monkeypatch.context() as patch:  # this process may write: what another may not is refused here
        patch.setattr("os.access", lambda *_: False)
        patch.setattr(Catalogue, "_connected", refusing)
        reading = Catalogue(place / "index", write=False)
    before, version = reading.snapshot(), reading.version()
    with (
        pytest.raises(ValueError, match=r"changed while it was read .*; try again"),
        reading._transaction("DEFERRED"),
        open_index(place / "index", write=True) as writer,
    ):
        add(writer, 3)
    (place / "copy").mkdir()
    assert reading.copy_to(place / "copy").state.num_photos == before.state.num_photos + 1
    assert reading.snapshot().state.num_photos == before.state.num_photos + 1
    assert reading.version() != version
    reading.close()
