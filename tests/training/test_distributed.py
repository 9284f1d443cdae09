"""Any number of processes takes the same steps."""

from __future__ import annotations

import multiprocessing
import runpy
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("distributed_target.py")
TARGET = runpy.run_path(str(SCRIPT))
CASES = list(TARGET["CASES"])
WITHIN = 1e-5


@pytest.fixture(scope="module")
def photos(photo_root, tmp_path_factory):
    """The drawn photos, every other one turned upright."""
    root = tmp_path_factory.mktemp("turned")
    for number, file in enumerate(sorted(photo_root.iterdir())):
        photo = Image.open(file)
        (photo.transpose(Image.Transpose.ROTATE_90) if number % 2 else photo).save(root / file.name)
    return root


def trained_by(world: int, photos: Path, out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What every case ends with on so many processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "landseer.training"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(world):
        values = {"PHOTOS": photos, "OUT": out, "RANK": rank, "WORLD": world, "PORT": port}
        process = context.Process(target=runpy.run_path, args=(str(SCRIPT), values, "__distributed_target__"))
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * world
    return {case: load_file(out / f"{number}.safetensors") for number, case in enumerate(CASES)}


@pytest.fixture(scope="module")
def alone(photos):
    return {case: TARGET["run"](photos, case, None) for case in CASES}


@pytest.fixture(scope="module")
def two(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    return trained_by(2, photos, out), out


def assert_same(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, where: str = ""
) -> None:
    assert found.keys() == expected.keys()
    assert len(expected["loss"]) >= 20
    for key, value in expected.items():
        difference = (found[key].double() - value.double()).abs().max() if value.numel() else 0.0
        assert difference <= WITHIN, f"{where}{key} differs by {difference}"


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_weights_of_one(case, alone, two):
    assert_same(two[0][case], alone[case])


@pytest.mark.slow
def test_three_processes_end_with_the_weights_of_one(alone, photos, tmp_path):
    found = trained_by(3, photos, tmp_path)
    for case in CASES:
        assert_same(found[case], alone[case], where=f"{case}: ")


@pytest.mark.parametrize("case", ["everything", "sharded everything"])
def test_one_process_goes_on_where_two_stopped(case, alone, two, photos):
    """What a checkpoint holds does not tell how many processes there were."""
    work = two[1] / f"{CASES.index(case)}-work"
    kept = sorted(path for path in work.iterdir() if path.is_dir())
    assert 5 <= int(kept[-1].name.split("-")[0]) < 20, "some steps are left to do"
    found = TARGET["run"](photos, case, work)
    assert_same(found, alone[case])
