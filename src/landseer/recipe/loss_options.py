"""The options of a stage's loss.  A value that cannot be is refused here, by its key's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from landseer.recipe.rules import require

_NO_COSINES: tuple[tuple[str, object], ...] = (
    ("scale", 0),
    ("adacos", "fixed"),
    ("margin", 0),
    ("margin_end", None),
    ("margins", "same"),
)
"""What a linear softmax cannot have, and the value that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """``[stages.loss]``: what a stage minimises."""

    kind: Literal["softmax", "cosine", "arcface"] = "cosine"
    """``softmax``: a linear map with bias; ``cosine``: cosine softmax (CosFace); ``arcface``: ArcFace."""
    scale: float = 0.0
    """Scale s of the cosines; 0: AdaCos chooses it, as ``adacos`` says."""
    adacos: Literal["fixed", "dynamic", "stateful"] = "fixed"
    """``fixed``: sqrt(2) ln(C - 1); ``dynamic``: from each batch, starting at the fixed value every time;
    ``stateful``: from each batch, starting at the last one's (the original)."""
    margin: float = 0.0
    """Margin m at the target: off the cosine, or radians on the angle for ArcFace."""
    margin_end: float | None = None
    """The margin goes from ``margin`` to this, linearly over the stage's steps; left out: it stays."""
    margins: Literal["same", "range", "power"] = "same"
    """``same``: ``margin`` for all; the others go by a landmark's photos n: ``range`` brings n^-p to
    ``margin_low``..``margin_high`` by its least and largest value, ``power`` is low + (high - low) n^-p."""
    margin_low: float = 0.05
    """For ``range`` and ``power``: the margin of the landmark with the most photos."""
    margin_high: float = 0.5
    """For ``range`` and ``power``: the margin of the landmark with the fewest photos."""
    margin_power: float = 0.25
    """For ``range`` and ``power``: the exponent p."""
    subcentres: int = 1
    """Rows a landmark; the nearest one counts (sub-centre ArcFace)."""
    smoothing: float = 0.0
    """Share of the target spread evenly over all landmarks (label smoothing)."""
    negatives: float = 1.0
    """Share of the other landmarks that a step compares with, drawn anew each step; those of the batch always
    count (Partial FC)."""
    class_weights: Literal["same", "1/ln n", "1/ln(n+1)"] = "same"
    """Weight of a photo by the photos n of its landmark; the mean over all photos is 1."""
    noisy_weight: float = 1.0
    """Weight of a photo not marked clean, relative to a clean one; the mean over all photos is 1."""
    triplet: float = 0.0
    """Weight of the batch-hard triplet loss added to the above; 0: none."""
    triplet_margin: float = 0.3
    """Margin of the triplet loss on Euclidean distances of unit descriptors; 0: the soft margin."""

    def __post_init__(self) -> None:
        for key in ("scale", "triplet", "triplet_margin"):
            require(getattr(self, key) >= 0, key, f"must not be negative, not {getattr(self, key)}")
        for key in ("margin", "margin_low", "margin_high"):
            require(0 <= getattr(self, key) <= 1, key, f"must lie in 0..1, not {getattr(self, key)}")
        for key in ("margin_power", "noisy_weight"):
            require(getattr(self, key) > 0, key, f"must be above 0, not {getattr(self, key)}")
        require(self.subcentres >= 1, "subcentres", f"must be at least 1, not {self.subcentres}")
        require(0 <= self.smoothing < 1, "smoothing", f"must lie in 0..1 without 1, not {self.smoothing}")
        require(
            self.margin_low <= self.margin_high,
            "margin_low",
            f"must not be above margin_high ({self.margin_high}), not {self.margin_low}",
        )
        require(
            self.adacos == "fixed" or self.scale == 0,
            "adacos",
            f"{self.adacos!r} chooses the scale, so scale must be 0, not {self.scale}",
        )
        require(
            self.margins == "same" or self.margin == 0,
            "margins",
            f"{self.margins!r} gives every landmark its own, so margin must be 0, not {self.margin}",
        )
        if self.margin_end is not None:
            end = self.margin_end
            require(0 <= end <= 1, "margin_end", f"must lie in 0..1, not {end}")
            require(
                self.margins == "same",
                "margin_end",
                f"margins = {self.margins!r} sets every landmark's own, so one for all cannot follow a schedule",
            )
        require(0 < self.negatives <= 1, "negatives", f"must lie in 0..1 without 0, not {self.negatives}")
        if self.negatives < 1:
            self._require_no_landmark_missed()
        if self.kind == "softmax":
            self._require_no_cosines()

    def _require_no_landmark_missed(self) -> None:
        left_out = f"needs every landmark at every step, so negatives must be 1, not {self.negatives}"
        require(self.adacos == "fixed", "adacos", f"{self.adacos!r} {left_out}")
        require(self.smoothing == 0, "smoothing", f"{self.smoothing} {left_out}")

    def _require_no_cosines(self) -> None:
        for key, plain in _NO_COSINES:
            found = getattr(self, key)
            require(found == plain, key, f'kind "softmax" has no cosines, so {plain!r}, not {found!r}')
        require(self.subcentres == 1, "subcentres", 'kind "softmax" has one row a landmark')
