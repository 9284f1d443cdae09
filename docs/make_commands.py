"""Write ``docs/commands.md`` from the program's own ``--help``: every command, one heading each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from landseer.cli import cli

PAGE = Path(__file__).with_name("commands.md")

INTRODUCTION = """\
# Commands

What `--help` prints, for every command. Exit code 0: done; 2: a mistake in what was asked, said in one line;
3: done, but some photos could not be read; 130: stopped from the keyboard.

*This page is generated from the program by `make docs`.*
"""


def commands(group: click.Group | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups before what is in them: ``("import",), ("import", "gldv2")`` ..."""
    context = click.Context(group or cli)
    for name in (group or cli).list_commands(context):
        command = (group or cli).get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def help_of(words: tuple[str, ...]) -> str:
    """What ``landseer WORDS --help`` prints on a terminal 100 columns wide."""
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="landseer", terminal_width=100)
    if result.exit_code != 0:
        raise RuntimeError(f"landseer {' '.join(words)} --help failed") from result.exception
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def page() -> str:
    """The text of ``docs/commands.md``."""
    sections = [INTRODUCTION.rstrip(), f"```\n{help_of(())}\n```"]
    for words in commands():
        sections.append(f"{'#' * (len(words) + 1)} landseer {' '.join(words)}\n\n```\n{help_of(words)}\n```")
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}: {len(list(commands()))} commands")
