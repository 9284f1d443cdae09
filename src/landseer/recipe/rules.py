"""What every options dataclass of a recipe refuses its values by."""

from __future__ import annotations


def require(holds: bool, key: str, rule: str) -> None:
    """Raise ``ValueError`` that names *key* and *rule* unless *holds*."""
    if not holds:
        raise ValueError(f"{key}: {rule}")
