"""What each member of an ensemble weighs, fitted on photos that none of them was trained on.

Axes: N photos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from landseer.models import concatenate_rows
from landseer.storage import open_artifact, read_json, verify, writing
from landseer.training.validation import leave_one_out
from landseer.types import Collection, Descriptors

GRID = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
"""Weights that are tried; a weight counts in a cosine by its square, so the smallest is a hundredth of the largest."""
_ROUNDS = 10
_MOST_PHOTOS = 5000  # each try ranks all photos for each photo
_FILE = "weights.json"


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """Weights, the largest 1, and how good they are on the photos that they were fitted on."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    mean_average_precision: float
    """mAP@100, each photo asking for the others of its landmark."""
    before: float
    """The same with the weights that the search began with."""
    num_photos: int

    @property
    def by_name(self) -> dict[str, float]:
        """Member -> weight."""
        return dict(zip(self.names, self.weights, strict=True))


def fit_weights(
    parts: Sequence[Descriptors],
    landmark_N: np.ndarray,
    *,
    start: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    grid: Sequence[float] = GRID,
) -> FittedWeights:
    """The weights with which the joined rows of *parts* have the best mAP@100 among themselves.

    *parts* are the same photos as several models describe them, of landmarks *landmark_N* (int64 ``[N]``, below 0:
    none); they should be photos that no model was trained on.  One weight after the other is set to each of *grid*,
    the others as they are, and the best is kept, until a round changes nothing.  The search begins with *start*
    (None: equal weights), is the same every time, and never ends with less than it began with; it may end in a
    peak that is not the highest.  Raises ``ValueError`` where photos, models and weights do not fit together, and
    where no landmark has two photos.
    """
    begun = _scaled([1.0] * len(parts) if start is None else start)
    _check(parts, landmark_N, begun, grid)
    # a photo of no landmark matches none, another such photo neither
    label_N = np.where(landmark_N < 0, landmark_N.max(initial=0) + 1 + np.arange(len(landmark_N)), landmark_N)
    rows, scores = [part.rows_ND for part in parts], dict[tuple[float, ...], float]()

    def score(weights: tuple[float, ...]) -> float:
        if weights not in scores:
            scores[weights] = leave_one_out(concatenate_rows(rows, weights, unit=True), label_N)
        return scores[weights]

    best = begun
    for _ in range(_ROUNDS):
        before = best
        for place in range(len(parts)):
            tries = [_scaled([*best[:place], weight, *best[place + 1 :]]) for weight in grid]
            best = max([best, *tries], key=score)  # of equally good ones the first: what it was
        if best == before:
            break
    return FittedWeights(
        names=tuple(names or (str(number) for number in range(len(parts)))),
        weights=best,
        mean_average_precision=score(best),
        before=score(begun),
        num_photos=len(landmark_N),
    )


def some_landmarks(photos: Collection, *, seed: int, most: int = _MOST_PHOTOS) -> Collection:
    """All photos of as many landmarks with two or more as give at most *most* photos, drawn by *seed*.

    Raises ``ValueError`` where no landmark has two.
    """
    landmark_L, label_N, count_L = np.unique(photos.landmark_N, return_inverse=True, return_counts=True)
    able = np.flatnonzero((count_L > 1) & (landmark_L >= 0) & (count_L <= most))
    if not len(able):
        raise ValueError(
            "descriptors.member_weights: no landmark has two photos that are held out of training, so weights "
            "cannot be fitted; hold out a larger data.validation_share"
        )
    drawn = np.random.default_rng([seed, 2]).permutation(able)
    chosen = drawn[np.cumsum(count_L[drawn]) <= most]
    return photos.select(np.isin(label_N, chosen))


def save_weights(
    found: FittedWeights, path: Path, *, made_by: Mapping[str, object], parents: Mapping[str, str]
) -> None:
    """Write the folder of weights that were fitted: ``weights.json``."""
    with writing(path, "weights", made_by=made_by, parents=parents) as part:
        (part / _FILE).write_text(json.dumps(asdict(found), indent=2, sort_keys=True) + "\n")


def load_weights(path: Path) -> FittedWeights:
    """What ``save_weights`` wrote, every file checked."""
    verify(path, open_artifact(path, "weights"))
    told = read_json(path / _FILE)
    return FittedWeights(**{**told, "names": tuple(told["names"]), "weights": tuple(told["weights"])})


def _scaled(weights: Sequence[float]) -> tuple[float, ...]:
    """The largest 1, to four digits: only ratios matter, and equal ones should be known as equal."""
    largest = max(weights, default=1.0)
    return tuple(round(float(weight) / largest, 4) for weight in weights)


def _check(
    parts: Sequence[Descriptors], landmark_N: np.ndarray, weights: Sequence[float], grid: Sequence[float]
) -> None:
    if not parts or len(parts) != len(weights):
        raise ValueError(f"each model needs a weight: {len(parts)} models, {len(weights)} weights")
    if any(part.ids != parts[0].ids for part in parts):
        raise ValueError("the models describe other photos, or in another order; extract the same collection")
    if landmark_N.shape != (len(parts[0]),):
        raise ValueError(f"{len(parts[0])} photos need as many landmarks, not {landmark_N.shape}")
    if not all(weight > 0 for weight in (*weights, *grid)):
        raise ValueError("weights must be above 0; leave out a model that should not count")
