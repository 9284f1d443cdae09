"""``landseer train`` as a user meets it."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from landseer.cli import cli

RECIPE = """
title = "tiny"
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
neck = "fc"
dim = 16
[data]
validation = "share"
[[stages]]
name = "one"
size = 32
epochs = 1
batch = 16
[descriptors]
size = 32
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from landseer.datasets import import_gldv2
    from landseer.datasets.miniworld import draw_mini_world
    from landseer.storage import save_collection

    folder = tmp_path_factory.mktemp("data")
    draw_mini_world(folder / "photos", num_landmarks=8, num_photos=120, size_px=64, workers=1)
    imported, _ = import_gldv2(folder / "photos")
    save_collection(imported, folder / "C", made_by={"import": "gldv2"})
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def train(data, out, *words, recipe="tiny.toml"):
    command = ["train", data / recipe, "--data", data / "C", "--out", out, *words]
    return CliRunner().invoke(cli, [str(word) for word in command])


def test_it_prints_each_stage_and_then_has_nothing_to_do(data, tmp_path):
    from landseer.training import load_losses, load_validation

    first = train(data, tmp_path / "run")
    assert first.exit_code == 0, first.output
    stage = tmp_path / "run" / "stages" / "1-one"
    losses, validation = load_losses(stage), load_validation(stage)
    assert first.stdout == (
        f"one: loss {losses[-1]['loss']:.4f}, validation loss {validation[-1]['validation_loss']:.4f} "
        f"after {len(losses)} steps -> {stage / 'model'}\n"
    )
    second = train(data, tmp_path / "run")
    assert second.stdout == f"{tmp_path / 'run'} is trained already: nothing to do\n" + first.stdout
    (found,) = json.loads(train(data, tmp_path / "run", "--json").stdout)["stages"]
    assert found["loss"] == losses[-1]["loss"]
    assert found["model"] == str(stage / "model")
    assert (found["member"], found["stage"], found["steps"]) == (None, "one", len(losses))


def test_another_collection_is_given_by_name(data, tmp_path):
    (data / "two.toml").write_text(RECIPE.replace('name = "one"', 'name = "one"\ncollection = "old"'))
    assert "add --also old=COLLECTION" in str(train(data, tmp_path / "run", recipe="two.toml").exception)
    for words, said in (
        (("--also", "old"), "'old' is not NAME=COLLECTION"),
        (("--also", f"old={data / 'C'}", "--also", f"old={data / 'C'}"), "'old' is given twice"),
        (("--also", f"old={data / 'nowhere'}"), "is not a folder"),
    ):
        assert said in str(train(data, tmp_path / "run", *words, recipe="two.toml").exception)
    assert not (tmp_path / "run").exists()
    found = train(data, tmp_path / "run", "--also", f"old={data / 'C'}", recipe="two.toml")
    assert found.exit_code == 0, found.output


def test_tensorboard_is_told_or_named(data, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("landseer.training.tensorboard_callback", lambda folder: told.append)
    assert train(data, tmp_path / "run", "--tensorboard", tmp_path / "curves").exit_code == 0
    assert [entry["step"] for entry in told if "loss" in entry] == list(range(len(told) - 1))
    monkeypatch.setattr("landseer.training.tensorboard_callback", lambda folder: None)
    found = train(data, tmp_path / "other", "--tensorboard", tmp_path / "curves")
    assert (
        str(found.exception)
        == "--tensorboard: TensorBoard is not installed; pip install landseer[tensorboard]"
    )
    assert not (tmp_path / "other").exists()


def test_only_the_first_process_prints(data, tmp_path, monkeypatch):
    train(data, tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    assert train(data, tmp_path / "run").stdout == ""


TOGETHER = """
title = "together"
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
neck = "fc-bn"
neck_start = "whitening"
dim = 16
[data]
validation = "share"
[[stages]]
name = "first"
size = 32
epochs = 2
batch = 15
bn = "frozen-statistics"
neck_lr = 0
optimiser = "sgd"
lr = 0.02
[[stages]]
name = "second"
like = "first"
subset = "full"
keep = "all"
[descriptors]
size = 32
"""


@pytest.mark.slow
def test_two_processes_train_what_one_trains(data, tmp_path):
    from landseer.training import load_losses, load_stage_head, load_stage_model

    (data / "together.toml").write_text(TOGETHER)
    alone = train(data, tmp_path / "alone", recipe="together.toml")
    assert alone.exit_code == 0, alone.output
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [data / "together.toml", "--data", data / "C", "--out", tmp_path / "run", "--shard-head"]
    done = subprocess.run(
        [*torchrun, "-m", "landseer", "train", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2  # the first process alone prints
    for stage in ("1-first", "2-second"):
        one, two = tmp_path / "alone" / "stages" / stage, tmp_path / "run" / "stages" / stage
        assert len(load_losses(one)) == len(load_losses(two))
        states = [load_stage_model(folder).state_dict() for folder in (one, two)]
        states += [load_stage_head(folder).state for folder in (one, two)]
        for first, second in (states[:2], states[2:]):
            assert first.keys() == second.keys()
            for key in first:
                assert (first[key].double() - second[key].double()).abs().max() <= 1e-5, key
    assert [entry.name for entry in (tmp_path / "run" / "training" / "1-first").iterdir()] == ["log.jsonl"]
    again = train(data, tmp_path / "run", recipe="together.toml")
    assert "is trained already: nothing to do" in again.stdout
