"""How a query's landmark is named, how sure that is, and when none is.

Defaults are the votes of Yokoo et al. 2020; the docstrings name what others did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionOptions:
    """``[recognition]``: the nearest photos of the vote bank vote on the landmark a query shows."""

    voters: int = 3
    """Nearest photos of the vote bank that vote (5 in the 3rd place of 2020)."""
    similarity: Literal["cosine", "1-d2"] = "cosine"
    """What a vote weighs: the cosine, or 1 minus the squared distance (2 cos - 1)."""
    power: float = 1.0
    """To this power, where a negative similarity counts as 0 (8 in the 3rd place of 2020)."""
    normalise: bool = True
    """Divide the votes by ``voters``."""
    penalty: float = 0.0
    """The mean cosine of a query to its nearest photos without a landmark is taken off, times this (1st place of
    2020)."""
    penalty_neighbours: int = 5
    """So many of these photos."""
    most_queries: int | None = None
    """A landmark named for more queries than this counts as a distractor: its confidence becomes minus their number (30
    in Yokoo et al. 2019).  Such a confidence depends on what else is asked.  None: no such ban."""
    false_accepts: float = 0.01
    """Highest share of photos of no known landmark that may be given one, among those calibrated on."""

    def __post_init__(self) -> None:
        require(self.voters >= 1, "voters", f"must be at least 1, not {self.voters}")
        require(self.power > 0, "power", f"must be above 0, not {self.power}")
        require(self.penalty >= 0, "penalty", f"must not be negative, not {self.penalty}")
        neighbours = self.penalty_neighbours
        require(neighbours >= 1, "penalty_neighbours", f"must be at least 1, not {neighbours}")
        require(
            self.most_queries is None or self.most_queries >= 1,
            "most_queries",
            f"must be at least 1, not {self.most_queries}",
        )
        require(
            0 <= self.false_accepts < 1,
            "false_accepts",
            f"must be at least 0 and below 1, not {self.false_accepts}",
        )
