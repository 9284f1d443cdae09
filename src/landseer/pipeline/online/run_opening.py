"""Open what a finished run left: one model's answers, judged by the truth, and the collection that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from landseer.evaluation import Evaluated
from landseer.photos import UnreadablePhoto, read_bytes
from landseer.pipeline.finished import RunResult, is_finished, read_run
from landseer.pipeline.online.run_tags import JudgedAnswer, Verdict
from landseer.recipe import Recipe, options_from
from landseer.storage import load_collection, load_descriptors, read_json
from landseer.types import PADDING, Collection, Descriptors, Ranking, Truth

_TRIED = 8
"""Photos that are looked for before all are said to have moved."""


def open_result(out: Path) -> tuple[RunResult, str]:
    """A finished run, and the fingerprint of its collection.

    Raises ``ValueError`` for a folder of none, and for a run that is not finished.
    """
    file = out / "run.json"
    if not file.is_file():
        raise ValueError(f"{out} is not a run folder (it has no run.json); give the --out of landseer run")
    facts = read_json(file)
    recipe = options_from(Recipe, facts["recipe"])
    if not is_finished(out, recipe):
        raise ValueError(f"{out} is not finished; landseer run with the same --out goes on where it stopped")
    return read_run(out, recipe, did_nothing=True), facts["collection"]


def open_collection(out: Path, fingerprint: str, data: Path | None, root: Path | None) -> Collection:
    """The collection that the run in *out* is of: *data*, or the one of that fingerprint beside *out*.

    Raises ``ValueError`` where it is another one, where there is none, and where its photos are not where they were.
    """
    place = data or _beside(out, fingerprint)
    collection = load_collection(place, root=root)
    if collection.fingerprint != fingerprint:
        raise ValueError(
            f"{out} was run on another collection ({fingerprint}) than {place}; give that one as --data"
        )
    if not _any_photo(collection):
        raise ValueError(
            f"the photos of {place} are not below {collection.root}; say where they lie now with --root"
        )
    return collection


def _beside(out: Path, fingerprint: str) -> Path:
    for manifest in sorted(out.resolve().parent.glob("*/manifest.json")):
        facts = read_json(manifest)
        if (facts.get("kind"), facts.get("fingerprint")) == ("collection", fingerprint):
            return manifest.parent
    raise ValueError(f"the collection of {out} ({fingerprint}) does not lie beside it; name it with --data")


def _any_photo(collection: Collection) -> bool:
    """Whether any of a few photos, spread over the scored part, can be read."""
    paths = collection.in_split("index", "query").paths
    for path in paths[:: max(1, len(paths) // _TRIED)]:
        try:
            read_bytes(collection.root, path, at_most=1)
        except UnreadablePhoto:
            continue
        return True
    return not paths


class Side:
    """What one model answered to every query."""

    def __init__(self, evaluated: Evaluated, ranking: Ranking, folder: Path, collection: Collection) -> None:
        assert collection.truth is not None, "a run is of a collection with truth"
        self.evaluated = evaluated
        self._ranking, self._folder = ranking, folder
        self._truth: Truth = collection.truth
        self._row = {query: row for row, query in enumerate(ranking.query_ids)}
        self._asked = {query: row for row, query in enumerate(self._truth.query_ids)}
        self._landmark = dict(zip(collection.ids, collection.landmark_N.tolist(), strict=True))
        columns = (evaluated.per_query[name].to_pylist() for name in ("query", "ap"))
        self.ap: dict[str, float] = dict(zip(*columns, strict=True))
        """Of every query that is scored."""

    def answers(self, query: str, num: int) -> list[JudgedAnswer]:
        """The first *num* answers, best first; none where the query's photo could not be read."""
        row = self._row.get(query)
        if row is None:
            return []
        place = self._asked.get(query)
        right = set() if place is None else set(self._truth.relevant[place])
        junk = set() if place is None else set(self._truth.junk[place])
        found = [entry for entry in self._ranking.positions_QK[row][:num].tolist() if entry != PADDING]
        photos = [self._ranking.gallery_ids[position] for position in found]
        why = self._ranking.reasons[row] if self._ranking.reasons else {}

        def verdict(photo: str) -> Verdict:
            return "right" if photo in right else "junk" if photo in junk else "wrong"

        def landmark(photo: str) -> int | None:
            known = self._landmark.get(photo, -1)
            return known if known >= 0 else None

        scores = self._ranking.scores_QK[row][: len(found)].tolist()
        told = zip(photos, found, scores, self.cosines(query, photos), strict=True)
        return [
            JudgedAnswer(
                rank=rank,
                photo=photo,
                verdict=verdict(photo),
                landmark=landmark(photo),
                score=score,
                cosine=cosine,
                why=why.get(position),
            )
            for rank, (photo, position, score, cosine) in enumerate(told, 1)
        ]

    def nearest_right(self, query: str) -> float | None:
        """The highest cosine of one of its right photos; None where none of them is in the gallery."""
        place, known = self._asked.get(query), self._gallery_row
        there = [] if place is None else [photo for photo in self._truth.relevant[place] if photo in known]
        if not there:
            return None
        return max(self.cosines(query, there), default=0.0) if query in self._query_row else 0.0

    def cosines(self, query: str, photos: Sequence[str]) -> list[float]:
        """Of each of *photos*, of the gallery, to *query*."""
        if query not in self._query_row or not photos:
            return []
        asked_D = _unit(self._queries.rows_ND[self._query_row[query]][None])[0]
        rows_ND = _unit(self._gallery.rows_ND[[self._gallery_row[photo] for photo in photos]])
        found: list[float] = (rows_ND @ asked_D).tolist()
        return found

    @cached_property
    def _queries(self) -> Descriptors:
        return load_descriptors(self._folder / "query", mmap=True, check=False)

    @cached_property
    def _gallery(self) -> Descriptors:
        return load_descriptors(self._folder / "index", mmap=True, check=False)

    @cached_property
    def _query_row(self) -> dict[str, int]:
        return {photo: row for row, photo in enumerate(self._queries.ids)}

    @cached_property
    def _gallery_row(self) -> dict[str, int]:
        return {photo: row for row, photo in enumerate(self._gallery.ids)}


def _unit(rows_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64; a row of zeros stays one."""
    wide_ND = np.asarray(rows_ND, dtype=np.float64)
    length_N = np.linalg.norm(wide_ND, axis=1, keepdims=True)
    return wide_ND / np.where(length_N == 0, 1.0, length_N)
