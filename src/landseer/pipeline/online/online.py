"""A living index as one object that answers photos: seen, searched, re-ranked, recognised; and changed, if allowed.

    with Online("INDEX") as online:
        reply = online.ask([Query(photo=online.look(data), k=5)])[0]
        reply.verdict.name, reply.answers[0].record["id"]

Everything may be called from any number of threads.  What it raises for a mistake of whoever asks is ``Refused``, whose
words name no place of this machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from landseer.datasets.geography import parse_country
from landseer.photos import UnreadablePhoto, read_bytes, size_of, thumbnail
from landseer.pipeline.indexing.model import model_of
from landseer.pipeline.indexing.photos import PLACE_COLUMNS, ROOT_COLUMN, root_of
from landseer.pipeline.indexing.settings import settings_of
from landseer.pipeline.online import labels
from landseer.pipeline.online.answering import Asked, Query, Reply, answered
from landseer.pipeline.online.attention import Box
from landseer.pipeline.online.points import InCommon, Points
from landseer.pipeline.online.refusals import Busy, Refused, Unknown
from landseer.pipeline.online.seeing import Eye, Seen
from landseer.pipeline.online.uploads import Added, add_uploads, forget_uploads, record_of, uploaded
from landseer.pipeline.online.votes import LABELLED, Certainty, measured
from landseer.search import LivingIndex, open_index
from landseer.types import Descriptors

_WRITE_TRIES, _WRITE_PAUSE_S = 100, 0.05
_MEASURE_AGAIN_S = 30.0
_MOST_WILDCARDS = 8
"""Of a filter: the time that like takes grows with a power of them."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a photo given to an index may be."""

    pixels: int = 60_000_000
    """The largest; a phone writes 50 million."""
    least_side: int = 16
    """Pixels of the shorter side."""
    most_aspect: float = 40.0
    """The longer side by the shorter."""
    answers: int = 1000
    """The largest k."""


