import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from landseer.cli import cli
from landseer.recipe import DescriptorOptions, ModelOptions
from landseer.storage import load_descriptors, save_collection


@pytest.fixture
def place(draw, tmp_path, embedder, monkeypatch) -> Path:
    """A folder with a collection of 9 photos, all in split ``index``; any path loads the small model."""
    import landseer.pipeline.model

    save_collection(draw(9), tmp_path / "collection", made_by={})
    monkeypatch.setattr(landseer.pipeline.model, "load_model", lambda path: (embedder, DescriptorOptions()))
    return tmp_path


def run(place: Path, *words: str, out: str = "d") -> Result:
    return CliRunner().invoke(
        cli,
        [
            "extract",
            str(place),
            "--data",
            str(place / "collection"),
            "--out",
            str(place / out),
            "--size",
            "16",
            *words,
        ],
    )


def test_describes_a_collection_and_then_says_that_nothing_is_to_do(place):
    first = run(place, "--split", "index", "--batch", "4")
    assert first.exit_code == 0, first.output
    assert re.search(r"9 of 9 photos described in \d+ s, 24 components each -> .*/d\n", first.stdout)
    assert len(load_descriptors(place / "d")) == 9
    assert first.stderr == ""  # what is over at once needs no progress
    assert "describing" not in first.stdout
    second = run(place, "--split", "index", "--batch", "4")
    assert second.exit_code == 0
    assert second.stdout == f"{place / 'd'} is there already, made with these settings: nothing to do\n"


def test_unreadable_photos_are_counted_and_give_exit_code_3(place, draw):
    draw(9, (2, 5))
    for _ in range(2):  # the finished folder says the same when asked again
        result = run(place)
        assert result.exit_code == 3
        assert "2 photos could not be read" in result.stdout
        assert str(place / "d" / "unreadable.json") in result.stdout
    listed = json.loads((place / "d" / "unreadable.json").read_text())
    assert sorted(listed) == ["photo-2", "photo-5"]


def test_the_json_summary_is_one_object(place, draw):
    draw(9, (2,))
    result = run(place, "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    seconds = found.pop("seconds")
    assert seconds > 0
    assert found == {
        "out": str(place / "d"),
        "photos": 9,
        "described": 8,
        "unreadable": 1,
        "dim": 24,
        "fingerprint": load_descriptors(place / "d").fingerprint,
    }
    assert json.loads(run(place, "--json").stdout)["seconds"] is None


def test_options_reach_the_rows(place):
    assert (
        run(place, "--scales", "0.75,1", "--dtype", "float16", "--batch", "2", "--workers", "1").exit_code
        == 0
    )
    assert run(place, out="plain").exit_code == 0
    scaled, plain = load_descriptors(place / "d"), load_descriptors(place / "plain")
    assert scaled.rows_ND.dtype == np.float16
    assert not np.allclose(scaled.rows_ND, plain.rows_ND, atol=1e-2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "query"], "no photo of the collection is in query; it has index"),
        (["--split", "indx"], "unknown split 'indx'"),
        (["--size", "3"], "descriptors.size: must be at least 16"),
        (["--scales", "1,x"], "'1,x' is not a list of numbers"),
        (["--scales", "9"], "descriptors.scales: must lie above 0"),
        (["--dtype", "float61"], "did you mean 'float16'"),
        (["--device", "tpu9x"], "is not a device"),
    ],
)
def test_mistakes_are_named_and_write_nothing(place, words, said):
    before = sorted(entry.name for entry in place.iterdir())
    result = run(place, *words)
    assert isinstance(result.exception, ValueError)
    assert said in str(result.exception)
    assert sorted(entry.name for entry in place.iterdir()) == before


def test_defaults_in_the_help_are_those_of_the_options():
    text = " ".join(CliRunner().invoke(cli, ["extract", "--help"]).output.split())
    known = DescriptorOptions()
    for option, value in (
        ("--size", known.size),
        ("--scales", ",".join(map(str, known.scales))),
        ("--batch", known.batch),
        ("--dtype", known.dtype),
    ):
        assert re.search(rf"{option} [A-Z]+ [^\[]*\[default: {re.escape(str(value))}\]", text), option
    assert "Example:" in text


def test_a_real_model_folder_is_described_by(draw, tmp_path, one_thread):
    from landseer.models import build_embedder, save_embedder
    from landseer.photos import load_square

    options = ModelOptions(backbone="mobilenetv3_small_050", weights="none", pooling="gem")
    embedder = build_embedder(options, seed=3)
    save_embedder(embedder, tmp_path / "model", made_by={})
    collection = save_collection(draw(5), tmp_path / "collection", made_by={})
    words = ["--data", str(tmp_path / "collection"), "--out", str(tmp_path / "d"), "--size", "32"]
    result = CliRunner().invoke(cli, ["extract", str(tmp_path / "model"), *words])
    assert result.exit_code == 0, result.output
    pixels = np.stack([load_square(collection.root, path, 32) for path in collection.paths])
    found = load_descriptors(tmp_path / "d")
    assert found.ids == collection.ids
    assert np.array_equal(found.rows_ND, embedder.describe(pixels))


def test_an_ensemble_folder_is_described_by_its_members(draw, tmp_path, one_thread):
    from landseer.models import Ensemble, Member, build_embedder, save_ensemble

    small = ModelOptions(backbone="mobilenetv3_small_050", weights="none", pooling="gem")
    members = tuple(
        Member(
            name=f"m{seed}",
            weight=1.0 + seed,
            embedder=build_embedder(small, seed=seed),
            descriptors=DescriptorOptions(size=32 + 32 * seed),
        )
        for seed in range(2)
    )
    save_ensemble(Ensemble(members=members), tmp_path / "model", made_by={})
    save_collection(draw(5), tmp_path / "collection", made_by={})
    words = ["extract", str(tmp_path / "model"), "--data", str(tmp_path / "collection")]
    refused = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "d"), "--size", "32"])
    assert "is an ensemble" in str(refused.exception)
    assert "leave out --size" in str(refused.exception)
    result = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "d")])
    assert result.exit_code == 0, result.output
    assert load_descriptors(tmp_path / "d").dim == 2 * members[0].embedder.dim


def test_a_size_that_would_not_be_looked_at_is_refused(draw, tmp_path):
    from landseer.models import build_embedder, save_embedder
    from landseer.recipe import AspectOptions

    made = build_embedder(ModelOptions(backbone="test_resnet", weights="none", pooling="gap"))
    preset = DescriptorOptions(aspects=AspectOptions(splits=(1.0,), sizes=((64, 32), (32, 64))))
    save_embedder(made, tmp_path / "model", made_by={}, descriptors=preset)
    save_collection(draw(2), tmp_path / "collection", made_by={})
    words = ["extract", str(tmp_path / "model"), "--data", str(tmp_path / "collection"), "--size", "32"]
    result = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "d")])
    assert "--size" in str(result.exception)
    assert "by their shape" in str(result.exception)
