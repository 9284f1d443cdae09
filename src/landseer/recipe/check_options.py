"""What ``landseer check`` calls a copy."""

from __future__ import annotations

from dataclasses import dataclass

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """When two photos are the same picture, and when they show the same scene."""

    radius: int = 6
    """Bits in which the perceptual hashes of two photos may differ for the photos to be compared."""
    neighbours: int = 8
    """With descriptors, so many nearest photos of each are compared with it, too."""
    likeness: float = 0.7
    """Photos whose hashes are near are the same picture where their parts correlate at least so (mean, at most 1)."""
    laid_likeness: float = 0.9
    """Of photos known to be near by other means, or laid on each other first, more is asked: photos of one wall reach
    .85 so."""
    least_overlap: float = 0.5
    """Photos laid on each other must share at least this part of the smaller one."""
    scene_inliers: int = 30
    """Two photos show the same scene where at least so many points agree."""

    def __post_init__(self) -> None:
        require(0 <= self.radius <= 8, "radius", f"must lie in 0 to 8 bits, not {self.radius}")
        require(1 <= self.neighbours <= 1000, "neighbours", f"must lie in 1 to 1000, not {self.neighbours}")
        require(0 < self.likeness <= 1, "likeness", f"must lie above 0 and at most 1, not {self.likeness}")
        laid, overlap = self.laid_likeness, self.least_overlap
        require(0 < laid <= 1, "laid_likeness", f"must lie above 0 and at most 1, not {laid}")
        require(0 < overlap <= 1, "least_overlap", f"must lie above 0 and at most 1, not {overlap}")
        inliers = self.scene_inliers
        require(inliers >= 8, "scene_inliers", f"must be at least 8, more than chance gives, not {inliers}")
