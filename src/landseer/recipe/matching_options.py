"""``[matching]``: which points of a photo are described, how those of two photos are paired and which pairs count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFeatureOptions:
    """``[matching.features]``: the points of a photo."""

    extractor: Literal["rootsift", "xfeat"] = "rootsift"
    """``rootsift``: OpenCV's SIFT with square roots (Arandjelovic and Zisserman 2012), no weights needed.  ``xfeat``:
    a small network (Potje et al. 2024), from an ONNX file."""
    longest: int = 640
    """Pixels of the longer side; larger photos are shrunk to it, smaller ones stay.  A network of a fixed input takes
    less where that is smaller."""
    keypoints: int = 1024
    """Most points of a photo, the strongest."""
    contrast: float = 0.01
    """RootSIFT: weaker extrema are no points (OpenCV's contrastThreshold, there .04; small photos need every point)."""
    detection: float = 0.05
    """XFeat: less likely cells hold no point, as published."""

    def __post_init__(self) -> None:
        require(32 <= self.longest <= 8192, "longest", f"must lie between 32 and 8192 px, not {self.longest}")
        points = self.keypoints
        require(8 <= points <= 65535, "keypoints", f"must lie between 8 and 65535, not {points}")
        require(0 < self.contrast < 1, "contrast", f"must lie above 0 and below 1, not {self.contrast}")
        require(0 < self.detection < 1, "detection", f"must lie above 0 and below 1, not {self.detection}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingOptions:
    """``[matching]``: pairs of points in two photos, and the geometry that they must agree on."""

    features: LocalFeatureOptions = field(default_factory=LocalFeatureOptions)
    pairing: Literal["mutual", "lighterglue"] = "mutual"
    """``mutual``: each other's nearest, and clearly so; for any features.  ``lighterglue``: a small network for XFeat's
    points, from an ONNX file."""
    ratio: float | None = None
    """Mutual: the nearest is nearer than the second by this factor, seen from both photos (Lowe 2004: .8, from one).
    None: .9 for RootSIFT, .98 for XFeat, whose descriptors of different points lie closer together."""
    least_score: float = 0.1
    """LighterGlue: pairs it thinks less likely do not count."""
    model: Literal["homography", "affine", "fundamental"] = "affine"
    """What a true pair of photos has in common: a plane (8 numbers), a plane from afar (6), or a rigid scene."""
    residual: float = 8.0
    """Pixels, of the photos as described: a pair of points counts where each lies so near to where the other says."""
    confidence: float = 0.999
    """The search for the model stops where a better one is less likely than 1 minus this."""
    trials: int = 2000
    """Samples it draws at most."""
    most_scale: float = 8.0
    """A model that enlarges more than so, or shrinks more, is none."""
    most_stretch: float = 4.0
    """A model that enlarges one direction so many times as much as another is none."""

    def __post_init__(self) -> None:
        ratio = self.ratio
        require(ratio is None or 0 < ratio <= 1, "ratio", f"must be above 0 and at most 1, not {ratio}")
        require(0 <= self.least_score < 1, "least_score", f"must lie in 0 to 1, not {self.least_score}")
        require(
            0 < self.residual <= 100, "residual", f"must lie above 0 and at most 100, not {self.residual}"
        )
        require(0 < self.confidence < 1, "confidence", f"must lie above 0 and below 1, not {self.confidence}")
        require(1 <= self.trials <= 1_000_000, "trials", f"must lie in 1 to 1000000, not {self.trials}")
        require(self.most_scale >= 1, "most_scale", f"must be at least 1, not {self.most_scale}")
        require(self.most_stretch >= 1, "most_stretch", f"must be at least 1, not {self.most_stretch}")
        require(
            self.pairing == "mutual" or self.features.extractor == "xfeat",
            "pairing",
            f"lighterglue pairs the points of xfeat, not of {self.features.extractor}; say mutual",
        )
