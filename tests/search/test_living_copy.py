"""A copy of a living index: one committed state, whole or absent, and an index of its own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import runpy
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from landseer.search import LivingIndex, open_index
from landseer.search.living import appearing, catalogue, copies
from landseer.types import Descriptors

READERS = runpy.run_path(str(Path(__file__).with_name("living_readers_target.py")))
QUERY = Descriptors(ids=("q",), rows_ND=np.array([[1, 2]], np.float32), normalised=False)


def rows_of(*names, scale=1.0):
    rows = scale * np.random.default_rng(len(names)).standard_normal((len(names), 2)).astype(np.float32)
    return Descriptors(ids=names, rows_ND=rows, normalised=False)


def add(index, *names):
    index.add(rows_of(*names), [{"id": name} for name in names], model="m")


@pytest.fixture
def index(tmp_path):
    with LivingIndex.create(
        tmp_path / "index", model="m", dim=2, normalised=False, settings={"model": "models/m"}
    ) as opened:
        add(opened, "a", "b", "c")
        add(opened, "d", "e")
        opened.remove(["b"])
        (opened.path / "models" / "m").mkdir(parents=True)
        (opened.path / "models" / "m" / "weights").write_text("weights of m")
        (opened.path / "structure").mkdir()
        (opened.path / "structure" / "codes").write_text("of this index alone")
        (opened.path / ".describing").mkdir()
        (opened.path / ".describing" / "part").write_text("under way")
        yield opened


def answers(index):
    return index.search(QUERY, k=9).answers(0)


def segments(path):
    return sorted((path / "segments").iterdir())


def test_a_copy_answers_alike_and_goes_its_own_way(index, tmp_path):
    before = answers(index)
    index.copy(tmp_path / "copy")
    with open_index(tmp_path / "copy", write=True) as copy:
        assert copy.verify() == [] and answers(copy) == before and len(before) == 4
        assert copy.settings == index.settings and copy.info().removed == 1
        assert (copy.path / "models" / "m" / "weights").read_text() == "weights of m"
        assert not (copy.path / ".describing").exists() and not (copy.path / "structure").exists()
        # two indexes with one name for their states would be taken for each other
        ours, theirs = (each.search(QUERY, k=1).gallery_fingerprint for each in (index, copy))
        assert ours != theirs
        copy.compact()
        copy.remove(["a"])
        add(copy, "new")
    assert answers(index) == before and index.verify() == []
    index.compact()
    with open_index(tmp_path / "copy") as copy:
        assert sorted(copy.ids_where()) == ["c", "d", "e", "new"] and copy.verify() == []


def test_segments_are_linked_where_they_can_be_and_else_copied(index, tmp_path, monkeypatch):
    index.copy(tmp_path / "linked")
    assert all(map(os.path.samefile, segments(index.path), segments(tmp_path / "linked")))
    # a model may be written to by whoever keeps it
    assert not os.path.samefile(
        index.path / "models" / "m" / "weights", tmp_path / "linked" / "models" / "m" / "weights"
    )

    def other_disk(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    index.copy(tmp_path / "copied")
    assert not any(map(os.path.samefile, segments(index.path), segments(tmp_path / "copied")))
    with open_index(tmp_path / "copied") as copied:
        assert copied.verify() == [] and answers(copied) == answers(index)
    segment = segments(index.path)[0]
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"00000000\.rows is damaged: block 0 of its rows changed"):
        index.copy(tmp_path / "third")
    assert sorted(os.listdir(tmp_path)) == ["copied", "index", "linked"]


def test_a_copy_of_a_rebuild_under_way_can_be_finished(index, tmp_path):
    index.begin_rebuild(model="n", dim=2, normalised=False)
    index.stage(rows_of("a", "c"), model="n")
    index.copy(tmp_path / "copy")
    with open_index(tmp_path / "copy", write=True) as copy:
        assert [record["id"] for record in copy.unstaged()] == ["d", "e"]
        copy.stage(rows_of("d", "e"), model="n")
        copy.finish_rebuild()
        assert copy.model == "n" and copy.verify() == []


def test_a_compaction_in_the_middle_does_no_harm(index, tmp_path, monkeypatch):
    times = []

    def compacting(self, folder):
        snapshot = copy_to(self, folder)
        if not times:
            index.compact()  # takes the segments away that were just named
        times.append(1)
        return snapshot

    copy_to = catalogue.Catalogue.copy_to
    monkeypatch.setattr(catalogue.Catalogue, "copy_to", compacting)
    with open_index(index.path) as reader:
        reader.copy(tmp_path / "copy")
    assert len(times) == 2
    with open_index(tmp_path / "copy") as copy:
        assert copy.verify() == [] and answers(copy) == answers(index) and copy.info().removed == 0


def test_a_compaction_while_segments_are_copied_takes_nothing_away(index, tmp_path, monkeypatch):
    def compacting(source, target):
        index.compact()
        raise FileNotFoundError(source)

    monkeypatch.setattr(os, "link", compacting)
    with open_index(index.path) as reader:
        reader.copy(tmp_path / "copy")
    with open_index(tmp_path / "copy") as copy:
        assert copy.verify() == [] and answers(copy) == answers(index) and copy.info().removed == 1


def test_a_rebuild_that_ends_in_the_middle_begins_the_copy_anew(index, tmp_path, monkeypatch):
    index.begin_rebuild(model="n", dim=2, normalised=False, settings={"model": "models/n"})
    index.stage(rows_of("a", "c", "d", "e"), model="n")

    def ending(folder):
        if index.info().rebuild:
            index.finish_rebuild()
            (index.path / "models" / "m").rename(index.path / "models" / "n")
        return others(folder)

    others = copies._others
    monkeypatch.setattr(copies, "_others", ending)
    with open_index(index.path) as reader:
        reader.copy(tmp_path / "copy")
    with open_index(tmp_path / "copy") as copy:
        assert copy.verify() == [] and copy.model == "n"
        assert os.listdir(copy.path / "models") == [copy.settings["model"].removeprefix("models/")]


def test_what_is_in_the_way_of_a_copy_is_told(index, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there exists already; remove it or choose another --out"):
        index.copy(tmp_path / "there")
    segments(index.path)[0].unlink()
    with pytest.raises(ValueError, match=r"00000000\.rows is missing; restore it or build the index anew"):
        index.copy(tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["index", "there"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(tmp_path):
    with appearing.appearing(tmp_path / "index") as living:
        dead = tmp_path / f"{living.parent.name}-dead"
        shutil.copytree(living.parent, dead)
        with suppress(KeyboardInterrupt), appearing.appearing(tmp_path / "index"):
            raise KeyboardInterrupt
        assert os.listdir(tmp_path) == [living.parent.name]
    assert os.listdir(tmp_path) == ["index"]


@pytest.mark.slow
def test_an_index_killed_as_it_is_created_or_copied_is_whole_or_absent(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landseer.search"])
    script = str(Path(__file__).with_name("living_kill_target.py"))
    ended, died_at = False, -1
    while not ended:
        died_at += 2
        values = {"INDEX": tmp_path / "index", "COPY": tmp_path / "copy", "DIE_AT": died_at}
        child = context.Process(target=runpy.run_path, args=(script, values, "__create_target__"))
        child.start()
        child.join()
        ended = child.exitcode == 0
        assert ended or child.exitcode == -signal.SIGKILL
        for name in ("index", "copy"):
            if (tmp_path / name).exists():
                with open_index(tmp_path / name, write=True) as found:
                    assert found.verify() == []
                    assert name == "index" or len(found) == 5
                shutil.rmtree(tmp_path / name)
    assert died_at > 20
    assert os.listdir(tmp_path) == [], "the next process clears what a killed one left"


@pytest.mark.slow
def test_copies_beside_a_writer_hold_whole_states(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landseer.search"])
    path = tmp_path / "index"
    with LivingIndex.create(path, model="m", dim=2, normalised=False) as index:
        index.add(*READERS["group_of"](0, 0), model="m")
    values = {"INDEX": path, "SECONDS": 5, "SEED": 1}
    script = str(Path(__file__).with_name("living_readers_target.py"))
    writer = context.Process(target=runpy.run_path, args=(script, values, "__writer__"))
    writer.start()
    generations = set()
    while writer.is_alive():
        with open_index(path) as index:
            index.copy(tmp_path / "copy")
        with open_index(tmp_path / "copy") as copy:
            assert copy.verify() == []
            groups = [photo.partition("-")[0] for photo in copy.ids_where()]
            assert all(groups.count(group) == READERS["GROUP"] for group in groups)
            generations.add(copy.info().generation)
        shutil.rmtree(tmp_path / "copy")
    writer.join()
    assert writer.exitcode == 0 and len(generations) > 5
