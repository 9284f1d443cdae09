"""What the README promises is run, and what it prints is compared."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def block_after(command: str) -> list[str]:
    """The lines the README shows below ``$ command``."""
    found = re.search(rf"```console\n\$ {re.escape(command)}\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"the README shows no output of {command!r}"
    return found[1].splitlines()


def numbers(line: str) -> list[float]:
    return [float(text) for text in re.findall(r"\d+\.\d+", line)]


def test_the_first_command_and_result_come_early():
    lines = README.read_text().splitlines()
    assert next(place for place, line in enumerate(lines, start=1) if line.startswith("$ ")) <= 15
    assert next(place for place, line in enumerate(lines, start=1) if line.startswith("mAP@100")) <= 30
    assert len(lines) <= 200


def test_every_link_and_picture_leads_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert len(targets) > 8
    missing = [target for target in targets if "://" not in target and not (README.parent / target).exists()]
    assert missing == []


def test_the_python_shown_imports_and_names_exist():
    import landseer

    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    compile(code, "README.md", "exec")
    names = set(re.findall(r"landseer\.(\w+)", code))
    assert len(names) >= 4
    assert [name for name in names if not hasattr(landseer, name)] == []


def test_every_command_shown_is_one():
    from landseer.cli import COMMANDS

    shown = re.findall(r"^\$ landseer (\w+)", README.read_text(), re.MULTILINE)
    assert len(shown) >= 4
    assert set(shown) <= set(COMMANDS)


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "landseer", "demo", "--out", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = done.stdout.splitlines()
    expected = [line for line in block_after("make demo") if not line.startswith("...")]
    assert len(printed) == len(expected)
    for got, shown in zip(printed, expected, strict=True):
        # same rows and counts to the letter; scores as close as another processor's arithmetic lets them be
        assert re.sub(r"\d+\.\d+", "#", got).split() == re.sub(r"\d+\.\d+", "#", shown).split()
        assert numbers(got) == pytest.approx(numbers(shown), abs=0.05)
    headline = next(line for line in printed if re.match(r"mAP@100 +Private and Public", line))
    untrained, trained = numbers(headline)[:2]
    assert trained >= 2 * untrained
    assert (tmp_path / "demo" / "run" / "report.html").stat().st_size > 100_000
