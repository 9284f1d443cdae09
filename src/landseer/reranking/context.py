"""What re-rankers may need beside the ranking, and one clear line where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from landseer.search import search_exact
from landseer.types import Descriptors, Ranking

_Given = TypeVar("_Given")
Match = Callable[[str, Sequence[str]], Sequence[int]]
"""Number of inliers between a query photo and each of some gallery photos, all by id."""


class Search(Protocol):
    """As ``landseer.search.search_exact``."""

    def __call__(self, queries: Descriptors, gallery: Descriptors, *, k: int) -> Ranking:
        """The *k* best photos of *gallery* for every query."""


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Labelled photos that vote: landmarks int64 ``[N]`` (-1: none); countries int16 ``[N]`` (-1: not known)."""

    ids: tuple[str, ...]
    landmark_N: np.ndarray
    country_N: np.ndarray | None = None
    """Into ``countries``; None: of no photo is the country known."""
    countries: tuple[str, ...] = ()
    """ISO 3166 alpha-2."""
    descriptors: Descriptors | None = None
    """Of the photos of ``ids``, in that order."""

    def __post_init__(self) -> None:
        num = len(self.ids)
        if self.landmark_N.shape != (num,) or self.landmark_N.dtype != np.int64:
            raise ValueError(
                f"a bank of {num} photos needs as many int64 landmarks, not {self.landmark_N.shape}"
            )
        country_N = self.country_N
        if country_N is not None and (country_N.shape != (num,) or country_N.dtype != np.int16):
            raise ValueError(f"a bank of {num} photos needs as many int16 countries, not {country_N.shape}")
        if (
            country_N is not None
            and num
            and not -1 <= country_N.min() <= country_N.max() < len(self.countries)
        ):
            raise ValueError(f"a country of the bank lies outside the {len(self.countries)} that are named")
        if self.descriptors is not None and self.descriptors.ids != self.ids:
            raise ValueError("the bank's descriptors are not those of its photos, in the same order")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a re-ranker may ask for; whatever is None was not given.

    ``query_voters`` and ``gallery_voters`` rank bank photos for every query and gallery photo: given, or searched
    for and kept.
    """

    queries: Descriptors | None = None
    gallery: Descriptors | None = None
    bank: Bank | None = None
    query_voters: Ranking | None = None
    gallery_voters: Ranking | None = None
    match: Match | None = None
    in_country: Ranking | None = None
    """Photos of the gallery with their cosines: for every query, of each country it was voted to show, as many of the
    nearest as the ranking is wide, best first.  Searched for where not given."""
    search: Search = search_exact
    weight: float = 1.0
    """Of a member of ``models``: what its similarities count."""
    models: tuple[Context, ...] = ()
    """Of an ensemble whose members' similarities are summed: what each member has, of the same photos."""
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def descriptors(self, method: str, ranking: Ranking) -> tuple[Descriptors, Descriptors]:
        """Those of the queries and the gallery of *ranking*, by row and position.

        Raises ``ValueError`` where one is missing or of other photos.
        """
        queries = _needed(self.queries, method, "descriptors of the queries (--queries)")
        gallery = _needed(self.gallery, method, "descriptors of the gallery (--gallery)")
        for noun, rows, ids in (
            ("queries", queries, ranking.query_ids),
            ("gallery", gallery, ranking.gallery_ids),
        ):
            if rows.ids != ids and "" in ids:
                raise ValueError(
                    f"{method}: the ranking is of a living index with removed photos; re-rank "
                    "without_removed(ranking), and give the descriptors of its gallery_ids"
                )
            if rows.ids != ids:
                raise ValueError(
                    f"{method}: the descriptors given for the {noun} are not those of the ranking; "
                    "give the ones that it was searched with"
                )
        return queries, gallery

    def labelled(self, method: str) -> Bank:
        """The vote bank.  Raises ``ValueError`` where there is none."""
        return _needed(self.bank, method, "a vote bank of labelled photos (--bank)")

    def voters_of_queries(self, method: str, ranking: Ranking, *, k: int) -> Ranking:
        """The *k* or more nearest bank photos of every query, best first."""
        return self._voters("query", method, ranking.query_ids, k)

    def voters_of_gallery(self, method: str, ranking: Ranking, *, k: int) -> Ranking:
        """The *k* or more nearest bank photos of every gallery photo, best first."""
        return self._voters("gallery", method, ranking.gallery_ids, k)

    def matcher(self, method: str) -> Match:
        """The matching callable.  Raises ``ValueError`` where there is none."""
        return _needed(self.match, method, "a matcher of photos")

    def _voters(self, of: str, method: str, ids: tuple[str, ...], k: int) -> Ranking:
        bank = self.labelled(method)
        given = self.query_voters if of == "query" else self.gallery_voters
        if given is None:
            given = self._searched(of, method, bank, k)
        if given.query_ids != ids or given.gallery_ids != bank.ids:
            raise ValueError(
                f"{method}: the voters given for the {of} photos are of other photos or another bank"
            )
        if given.positions_QK.shape[1] < min(k, len(bank)):
            raise ValueError(
                f"{method}: {given.positions_QK.shape[1]} voters a photo are given, but {k} vote"
            )
        return given

    def _searched(self, of: str, method: str, bank: Bank, k: int) -> Ranking:
        """The nearest bank photos, searched for once for the largest number asked."""
        name = f"{of} voters"
        if name not in self._kept or self._kept[name].positions_QK.shape[1] < k:
            rows = self.queries if of == "query" else self.gallery
            noun = "queries" if of == "query" else "gallery"
            asked = _needed(rows, method, f"descriptors of the {noun} (--{noun})")
            labelled = _needed(bank.descriptors, method, "descriptors of the vote bank (--bank)")
            self._kept[name] = self.search(asked, labelled, k=k)
        found: Ranking = self._kept[name]
        return found


def _needed(given: _Given | None, method: str, what: str) -> _Given:
    if given is None:
        raise ValueError(f"{method} needs {what}; none was given")
    return given
