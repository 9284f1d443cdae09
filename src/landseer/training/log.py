"""What a stage tells as it goes: a JSON-lines file that survives a kill, and others that listen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

Entry = Mapping[str, float | int | str]
"""Of a step ``{"stage", "step", "epoch", "loss", "lr"}``, of a validation ``{"stage", "step", "epoch",
"validation_loss"}``, with "validation_map" where the stage is judged by it."""
Callback = Callable[[Entry], None]
"""Told every entry as it happens.  What it raises ends the training, which may be continued later."""


class Log:
    """The entries of a stage, in memory and, given a *file*, on disk, one line each."""

    def __init__(self, file: Path | None, callbacks: Sequence[Callback] = ()) -> None:
        self.entries: list[Entry] = []
        self._file = file
        self._callbacks = callbacks
        self._handle: TextIO | None = None

    @contextmanager
    def opened(self, *, step: int, epoch: int) -> Iterator[Log]:
        """Go on after *step* steps and *epoch* whole epochs; later entries, of work that is lost, are dropped.

        Raises ``ValueError`` where the file lacks an entry of the steps before.
        """
        if self._file is None:
            yield self
            return
        kept = [entry for entry in read_log(self._file) if _happened(entry, step, epoch)]
        if sum("loss" in entry for entry in kept) != step:
            raise ValueError(
                f"{self._file} lacks steps before {step}; remove {self._file.parent} to start anew"
            )
        self.entries = list(kept)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text("".join(_line(entry) for entry in kept), encoding="utf-8")
        part.rename(self._file)
        with self._file.open("a", encoding="utf-8") as self._handle:
            yield self
        self._handle = None

    def add(self, entry: Entry) -> None:
        """Write *entry* and tell it to the callbacks."""
        self.entries.append(entry)
        if self._handle is not None:
            self._handle.write(_line(entry))
            self._handle.flush()
        for callback in self._callbacks:
            callback(entry)

    def sync(self) -> None:
        """Bring what was written to the disk, so that a checkpoint never knows more than the log."""
        if self._handle is not None:
            os.fsync(self._handle.fileno())

    @property
    def losses(self) -> tuple[Entry, ...]:
        """The entries of steps."""
        return tuple(entry for entry in self.entries if "loss" in entry)

    @property
    def validation(self) -> tuple[Entry, ...]:
        """The entries of validations."""
        return tuple(entry for entry in self.entries if "validation_loss" in entry)


def read_log(file: Path) -> list[Entry]:
    """The entries of a log; a last line that was cut off is left out, a file that is not there is empty."""
    if not file.exists():
        return []
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entries.append(json.loads(line))
    return entries


def tensorboard_callback(folder: Path) -> Callback | None:
    """A callback that writes curves for TensorBoard to *folder*; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder))

    def write(entry: Entry) -> None:
        for key in ("loss", "lr", "validation_loss", "validation_map"):
            if key in entry:
                writer.add_scalar(f"{entry['stage']}/{key}", entry[key], entry["step"])
        writer.flush()

    return write


def _happened(entry: Entry, step: int, epoch: int) -> bool:
    return int(entry["step"]) < step if "loss" in entry else int(entry["epoch"]) < epoch


def _line(entry: Entry) -> str:
    return json.dumps(dict(entry), allow_nan=False) + "\n"
