"""The options of commands that match photos."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from landseer.cli.matching_flags import matching_files, matching_flags
from landseer.matching import MatchingSetup
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions


def given(decorator, *arguments: str) -> tuple[MatchingSetup, str]:
    got = {}

    @click.command()
    @click.argument("folder")
    @decorator
    @click.option("--other")
    def command(*, folder: str, other: str, matching: MatchingSetup) -> None:
        """Do it."""
        got.update(matching=matching, folder=folder, other=other)

    result = CliRunner().invoke(command, ["F", *arguments, "--other", "x"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (got["folder"], got["other"]) == ("F", "x")
    return got["matching"], CliRunner().invoke(command, ["--help"]).output


def test_without_options_nothing_is_needed():
    matching, text = given(matching_flags)
    assert matching == MatchingSetup()
    assert text.startswith("Usage: command [OPTIONS] FOLDER\n\n  Do it.")


def test_every_option_arrives(tmp_path: Path):
    xfeat, glue = tmp_path / "xfeat.onnx", tmp_path / "glue.onnx"
    xfeat.touch()
    glue.touch()
    files = ("--extractor-weights", str(xfeat), "--pairer-weights", str(glue), "--features", str(tmp_path))
    names = ("--extractor", "xfeat", "--pairing", "lighterglue")
    want = MatchingSetup(
        options=MatchingOptions(features=LocalFeatureOptions(extractor="xfeat"), pairing="lighterglue"),
        extractor_weights=xfeat,
        pairer_weights=glue,
        features=tmp_path,
    )
    matching, _ = given(matching_flags, *names, *files)
    assert matching == want
    # of a command with a recipe, that says what is matched and the options say where things lie
    matching, text = given(matching_files, *files)
    assert matching.extractor_weights == xfeat and matching.options == MatchingOptions()
    assert "--extractor " not in text and "--pairing" not in text


def test_a_pairing_of_other_points_is_refused():
    with pytest.raises(ValueError, match="pairing: lighterglue pairs the points of xfeat, not of rootsift"):
        given(matching_flags, "--pairing", "lighterglue")
