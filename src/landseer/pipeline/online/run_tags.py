"""Why a query failed, as far as a rule can tell: the rules, each with its words, and answers judged by the truth.

A query has failed when its first answer is wrong, or when it has none; junk answers are passed over.  Each rule looks
at the answers that stand above the first right one, or at where the right photos lie.  Several may hold for one query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Literal

Verdict = Literal["right", "wrong", "junk"]

NEAR = 0.95
"""Cosine to the query from which on a wrong answer is taken for nearly the same photo."""
FIRST = 5
"""Answers that are asked for another landmark."""
AGREE = 3
"""So many of them must show it."""
JUDGED = 50
"""Answers of a query that the rules look at, and that are shown."""

FAILED = "failed"
RULES = {
    "no-positive": ("no positive in the gallery", "None of the query's right photos is in the gallery."),
    "no-answers": (
        "no answers",
        "The query has no answers: its photo could not be read when it was described.",
    ),
    "near-duplicate": (
        "near-duplicate distractor",
        f"A wrong answer above the first right one has a cosine of {NEAR} or more to the query.",
    ),
    "label-disagreement": (
        "label disagreement",
        f"Of the first {FIRST} answers, {AGREE} or more stand above the first right one and show one and the same "
        "other landmark: the label is wrong, or one place is taken for another.",
    ),
    "viewpoint": (
        "viewpoint",
        "Right photos are in the gallery, but the nearest of them has a lower cosine to the query than half of the "
        f"wrong ones among the first {JUDGED} answers, as where they show the place from another side or in other "
        "light.",
    ),
    "unexplained": ("unexplained", "None of the other rules holds."),
}
"""Tag -> its name, and its rule in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnswer:
    """One answer of one model.  ``rank`` counts from 1, with junk."""

    rank: int
    photo: str
    verdict: Verdict
    landmark: int | None
    score: float
    cosine: float
    """To the query, whatever re-ranking made of the score."""
    why: str | None = None
    """Why re-ranking moved it, where the ranking keeps that."""


def first_right(answers: Sequence[JudgedAnswer]) -> int | None:
    """Rank of the first right answer, from 1, junk not counted; None where there is none."""
    counted = (answer for answer in answers if answer.verdict != "junk")
    return next((rank for rank, answer in enumerate(counted, 1) if answer.verdict == "right"), None)


def tags_of(
    answers: Sequence[JudgedAnswer], *, own: Collection[int], nearest_right: float | None
) -> tuple[str, ...]:
    """The tags of a query, in the order of ``RULES``; empty where it has not failed.

    *answers* are its first ``JUDGED``, best first; *own* its landmarks; *nearest_right* the highest cosine of a right
    photo of the gallery to it, None where the gallery has none.
    """
    counted = [answer for answer in answers if answer.verdict != "junk"]
    above = list(takewhile(lambda answer: answer.verdict == "wrong", counted))
    if counted and not above:
        return ()
    if nearest_right is None:
        return ("no-positive",)
    if not counted:
        return ("no-answers",)
    shown = Counter(a.landmark for a in above[:FIRST] if a.landmark is not None and a.landmark not in own)
    wrong = [answer.cosine for answer in counted if answer.verdict == "wrong"]
    holds = {
        "near-duplicate": any(answer.cosine >= NEAR for answer in above),
        "label-disagreement": max(shown.values(), default=0) >= AGREE,
        "viewpoint": nearest_right < median(wrong),
    }
    return tuple(tag for tag, held in holds.items() if held) or ("unexplained",)
