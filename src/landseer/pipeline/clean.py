"""Noisy labels -> a new version of the collection, with the evidence for every photo.

Axes: N training photos with a descriptor, by id.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from landseer.cleaning import (
    Compared,
    Evidence,
    Goal,
    Inliers,
    Neighbours,
    PairStore,
    SweepRow,
    centre_margin,
    decide,
    find_neighbours,
    gather,
    read_overrides,
    sweep,
)
from landseer.cleaning.decide import ENOUGH, descriptor_score
from landseer.cleaning.evidence import NUM_BEST
from landseer.cleaning.verifying import pair_verifier
from landseer.matching import Matcher, MatchingSetup
from landseer.pipeline.clean_pages import Shown, write_pages
from landseer.pipeline.clean_version import (
    REASON,
    TrainingPhotos,
    by_hand,
    cleaned_version,
    training_photos,
    write_train_clean,
)
from landseer.pipeline.setting import Watch
from landseer.recipe.cleaning_options import CleaningOptions
from landseer.reporting.cleaning_page import CleaningReport
from landseer.storage import load_collection, save_collection
from landseer.storage.artifact import fingerprint_of
from landseer.storage.foreign import read_descriptors
from landseer.types import Collection


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was kept, why, and what it took."""

    fingerprint: str
    photos: int
    """Training photos with a landmark."""
    landmarks: int
    kept_photos: int
    kept_landmarks: int
    reasons: Mapping[str, int]
    """Why -> so many photos."""
    least_inliers: int
    pairs: Mapping[str, int]
    """``listed`` in the photos' lists, ``possible`` of them different, ``verified`` now, ``known`` before."""
    unreadable: Mapping[str, str]
    """Photos whose points were asked for in vain: id -> reason."""
    sweep: tuple[SweepRow, ...] = ()
    """What geometry alone would keep at other thresholds, where every pair was verified."""
    pages: int = 0

    @property
    def saved(self) -> float:
        """The share of different pairs that nobody had to verify."""
        looked_at = self.pairs["verified"] + self.pairs["known"]
        return 1 - looked_at / self.pairs["possible"] if self.pairs["possible"] else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {**asdict(self), "saved": self.saved}


