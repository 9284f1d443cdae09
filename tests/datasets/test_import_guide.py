"""The guide shows what the program prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from landseer.cli import cli

GUIDE = Path(__file__).parents[2] / "docs" / "import.md"
GLD_MINI = Path(__file__).parents[2].parent / "shared" / "data" / "gld-mini"


def session(start: str) -> list[str]:
    """Lines of the guide from the one that begins with *start* to the end of its block."""
    lines = GUIDE.read_text().split("\n")
    first = next(at for at, line in enumerate(lines) if line.startswith(start))
    return lines[first : lines.index("```", first)]


def printed(command: str) -> list[str]:
    result = CliRunner().invoke(cli, shlex.split(command)[2:], catch_exceptions=False)
    assert result.exit_code == 0
    *lines, saved = result.output.rstrip("\n").split("\n")
    assert saved.startswith("collection ")  # its fingerprint depends on the version of the Parquet writer
    return lines


def test_the_example_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    _, *content = session("$ cat photos.csv")
    split = next(at for at, line in enumerate(content) if line.startswith("$ "))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("photos.csv").write_text("\n".join(content[:split]) + "\n")
    for name in ("etosha.jpg", "windhoek.jpg", "tower.jpg"):
        Path(name).write_bytes(make.jpeg())
    assert printed(content[split]) == content[split + 1 :]


@pytest.mark.photos
def test_the_example_of_gldv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not GLD_MINI.is_dir():
        pytest.skip(f"no real photos at {GLD_MINI}")
    command, *shown = session("$ landseer import gldv2 gld-mini")
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "C"
    assert printed(command.replace("gld-mini", str(GLD_MINI)).replace("--out C", f"--out {out}")) == shown
