"""The progress bars of every command: what is going on, how far, how fast, how much longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Show = Callable[[str, int, int, Mapping[str, float]], None]
"""Told (what is going on, units done, units in all, facts such as loss and lr)."""


@contextmanager
def progress_bars(unit: str = "photos") -> Iterator[Show]:
    """Bars on standard error, one for each thing that goes on; gives the function that moves them.

    Without a terminal, each thing is one line when it begins, so that a log stays readable.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed and task.total != 1 else "")

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console.print)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, object] = {}

        def show(what: str, done: int, total: int, facts: Mapping[str, float]) -> None:
            if what not in tasks:
                for earlier in bars.tasks:  # a step that counts nothing is over when the next one begins
                    bars.update(earlier.id, completed=earlier.total)
                # what was done before this call is no part of the rate
                tasks[what] = bars.add_task(what, completed=done, total=total, facts="", unit=unit)
            bars.update(tasks[what], completed=done, facts=_shown(facts))  # type: ignore[arg-type]

        yield show
        for task in bars.tasks:
            bars.update(task.id, completed=task.total)


def _lines(write: Callable[[str], None]) -> Show:
    begun: set[str] = set()

    def show(what: str, done: int, total: int, facts: Mapping[str, float]) -> None:
        if what not in begun:
            begun.add(what)
            write(f"{what} ..." if total <= 1 else f"{what}: {total} ...")

    return show


def _shown(facts: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in facts.items())
