"""What every foreign reader does alike: turn the many complaints of parsers into one line, and refuse bombs."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MEMBER = "::"
"""Between a file and what is meant in it: ``features.mat::Q``, ``meta.parquet::image_path``."""

_STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pa.ArrowException,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What parsers of other projects raise over damaged files: anything but a clean report."""
_MOST_PACKED = 1100
"""No deflate stream grows more than 1,032-fold, so a file that declares more than this times itself lies."""
_WORTH_DOUBT = 1 << 26


class _DeclaredError(ValueError):
    """A complaint of ours, which needs no more words around it."""


def split_member(source: str | Path) -> tuple[Path, str | None]:
    """``FILE::NAME`` -> file and name; a path that exists as it is spelled has no name."""
    text = str(source)
    if MEMBER not in text or Path(text).exists():
        return Path(text), None
    file, name = text.rsplit(MEMBER, 1)
    return Path(file), name


def existing(path: Path) -> Path:
    """*path* itself; ``ValueError`` where there is no such file or folder."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    return path


@contextmanager
def parsing(path: Path, what: str, *, also: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Around a call into another project's parser: its complaint becomes a ``ValueError`` of one line."""
    try:
        yield
    except _DeclaredError:
        raise
    except (*_STUMBLES, *also) as error:
        raise ValueError(f"{path} cannot be read as {what}: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    named = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error))
    if named:
        return f"it names {named[1]}, and only tensors and plain data are read"
    text = " ".join(str(error).split())
    # a C++ assertion spells where in its own source it stood; that helps nobody here
    text = re.sub(r"^Error in .*? at \S+: ", "", text)
    return (text if len(text) <= 160 else text[:157] + "...") or type(error).__name__


def not_installed(package: str, path: Path) -> ValueError:
    """What to raise where an optional parser is missing."""
    return ValueError(
        f"reading {path} needs {package}, which is not installed; run: pip install 'landseer[foreign]'"
    )


def refuse_bomb(path: Path, declared: int, name: str = "") -> None:
    """Raise ``ValueError`` where *declared* bytes of array cannot come out of a file of this size."""
    held = path.stat().st_size
    if declared > _WORTH_DOUBT and declared > _MOST_PACKED * held:
        what = f"array {name!r}" if name else "an array"
        raise _DeclaredError(
            f"{path} declares {what} of {declared:,} bytes but is a file of {held:,}; it is damaged"
        )


def parquet_table(path: Path) -> pa.Table:
    """A table from a Parquet file of another program."""
    with parsing(path, "a Parquet table"):
        return pq.read_table(path, partitioning=None)


def size_of(shape: tuple[int, ...], item: int) -> int:
    """Bytes of an array of *shape*, without overflow."""
    total: int = item
    for side in shape:
        total *= int(side)
    return total


def plain_text(value: Any) -> str:
    """An id as text: bytes are UTF-8, whole numbers have no point."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)