class Online:
    """An index and its model, ready to answer; close it, or use it as a context manager."""

    def __init__(
        self,
        index: str | Path,
        *,
        device: str = "cpu",
        threads: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Open the index and wake its model, which works with so many *threads* on a CPU (None: one a core).

        Raises ``ValueError`` where either cannot be had.
        """
        self.limits = limits or Limits()
        self._threads = threads
        self._device = device
        self._index = open_index(index)
        self._lock = threading.Lock()
        self._landmarks: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._counted: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._counts: tuple[int, dict[str, Any]] = (-1, {})
        self._certainty: tuple[int, float, Certainty] = (-1, 0.0, Certainty())
        self._measuring: threading.Thread | None = None
        self._points = Points()
        try:
            self._settings, self._eye = (
                settings_of(self._index),
                Eye(model_of(self._index), device=device, threads=threads),
            )
            self.measure()
        except BaseException:
            self._index.close()
            raise

    def prepare(self) -> None:
        """Spend a byte of memory a component of every descriptor so that searches take a fraction of the time."""
        self._index.prepare()

    def close(self) -> None:
        """Let go of the index."""
        if self._measuring is not None:
            self._measuring.join()
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- asking ------------------------------------------------------------------------------------------

    def look(self, data: bytes, crop: Box | None = None) -> Seen:
        """Decode a photo for the model; *crop* is the part that is meant.

        Raises ``Refused`` for what is no photo, or too large.
        """
        self._require_photo(data)
        with _readable("the photo"):
            return self._eye_now().look(data, crop)

    def look_at(self, photo: str, crop: Box) -> Seen:
        """A part of a photo of the index."""
        with _readable(f"photo {photo!r} of the index"):
            return self._eye_now().look(self._bytes(self.record(photo)), crop)

    def ask(self, queries: Sequence[Query]) -> list[Reply | Refused]:
        """A reply for each query, or why there is none; those that came as pixels go through the model together."""
        outcome: dict[int, Reply | Refused] = {}
        for number, query in enumerate(queries):
            try:
                self._require_query(query)
            except Refused as refusal:
                outcome[number] = refusal
        start = time.perf_counter()
        rows, boxes = self._described(queries, outcome)
        model_s = time.perf_counter() - start
        kinds = {number: (queries[number].where, queries[number].rerank) for number in rows}
        for kind in dict.fromkeys(kinds.values()):
            group = [number for number in rows if kinds[number] == kind]
            asked = Asked(
                queries=[queries[number] for number in group],
                owns=[_own(queries[number]) for number in group],
                rows=_together(rows, group, normalised=self._eye.model.normalised),
            )
            replies = answered(self._index, asked, self._settings, self._certain)
            for number, reply in zip(group, replies, strict=True):
                outcome[number] = replace(
                    reply, box=boxes.get(number), seconds={"model": model_s, **reply.seconds}
                )
        return [outcome[number] for number in range(len(queries))]

    def _described(
        self, queries: Sequence[Query], outcome: dict[int, Reply | Refused]
    ) -> tuple[dict[int, np.ndarray], dict[int, Box | None]]:
        """A row for each query that is not refused, and the box of the main object of those that were seen."""
        eye = self._eye_now()
        rows: dict[int, np.ndarray] = {}
        seen: dict[int, Seen] = {}
        for number, query in enumerate(queries):
            if number in outcome:
                continue
            if isinstance(query.photo, str):
                try:
                    rows[number] = self._index.descriptors([query.photo]).rows_ND[0]
                except ValueError:
                    outcome[number] = Unknown(f"no photo {query.photo!r} in the index")
            elif query.photo.model != eye.model.fingerprint:
                outcome[number] = Busy("the index has just changed its model; ask again")
            else:
                seen[number] = query.photo
        if not seen:
            return rows, {}
        described, boxes = eye.describe(list(seen.values()))
        rows.update(zip(seen, described, strict=True))
        return rows, dict(zip(seen, boxes, strict=True))

    def _require_query(self, query: Query) -> None:
        if not 1 <= query.k <= self.limits.answers:
            raise Refused(f"k must lie between 1 and {self.limits.answers}, not {query.k}")
        if query.rerank and not self._settings.reranking:
            raise Refused(
                "this index keeps no re-ranking; landseer index rebuild INDEX --recipe FILE gives it one"
            )
        self.require_filter(query.where)

    def require_filter(self, where: str | None) -> None:
        """Raise ``Refused`` for a filter that cannot be understood."""
        if where is None:
            return
        if where.count("%") > _MOST_WILDCARDS:
            raise Refused(f"filter: at most {_MOST_WILDCARDS} % may stand in it")
        try:
            self._index.check_filter(where, hidden=(ROOT_COLUMN,))
        except ValueError as error:
            if not str(error).startswith(("filter", "the filter")):
                raise  # the index itself is the matter
            raise Refused(str(error)) from None

    def _require_photo(self, data: bytes) -> None:
        with _readable("the photo"):
            width, height = size_of(data)
        limits = self.limits
        if width * height > limits.pixels:
            raise Refused(
                f"the photo has {width} x {height} pixels, more than {limits.pixels / 1e6:g} million; "
                "send a smaller one"
            )
        if min(width, height) < limits.least_side or max(width, height) > limits.most_aspect * min(
            width, height
        ):
            raise Refused(
                f"the photo has {width} x {height} pixels; the shorter side needs at least {limits.least_side}, "
                f"and the longer at most {limits.most_aspect:g} times as many"
            )

    # --- how sure ----------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Find out from when on votes are enough, on the labelled photos that the index has now."""
        generation = self._index.generation
        found = measured(self._index, self._settings.recognition)
        with self._lock:
            self._certainty = generation, time.monotonic(), found

    def _certain(self) -> Certainty:
        """What was measured last; where labels have changed it is measured again meanwhile, now and then."""
        generation, when, found = self._certainty
        if generation != self._index.generation and time.monotonic() - when > _MEASURE_AGAIN_S:
            with self._lock:
                if self._measuring is None or not self._measuring.is_alive():
                    self._measuring = threading.Thread(target=self.measure, daemon=True)
                    self._measuring.start()
        return found

    # --- what is there -----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What the index holds, in numbers."""
        generation = self._index.generation
        known, found = self._counts
        if known != generation:
            landmarks = self.landmarks()
            counted = {
                name: self._index.page(where, limit=0)[2]
                for name, where in (
                    ("labelled", LABELLED),
                    ("located", self._located()),
                    ("dated", "not taken is null"),
                )
            }
            found = {
                "name": self._index.path.resolve().name,
                "photos": len(self._index),
                **counted,
                "landmarks": len(landmarks),
                "countries": len(self.countries()),
                "model": self._index.model,
                "columns": [name for name in self._index.columns() if name != ROOT_COLUMN],
                "reranking": bool(self._settings.reranking),
                "calibrated": False,
            }
            self._counts = generation, found
        return dict(found)

    def _located(self) -> str:
        more = f" or not {PLACE_COLUMNS[1]} is null" if PLACE_COLUMNS[1] in self._index.columns() else ""
        return f"not latitude is null{more}"

    def record(self, photo: str) -> dict[str, Any]:
        """What is known of a photo.  Raises ``Unknown``."""
        found = self._index.photos([photo]).get(photo) if _is_id(photo) else None
        if found is None:
            raise Unknown(f"no photo {photo!r} in the index")
        return found

    def photos(
        self, where: str | None = None, *, after: int = -1, limit: int = 60
    ) -> tuple[list[dict[str, Any]], int | None, int]:
        """Records of photos that meet *where*, oldest first; the number to go on behind, and how many there are."""
        self.require_filter(where)
        ids, following, total = self._index.page(where, after=after, limit=limit)
        records = self._index.photos(ids)
        return [records[photo] for photo in ids if photo in records], following, total

    def landmarks(self) -> list[dict[str, Any]]:
        """Every landmark that photos show, as ``labels.landmarks_of`` has it; that with most photos first."""
        generation = self._index.generation
        known, found = self._landmarks
        if known != generation:
            found = sorted(labels.landmarks_of(self._index), key=lambda each: (-each["photos"], each["name"]))
            self._landmarks = generation, found
        return found

    def countries(self) -> list[dict[str, Any]]:
        """Every country: its code, how many photos say so, how many landmarks lie there; most photos first."""
        generation = self._index.generation
        known, counted = self._counted
        if known == generation:
            return counted
        landmarks = self.landmarks()
        photos = {str(each["country"]): int(each["photos"]) for each in self._index.groups("country")}
        if PLACE_COLUMNS[0] in self._index.columns():
            codes = {str(each[PLACE_COLUMNS[0]]) for each in self._index.groups(PLACE_COLUMNS[0])}
            photos = {
                code: self._index.page(self.in_country(code), limit=0)[2] for code in codes | photos.keys()
            }
        names = labels.country_names()
        of_landmark = [each["country"] for each in landmarks]
        found = [
            {
                "country": code,
                "name": names.get(code, code),
                "photos": number,
                "landmarks": of_landmark.count(code),
            }
            for code, number in photos.items()
        ]
        found.sort(key=lambda each: (-int(str(each["photos"])), str(each["country"])))
        self._counted = generation, found
        return found

    def in_country(self, code: str) -> str:
        """The filter that selects the photos of a country, by their own word or that of their landmark."""
        if PLACE_COLUMNS[0] not in self._index.columns():
            return f"country = '{code}'"
        return f"(country = '{code}' or (country is null and {PLACE_COLUMNS[0]} = '{code}'))"

    # --- pictures ----------------------------------------------------------------------------------------

    def picture(self, photo: str, longest: int) -> bytes:
        """The photo as a JPEG of at most *longest* pixels a side, upright, without anything it says of itself.

        Raises ``Unknown`` where there is none, or its file cannot be read.
        """
        with _readable(f"photo {photo!r} of the index", Unknown):
            return thumbnail(self._bytes(self.record(photo)), longest=longest)

    def _bytes(self, record: Mapping[str, Any]) -> bytes:
        """Raises ``UnreadablePhoto``."""
        path, root = record.get("path"), record.get(ROOT_COLUMN)
        if path is None:
            raise UnreadablePhoto("the index does not say where it lies")
        if root is None:
            place = Path(path)
            return read_bytes(Path(place.anchor or "."), place.relative_to(place.anchor).as_posix())
        return read_bytes(root_of(self._index, root), path)

    def match(self, a: bytes | str, b: str) -> InCommon:
        """Points that two photos have in common; *a* is a photo's bytes or, as *b*, the id of one of the index."""
        features = []
        for photo in (a, b):
            if isinstance(photo, bytes):
                self._require_photo(photo)
            where = "the photo" if isinstance(photo, bytes) else f"photo {photo!r} of the index"
            with _readable(where, Refused if isinstance(photo, bytes) else Unknown):
                data = photo if isinstance(photo, bytes) else self._bytes(self.record(photo))
                features.append(self._points.features(data))
        return self._points.in_common(*features)

    # --- changes -----------------------------------------------------------------------------------------

    def add(
        self,
        photos: Sequence[bytes],
        *,
        landmark: int | str | None = None,
        country: str | None = None,
        position: bool = False,
    ) -> Added:
        """Keep photos in the index's own folder and add them; where they were taken only with *position*."""
        unreadable: dict[int, str] = {}
        uploads = []
        for number, data in enumerate(photos):
            try:
                self._require_photo(data)
                uploads.append(uploaded(data))
            except UnreadablePhoto as error:
                unreadable[number] = error.reason
            except Refused as refusal:
                unreadable[number] = str(refusal)
        if not uploads:
            return Added(added=(), there_already=(), unreadable=unreadable)
        country = _country(country)

        def work(index: LivingIndex) -> tuple[tuple[str, ...], tuple[str, ...]]:
            known = {} if landmark is None else {"kind": "landmark", **labels.facts_for(index, landmark)}
            records = [
                record_of(upload, {"country": country, **known}, position=position) for upload in uploads
            ]
            return add_uploads(index, self._eye_now(), uploads, records)

        added, there = self._changing(work)
        return Added(added=added, there_already=there, unreadable=unreadable)

    def remove(self, photos: Sequence[str]) -> int:
        """Remove photos from the index; their files stay where they are, except those that were sent to it."""

        def work(index: LivingIndex) -> int:
            known = index.photos(photos)
            if len(known) < len(set(photos)):
                raise Unknown(
                    f"no photo {next(photo for photo in photos if photo not in known)!r} in the index"
                )
            removed = index.remove(photos)
            forget_uploads(index, known.values())
            return removed

        return self._changing(work)

    def label(self, photos: Sequence[str], landmark: int | str | None) -> int | None:
        """As ``labels.label``."""
        return self._changing(lambda index: labels.label(index, photos, landmark))

    def name(self, landmark: int, new: str) -> None:
        """As ``labels.name``."""
        self._changing(lambda index: labels.name(index, landmark, new))

    def merge(self, into: int, others: Sequence[int]) -> int:
        """As ``labels.merge``."""
        return self._changing(lambda index: labels.merge(index, into, others))

    def split(self, photos: Sequence[str], new: str) -> int:
        """As ``labels.split``."""
        return self._changing(lambda index: labels.split(index, photos, new))

    def _changing(self, work: Callable[[LivingIndex], _Result]) -> _Result:
        """Open the index for writing around one change; others wait for their turn for a few seconds."""
        for attempt in range(_WRITE_TRIES):
            try:
                index = open_index(self._index.path, write=True)
                break
            except ValueError as error:
                if not str(error).startswith("another process is writing"):
                    raise
                if attempt == _WRITE_TRIES - 1:
                    raise Busy(
                        "the index is being written by another program; try again in a moment"
                    ) from None
                time.sleep(_WRITE_PAUSE_S)
        with index:
            return work(index)

    def _eye_now(self) -> Eye:
        """The model that the index has now: a rebuild may have changed it."""
        eye = self._eye
        if eye.model.fingerprint != self._index.model:
            with self._lock:
                if self._eye.model.fingerprint != self._index.model:
                    self._eye = Eye(model_of(self._index), device=self._device, threads=self._threads)
                    self._settings = settings_of(self._index)
                eye = self._eye
        return eye


def _own(query: Query) -> str | None:
    return query.photo if isinstance(query.photo, str) else query.own


def _together(rows: Mapping[int, np.ndarray], group: Sequence[int], *, normalised: bool) -> Descriptors:
    """The rows of some queries, under their numbers."""
    return Descriptors(
        ids=tuple(map(str, group)), rows_ND=np.stack([rows[n] for n in group]), normalised=normalised
    )


@contextmanager
def _readable(what: str, refusal: type[Refused] = Refused) -> Iterator[None]:
    """The reason why a photo cannot be read, as a refusal."""
    try:
        yield
    except UnreadablePhoto as error:
        raise refusal(f"{what} cannot be read: {error.reason}") from None


def _is_id(photo: str) -> bool:
    """Whether it can be one: the database knows no other texts."""
    return bool(photo) and "\0" not in photo and not any("\ud800" <= sign <= "\udfff" for sign in photo)


def _country(code: str | None) -> str | None:
    if code is None or not code.strip():
        return None
    try:
        return parse_country(code)
    except ValueError:
        raise Refused("a country is two letters (ISO 3166), say FR") from None
