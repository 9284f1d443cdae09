"""The nearest photos of the same label, and how much nearer they are than photos of other labels.

Axes: N photos, B of them in a block, K neighbours, M pairs (photo, neighbour of its label), D components.

Labels are whole numbers: a landmark's number among the landmarks, ``UNLABELLED``, or ``NO_LANDMARK`` of photos known to
show none.  Unlabelled photos speak neither for nor against a label; photos of no landmark speak against.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from landseer.recipe.cleaning_options import CleaningOptions
from landseer.search import Prepared, prepare, search_exact
from landseer.storage.artifact import fingerprint_of, open_artifact, read_array, verify, writing
from landseer.types import Descriptors

UNLABELLED, NO_LANDMARK = -1, -2
KIND = "neighbours"
_FILES = ("counts", "positions", "agreement", "others")
Progress = Callable[[int, int], None]
NUM_OTHERS = 3
"""Nearest photos of other labels that are remembered of each photo, to be shown."""
_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one block: how many neighbours of its label each photo has, these, the agreement, and the nearest others."""
_BLOCK = 4096
"""Photos searched for at once and kept as one artifact."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Of each photo its nearest of the same label, nearest first, and how clearly they are nearer than others.

    Those of photo n are ``positions_M[offsets_N1[n] : offsets_N1[n + 1]]`` (int32).  ``agreement_N`` float32: the mean
    cosine to its nearest of the same label minus that to as many of other labels; NaN where it has no label, or no
    other photo has it.  ``others_N3`` int32: its nearest of other labels or of no landmark, -1 where there are fewer.
    """

    offsets_N1: np.ndarray
    positions_M: np.ndarray
    agreement_N: np.ndarray
    others_N3: np.ndarray

    def of(self, photo: int) -> np.ndarray:
        """Positions of the neighbours of one photo."""
        found: np.ndarray = self.positions_M[self.offsets_N1[photo] : self.offsets_N1[photo + 1]]
        return found


def find_neighbours(
    descriptors: Descriptors,
    label_N: np.ndarray,
    options: CleaningOptions,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Neighbours:
    """Search every photo among all, exactly, and keep what ``Neighbours`` says.

    *descriptors* are unit rows, row by row those of *label_N*.  A photo is no neighbour of its own.  What
    ``neighbours`` cuts off counts as just as near as the last that is left.  With a *folder* the photos done are kept
    there, some thousand at a time, and not searched again.  Raises ``ValueError`` where a row holds a NaN.
    """
    kept = _Kept(folder, descriptors, label_N, options)
    search = _Search(descriptors, label_N, options, device)
    parts: list[_Part] = []
    for start in range(0, len(label_N), _BLOCK):
        if progress:
            progress(start, len(label_N))
        part = kept.read(start)
        if part is None:
            part = search.block(start)
            kept.write(start, part)
        parts.append(part)
    if progress:
        progress(len(label_N), len(label_N))
    counts_N = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    return Neighbours(
        offsets_N1=np.concatenate([[0], np.cumsum(counts_N)]),
        positions_M=np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)]),
        agreement_N=np.concatenate([np.empty(0, np.float32), *(part[2] for part in parts)]),
        others_N3=np.concatenate([np.empty((0, NUM_OTHERS), np.int32), *(part[3] for part in parts)]),
    )


def class_sizes(label_N: np.ndarray) -> np.ndarray:
    """How many photos have the label of each, int64 ``[N]``; 0 where it has none."""
    labelled = label_N >= 0
    sizes = np.bincount(label_N[labelled])
    size_N = np.zeros(len(label_N), np.int64)
    size_N[labelled] = sizes[label_N[labelled]]
    return size_N


