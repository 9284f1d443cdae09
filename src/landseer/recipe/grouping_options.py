"""How photos without labels are put together by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingOptions:
    """Which photos are one place.  The defaults were chosen on training photos, see ``docs/grouping.md``.

    Likeness is a cosine less that of strangers, in spreads of strangers: the median over random pairs of the
    collection, and its distance to the lower sixth.  So it means about the same for every model.
    """

    mode: Literal["geometry", "descriptors"] = "geometry"
    """``geometry``: neighbours are also matched point by point.  ``descriptors``: they are not."""
    neighbours: int = 30
    """Two photos may be linked where each is among so many nearest of the other."""
    inliers: int | None = None
    """A link is proven where so many points agree.  None: 6 for RootSIFT, 20 for XFeat."""
    likeness: float = 5.5
    """Groups that no link proves are joined where the mean likeness of all their pairs is so high, and at most one of
    them holds a proof itself."""
    proven: float = 1.0
    """Groups that a proven link joins need this mean likeness, or else one false match would glue two places."""
    near: float = 1.0
    """So much less likeness is asked of groups with a link between photos taken at one place or one time."""
    near_m: float = 100.0
    """One place: positions that are known and so many metres apart at most."""
    near_minutes: float = 5.0
    """One time: so many minutes apart at most; such photos are mostly of one visitor."""
    far_km: float = 3.0
    """Groups whose known positions lie further apart are never joined: none is seen from there and from here."""
    least: int = 2
    """Photos of the smallest group."""

    def __post_init__(self) -> None:
        for key, value, lowest in (("neighbours", self.neighbours, 1), ("least", self.least, 2)):
            require(value >= lowest, key, f"must be at least {lowest}, not {value}")
        inliers = self.inliers
        require(inliers is None or inliers >= 1, "inliers", f"must be at least 1, not {inliers}")
        for key, amount in (
            ("near", self.near),
            ("near_m", self.near_m),
            ("near_minutes", self.near_minutes),
        ):
            require(amount >= 0, key, f"must not be negative, not {amount}")
        require(self.far_km > 0, "far_km", f"must be above 0, not {self.far_km}")
        require(
            self.proven <= self.likeness,
            "proven",
            f"must be at most likeness ({self.likeness}), not {self.proven}: a proof may not ask for more",
        )
