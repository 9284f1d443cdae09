"""What the text of a cell means: places, times, flags and known words.  ``ValueError`` for anything else."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

_EXIF_DATE = re.compile(r"^(\d{4}):(\d\d):(\d\d)(?=$|[ T])")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "0", "f", "n"), False),
}


def parse_latitude(text: str) -> float:
    """Degrees from -90 to 90."""
    return _degrees(text, 90, "latitude")


def parse_longitude(text: str) -> float:
    """Degrees from -180 to 180."""
    return _degrees(text, 180, "longitude")


def parse_time(text: str) -> datetime:
    """A date or a time in ISO 8601, or as EXIF writes it (``2021:07:30 18:05:00``), without a zone.

    A time with an offset from UTC is turned into UTC; one without stands as it is (a camera's local time).
    """
    try:
        found = datetime.fromisoformat(_EXIF_DATE.sub(r"\1-\2-\3", text))
    except ValueError:
        raise ValueError(f"{text!r} is no date; write 2021-07-30 or 2021-07-30T18:05:00") from None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def parse_flag(text: str) -> bool:
    """True or false, as true/false, yes/no, 1/0."""
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false; write true, false, 1 or 0") from None


def parse_word(text: str, known: Sequence[str]) -> str:
    """One of the *known* words, whatever its capitals."""
    word = text.lower()
    if word in known:
        return word
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{text!r} is not one of {', '.join(known)}{hint}")


def _degrees(text: str, limit: int, what: str) -> float:
    try:
        degrees = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no {what}; write decimal degrees such as 48.8584") from None
    if not math.isfinite(degrees) or abs(degrees) > limit:
        raise ValueError(f"{what} {text} lies outside -{limit}..{limit}; are the two columns swapped?")
    return degrees
