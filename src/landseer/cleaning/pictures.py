"""Whether two photos are the same picture: laid on each other, their parts agree.

Both are seen in grey and cut into 8 x 8 parts.  The likeness is the mean correlation of corresponding parts, over those
that show something, so neither brightness nor contrast counts, and a caption or logo spoils its own parts alone.  A
picture that was cropped, framed or turned is laid on the other by the points that both share (``landseer.matching``);
that the points agree proves nothing yet, for two photos of one wall do so, too.

What is compared is what is seen, so two photos of one scene, taken from a tripod within seconds, are the same picture
here.

Axes: H, W rows and columns of a grey picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from landseer.cleaning.pool import Pool
from landseer.matching import Matcher
from landseer.photos import UnreadablePhoto, load_sized, shape_of
from landseer.photos.resize import fitted
from landseer.recipe.check_options import CheckOptions

SIDE = 96
"""Pixels of a side at which two pictures are compared."""
_PARTS = 8
_LEAST_SPREAD = 4.0
"""Grey levels: a part that spreads less in both pictures shows nothing."""
_FEWEST_PARTS = 6
"""With fewer parts that show something the likeness is unknown."""
_LONGEST = 256
"""Pixels of the longer side of photos that are laid on each other."""
_LEAST_INLIERS = 6
"""To lay one photo on another; chance gives up to five, and the likeness decides."""
_MOST_STRETCH = 1.5
"""A picture enlarged more across than down, or the reverse, by this is none that was only resized."""
_MOST_TURN = 0.02
"""Nor one turned or sheared by more than this (radians, about a degree); another photo of a wall is, a little."""
_LEAST_SHARED_PX = 24
"""Pixels of the shorter side of what two photos share; less cannot be compared."""
_HELD = 4096
"""Small pictures held in memory: 9 KB each, and a few larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What two photos (rows of a pool, first below second) have in common, and how that is known."""

    first: int
    second: int
    kind: Literal["picture", "scene"]
    mirrored: bool = False
    likeness: float = math.nan
    """Mean correlation of the parts they share; NaN where it was not measured."""
    overlap: float = 1.0
    """What they share, as a part of the one that shows more."""
    inliers: int | None = None
    """Points that agree; None where none had to be sought."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Pair:
    """Two photos (rows of a pool, first below second) that may have something in common, and why."""

    first: int
    second: int
    mirrored: bool = False
    """To be compared with one of them in a mirror, as they are, not cropped."""
    hashed: bool = False
    """Their hashes are near."""
    described: bool = False
    """One is among the nearest of the other by descriptor; only such may be of one scene."""


def likeness(a_HW: np.ndarray, b_HW: np.ndarray, seen_HW: np.ndarray | None = None) -> float:
    """Mean correlation of the parts of two grey pictures of one size ``[96, 96]``; NaN where they show too little.

    Parts that *seen_HW* (bool) covers by less than nine tenths do not count.
    """
    a, b = _parts(a_HW), _parts(b_HW)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread_a, spread_b = a.std(axis=1), b.std(axis=1)
    shows = np.maximum(spread_a, spread_b) >= _LEAST_SPREAD
    if seen_HW is not None:
        shows &= _parts(seen_HW).mean(axis=1) >= 0.9
    if np.count_nonzero(shows) < _FEWEST_PARTS:
        return math.nan
    # below one grey level a part is flat, and agrees with nothing that is not
    scale = np.maximum(spread_a, 1.0) * np.maximum(spread_b, 1.0)
    return float(((a * b).mean(axis=1) / scale)[shows].mean())


def _parts(picture_HW: np.ndarray) -> np.ndarray:
    """``[64, pixels]`` float32."""
    side = SIDE // _PARTS
    parts = picture_HW.astype(np.float32).reshape(_PARTS, side, _PARTS, side)
    return parts.transpose(0, 2, 1, 3).reshape(_PARTS * _PARTS, side * side)


