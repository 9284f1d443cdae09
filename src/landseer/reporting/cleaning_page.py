"""What was kept and dropped, landmark by landmark, as pages that a person looks through and overrules.

A folder: ``index.html`` and a page a landmark, each complete in itself: pictures and styles inside, no request to
anywhere.  A page's one small script only collects clicks as lines for ``overrides.csv``; without it the page shows the
same.  Every picture is in a page once, however often it is shown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from landseer.photos import UnreadablePhoto, read_bytes, thumbnail
from landseer.reporting.html import environment, head, resource
from landseer.storage import writing
from landseer.types import Collection

MOST_PHOTOS = 300
"""Photos of a landmark that are shown: those nearest to the threshold, of dropped and of kept ones half."""
LONGEST_PX = 112
KIND = "cleaning report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Another photo beside one: how near, and how many points agree (None: not compared)."""

    id: str
    landmark: int | None
    cosine: float
    inliers: int | None
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPhoto:
    """A photo, what was decided, and on what grounds.

    ``same``: photos of its label, proofs first, then the nearest; ``other``: the nearest of other labels.
    """

    id: str
    kept: bool
    score: float
    reason: str
    margin: float | None
    same: tuple[Likeness, ...]
    other: tuple[Likeness, ...]


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """What all pages have in common."""

    collection: Collection
    photos: int
    kept_photos: int
    landmarks: int
    kept_landmarks: int
    reasons: Mapping[str, int]
    settings: Mapping[str, Any]
    enough: float
    """The least score of a kept photo."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A landmark in the index."""

    landmark: int
    name: str
    photos: int
    kept: int


def write_cleaning_pages(
    path: Path, report: CleaningReport, classes: Iterable[tuple[int, Sequence[JudgedPhoto]]]
) -> None:
    """Write the folder *path*, whole or not at all: a page for each (landmark, its photos) and ``index.html``.

    One page is in memory at a time.  Equal reports over equal photos give equal bytes.  Raises ``ValueError`` where
    *path* exists or cannot be written.
    """
    env = environment()
    pictures = _Pictures(report.collection)
    lines = []
    with writing(path, KIND, made_by={"collection": report.collection.fingerprint}) as part:
        for landmark, photos in classes:
            name = report.collection.name_of(landmark)
            lines.append(_Line(landmark, name, len(photos), sum(photo.kept for photo in photos)))
            text = _class_page(env, report, pictures, landmark, photos)
            (part / f"landmark-{landmark}.html").write_text(text, encoding="utf-8", newline="\n")
        text = env.from_string(resource("cleaning_index.html")).render(
            **head(resource("page.css")), report=report, lines=lines, left_out=report.landmarks - len(lines)
        )
        (part / "index.html").write_text(text, encoding="utf-8", newline="\n")


def shown_first(photos: Sequence[JudgedPhoto], enough: float) -> tuple[list[JudgedPhoto], list[JudgedPhoto]]:
    """Dropped and kept photos, nearest to the threshold first, at most ``MOST_PHOTOS`` of both together.

    A group that needs less than its half leaves the rest to the other.
    """
    near = sorted(photos, key=lambda photo: (abs(photo.score - enough), photo.id))
    dropped, kept = ([photo for photo in near if photo.kept is which] for which in (False, True))
    half = MOST_PHOTOS // 2
    for_dropped = max(half, MOST_PHOTOS - len(kept))
    for_kept = max(half, MOST_PHOTOS - len(dropped))
    return dropped[:for_dropped], kept[:for_kept]


def _class_page(
    env: Environment,
    report: CleaningReport,
    pictures: _Pictures,
    landmark: int,
    photos: Sequence[JudgedPhoto],
) -> str:
    dropped, kept = shown_first(photos, report.enough)
    seen = dict.fromkeys(photo.id for photo in (*dropped, *kept))
    for photo in (*dropped, *kept):
        seen.update(dict.fromkeys(each.id for each in (*photo.same, *photo.other)))
    number = {photo: place for place, photo in enumerate(seen)}
    rules = "".join(
        f".p{place}{{background-image:url({pictures.uri(photo)})}}\n" for photo, place in number.items()
    )
    style = resource("page.css") + resource("cleaning.css") + rules
    script = resource("cleaning.js")
    return env.from_string(resource("cleaning.html")).render(
        **head(style, script),
        report=report,
        landmark=landmark,
        name=report.collection.name_of(landmark),
        name_of=report.collection.name_of,
        total=len(photos),
        num_kept=sum(photo.kept for photo in photos),
        groups=(("dropped", "Dropped", dropped), ("kept", "Kept", kept)),
        number=number,
        reason_of=pictures.reason,
    )


class _Pictures:
    """Thumbnails of a collection's photos; those of one landmark's page are made anew for the next."""

    def __init__(self, collection: Collection) -> None:
        self._path_of = dict(zip(collection.ids, collection.paths, strict=True))
        self._root = collection.root
        self._reasons: dict[str, str] = {}

    def uri(self, photo: str) -> str:
        """A ``data:`` URI; an empty picture where the photo cannot be read."""
        try:
            small = thumbnail(read_bytes(self._root, self._path_of[photo]), longest=LONGEST_PX)
        except UnreadablePhoto as error:
            self._reasons[photo] = error.reason
            return "data:,"
        return "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")

    def reason(self, photo: str) -> str:
        """Why there is no picture of *photo*; empty where there is one."""
        return self._reasons.get(photo, "")
