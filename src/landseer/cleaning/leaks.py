"""What training has seen of that on which it will be measured: the same photos, the same landmarks.

A photo leaks where it, or a copy of it, is in two splits: what stands in the earlier of train, validation, index and
query helps to answer for the later.  Of another collection only queries and index photos count.

A landmark that was trained on is no mistake by itself: Google Landmarks asks for such.  It must be said, though, and
what is called an unseen landmark must be one.  Within a collection landmarks are the same where their ids are; between
two collections by category or name, and where these say nothing but in the ids of the queries (as in Revisited Oxford
and Paris) by the words of these.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote

import numpy as np

from landseer.cleaning.duplicates import Duplicates, photos_of_files
from landseer.cleaning.pictures import Link
from landseer.cleaning.pool import Pool
from landseer.evaluation.seen import TrainedShare
from landseer.types import Collection

_PLACE_SHARE = 0.25
"""A word with which so many of a collection's ids begin names the place of all of them, not a landmark."""
_FEWEST_LETTERS = 5
"""Of a name that is looked for inside a longer one without its word breaks."""
_LETTERS = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ı": "i"})
How = Literal["id", "category", "name", "words and place", "words"]
HOWS: tuple[How, ...] = ("id", "category", "name", "words and place", "words")
"""The surest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoLeak:
    """A photo of a later split of which an earlier split has a copy; rows of a pool."""

    earlier: int
    later: int
    kind: Literal["bytes", "picture"]
    link: Link | None
    """Between files equal to the two; None where they are equal."""
    copies: int
    """How many copies the earlier split has in all.  Splits stand in the order of ``SPLITS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkLeak:
    """A landmark that is evaluated and was trained on, or so it seems."""

    landmark: int
    """In the evaluated collection."""
    name: str
    trained: int
    """In the collection that is trained on."""
    trained_name: str
    how: How
    photos: int
    """Training photos of it."""
    queries: int
    """Queries of it."""


def photo_leaks(pool: Pool, duplicates: Duplicates) -> tuple[PhotoLeak, ...]:
    """Copies across splits, by later photo; of a later photo and an earlier split the surest one."""
    photos_of = photos_of_files(duplicates.file_N, np.arange(len(pool)), duplicates.links)
    by_split: dict[tuple[int, int], list[PhotoLeak]] = {}
    for leak in _all_leaks(pool, photos_of, duplicates.links):
        by_split.setdefault((leak.later, int(pool.split_N[leak.earlier])), []).append(leak)
    found = []
    for entries in by_split.values():
        surest = min(entries, key=lambda leak: (leak.link is not None, _doubt(leak.link), leak.earlier))
        # each entry is of other files, so none is counted twice
        found.append(replace(surest, copies=sum(leak.copies for leak in entries)))
    return tuple(sorted(found, key=lambda leak: (leak.later, leak.earlier)))


def _doubt(link: Link | None) -> float:
    return 0.0 if link is None else -link.likeness


def _all_leaks(
    pool: Pool, photos_of: Mapping[int, list[int]], links: tuple[Link, ...]
) -> Iterator[PhotoLeak]:
    for photos in photos_of.values():
        for earlier, later, copies in _across(pool, photos, photos) if len(photos) > 1 else ():
            yield PhotoLeak(earlier=earlier, later=later, kind="bytes", link=None, copies=copies)
    for link in links:
        if link.kind == "picture":
            for a, b in ((link.first, link.second), (link.second, link.first)):
                for earlier, later, copies in _across(pool, photos_of[a], photos_of[b]):
                    yield PhotoLeak(earlier=earlier, later=later, kind="picture", link=link, copies=copies)


def _across(pool: Pool, earlier: list[int], later: list[int]) -> Iterator[tuple[int, int, int]]:
    """(first photo of an earlier split of the first collection, photo of a later split of any, how many there are)."""
    ours: dict[int, list[int]] = {}
    for row in earlier:
        if pool.source_N[row] == 0:
            ours.setdefault(int(pool.split_N[row]), []).append(row)
    for row in later:
        for split, photos in ours.items():
            if split < pool.split_N[row]:
                yield photos[0], row, len(photos)


