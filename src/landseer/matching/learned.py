"""XFeat and LighterGlue (Potje et al. 2024; Lindenberger et al. 2023) from ONNX files, run by onnxruntime.

The files come with the user; XFeat's sha256 is part of the settings.  XFeat's gives, of a photo in grey, three maps of
an eighth of its size: 64 numbers that describe, 65 that say in which of 8 x 8 pixels a point lies or that none does,
and 1 that says how reliable the place is.  LighterGlue's takes points and descriptors of two photos and gives pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from landseer.matching.features import LocalFeatures, nothing
from landseer.photos import resize_longest
from landseer.recipe.matching_options import LocalFeatureOptions
from landseer.storage.artifact import sha256_of

_CELL = 8
"""Pixels of a side of what one place of the maps stands for."""
_MARGIN_PX = 4
"""Points so near to an edge see more filling than photo."""
_SCALE = 255
"""A descriptor of length 1, times this, is rounded to int8; the few above 127 / 255 are cut there."""
LEAST_SIDE = 16
"""A photo narrower than this many pixels has no points."""


class XFeat:
    """XFeat's points, 70 bytes each."""

    dim = 64
    dtype = np.dtype(np.int8)

    def __init__(self, weights: Path, options: LocalFeatureOptions) -> None:
        self._session = _session(weights, inputs=1, outputs=3)
        self._input = self._session.get_inputs()[0]
        sides = [side for side in self._input.shape[2:] if isinstance(side, int)]
        self.fixed: tuple[int, int] | None = (sides[0], sides[1]) if len(sides) == 2 else None
        """(height, width) of the network's input; None: as the photo."""
        self.longest = min([options.longest, *sides])
        self.keypoints, self.detection = options.keypoints, options.detection
        self._sha256 = sha256_of(weights)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options, and the weights' sha256."""
        return {
            "extractor": "xfeat",
            "longest": self.longest,
            "keypoints": self.keypoints,
            "detection": self.detection,
            "weights": self._sha256,
        }

    def __call__(self, pixels_HW3: np.ndarray) -> LocalFeatures:
        """The strongest points of a photo, RGB uint8 ``[H, W, 3]``."""
        pixels_HW3 = resize_longest(pixels_HW3, self.longest)
        height, width = pixels_HW3.shape[:2]
        empty = nothing((width, height), dim=self.dim, dtype=self.dtype)
        if min(height, width) < LEAST_SIDE:
            return empty
        described, cells, reliable = self._session.run(None, {self._input.name: self._filled(pixels_HW3)})
        strength_HW = _points(cells[0])[:height, :width]
        peaks = strength_HW == cv2.dilate(strength_HW, np.ones((5, 5), np.uint8))
        y, x = np.nonzero(peaks & (strength_HW > self.detection))
        inside = (np.minimum(x, width - 1 - x) >= _MARGIN_PX) & (np.minimum(y, height - 1 - y) >= _MARGIN_PX)
        x, y = x[inside], y[inside]
        scores = strength_HW[y, x] * _at(reliable[0], x, y)[:, 0]
        order = np.lexsort((y, x, -scores))[: self.keypoints]
        x, y, scores = x[order], y[order], scores[order]
        rows = _at(described[0], x, y)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return LocalFeatures(
            keypoints_K2=np.stack([x, y], axis=1).astype(np.float32),
            scores_K=scores.astype(np.float32),
            descriptors_KD=np.clip(np.rint(rows * _SCALE), -127, 127).astype(np.int8),
            size=(width, height),
        ).settled()

    def _filled(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """In grey at the top left of the input, its last rows and columns repeated to the other edges."""
        height, width = pixels_HW3.shape[:2]
        into = self.fixed or (-(-height // 32) * 32, -(-width // 32) * 32)
        grey = np.ascontiguousarray(pixels_HW3).mean(axis=2, dtype=np.float32)
        whole = cv2.copyMakeBorder(grey, 0, into[0] - height, 0, into[1] - width, cv2.BORDER_REPLICATE)
        return np.repeat(whole[None, None], self._input.shape[1], axis=1)


class LighterGlue:
    """Pairs XFeat's points by a small transformer that sees both photos' points at once."""

    def __init__(self, weights: Path, *, least_score: float) -> None:
        self._session = _session(weights, inputs=4, outputs=2)
        self._names = [one.name for one in self._session.get_inputs()]
        self.least_score = least_score

    def __call__(self, a: LocalFeatures, b: LocalFeatures) -> np.ndarray:
        """int64 ``[M, 2]``, by the point of *a*."""
        if not len(a) or not len(b):
            return np.empty((0, 2), np.int64)
        inputs = (_placed(a), _placed(b), _unit(a), _unit(b))
        pairs_M2, scores_M = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        likely_M2 = pairs_M2[scores_M > self.least_score]
        ordered: np.ndarray = likely_M2[np.argsort(likely_M2[:, 0], kind="stable")]
        return ordered


def _session(weights: Path, *, inputs: int, outputs: int) -> Any:
    """An onnxruntime session of one thread.  ``ValueError`` without onnxruntime, and for a file that is another's."""
    try:
        runtime: Any = import_module("onnxruntime")
    except ModuleNotFoundError:
        raise ValueError(
            f"{weights.name} is run by onnxruntime, which is not installed; pip install onnxruntime, or use rootsift"
        ) from None
    if not weights.is_file():
        raise ValueError(f"{weights} is not a file; give the network's ONNX file")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = 1  # workers stand side by side; each takes one core
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    state = runtime.capi.onnxruntime_pybind11_state
    try:
        session = runtime.InferenceSession(str(weights), settings, providers=["CPUExecutionProvider"])
    except (state.InvalidProtobuf, state.InvalidGraph, state.Fail, state.NoSuchFile) as error:
        raise ValueError(f"{weights} cannot be read as a network ({str(error).splitlines()[0]})") from None
    found = (len(session.get_inputs()), len(session.get_outputs()))
    if found != (inputs, outputs):
        raise ValueError(
            f"{weights} has {found[0]} inputs and {found[1]} outputs, not {inputs} and {outputs}: another network"
        )
    return session


def _points(cells: np.ndarray) -> np.ndarray:
    """How likely each pixel holds a point, float32 ``[H, W]``, of logits ``[65, H / 8, W / 8]``, the last for none."""
    _, rows, columns = cells.shape
    likely = np.exp(cells - cells.max(axis=0))
    likely /= likely.sum(axis=0)
    pixels = likely[:-1].reshape(_CELL, _CELL, rows, columns).transpose(2, 0, 3, 1)
    found: np.ndarray = pixels.reshape(rows * _CELL, columns * _CELL).astype(np.float32)
    return found


def _at(map_CHW: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map at these pixels of the photo, between its four nearest places: float32 ``[points, C]``."""
    _, height, width = map_CHW.shape
    across = np.clip((x + 0.5) / _CELL - 0.5, 0, width - 1).astype(np.float32)
    down = np.clip((y + 0.5) / _CELL - 0.5, 0, height - 1).astype(np.float32)
    left, top = np.minimum(across.astype(int), width - 2), np.minimum(down.astype(int), height - 2)
    right_share, bottom_share = (across - left)[:, None], (down - top)[:, None]
    map_HWC = map_CHW.transpose(1, 2, 0)
    upper = map_HWC[top, left] * (1 - right_share) + map_HWC[top, left + 1] * right_share
    lower = map_HWC[top + 1, left] * (1 - right_share) + map_HWC[top + 1, left + 1] * right_share
    found: np.ndarray = upper * (1 - bottom_share) + lower * bottom_share
    return found


def _placed(features: LocalFeatures) -> np.ndarray:
    """Places from the middle of the photo, half its longer side being 1: float32 ``[1, K, 2]``."""
    size = np.array(features.size, np.float32)
    placed: np.ndarray = ((features.keypoints_K2 - size / 2) / (size.max() / 2))[None]
    return placed.astype(np.float32)


def _unit(features: LocalFeatures) -> np.ndarray:
    """Descriptors of length 1: float32 ``[1, K, D]``."""
    rows = features.descriptors_KD.astype(np.float32)
    unit: np.ndarray = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))[None]
    return unit
