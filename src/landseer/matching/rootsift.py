"""RootSIFT (Arandjelovic and Zisserman, CVPR 2012): square roots of SIFT histograms, in bytes.  Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from landseer.matching.features import LocalFeatures, nothing
from landseer.photos import resize_longest
from landseer.recipe.matching_options import LocalFeatureOptions

SCALE = 512
"""A root of 1 becomes this; the few above 255 / 512 are cut there."""
LEAST_SIDE = 16
"""A photo narrower than this many pixels has no points: SIFT looks at about so many around each."""


class RootSift:
    """OpenCV's SIFT, each histogram divided by its sum, its roots rounded to bytes: 134 bytes a point."""

    dim = 128
    dtype = np.dtype(np.uint8)

    def __init__(self, options: LocalFeatureOptions) -> None:
        self.longest, self.keypoints, self.contrast = options.longest, options.keypoints, options.contrast

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options, and the version of OpenCV, whose SIFT has changed between versions."""
        return {
            "extractor": "rootsift",
            "longest": self.longest,
            "keypoints": self.keypoints,
            "contrast": self.contrast,
            "opencv": cv2.__version__,
        }

    def __call__(self, pixels_HW3: np.ndarray) -> LocalFeatures:
        """The strongest points of a photo, RGB uint8 ``[H, W, 3]``."""
        pixels_HW3 = resize_longest(pixels_HW3, self.longest)
        height, width = pixels_HW3.shape[:2]
        empty = nothing((width, height), dim=self.dim, dtype=self.dtype)
        if min(height, width) < LEAST_SIDE:
            return empty
        grey = cv2.cvtColor(np.ascontiguousarray(pixels_HW3), cv2.COLOR_RGB2GRAY)
        # an object of its own for each call: it is cheap, and one shared by threads is nowhere promised to be safe
        sift = cv2.SIFT.create(
            nfeatures=self.keypoints, contrastThreshold=self.contrast, enable_precise_upscale=True
        )
        found, histograms_KD = sift.detectAndCompute(grey, None)
        if not found:
            return empty
        places_K2 = np.array([point.pt for point in found], np.float32)
        scores_K = np.array([point.response for point in found], np.float32)
        angles_K = np.array([point.angle for point in found], np.float32)
        # OpenCV returns more than asked for where scores are equal; place and angle settle which stay
        order = np.lexsort((angles_K, places_K2[:, 1], places_K2[:, 0], -scores_K))[: self.keypoints]
        return LocalFeatures(
            keypoints_K2=places_K2[order],
            scores_K=scores_K[order],
            descriptors_KD=rooted(histograms_KD[order]),
            size=(width, height),
        ).settled()


def rooted(histograms_KD: np.ndarray) -> np.ndarray:
    """uint8 ``[K, D]``: roots of the rows' shares, times ``SCALE``; a row of zeros stays one."""
    sums_K1 = histograms_KD.sum(axis=1, keepdims=True)
    shares_KD = histograms_KD / np.maximum(sums_K1, np.float32(1e-9))
    small: np.ndarray = np.minimum(np.rint(np.sqrt(shares_KD) * SCALE), 255).astype(np.uint8)
    return small
