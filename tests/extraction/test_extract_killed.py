"""An extraction killed by ``kill -9`` at any step is continued to the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_target.py")


@pytest.fixture(scope="module")
def launch():
    """Starts an extraction in a process of its own; a fork server has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "landseer.extraction", "landseer.models"])

    def start(
        photos: Path,
        out: Path,
        *,
        kind: str = "square",
        die_at: int = 0,
        pause_s: float = 0.0,
        steps: Path | None = None,
    ):
        values = {
            "KIND": kind,
            "PHOTOS": photos,
            "OUT": out,
            "DIE_AT": die_at,
            "PAUSE_S": pause_s,
            "STEPS": steps,
        }
        process = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__kill_target__"))
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def undisturbed(launch, tmp_path_factory):
    """(photos folder, content of the artifact, number of steps) of a run that nobody kills."""
    return left_alone(launch, tmp_path_factory.mktemp("undisturbed"), "square")


def left_alone(launch, place: Path, kind: str) -> tuple[Path, dict[str, bytes], int]:
    process = launch(place / "photos", place / "out", kind=kind, steps=place / "steps")
    process.join()
    assert process.exitcode == 0
    content = {file.name: file.read_bytes() for file in (place / "out").iterdir()}
    return place / "photos", content, int((place / "steps").read_text())


def finish(launch, photos: Path, out: Path, *, kind: str = "square") -> dict[str, bytes]:
    process = launch(photos, out, kind=kind)
    process.join()
    assert process.exitcode == 0
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["out"], "nothing else is left beside it"
    return {file.name: file.read_bytes() for file in out.iterdir()}


def kill_at_step(launch, photos: Path, out: Path, step: int, *, kind: str = "square") -> None:
    process = launch(photos, out, kind=kind, die_at=step)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists() or (out / "manifest.json").exists(), "a half artifact has appeared"


def kill_at_random(launch, photos: Path, out: Path, rng: random.Random) -> bool:
    """Kill a slowed run some time after it began; whether it was still alive."""
    process = launch(photos, out, pause_s=0.02)
    while process.is_alive() and not out.parent.joinpath(".out.work").exists():
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, 0.25))
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def test_killed_at_chosen_steps_one_after_the_other(launch, undisturbed, tmp_path):
    photos, content, num_steps = undisturbed
    assert num_steps > 20
    out = tmp_path / "out"
    # each restart gets some steps further; the last die while the artifact appears and while the blocks go
    for step in (1, 4, 6, 9, 11):
        kill_at_step(launch, photos, out, step)
    assert finish(launch, photos, out) == content


@pytest.mark.parametrize(("kind", "shares"), [("aspects", (0.5,)), ("ensemble", (0.3, 0.6, 0.96))])
def test_groups_of_shapes_and_ensembles_are_continued_to_the_same_bytes(launch, tmp_path, kind, shares):
    photos, content, num_steps = left_alone(launch, tmp_path / "whole", kind)
    out = tmp_path / "there" / "out"
    done = 0
    for share in shares:  # each restart has what is left to do
        kill_at_step(launch, photos, out, max(1, round(num_steps * share) - done), kind=kind)
        done = round(num_steps * share)
    assert finish(launch, photos, out, kind=kind) == content


@pytest.mark.slow
def test_an_ensemble_killed_at_every_step(launch, tmp_path):
    photos, content, num_steps = left_alone(launch, tmp_path / "whole", "ensemble")
    for step in range(1, num_steps + 1):
        out = tmp_path / str(step) / "out"
        kill_at_step(launch, photos, out, step, kind="ensemble")
        assert finish(launch, photos, out, kind="ensemble") == content, f"killed before {step} of {num_steps}"


@pytest.mark.parametrize("share", [0.55, 0.7, 0.85, 1.0])
def test_killed_once_late(launch, undisturbed, tmp_path, share):
    photos, content, num_steps = undisturbed
    kill_at_step(launch, photos, tmp_path / "out", round(num_steps * share))
    assert finish(launch, photos, tmp_path / "out") == content


def test_killed_at_random_moments(launch, undisturbed, tmp_path):
    photos, content, _ = undisturbed
    rng = random.Random(5)
    kills = sum(kill_at_random(launch, photos, tmp_path / "out", rng) for _ in range(4))
    assert kills >= 1
    assert finish(launch, photos, tmp_path / "out") == content


@pytest.mark.slow
def test_killed_at_every_step(launch, undisturbed, tmp_path):
    photos, content, num_steps = undisturbed
    for step in range(1, num_steps + 1):
        out = tmp_path / str(step) / "out"
        kill_at_step(launch, photos, out, step)
        assert finish(launch, photos, out) == content, f"killed before step {step} of {num_steps}"


@pytest.mark.slow
def test_killed_at_random_moments_many_times(launch, undisturbed, tmp_path):
    photos, content, _ = undisturbed
    rng = random.Random(11)
    kills = 0
    for trial in range(30):
        out = tmp_path / str(trial) / "out"
        kills += sum(kill_at_random(launch, photos, out, rng) for _ in range(3))
        assert finish(launch, photos, out) == content
    assert kills >= 45
