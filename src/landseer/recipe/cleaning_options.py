"""How noisy labels are told from clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from landseer.recipe.rules import require

LEAST_INLIERS = {"rootsift": 6, "xfeat": 20}
"""More than two photos of different landmarks have by chance, as ``docs/matching.md`` measures it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningOptions:
    """Which evidence a label needs.  The geometry is that of Yokoo et al. 2020, its thresholds those of our matcher."""

    mode: Literal["geometry", "descriptors", "both"] = "both"
    """``geometry``: enough photos of the same label show the same points.  ``descriptors``: the photo lies nearer to
    its own label than to any other.  ``both``: one of the two is enough; points are only compared for photos whose
    descriptors do not decide."""
    neighbours: int = 1000
    """Nearest photos of each photo among which those of its label are looked for."""
    same_label: int = 100
    """Geometry: compared with at most so many of them, the nearest first."""
    inliers: int | None = None
    """Geometry: two photos show the same thing where so many points agree (30 in Yokoo et al., with DELF).  None: 6 for
    RootSIFT, 20 for XFeat."""
    least_neighbours: int = 3
    """Geometry: so many photos of its label show the same thing."""
    least_photos: int = 2
    """A landmark of which fewer photos are kept is dropped."""
    agreement: int = 5
    """Descriptors: so many nearest photos of the same label are held against as many of others."""
    centres: int = 1
    """Descriptors: photos of a label are parted into so many groups; only the greatest stands for the label (Deng et
    al. 2020 have 3).  1: all of them do."""
    margin: float = -0.03
    """Descriptors: by how much of a cosine a photo must lie nearer to its own label.  A little below 0, since most
    labels are right; chosen on the mini world."""
    every_pair: bool = False
    """Geometry: go on where a photo is decided, so that other thresholds can be tried without matching anew."""

    def __post_init__(self) -> None:
        for key in ("neighbours", "same_label", "least_neighbours", "least_photos", "agreement", "centres"):
            require(getattr(self, key) >= 1, key, f"must be at least 1, not {getattr(self, key)}")
        inliers = self.inliers
        require(inliers is None or 1 <= inliers <= 65534, "inliers", f"must lie in 1 to 65534, not {inliers}")
        require(
            self.least_neighbours <= self.same_label,
            "least_neighbours",
            f"must be at most same_label, {self.same_label}, not {self.least_neighbours}",
        )
        require(self.least_neighbours <= 100, "least_neighbours", "must be at most 100")
        require(-2 <= self.margin <= 2, "margin", f"must lie in -2 to 2, not {self.margin}")

    def least_inliers(self, extractor: str) -> int:
        """``inliers``, or what fits the points of *extractor* (``rootsift``, ``xfeat``)."""
        return LEAST_INLIERS[extractor] if self.inliers is None else self.inliers