def landmarks_of_queries(collection: Collection) -> dict[str, tuple[int, ...]]:
    """Query -> the landmarks it shows, none where they are not known.

    The truth decides where there is one and it names landmarks, else the landmark of the query's row.
    """
    queries = collection.in_split("query")
    rows = zip(queries.ids, queries.landmark_N.tolist(), strict=True)
    found: dict[str, tuple[int, ...]] = {photo: (n,) if n >= 0 else () for photo, n in rows}
    if collection.truth is not None:
        for photo, landmarks in zip(collection.truth.query_ids, collection.truth.landmarks, strict=True):
            found[photo] = landmarks or found.get(photo, ())
    return found


def queries_by_landmark(collection: Collection) -> dict[int, int]:
    """Landmark -> how many queries show it."""
    return dict(Counter(n for landmarks in landmarks_of_queries(collection).values() for n in landmarks))


def trained_landmarks(collection: Collection) -> dict[int, int]:
    """Landmark -> training photos."""
    landmark_N = collection.in_split("train").landmark_N
    found, counts = np.unique(landmark_N[landmark_N >= 0], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def trained_share(collection: Collection, leaks: tuple[LandmarkLeak, ...]) -> TrainedShare:
    """Of how many queries of *collection* the landmark was trained on, by its *leaks*.

    Those by words alone, without the place, do not count.
    """
    seen = {leak.landmark for leak in leaks if leak.how != "words"}
    shown = landmarks_of_queries(collection).values()
    return TrainedShare(
        queries=len(shown),
        seen=sum(not seen.isdisjoint(landmarks) for landmarks in shown),
        unknown=sum(not landmarks for landmarks in shown),
    )


def own_landmark_leaks(collection: Collection) -> tuple[LandmarkLeak, ...]:
    """Landmarks of training photos that queries or index photos of the same collection show, by landmark."""
    trained = trained_landmarks(collection)
    queries = queries_by_landmark(collection)
    shown = set(queries) | set(collection.in_split("index").landmark_N.tolist())
    return tuple(
        LandmarkLeak(
            landmark=landmark,
            name=collection.name_of(landmark),
            trained=landmark,
            trained_name=collection.name_of(landmark),
            how="id",
            photos=photos,
            queries=queries.get(landmark, 0),
        )
        for landmark, photos in sorted(trained.items())
        if landmark in shown
    )


def landmark_leaks(collection: Collection, other: Collection) -> tuple[LandmarkLeak, ...]:
    """Landmarks that queries or index photos of *other* show and *collection* trains on, the surest first.

    A landmark of *other* is listed with each trained one that it agrees with in the surest way it does.
    """
    trained = trained_landmarks(collection)
    titles = _Titles(collection, trained)
    queries = queries_by_landmark(other)
    shown = (set(queries) | set(other.in_split("index").landmark_N.tolist())) - {-1}
    named = _named(other)
    spoken = {} if set(named) & shown else names_in_ids(other)
    places = place_words(other.ids) if spoken else frozenset[str]()
    found = []
    for landmark in sorted(shown):
        how, matches = titles.like(named.get(landmark), spoken.get(landmark, ()), places)
        found += [
            LandmarkLeak(
                landmark=landmark,
                name=" / ".join(spoken[landmark]) if landmark in spoken else other.name_of(landmark),
                trained=match,
                trained_name=collection.name_of(match),
                how=how,
                photos=trained[match],
                queries=queries.get(landmark, 0),
            )
            for match in matches
        ]
    return tuple(sorted(found, key=lambda leak: (HOWS.index(leak.how), leak.landmark, leak.trained)))


def landmarks_trained_on(collection: Collection, other: Collection) -> frozenset[int]:
    """The landmarks of *other*, by its ids, that *collection* trains on.

    Where both are one collection, or neither names nor ids of *other* say what its landmarks are, by ids; else as
    ``landmark_leaks`` knows them, those by words alone left out.
    """
    same = bool(collection.fingerprint) and collection.fingerprint == other.fingerprint
    if same or not ((_named(other) or names_in_ids(other)) and _named(collection)):
        return frozenset(trained_landmarks(collection))
    return frozenset(leak.landmark for leak in landmark_leaks(collection, other) if leak.how != "words")


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words without accents: ``Tour d'Or_(Séville)`` -> tour, d, or, seville."""
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    kept = (letter if letter.isalnum() else " " for letter in plain if not unicodedata.combining(letter))
    return tuple("".join(kept).split())


def category_title(category: str) -> str:
    """The title in a category's address: ``http://.../Category:Tour_d%27Or`` -> ``Tour d'Or``."""
    return unquote(category).rpartition("Category:")[2].replace("_", " ").strip()


def place_words(ids: tuple[str, ...]) -> frozenset[str]:
    """Words with which a good part of *ids* begin, ``oxford`` and ``paris`` in the revisited sets."""
    firsts = Counter(words[0] for photo in ids if (words := words_of(photo)))
    return frozenset(word for word, num in firsts.items() if num >= _PLACE_SHARE * len(ids))


def names_in_ids(collection: Collection) -> dict[int, tuple[str, ...]]:
    """Landmark -> what the ids of its queries call it most often, without numbers and the place: ``all souls``.

    Landmarks whose queries' ids say nothing are left out.
    """
    places = place_words(collection.ids)
    queries = collection.in_split("query")
    counts: dict[int, Counter[str]] = {}
    for photo, landmark in zip(queries.ids, queries.landmark_N.tolist(), strict=True):
        words = [word for word in words_of(photo) if not word.isdigit() and word not in places]
        if landmark >= 0 and words and re.fullmatch(r"[^\W\d]+", "".join(words)):
            counts.setdefault(landmark, Counter())[" ".join(words)] += 1
    return {
        landmark: tuple(sorted(name for name, num in names.items() if num == max(names.values())))
        for landmark, names in counts.items()
    }


def _named(collection: Collection) -> dict[int, tuple[str | None, str | None]]:
    """Landmark -> name and category, of those that have either."""
    table = collection.landmarks
    rows = zip(*(table[column].to_pylist() for column in ("landmark", "name", "category")), strict=True)
    return {landmark: (name, category) for landmark, name, category in rows if name or category}


class _Titles:
    """Names and categories of trained landmarks, looked up by words."""

    def __init__(self, collection: Collection, trained: Mapping[int, int]) -> None:
        self._by_category: dict[tuple[str, ...], list[int]] = {}
        self._by_name: dict[frozenset[str], list[int]] = {}
        self._with_category: set[int] = set()
        self._texts: list[tuple[int, frozenset[str], str]] = []
        for landmark, (name, category) in sorted(_named(collection).items()):
            if landmark not in trained:
                continue
            if category:
                self._with_category.add(landmark)
                self._by_category.setdefault(words_of(category_title(category)), []).append(landmark)
            titles = [words_of(text) for text in (name, category and category_title(category)) if text]
            for words in {frozenset(title) for title in titles}:
                self._by_name.setdefault(words, []).append(landmark)
            every = frozenset(word for title in titles for word in title)
            self._texts.append((landmark, every, " ".join("".join(title) for title in titles)))

    def like(
        self,
        named: tuple[str | None, str | None] | None,
        spoken: tuple[str, ...],
        places: frozenset[str],
    ) -> tuple[How, list[int]]:
        """How, and which trained landmarks agree with a name and category, or with the names *spoken* in ids."""
        name, category = named or (None, None)
        if category and (found := self._by_category.get(words_of(category_title(category)))):
            return "category", found
        for text in (name, category and category_title(category)):
            found = self._by_name.get(frozenset(words_of(text)), []) if text else []
            # of two landmarks with categories, these decide: many churches have one name
            found = [landmark for landmark in found if not category or landmark not in self._with_category]
            if found:
                return "name", found
        inside = [entry for entry in self._texts if any(_inside(text, entry) for text in spoken)]
        there = [landmark for landmark, words, _ in inside if words & places]
        if there:
            return "words and place", there
        return "words", [landmark for landmark, _, _ in inside]


def _inside(text: str, entry: tuple[int, frozenset[str], str]) -> bool:
    """Whether a title has all words of *text*, or its letters in a row, as ``museedorsay``."""
    _, words, letters = entry
    asked = words_of(text)
    joined = "".join(asked)
    return set(asked) <= words or (len(joined) >= _FEWEST_LETTERS and joined in letters)