class _Search:
    """Searches a block of photos among all."""

    def __init__(
        self, descriptors: Descriptors, label_N: np.ndarray, options: CleaningOptions, device: str
    ) -> None:
        self._descriptors, self._label_N = descriptors, label_N
        self._options, self._device = options, device
        self._size_N = class_sizes(label_N)
        self._against_N = np.count_nonzero(label_N != UNLABELLED) - self._size_N

    @cached_property
    def _gallery(self) -> Prepared:
        return prepare(self._descriptors, device=self._device)

    def block(self, start: int) -> _Part:
        """The photos from *start* on."""
        part = slice(start, min(start + _BLOCK, len(self._label_N)))
        rows = np.asarray(self._descriptors.rows_ND[part])
        queries = Descriptors(ids=self._descriptors.ids[part], rows_ND=rows)
        wanted = min(self._options.neighbours + 1, len(self._label_N))
        found = search_exact(queries, self._gallery, k=wanted, device=self._device)
        positions_BK, scores_BK = _without_self(
            found.positions_QK, found.scores_QK, np.arange(part.start, part.stop)
        )
        label_BK, own_B1 = self._label_N[positions_BK], self._label_N[part, None]
        same_BK = (label_BK == own_B1) & (own_B1 >= 0)
        other_BK = (label_BK != own_B1) & (label_BK != UNLABELLED)
        most_B = np.minimum(self._size_N[part] - 1, self._against_N[part])
        num_B = np.minimum(self._options.agreement, most_B)
        agreement_B = _mean_of_first(scores_BK, same_BK, num_B) - _mean_of_first(scores_BK, other_BK, num_B)
        chosen_BK = same_BK & (np.cumsum(same_BK, axis=1) <= self._options.same_label)
        return (
            chosen_BK.sum(axis=1),
            positions_BK[chosen_BK].astype(np.int32),
            agreement_B.astype(np.float32),
            _first(positions_BK, other_BK, NUM_OTHERS),
        )


def _without_self(
    positions_BK: np.ndarray, scores_BK: np.ndarray, self_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lists without the photo itself, one shorter; where copies crowd it out, without the last."""
    itself_BK = positions_BK == self_B[:, None]
    itself_BK[~itself_BK.any(axis=1), -1] = True
    shape = (len(positions_BK), positions_BK.shape[1] - 1)
    return positions_BK[~itself_BK].reshape(shape), scores_BK[~itself_BK].reshape(shape)


def _mean_of_first(scores_BK: np.ndarray, counts_BK: np.ndarray, num_B: np.ndarray) -> np.ndarray:
    """Mean of the first *num_B* scores that count; those a list lacks are taken as its last.  NaN for none."""
    taken_BK = counts_BK & (np.cumsum(counts_BK, axis=1) <= num_B[:, None])
    lacking_B = num_B - taken_BK.sum(axis=1)
    last_B = scores_BK[:, -1].astype(np.float64) if scores_BK.shape[1] else np.zeros(len(num_B))
    sums_B = np.where(taken_BK, scores_BK, 0.0).sum(axis=1, dtype=np.float64) + lacking_B * last_B
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_B: np.ndarray = np.where(num_B > 0, sums_B / num_B, np.nan)
    return mean_B


def _first(positions_BK: np.ndarray, counts_BK: np.ndarray, num: int) -> np.ndarray:
    """The first *num* positions that count, int32, padded with -1."""
    place_BK = np.cumsum(counts_BK, axis=1) - 1
    row_M, column_M = np.nonzero(counts_BK & (place_BK < num))
    first_BF = np.full((len(positions_BK), num), -1, np.int32)
    first_BF[row_M, place_BK[row_M, column_M]] = positions_BK[row_M, column_M]
    return first_BF


class _Kept:
    """Blocks that were searched before, in a folder of their own for each search; without a folder none."""

    def __init__(
        self, folder: Path | None, descriptors: Descriptors, label_N: np.ndarray, options: CleaningOptions
    ) -> None:
        self.made_by = {
            "descriptors": descriptors.fingerprint,
            "photos": _digest(descriptors.ids, label_N),
            "neighbours": options.neighbours,
            "same_label": options.same_label,
            "agreement": options.agreement,
            "block": _BLOCK,
        }
        self.path = None if folder is None else folder / f"neighbours-{fingerprint_of(KIND, self.made_by)}"

    def read(self, start: int) -> _Part | None:
        if self.path is None or not (block := self._block(start)).exists():
            return None
        try:
            verify(block, open_artifact(block, KIND))
            counts, positions, agreement, others = (read_array(block / f"{name}.npy") for name in _FILES)
            return counts, positions, agreement, others
        except ValueError as error:
            logger.warning("%s; its photos are searched again", error)
            shutil.rmtree(block)
            return None

    def write(self, start: int, part: _Part) -> None:
        if self.path is None:
            return
        with writing(self._block(start), KIND, made_by={**self.made_by, "start": start}) as folder:
            for name, array in zip(_FILES, part, strict=True):
                np.save(folder / f"{name}.npy", array, allow_pickle=False)

    def _block(self, start: int) -> Path:
        assert self.path is not None
        return self.path / f"block-{start // _BLOCK:08d}"


def _digest(ids: Sequence[str], label_N: np.ndarray) -> str:
    hashed = sha256(label_N.astype("<i8").tobytes())
    for photo in ids:
        hashed.update(photo.encode() + b"\0")
    return hashed.hexdigest()
