"""Where the main object of a photo seems to be, from how strongly each position of a feature map speaks.

Axes: R rows, C columns of the map.
"""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in fractions of the upright photo."""

_LEAST_SHARE, _MOST_SHARE = 0.04, 0.8
"""A box smaller than so much of the photo is chance; a larger one says nothing new."""
_FINE = 64


def main_object(energy_RC: np.ndarray) -> Box | None:
    """The box around the strongest connected part of the map; None where no part stands out.

    The threshold is Otsu's (1979), which parts the map in two; the part kept is the one that holds most of the energy.
    """
    low, high = float(energy_RC.min()), float(energy_RC.max())
    if min(energy_RC.shape) < 3 or not high > low:
        return None
    bytes_RC = np.rint((energy_RC - low) * (255 / (high - low))).astype(np.uint8)
    fine = cv2.resize(bytes_RC, (_FINE, _FINE), interpolation=cv2.INTER_CUBIC)
    _, inside = cv2.threshold(fine, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    num, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    if num < 2:
        return None
    weights = np.bincount(labels.ravel(), weights=fine.ravel(), minlength=num)[1:]
    left, top, width, height, _ = (int(value) for value in stats[1 + int(weights.argmax())])
    if not _LEAST_SHARE <= width * height / _FINE**2 <= _MOST_SHARE:
        return None
    # half a position more on each side: what it saw reaches beyond its middle
    rows, columns = energy_RC.shape
    across, down = 0.5 / columns, 0.5 / rows
    return (
        max(0.0, left / _FINE - across),
        max(0.0, top / _FINE - down),
        min(1.0, (left + width) / _FINE + across),
        min(1.0, (top + height) / _FINE + down),
    )
