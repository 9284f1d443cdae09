"""What every options dataclass of a recipe refuses its values by."""

from __future__ import annotations

import re


def require(holds: bool, key: str, rule: str) -> None:
    """Raise ``ValueError`` that names *key* and *rule* unless *holds*."""
    if not holds:
        raise ValueError(f"{key}: {rule}")


def require_folder_name(name: str) -> None:
    """Raise ``ValueError`` unless *name*, a value of the key ``name``, is safe as that of a folder."""
    require(
        re.fullmatch(r"\w[\w.-]*", name) is not None,
        "name",
        f"must be letters, digits, _, - and ., not begin with - or . (it names a folder), not {name!r}",
    )
