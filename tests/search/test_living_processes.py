"""A living index and several processes: kills lose nothing acknowledged, readers see whole states only."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import runpy
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from landseer.search import LivingIndex, open_index
from landseer.types import Descriptors

SCRIPT = Path(__file__).with_name("living_kill_target.py")
READERS = Path(__file__).with_name("living_readers_target.py")
TARGET = runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def context():
    """A fork server that has the search room imported already."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["landseer.search"])
    return found


def killed(context, path, log, rng):
    """Let a child change the index until it is killed, at a random step or moment."""
    values = {
        "INDEX": path,
        "LOG": log,
        "SEED": rng.randrange(10**6),
        "DIE_AT": rng.choice((0, rng.randrange(1, 60))),
    }
    child = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__kill_target__"))
    child.start()
    while child.is_alive() and not log.exists():
        time.sleep(0.001)
    if not values["DIE_AT"]:
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    return lines


def content(path):
    """What an index holds, every answer checked against what the photos' descriptors must be."""
    with open_index(path) as index:
        ids = index.ids_where()
        records = index.photos(ids)
        versions = {photo: facts["version"] for photo, facts in records.items()}
        landmarks = {
            photo: facts["landmark"] for photo, facts in records.items() if facts["landmark"] is not None
        }
        expected = TARGET["rows_of"](versions, index.model)
        assert np.array_equal(index.descriptors(expected.ids).rows_ND, expected.rows_ND)
        query = Descriptors(ids=("q",), rows_ND=np.ones((1, TARGET["DIM"]), np.float32), normalised=False)
        found = index.search(query, k=len(ids) + 1)
        assert sorted(photo for photo, _ in found.answers(0)) == sorted(ids)
        assert index.verify() == []
        return {"model": index.model, "versions": versions, "landmarks": landmarks}


def survive(context, tmp_path, num_kills, seed):
    path, rng = tmp_path / "index", random.Random(seed)
    LivingIndex.create(path, model="m0", dim=TARGET["DIM"], normalised=False).close()
    state, num_done = {"model": "m0", "versions": {}, "landmarks": {}}, 0
    for _ in range(num_kills):
        lines = killed(context, path, tmp_path / "log", rng)
        steps = [line for line in lines if isinstance(line, dict)]
        done = lines.count("done")
        num_done += done
        for step in steps[:done]:
            state = TARGET["after"](state, step)
        allowed = [state] + [TARGET["after"](state, step) for step in steps[done:]]
        found = content(path)
        assert found in allowed, "what was acknowledged is there, the rest is there as a whole or not at all"
        state = found
        assert not [name for name in os.listdir(path.parent) if name.startswith(".")]
    with open_index(path, write=True) as index:  # and the leftovers go
        named = index.info().segments
        if index.info().rebuild is None:
            assert len(os.listdir(path / "segments")) == named
    return num_done


def test_kills_lose_nothing_acknowledged(context, tmp_path):
    assert survive(context, tmp_path, 6, seed=1) > 6


@pytest.mark.slow
def test_twenty_kills_lose_nothing_acknowledged(context, tmp_path):
    assert survive(context, tmp_path, 20, seed=2) > 20


@pytest.mark.soak
def test_two_hundred_kills_lose_nothing_acknowledged(context, tmp_path):
    assert survive(context, tmp_path, 200, seed=3) > 200


def test_a_second_writing_process_is_refused(context, tmp_path):
    path, log = tmp_path / "index", tmp_path / "log"
    LivingIndex.create(path, model="m0", dim=TARGET["DIM"], normalised=False).close()
    values = {"INDEX": path, "LOG": log, "SEED": 1, "DIE_AT": 0}
    child = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__kill_target__"))
    child.start()
    while not log.exists() or not log.read_text():
        time.sleep(0.001)
    try:
        with pytest.raises(
            ValueError, match=r"another process is writing to .*; an index has one writer at a time"
        ):
            open_index(path, write=True)
        with pytest.raises(ValueError, match="open it with write=True"):
            open_index(path).remove(["p1"])
    finally:
        child.kill()
        child.join()
    open_index(path, write=True).close()  # the lock went with the process


def run_together(context, path, seconds):
    """One writer and four readers at once; (searches, states seen) of each reader."""
    groups = runpy.run_path(str(READERS))
    with LivingIndex.create(path, model="m", dim=2, normalised=False) as index:
        index.add(*groups["group_of"](0, 0), model="m")
    files = [path.with_name(f"reader {seed}") for seed in range(4)]
    values = [
        {"INDEX": path, "SECONDS": seconds, "SEED": seed, "RESULT": file} for seed, file in enumerate(files)
    ]
    processes = [context.Process(target=runpy.run_path, args=(str(READERS), values[0], "__writer__"))]
    processes += [
        context.Process(target=runpy.run_path, args=(str(READERS), each, "__reader__")) for each in values
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 5
    assert open_index(path).verify() == []
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_four_readers_beside_a_writer_see_whole_states_only(context, tmp_path):
    for num_searches, num_states in run_together(context, tmp_path / "index", seconds=6):
        assert num_searches > 20 and num_states > 5
