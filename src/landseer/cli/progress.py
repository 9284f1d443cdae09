"""The progress bars of every command: what is going on, how far, how fast, how much longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_S = 10.0
"""How often a log without a terminal gets a line of what is going on."""
QUIET_S = 1.0
"""How long a command may take without such a line: what is over at once needs no log."""


class Show(Protocol):
    """Told what is going on, units done, units in all (None: not known yet), and facts such as loss and lr."""

    def __call__(
        self, what: str, done: int, total: int | None, facts: Mapping[str, float] | None = None, /
    ) -> None:
        """Move what is shown."""


@contextmanager
def progress_bars() -> Iterator[Show]:
    """Bars on standard error, one for each thing that goes on; gives the function that moves them.

    Without a terminal, see ``line_writer``.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed and task.total != 1 else "")

    console = Console(stderr=True)
    if not console.is_terminal:
        yield line_writer(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def complete() -> None:
            for task in bars.tasks:
                bars.update(task.id, completed=task.total)

        def show(
            what: str, done: int, total: int | None, facts: Mapping[str, float] | None = None, /
        ) -> None:
            if what not in tasks:
                complete()  # a step that counts nothing is over when the next one begins
                # what was done before this call is no part of the rate
                tasks[what] = bars.add_task(what, completed=done, total=total, facts="")
            bars.update(tasks[what], completed=done, total=total, facts=_shown(facts))

        yield show
        complete()


def line_writer(write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> Show:
    """A ``Show`` that writes lines: one when a thing begins, then one every ``LINE_EVERY_S`` seconds.

    What begins in the first ``QUIET_S`` seconds is first told of when it has gone on for ``LINE_EVERY_S``.
    """
    begun: dict[str, tuple[float, int]] = {}
    start = last = clock()

    def show(what: str, done: int, total: int | None, facts: Mapping[str, float] | None = None, /) -> None:
        nonlocal last
        now = clock()
        if what not in begun:
            begun[what] = (now, done)
            if now - start < QUIET_S:
                return
            write(f"{what}: {total} ..." if total and total > 1 else f"{what} ...")
        elif now - last < LINE_EVERY_S or total is None or done >= total:
            return
        else:
            since, before = begun[what]
            rate = (done - before) / max(now - since, 1e-9)
            left = f", {rate:.1f}/s, {(total - done) / rate:.0f} s left" if rate else ""
            shown = _shown(facts)
            write(f"{what}: {done} of {total}{left}" + (f", {shown}" if shown else ""))
        last = now

    return show


def _shown(facts: Mapping[str, float] | None) -> str:
    """Names and values; a name that ends in ``_s`` is a time in seconds."""
    return "  ".join(
        f"{name.removesuffix('_s').replace('_', ' ')} {_time(value)}"
        if name.endswith("_s")
        else f"{name} {value:.3g}"
        for name, value in (facts or {}).items()
    )


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
