"""What every page is made with: its template, styles that nothing else may join, and a file whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup


def resource(name: str) -> str:
    """A template, style sheet or script that comes with the program."""
    return (files("landseer.reporting") / name).read_text(encoding="utf-8")


def environment(**filters: Callable[..., Any]) -> Environment:
    """Where templates are filled: every value is escaped, and a name that is not known is an error."""
    env = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(filters)
    return env


def head(style: str, script: str = "") -> dict[str, object]:
    """Style and script with the hashes by which the page admits them and nothing else.

    Both must be the program's own; of input they may hold base64 alone.
    """
    return {
        "style": Markup(style),  # noqa: S704  (the program's own)
        "style_hash": _hash(style),
        "script": Markup(script),  # noqa: S704  (the program's own)
        "script_hash": _hash(script),
    }


def write_whole(text: str, path: Path) -> None:
    """Write a page as one file that appears whole or not at all; an older one is replaced.

    Raises ``ValueError`` where *path* cannot be written.
    """
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"the report {path} cannot be written ({reason}); choose another place") from error
    finally:
        with suppress(OSError):  # what hindered the writing may hinder this, and is told above
            part.unlink(missing_ok=True)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
