"""A stage killed by ``kill -9`` at any moment is continued to the same weights, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import runpy
import signal
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("train_target.py")


@pytest.fixture(scope="module")
def launch(photo_root):
    """Starts a training in a process of its own; a fork server has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "landseer.training"])

    def start(place: Path, *, die_at: int = 0, pause_s: float = 0.0):
        values = {
            "PHOTOS": photo_root,
            "FOLDER": place / "work",
            "OUT": place / "end",
            "DIE_AT": die_at,
            "PAUSE_S": pause_s,
        }
        process = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__kill_target__"))
        process.start()
        return process

    return start


def finish(launch, place: Path) -> tuple[bytes, list, list, list]:
    """Weights, losses, validation and the lines of the log that a training ends with."""
    process = launch(place)
    process.join()
    assert process.exitcode == 0
    assert not [entry for entry in (place / "work").iterdir() if entry.name.startswith(".")], "leftovers"
    facts = json.loads((place / "end").read_text())
    log = [json.loads(line) for line in (place / "work" / "log.jsonl").read_text().splitlines()]
    return (place / "end.safetensors").read_bytes(), facts["losses"], facts["validation"], log


@pytest.fixture(scope="module")
def undisturbed(launch, tmp_path_factory):
    """What a training ends with that nobody kills, and its number of file-system steps."""
    place = tmp_path_factory.mktemp("undisturbed")
    end = finish(launch, place)
    return end, json.loads((place / "end").read_text())["steps"]


def kill_at_random(launch, place: Path, rng: random.Random) -> bool:
    """Kill a slowed training some time after it began; whether it was still alive."""
    process = launch(place, pause_s=0.03)
    while process.is_alive() and not (place / "work").exists():
        time.sleep(0.001)
    time.sleep(rng.uniform(0.05, 0.7))
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def test_an_undisturbed_training_logs_every_step_once(undisturbed):
    (_, losses, validation, log), steps = undisturbed
    assert [entry["step"] for entry in losses] == list(range(len(losses)))
    assert [entry["epoch"] for entry in validation] == list(range(len(validation)))
    assert [entry for entry in log if "loss" in entry] == losses
    assert [entry for entry in log if "validation_loss" in entry] == validation
    assert steps > 40


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_killed_between_two_writes(launch, undisturbed, tmp_path, share):
    end, steps = undisturbed
    process = launch(tmp_path, die_at=round(steps * share))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert finish(launch, tmp_path) == end


def test_killed_three_times_at_random(launch, undisturbed, tmp_path):
    rng = random.Random(7)
    assert sum(kill_at_random(launch, tmp_path, rng) for _ in range(3)) >= 1
    assert finish(launch, tmp_path) == undisturbed[0]


@pytest.mark.soak
def test_killed_twenty_times_at_random(launch, undisturbed, tmp_path):
    rng, kills, trial = random.Random(11), 0, 0
    while kills < 20:
        place = tmp_path / str(trial)
        place.mkdir()
        kills += sum(kill_at_random(launch, place, rng) for _ in range(3))
        assert finish(launch, place) == undisturbed[0], f"trial {trial}"
        trial += 1


@pytest.mark.soak
def test_killed_before_every_write(launch, undisturbed, tmp_path):
    end, steps = undisturbed
    for step in range(1, steps + 1):
        place = tmp_path / str(step)
        place.mkdir()
        launch(place, die_at=step).join()
        assert finish(launch, place) == end, f"killed before step {step} of {steps}"