def laid_on(a_HW: np.ndarray, b_HW: np.ndarray, model_23: np.ndarray) -> tuple[float, float, float]:
    """Likeness where one grey picture lies on the other, and their overlap as a part of the larger and the smaller.

    *model_23* maps pixels of a to pixels of b.  The likeness is NaN where they share too few pixels.
    """
    scale = float(np.linalg.det(model_23[:, :2]))
    if scale < 1:  # always the one that is enlarged: shrinking by interpolation would not see every pixel
        a_HW, b_HW, model_23 = b_HW, a_HW, cv2.invertAffineTransform(model_23)
        scale = 1 / scale
    if scale > 1:  # the enlarged one has no finer details, so the other's must not count
        b_HW = cv2.GaussianBlur(b_HW, (0, 0), math.sqrt(scale) / 2)
    height, width = b_HW.shape
    laid = cv2.warpAffine(a_HW, model_23, (width, height))
    seen = cv2.warpAffine(np.ones_like(a_HW), model_23, (width, height), flags=cv2.INTER_NEAREST)
    shared, sizes = float(seen.sum(dtype=np.int64)), sorted((scale * a_HW.size, float(b_HW.size)))
    overlap, of_smaller = shared / sizes[1], shared / sizes[0]
    x, y, w, h = cv2.boundingRect(seen)
    if min(w, h) < _LEAST_SHARED_PX:
        return math.nan, overlap, of_smaller
    part = slice(y, y + h), slice(x, x + w)
    small = [
        cv2.resize(each[part], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for each in (laid, b_HW, seen * 255)
    ]
    return likeness(small[0], small[1], small[2] >= 128), overlap, of_smaller


def is_crop(model_23: np.ndarray) -> bool:
    """Whether a model moves and resizes and does nothing else, as cropping, framing and saving smaller do."""
    (across, shear), (turn, down) = np.abs(model_23[:, :2])
    least, most = sorted((across, down))
    return bool(most <= _MOST_STRETCH * least and max(shear, turn) <= _MOST_TURN * least)


class Comparer:
    """Compares photos of a pool, two at a time; safe among threads.

    *matcher* knows the pool's collections, and matches by affine models; it is asked only where looking at both photos
    as they are does not settle it.
    """

    def __init__(self, pool: Pool, matcher: Matcher, options: CheckOptions) -> None:
        if matcher.options.model != "affine":
            raise ValueError(f"pictures are laid on each other by affine models, not {matcher.options.model}")
        self._pool, self._matcher, self._options = pool, matcher, options
        self._small = lru_cache(_HELD)(self._read_small)
        self._large = lru_cache(_HELD // 16)(self._read_large)

    def compare(self, pair: Pair) -> Link | None:
        """What two photos have in common; None: nothing that is known."""
        try:
            a, b = self._small(pair.first), self._small(pair.second)
            found = likeness(a, b[:, ::-1] if pair.mirrored else b)
            if found >= (self._options.likeness if pair.hashed else self._options.laid_likeness):
                return Link(
                    first=pair.first,
                    second=pair.second,
                    kind="picture",
                    mirrored=pair.mirrored,
                    likeness=round(found, 3),
                )
            return None if pair.mirrored else self._by_points(pair)
        except UnreadablePhoto:  # it could be read a moment ago; it is listed when the check is repeated
            return None

    def _by_points(self, pair: Pair) -> Link | None:
        ids = self._pool.ids[pair.first], self._pool.ids[pair.second]
        verified = self._matcher.verify(*ids)
        if verified.model is None or verified.inliers < _LEAST_INLIERS:
            return None
        found, overlap, of_smaller = math.nan, 0.0, 0.0
        if is_crop(verified.model):
            a, b = self._large(pair.first), self._large(pair.second)
            sizes = [self._matcher.features(photo).size for photo in ids]
            found, overlap, of_smaller = laid_on(a, b, _rescaled(verified.model, sizes, (a.shape, b.shape)))
        same = found >= self._options.laid_likeness and of_smaller >= self._options.least_overlap
        if not same and (not pair.described or verified.inliers < self._options.scene_inliers):
            return None
        return Link(
            first=pair.first,
            second=pair.second,
            kind="picture" if same else "scene",
            likeness=round(found, 3),
            overlap=round(overlap, 3),
            inliers=verified.inliers,
        )

    def _read_small(self, row: int) -> np.ndarray:
        return _grey(load_sized(self._pool.root(row), self._pool.paths[row], (SIDE, SIDE)))

    def _read_large(self, row: int) -> np.ndarray:
        root, path = self._pool.root(row), self._pool.paths[row]
        return _grey(load_sized(root, path, fitted(shape_of(root, path), _LONGEST)))


def _grey(pixels_HW3: np.ndarray) -> np.ndarray:
    grey: np.ndarray = cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2GRAY)
    return grey


def _rescaled(
    model_23: np.ndarray, sizes: list[tuple[int, int]], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> np.ndarray:
    """A model between photos as described (*sizes*: width, height), for the same photos of other *shapes* (H, W)."""
    scale_a, scale_b = (
        np.diag([shape[1] / size[0], shape[0] / size[1], 1.0])
        for size, shape in zip(sizes, shapes, strict=True)
    )
    whole = np.vstack([model_23, [0.0, 0.0, 1.0]])
    rescaled: np.ndarray = (scale_b @ whole @ np.linalg.inv(scale_a))[:2]
    return rescaled
