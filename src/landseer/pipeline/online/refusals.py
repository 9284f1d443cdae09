"""What a question to an index is refused for: the words are for whoever asked, and name no place of this machine."""

from __future__ import annotations


class Refused(ValueError):  # noqa: N818 - what happened, not whose mistake it was
    """The question is wrong; the text says how, in one line."""


class Unknown(Refused):
    """What was asked about is not there."""


class Busy(Refused):
    """It cannot be done now, but a moment later."""
