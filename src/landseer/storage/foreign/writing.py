"""Single files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a hidden path beside *path* to write to; on success it becomes *path*, else nothing is left.

    Raises ``ValueError`` where *path* exists already or cannot be written.
    """
    if path.exists():
        raise ValueError(f"{path} exists already; remove it or choose another name")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is not a folder; make it before {path.name} can be written there")
    part = path.with_name(f".{path.name[:40]}.part-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