@dataclass(frozen=True, kw_only=True)
class CleaningOutputs:
    """Where things are written; all but ``evidence`` and ``features`` must not be there yet."""

    collection: Path
    csv: Path | None = None
    """``train_clean.csv`` as GLDv2 has it."""
    report: Path | None = None
    """A folder of pages."""
    evidence: Path | None = None
    """A folder in which neighbours, features and inliers are kept; default: beside the collection."""
    pages: int = 1000
    """Landmarks that get a page, those with most dropped photos."""

    @property
    def kept_in(self) -> Path:
        """``evidence``, or the folder beside the collection."""
        return self.evidence or self.collection.with_name(f"{self.collection.name}.evidence")

    def require_free(self) -> None:
        """Raise ``ValueError`` where something lies in the way."""
        for path in (self.collection, self.csv, self.report):
            if path is not None and path.exists():
                raise ValueError(f"{path} exists already; remove it or choose another name")
        if self.csv is not None and not self.csv.parent.is_dir():
            raise ValueError(
                f"{self.csv.parent} is not a folder; make it, so that {self.csv.name} has a place"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """What is judged, how, and by what means."""

    photos: TrainingPhotos
    options: CleaningOptions
    matching: MatchingSetup
    kept_in: Path
    workers: int
    device: str
    tell: Watch

    @property
    def least_inliers(self) -> int:
        return self.options.least_inliers(self.matching.options.features.extractor)

    def neighbours(self) -> Neighbours:
        """The nearest of each photo, from the folder or searched now."""
        return find_neighbours(
            self.photos.descriptors,
            self.photos.label_N,
            self.options,
            folder=self.kept_in,
            device=self.device,
            progress=lambda done, total: self.tell("searching neighbours", done, total, {}),
        )

    def margins(self, neighbours: Neighbours) -> np.ndarray:
        """Float32 ``[N]``: how much nearer to its own label, the mean over nearest photos and over centres."""
        photos, options = self.photos, self.options
        if options.mode == "geometry":
            return np.full(len(photos.row_N), np.nan, np.float32)
        centre_N = centre_margin(
            photos.descriptors.rows_ND, photos.label_N, centres=options.centres, device=self.device
        )
        mean_N: np.ndarray = (neighbours.agreement_N + centre_N) / np.float32(2)
        return mean_N

    def asked(self, neighbours: Neighbours, margin_N: np.ndarray) -> np.ndarray:
        """Whose points are compared, bool ``[N]``."""
        asked_N = self.photos.label_N >= 0
        if self.options.every_pair:
            return asked_N
        if self.options.mode == "both":
            asked_N &= descriptor_score(margin_N, self.options.margin) < ENOUGH
        # a photo with fewer neighbours can never be proven
        asked_N &= np.diff(neighbours.offsets_N1) >= self.options.least_neighbours
        return asked_N

    def inliers(self, neighbours: Neighbours, asked_N: np.ndarray, matcher: Matcher) -> Inliers:
        """What geometry says of the photos *asked_N*."""
        photos, tell = self.photos, self.tell
        ids = photos.collection.ids
        needed = [ids[photo] for photo in _touched(neighbours, asked_N)]
        if needed:
            matcher.require(needed)
            matcher.prepare(needed, progress=lambda done, total: tell("describing points", done, total, {}))

        def watch(done: int, total: int, verified: int, possible: int) -> None:
            tell("verifying pairs of photos", done, total, {"pairs": verified, "of": possible})

        goal = Goal(
            neighbours=self.options.least_neighbours,
            inliers=self.least_inliers,
            every_pair=self.options.every_pair,
        )
        with pair_verifier(matcher, photos.collection, self.matching, workers=self.workers) as verify:
            compared = Compared(
                ids=ids,
                label_N=photos.label_N,
                key_N=photos.key_N,
                verify_pairs=verify,
                store=PairStore(self.kept_in, _matching_facts(matcher, self.matching)),
            )
            return gather(neighbours, compared, goal, asked_N=asked_N, watch=watch)


def clean_collection(
    collection: Path,
    descriptors: str | Path,
    out: CleaningOutputs,
    *,
    options: CleaningOptions | None = None,
    matching: MatchingSetup | None = None,
    overrides: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Cleaned:
    """Judge every labelled training photo of *collection* and write the version in which ``clean`` says the result.

    *descriptors*: of the training photos, by any model.  What ``clean`` said before plays no part; other splits keep
    it.  A photo of kind ``none`` is never clean.  The new version has the columns ``clean_score`` (0 to 1, kept from
    one half), ``clean_reason``, ``clean_margin`` and ``clean_inliers``.  Stopped or killed, the same call goes on where
    it was, with the same result.

    Raises ``ValueError`` where an output exists, descriptors are missing, an override names no labelled training photo,
    or matching lacks what it needs.
    """
    options, matching = options or CleaningOptions(), matching or MatchingSetup()
    out.require_free()
    whole = load_collection(collection)
    photos = training_photos(whole, read_descriptors(descriptors, normalise=True))
    words = {} if overrides is None else read_overrides(overrides)
    hand_N = by_hand(words, whole, photos)
    folder = matching.features or out.kept_in / f"features-{matching.options.features.extractor}"
    work = _Work(
        photos=photos,
        options=options,
        matching=replace(matching, features=folder),
        kept_in=out.kept_in,
        workers=workers or len(os.sched_getaffinity(0)),
        device=device,
        tell=watch or (lambda *_: None),
    )
    compares = options.mode != "descriptors"
    matcher = work.matching.matcher(photos.collection, workers=work.workers) if compares else None
    neighbours = work.neighbours()
    margin_N = work.margins(neighbours)
    inliers = _no_inliers(work)
    if matcher is not None:
        inliers = work.inliers(neighbours, work.asked(neighbours, margin_N), matcher)
    evidence = Evidence(
        label_N=photos.label_N,
        described_N=np.ones(len(photos.row_N), bool),
        margin_N=margin_N,
        best_NF=inliers.best_NF,
    )
    decision = decide(evidence, options, inliers=work.least_inliers, overrides_N=hand_N)
    settings = {**asdict(options), "inliers": work.least_inliers}
    saved = save_collection(
        cleaned_version(
            whole, photos, evidence, decision, words=words, least_neighbours=options.least_neighbours
        ),
        out.collection,
        made_by={
            "cleaning": settings,
            "matching": None if matcher is None else _matching_facts(matcher, work.matching),
            "overrides": fingerprint_of(sorted(words.items())),
        },
        parents={"collection": whole.fingerprint, "descriptors": photos.descriptors.fingerprint},
    )
    if out.csv is not None:
        write_train_clean(saved, out.csv)
    found = _summary(saved, work, inliers, matcher, evidence)
    if out.report is None:
        return found
    report = CleaningReport(
        collection=saved,
        photos=found.photos,
        kept_photos=found.kept_photos,
        landmarks=found.landmarks,
        kept_landmarks=found.kept_landmarks,
        reasons=found.reasons,
        settings=settings,
        enough=ENOUGH,
    )
    shown = Shown(photos, neighbours, inliers, decision, margin_N, work.least_inliers)
    pages = write_pages(out.report, report, shown, most=out.pages, tell=work.tell)
    return replace(found, pages=pages)


def _no_inliers(work: _Work) -> Inliers:
    """Of photos that nobody compared."""
    shape = (len(work.photos.row_N), max(NUM_BEST, work.options.least_neighbours))
    return Inliers(
        best_NF=np.zeros(shape, np.int32),
        position_NF=np.full(shape, -1, np.int32),
        listed=0,
        possible=0,
        verified=0,
        known=0,
    )


def _touched(neighbours: Neighbours, asked_N: np.ndarray) -> np.ndarray:
    """The photos asked for and those in their lists, rising."""
    touched_N = asked_N.copy()
    owner_M = np.repeat(asked_N, np.diff(neighbours.offsets_N1))
    touched_N[neighbours.positions_M[owner_M]] = True
    return np.flatnonzero(touched_N)


def _matching_facts(matcher: Matcher, setup: MatchingSetup) -> dict[str, Any]:
    """All that decides the inliers of a pair."""
    facts = asdict(setup.options)
    del facts["features"]
    return {**facts, "points": dict(matcher.extractor.settings), **setup.digests()}


def _summary(
    saved: Collection, work: _Work, inliers: Inliers, matcher: Matcher | None, evidence: Evidence
) -> Cleaned:
    judged = saved.photos.filter(pc.is_valid(saved.photos[REASON]))
    kept = judged.filter(judged["clean"])
    return Cleaned(
        fingerprint=saved.fingerprint,
        photos=len(judged),
        landmarks=pc.count_distinct(judged["landmark"]).as_py(),
        kept_photos=len(kept),
        kept_landmarks=pc.count_distinct(kept["landmark"]).as_py(),
        reasons=dict(Counter(judged[REASON].to_pylist()).most_common()),
        least_inliers=work.least_inliers,
        pairs={
            "listed": inliers.listed,
            "possible": inliers.possible,
            "verified": inliers.verified,
            "known": inliers.known,
        },
        unreadable={} if matcher is None else dict(matcher.unreadable),
        sweep=tuple(sweep(evidence, least_photos=work.options.least_photos))
        if work.options.every_pair
        else (),
    )
