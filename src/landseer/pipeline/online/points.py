"""Points that two photos have in common, to be drawn between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landseer.matching import LocalFeatures, make_extractor, make_pairer, match_features
from landseer.photos import size_of
from landseer.photos.decode import decode_resized
from landseer.photos.resize import fitted
from landseer.recipe import MatchingOptions


@dataclass(frozen=True, kw_only=True)
class InCommon:
    """Points on which two photos agree."""

    inliers: int
    points: tuple[tuple[float, float, float, float], ...]
    """x and y in the first photo, x and y in the second, in fractions of its width and height."""


class Points:
    """Finds the points of photos that come as bytes, without weights.  Called from several threads at once."""

    def __init__(self, options: MatchingOptions | None = None) -> None:
        self._options = options or MatchingOptions()
        self._extractor = make_extractor(self._options.features)
        self._pairer = make_pairer(self._options)

    def features(self, data: bytes) -> LocalFeatures:
        """The points of the photo in *data*.  Raises ``UnreadablePhoto``."""
        small = decode_resized(data, fitted(size_of(data), self._extractor.longest))
        return self._extractor(np.array(small))

    def in_common(self, a: LocalFeatures, b: LocalFeatures) -> InCommon:
        """What two photos agree on."""
        found = match_features(a, b, self._pairer, self._options)
        first, second = found.points_a / np.array(a.size), found.points_b / np.array(b.size)
        together = np.concatenate([first, second], axis=1).clip(0, 1)
        return InCommon(inliers=found.inliers, points=tuple(tuple(row) for row in together.tolist()))
