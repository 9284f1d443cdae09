"""The pages of a cleaning: each landmark's photos with the neighbours that decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landseer.cleaning import REASONS, Decision, Inliers, Neighbours
from landseer.pipeline.clean_version import TrainingPhotos
from landseer.pipeline.setting import Watch
from landseer.reporting.cleaning_page import CleaningReport, JudgedPhoto, Likeness, write_cleaning_pages

NUM_MATCHES = 4
"""Photos of the same label that a page shows beside each photo."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What a page can tell of each photo."""

    photos: TrainingPhotos
    neighbours: Neighbours
    inliers: Inliers
    decision: Decision
    margin_N: np.ndarray
    least_inliers: int

    def most_dropped(self, most: int) -> np.ndarray:
        """Numbers of the landmarks with most dropped photos; equal ones: the lower landmark first."""
        label_N, num = self.photos.label_N, len(self.photos.landmarks)
        dropped = np.bincount(label_N[(label_N >= 0) & ~self.decision.kept_N], minlength=num)
        return np.lexsort((np.arange(num), -dropped))[:most]

    def classes(self, numbers: np.ndarray, tell: Watch) -> Iterator[tuple[int, list[JudgedPhoto]]]:
        """Each of these landmarks with all its photos."""
        order = np.argsort(self.photos.label_N, kind="stable")
        labels = self.photos.label_N[order]
        for done, number in enumerate(numbers.tolist()):
            tell("writing pages", done, len(numbers), {})
            start, stop = np.searchsorted(labels, [number, number + 1])
            yield (
                int(self.photos.landmarks[number]),
                [self.judged(photo) for photo in order[start:stop].tolist()],
            )

    def judged(self, photo: int) -> JudgedPhoto:
        """What its card says."""
        margin = float(self.margin_N[photo])
        return JudgedPhoto(
            id=self.photos.collection.ids[photo],
            kept=bool(self.decision.kept_N[photo]),
            score=float(self.decision.score_N[photo]),
            reason=REASONS[self.decision.reason_N[photo]],
            margin=None if np.isnan(margin) else margin,
            same=tuple(self._same(photo)),
            other=tuple(
                self._likeness(photo, int(position))
                for position in self.neighbours.others_N3[photo]
                if position >= 0
            ),
        )

    def _same(self, photo: int) -> list[Likeness]:
        """Photos of its label: those that prove it, most points first, then the nearest."""
        points = {
            int(position): int(count)
            for position, count in zip(
                self.inliers.position_NF[photo], self.inliers.best_NF[photo], strict=True
            )
            if position >= 0
        }
        proofs = [position for position, count in points.items() if count >= self.least_inliers]
        nearest = [int(position) for position in self.neighbours.of(photo) if int(position) not in proofs]
        return [
            self._likeness(photo, position, points.get(position))
            for position in [*proofs, *nearest][:NUM_MATCHES]
        ]

    def _likeness(self, photo: int, position: int, inliers: int | None = None) -> Likeness:
        rows = self.photos.descriptors.rows_ND
        label = int(self.photos.label_N[position])
        return Likeness(
            id=self.photos.collection.ids[position],
            landmark=None if label < 0 else int(self.photos.landmarks[label]),
            cosine=float(rows[photo].astype(np.float64) @ rows[position].astype(np.float64)),
            inliers=inliers,
            kept=bool(self.decision.kept_N[position]),
        )


def write_pages(path: Path, report: CleaningReport, shown: Shown, *, most: int, tell: Watch) -> int:
    """Write the folder *path*: a page for each of the *most* landmarks with most dropped photos; returns how many."""
    numbers = shown.most_dropped(most)
    write_cleaning_pages(path, report, shown.classes(numbers, tell))
    return len(numbers)
