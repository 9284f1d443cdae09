"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Filled when the block ends."""

    bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """By how many bytes the process's resident memory rises at most within the block; 0 where Linux is not there."""
    peak = Peak()
    before = _resident("VmRSS") if _reset() else None
    try:
        yield peak
    finally:
        if before is not None:
            peak.bytes = max(0, _resident("VmHWM") - before)


def _reset() -> bool:
    """Begin to count the peak anew; whether the system lets us."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
