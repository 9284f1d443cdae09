"""What the program itself says: versions, help, mistakes."""

import subprocess
import sys

import pytest


def landseer(*words):
    return subprocess.run(
        [sys.executable, "-m", "landseer", *words], check=False, capture_output=True, text=True
    )


def test_without_a_command_it_helps():
    done = landseer()
    assert done.returncode == 2
    assert "Commands:" in done.stderr
    assert "see landseer" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["raank"], "landseer: no command 'raank'; did you mean 'rank'?"),
        (["run"], "landseer: Missing argument 'RECIPE'"),
        (["rank", "--wat"], "landseer: No such option '--wat'"),
        (
            ["report", "nowhere", "--data", "."],
            "landseer: Invalid value for 'RUN': Directory 'nowhere' does not exist",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_way_to_help_and_exit_code_2(words, said):
    done = landseer(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert "--help" in done.stderr


def test_a_bug_of_ours_raises(monkeypatch):
    from landseer import cli

    def broken(**_):
        raise KeyError("ours")

    monkeypatch.setattr(cli.cli, "main", broken)
    with pytest.raises(KeyError):
        cli.main()
