"""The command line: parse, call one function, print.  A command's module is imported when it is asked for."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings

import click

EXIT_SOME_UNREADABLE = 3
"""Done, but some photos could not be read."""

COMMANDS = {
    "demo": "the whole chain on a generated mini world, in minutes, on a CPU",
    "import": "photos and labels of any layout -> a collection",
    "check": "unreadable photos, copies, leaks between splits, label counts",
    "clean": "noisy labels -> a new collection version, with the evidence for each photo",
    "group": "unlabelled photos -> places, to be named",
    "train": "staged training, resumable; under torchrun on many GPUs",
    "extract": "photos -> descriptors, resumable, on any number of machines",
    "merge": "the parts of one extraction -> one descriptors folder",
    "index": "photos -> a living index: build, add, remove, compact, rebuild, copy, verify, info",
    "search": "the photos of an index most like yours: a table, JSON or CSV",
    "rank": "batch search between two descriptor folders",
    "rerank": "what the neighbours of a query say: expansion, k-reciprocal, diffusion, votes",
    "recognise": "which landmark each query shows, how sure, and where",
    "evaluate": "score rankings against the truth",
    "report": "one self-contained HTML page of a run",
    "export": "competition files: submission.csv, checked row by row",
    "run": "train -> extract -> search -> re-rank -> evaluate -> report, in one go",
    "serve": "REST and web explorer",
}
"""Name -> first line of help.  The module is ``landseer.cli.<name>_command``, its command ``command``."""


class _Lazy(click.Group):
    """A group that imports a command only to run or explain it, so that ``--help`` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"landseer.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx) from None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="landseer", message="landseer %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to standard error.")
def cli(verbose: bool) -> None:
    """Find every photo of the same landmark, say which one it is, and train the models that do so."""
    # Pillow warns of odd metadata photo by photo; what matters of it is in the list of unreadable photos
    warnings.filterwarnings("ignore", module="PIL")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Run the command line.  A user's mistake is one line on standard error and exit code 2; a bug raises."""
    try:
        code = cli.main(prog_name="landseer", standalone_mode=False)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        click.echo(f"landseer: {error.format_message().rstrip('.')}{hint}", err=True)
        sys.exit(2)
    except ValueError as error:
        click.echo(f"landseer: {error}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)  # what a command gave to ctx.exit
