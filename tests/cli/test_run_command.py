"""``landseer run`` and ``landseer report`` as a user meets them."""

import json

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
[[stages]]
name = "one"
size = 32
epochs = 1
batch = 16
[descriptors]
size = 32
[evaluation]
resamples = 100
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


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_run_prints_the_table_and_the_report_and_then_has_nothing_to_do(data, tmp_path):
    words = ("run", data / "tiny.toml", "--data", data / "C", "--out", tmp_path / "run")
    first = invoke(*words)
    assert first.exit_code == 0, first.output
    assert "mAP@100" in first.stdout
    assert f"report: {tmp_path / 'run' / 'report.html'}" in first.stdout
    second = invoke(*words)
    assert second.exit_code == 0
    assert second.stdout == f"{tmp_path / 'run'} is finished already: nothing to do\n" + first.stdout
    facts = json.loads(invoke(*words, "--json").stdout)
    assert facts["did_nothing"] is True
    assert {number["name"] for number in facts["trained"]} >= {"mAP@100", "GAP"}


def test_report_writes_the_page_again(data, tmp_path):
    run = tmp_path / "run"
    invoke("run", data / "tiny.toml", "--data", data / "C", "--out", run)
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    found = invoke("report", run, "--data", data / "C")
    assert found.exit_code == 0, found.output
    assert (run / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "title = 'x'\n[[stages]]\nname = 'a'\nepoch = 3\n",
            "stages[0].epoch: unknown key; did you mean 'epochs'?",
        ),
        ("title = 'x'\n[model]\nbackbone = 'resnet5'\nweights = 'none'\n", "has no model 'resnet5'"),
        ("title = 'x'\n[model]\nbackbone = 'test_resnet'\nweights = 'file'\n", "add --weights FILE"),
        (
            "title = 'x'\n[model]\nbackbone = 'test_vit'\nweights = 'none'\n[descriptors]\nsize = 57\n",
            "needs a multiple of 16, not 57; try 64",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(recipe, expected, data, tmp_path):
    (tmp_path / "bad.toml").write_text(recipe)
    found = invoke("run", tmp_path / "bad.toml", "--data", data / "C", "--out", tmp_path / "run")
    assert isinstance(found.exception, ValueError)
    assert expected in str(found.exception)
    assert "\n" not in str(found.exception)
    assert not (tmp_path / "run" / "untrained").exists()
    # what a backbone can take is known once it is built, all else before
    assert "needs a multiple" in expected or not (tmp_path / "run").exists()


def test_unreadable_photos_change_the_exit_code(data, tmp_path):
    import shutil

    shutil.copytree(data / "photos", tmp_path / "photos")
    next((tmp_path / "photos" / "index").rglob("*.jpg")).write_bytes(b"\xff\xd8 broken")
    found = invoke(
        "run",
        data / "tiny.toml",
        "--data",
        data / "C",
        "--root",
        tmp_path / "photos",
        "--out",
        tmp_path / "run",
    )
    assert found.exit_code == 3
    assert "1 photos could not be read" in found.stderr


def test_a_stage_may_learn_from_another_collection(data, tmp_path):
    (data / "two.toml").write_text(RECIPE.replace('name = "one"', 'name = "one"\ncollection = "old"'))
    words = ("run", data / "two.toml", "--data", data / "C", "--out", tmp_path / "run")
    assert "add --also old=COLLECTION" in str(invoke(*words).exception)
    found = invoke(*words, "--also", f"old={data / 'C'}", "--json")
    assert found.exit_code == 0, found.output
    assert "collection old" in json.loads(found.stdout)["made_by"]
