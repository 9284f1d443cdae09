"""Pairs of a collection's photos to inliers: features from memory, from disk, or made now; pairs side by side."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from landseer.matching.describe import (
    Budget,
    Progress,
    budget_of,
    describe_photo,
    describe_photos,
    in_order,
    one_thread,
)
from landseer.matching.features import Extractor, LocalFeatures, Pairer, nothing
from landseer.matching.learned import LighterGlue, XFeat
from landseer.matching.pairing import MutualRatio
from landseer.matching.rootsift import RootSift
from landseer.matching.shelf import Photo, Shelf
from landseer.matching.verification import Verified, match_features
from landseer.photos import UnreadablePhoto, shape_of
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.types import Collection

_CHUNK = 32
"""Pairs a worker takes at once."""
_TRIED = 20
"""Photos of which one must be readable."""
_RATIO = {"rootsift": 0.9, "xfeat": 0.98}
"""Where the options leave it open; chosen on photos of 256 px."""


def make_extractor(options: LocalFeatureOptions, *, weights: Path | None = None) -> Extractor:
    """The extractor that *options* name; *weights* is the ONNX file of XFeat.

    Raises ``ValueError`` where weights are missing, cannot be used, or are given for nothing.
    """
    if options.extractor == "rootsift":
        if weights is not None:
            raise ValueError(f"rootsift takes no weights, but {weights} was given; leave it out or say xfeat")
        return RootSift(options)
    if weights is None:
        raise ValueError("xfeat needs its weights, an ONNX file; none was given (--extractor-weights)")
    return XFeat(weights, options)


def make_pairer(options: MatchingOptions, *, weights: Path | None = None) -> Pairer:
    """What pairs points as *options* say; *weights* is the ONNX file of LighterGlue.

    Raises ``ValueError`` where weights are missing, cannot be used, or are given for nothing.
    """
    if options.pairing == "mutual":
        if weights is not None:
            raise ValueError(f"mutual pairing takes no weights, but {weights} was given; leave it out")
        ratio = _RATIO[options.features.extractor] if options.ratio is None else options.ratio
        return MutualRatio(ratio)
    if weights is None:
        raise ValueError("lighterglue needs its weights, an ONNX file; none was given (--pairer-weights)")
    return LighterGlue(weights, least_score=options.least_score)


class Matcher:
    """Counts, for photos of some collections, the points on which two of them agree.

    ``match`` is what spatial re-ranking asks for.  Features are held in memory up to *memory_mb*, those used longest
    ago are let go; with a folder *features* they are read from there, and ``prepare`` puts them there.  Photos that
    cannot be read have no points; ``unreadable`` says why.  All methods are safe among threads.

    *extractor* and *pairer* default to those of *options*; give them where weights are needed, or to match with
    features of your own.  Raises ``ValueError`` where an id names two photos.
    """

    def __init__(
        self,
        *collections: Collection,
        options: MatchingOptions | None = None,
        extractor: Extractor | None = None,
        pairer: Pairer | None = None,
        features: Path | None = None,
        memory_mb: int = 512,
        workers: int | None = None,
    ) -> None:
        self.options = options or MatchingOptions()
        self.extractor = extractor or make_extractor(self.options.features)
        self.pairer = pairer or make_pairer(self.options)
        self.workers = workers
        self.shelf = None if features is None else Shelf(features, self.extractor)
        self.unreadable: dict[str, str] = {}
        self._photos = _photos_of(collections)
        self._held = _Held(memory_mb * 1_000_000)

    def budget(self) -> Budget:
        """What the features of all photos take on disk at most."""
        return budget_of(self.extractor, len(self._photos))

    def prepare(
        self, ids: Sequence[str] | None = None, *, progress: Progress | None = None, commit_every: int = 512
    ) -> dict[str, str]:
        """Put the features of these photos (default: all) in the folder; returns those unreadable, id -> reason.

        Stopped or killed, the same call goes on (see ``describe_photos``).  Raises ``ValueError`` without a folder.
        """
        if self.shelf is None:
            raise ValueError("features are kept in a folder, and none was given; name one")
        photos = [self._photo(photo) for photo in (self._photos if ids is None else ids)]
        found = describe_photos(
            photos,
            self.shelf,
            self.extractor,
            workers=self.workers,
            progress=progress,
            commit_every=commit_every,
        )
        self.unreadable.update(found)
        return found

    def require(self, ids: Sequence[str]) -> None:
        """Raise ``ValueError`` where one of *ids* names no photo, or where none of a few of them can be read.

        To be asked before hours of work: some photos may be unreadable, but not all.
        """
        photos = [self._photo(photo) for photo in ids]
        tried = photos[:: max(1, len(photos) // _TRIED)]
        reasons = []
        for photo, root in tried:
            if self.shelf is not None and not self.shelf.missing([photo]):
                return
            try:
                shape_of(root, photo.path)
            except UnreadablePhoto as error:
                reasons.append(error.reason)
            else:
                return
        if tried:
            raise ValueError(
                f"none of {len(tried)} photos that were tried can be read (the first, {tried[0][0].id!r}: "
                f"{reasons[0]}); do the photos still lie in {tried[0][1]}?"
            )

    def features(self, photo: str) -> LocalFeatures:
        """The points of a photo.  Raises ``ValueError`` for an id of no photo."""
        found = self._held.get(photo)
        if found is None:
            found = self._read_or_made(photo)
            self._held.put(photo, found)
        return found

    def verify(self, a: str, b: str) -> Verified:
        """What two photos have in common; exchanged photos give the exchanged answer."""
        return match_features(self.features(a), self.features(b), self.pairer, self.options)

    def match(self, query: str, photos: Sequence[str]) -> list[int]:
        """Inliers of the query with each of *photos*, in their order."""
        return [int(count) for count in self.verify_pairs([(query, photo) for photo in photos])]

    def verify_pairs(
        self, pairs: Sequence[tuple[str, str]], *, progress: Progress | None = None
    ) -> np.ndarray:
        """Inliers of each pair of photos, int64, in their order, on all cores.

        Quickest where pairs of one photo stand together.  *progress* is called with (pairs done, pairs in all).
        """
        inliers_P = np.zeros(len(pairs), np.int64)
        chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
        done = 0
        with one_thread(), closing(in_order(self._counted, chunks, workers=self.workers)) as results:
            for counts in results:
                inliers_P[done : done + len(counts)] = counts
                done += len(counts)
                if progress:
                    progress(done, len(pairs))
        return inliers_P

    def _counted(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [self.verify(a, b).inliers for a, b in pairs]

    def _read_or_made(self, photo: str) -> LocalFeatures:
        known, root = self._photo(photo)
        kept = self.shelf.read(known) if self.shelf else None
        if kept is not None:
            return kept
        try:
            return describe_photo(self.extractor, root, known.path)
        except UnreadablePhoto as error:
            self.unreadable[photo] = error.reason
            return nothing((1, 1), dim=self.extractor.dim, dtype=self.extractor.dtype)

    def _photo(self, photo: str) -> tuple[Photo, Path]:
        if photo not in self._photos:
            raise ValueError(f"no photo {photo!r} in the collection that is matched")
        path, root = self._photos[photo]
        return Photo(photo, path), root


def _photos_of(collections: Sequence[Collection]) -> dict[str, tuple[str, Path]]:
    """Id -> path, root."""
    found: dict[str, tuple[str, Path]] = {}
    for collection in collections:
        for photo, place in _places(collection):
            if found.setdefault(photo, place) != place:
                raise ValueError(
                    f"the id {photo!r} names two photos, {found[photo][0]} and {place[0]}; "
                    "match collections whose ids differ"
                )
    return found


def _places(collection: Collection) -> Iterator[tuple[str, tuple[str, Path]]]:
    for photo, path in zip(collection.ids, collection.paths, strict=True):
        yield photo, (path, collection.root)


class _Held:
    """The features used last, at most so many bytes of them; safe among threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._features: OrderedDict[str, LocalFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, photo: str) -> LocalFeatures | None:
        with self._lock:
            found = self._features.get(photo)
            if found is not None:
                self._features.move_to_end(photo)
            return found

    def put(self, photo: str, features: LocalFeatures) -> None:
        with self._lock:
            if photo in self._features:  # another thread made them meanwhile
                return
            self._features[photo] = features
            self._bytes += features.num_bytes
            while self._bytes > self._most_bytes and len(self._features) > 1:
                _, oldest = self._features.popitem(last=False)
                self._bytes -= oldest.num_bytes
