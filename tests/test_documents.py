"""Documents that are generated are current, and every command is explained."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from landseer.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def maker(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += leaves(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("page", ["recipes", "commands"])
def test_a_generated_page_is_current(page):
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert written == maker(f"make_{page}").page(), f"docs/{page}.md is out of date; run make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name):
    command = cli.get_command(click.Context(cli), name)
    assert command.name == name
    assert command.help, f"landseer {name} has no help"
    assert f"\n## landseer {name}\n" in (DOCS / "commands.md").read_text(encoding="utf-8")
    for words in leaves(command, (name,)) if isinstance(command, click.Group) else [(name,)]:
        shown = CliRunner().invoke(cli, [*words, "--help"], terminal_width=100).output
        example = re.search(r"\n\s*Example:\n(?P<lines>(\s+landseer .+\n)+)", shown)
        assert example, f"landseer {' '.join(words)} --help shows no example"
        assert f"landseer {' '.join(words)}" in example["lines"]


def test_an_unknown_command_is_told_the_nearest():
    result = CliRunner().invoke(cli, ["evaluat"])
    assert result.exit_code == 2
    assert "no command 'evaluat'; did you mean 'evaluate'?" in result.output


def test_an_option_without_a_meaning_is_not_documented(tmp_path, monkeypatch):
    make = maker("make_recipes")
    first, *rest = make.OPTIONS
    text = first.read_text().replace('"""Every random choice follows from it."""', "")
    (tmp_path / "options.py").write_text(text)
    monkeypatch.setattr(make, "OPTIONS", (tmp_path / "options.py", *rest))
    with pytest.raises(ValueError, match=r"Recipe\.seed has no string under it"):
        make.page()


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md")), ids=lambda file: file.name
)
def test_links_lead_somewhere(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (file.parent / target).exists(), f"{file.name} points to {target}, which is not there"
