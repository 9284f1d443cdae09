"""Votes of labelled photos on what a photo shows (Yokoo et al. 2020, section 4; 2nd place 2021).

The K nearest photos of the bank vote, each for its own label and with its similarity.  A voter without a label (-1)
keeps its place but votes for nothing.  The sums are exact: a similarity is a float32, and they are added in float64.
So two labels have equal votes only where they truly have, and then the label met first, that of the nearer
voter, wins.

Axes: N photos, K voters of each, best first, L different labels, M photos that have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from landseer.reranking.context import Bank, Context
from landseer.reranking.moves import listed
from landseer.types import PADDING, Ranking

NO_LABEL = -1

Similarity = Literal["cosine", "1-d2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Votes:
    """What the voters of each photo say: each distinct label once, at the place of the first that named it.

    ``label_NK`` int64, ``NO_LABEL`` at all other places; ``vote_NK`` float64, 0 there.
    """

    label_NK: np.ndarray
    vote_NK: np.ndarray

    def winners(self) -> tuple[np.ndarray, np.ndarray]:
        """The label with most votes, int64 ``[N]``, and those votes, float64 ``[N]``; without any: ``NO_LABEL``, 0."""
        place_N1 = self._place_of_winner()
        label_N = np.take_along_axis(self.label_NK, place_N1, axis=1)[:, 0]
        return label_N, np.take_along_axis(self.vote_NK, place_N1, axis=1)[:, 0]

    def shares(self) -> Votes:
        """Each photo's votes divided by their sum."""
        sum_N1 = self.vote_NK.sum(axis=1, keepdims=True)
        return Votes(label_NK=self.label_NK, vote_NK=self.vote_NK / np.where(sum_N1 > 0, sum_N1, 1))

    def winner_takes_all(self) -> Votes:
        """The label with most votes has 1, the others nothing."""
        winning_NK = np.zeros(self.label_NK.shape, np.bool_)
        np.put_along_axis(winning_NK, self._place_of_winner(), True, axis=1)
        winning_NK &= (self.label_NK != NO_LABEL) & (self.vote_NK > 0)
        return Votes(
            label_NK=np.where(winning_NK, self.label_NK, NO_LABEL), vote_NK=winning_NK.astype(np.float64)
        )

    def times(self, factor: float) -> Votes:
        """The votes times *factor*."""
        return Votes(label_NK=self.label_NK, vote_NK=self.vote_NK * factor)

    def _place_of_winner(self) -> np.ndarray:
        ranked_NK = np.where(self.label_NK == NO_LABEL, -np.inf, self.vote_NK)
        place_N1: np.ndarray = np.argmax(ranked_NK, axis=1, keepdims=True)  # the first of equal ones
        return place_N1


@dataclass(frozen=True, kw_only=True, eq=False)
class Shelves:
    """Photos put together by label: those of label ``label_L[l]`` are ``position_M[start_L[l] : start_L[l + 1]]``."""

    label_L: np.ndarray
    """Int64, rising."""
    start_L: np.ndarray
    """Int64, one entry more than labels."""
    position_M: np.ndarray

    @property
    def size_L(self) -> np.ndarray:
        """Photos of each label."""
        return np.diff(self.start_L)

    def find(self, labels: np.ndarray) -> np.ndarray:
        """The shelf of each label, -1 where no photo has it."""
        if not len(self.label_L):
            return np.full(labels.shape, -1, np.int64)
        place = np.minimum(np.searchsorted(self.label_L, labels), len(self.label_L) - 1)
        return np.where((self.label_L[place] == labels) & (labels != NO_LABEL), place, -1)


def shelve(label_N: np.ndarray, score_N: np.ndarray | None = None) -> Shelves:
    """Put photos together by label, in rising order or, given scores, best first and then in rising order."""
    keys = (label_N,) if score_N is None else (-score_N, label_N)
    order_N = np.lexsort(keys)
    position_M = order_N[np.count_nonzero(label_N == NO_LABEL) :]
    label_L, first_L = np.unique(label_N[position_M], return_index=True)
    return Shelves(
        label_L=label_L, start_L=np.append(first_L, len(position_M)).astype(np.int64), position_M=position_M
    )


def count_votes(label_NK: np.ndarray, weight_NK: np.ndarray) -> Votes:
    """Add up the weights (float ``[N, K]``) of equal labels (int64 ``[N, K]``, best voter first)."""
    label_KN, weight_KN = np.ascontiguousarray(label_NK.T), np.ascontiguousarray(weight_NK.T, np.float64)
    distinct_KN, vote_KN = np.full_like(label_KN, NO_LABEL), np.zeros_like(weight_KN)
    for place, label_N in enumerate(label_KN):
        fresh_N = label_N != NO_LABEL
        for earlier_N in label_KN[:place]:
            fresh_N &= label_N != earlier_N
        distinct_KN[place, fresh_N] = label_N[fresh_N]
        for other_N, weight_N in zip(label_KN[place:], weight_KN[place:], strict=True):
            vote_KN[place] += np.where(fresh_N & (other_N == label_N), weight_N, 0)
    return Votes(label_NK=distinct_KN.T, vote_NK=vote_KN.T)


def labels_of(voters: Ranking, label_B: np.ndarray | None, *, k: int) -> np.ndarray:
    """The labels of the first *k* voters: int64 ``[N, K]``, ``NO_LABEL`` for padding and where nothing is known."""
    position_NK = voters.positions_QK[:, :k]
    if label_B is None or not len(label_B):
        return np.full(position_NK.shape, NO_LABEL, np.int64)
    return np.where(position_NK == PADDING, NO_LABEL, label_B[position_NK]).astype(np.int64, copy=False)


def weights_of(
    voters: Ranking, *, k: int, similarity: Similarity = "cosine", power: float = 1.0
) -> np.ndarray:
    """What the votes of the first *k* voters weigh: float64 ``[N, K]``, 0 for padding.

    ``1-d2`` is 1 minus the squared distance of unit rows, 2 cos - 1.  With a *power* other than 1 a negative
    similarity weighs 0.
    """
    weight_NK = voters.scores_QK[:, :k].astype(np.float64)
    if similarity == "1-d2":
        weight_NK = 2 * weight_NK - 1
    weight_NK = np.where(voters.positions_QK[:, :k] == PADDING, 0, weight_NK)
    return weight_NK if power == 1 else np.power(np.maximum(weight_NK, 0), power)


def vote(
    voters: Ranking,
    label_B: np.ndarray | None,
    *,
    k: int,
    similarity: Similarity = "cosine",
    power: float = 1.0,
) -> Votes:
    """The votes of the first *k* voters of each photo, not divided by anything."""
    return count_votes(
        labels_of(voters, label_B, k=k), weights_of(voters, k=k, similarity=similarity, power=power)
    )


def cosine_voters(
    context: Context, of: Literal["query", "gallery"], method: str, ranking: Ranking, *, k: int
) -> Ranking:
    """The voters of the queries or the gallery photos, by cosine.  Raises ``ValueError`` for voters of another kind."""
    asked = context.voters_of_queries if of == "query" else context.voters_of_gallery
    voters = asked(method, ranking, k=k)
    if voters.score_kind not in ("cosine", "dot"):
        raise ValueError(
            f"{method}: the voters given for the {of} photos are weighed by {voters.score_kind}, not by cosine"
        )
    return voters


def is_there(ids: Sequence[str]) -> np.ndarray:
    """Which gallery photos may be shown: bool ``[N]``.  A photo removed from a living index has an empty id."""
    there_N = np.ones(len(ids), np.bool_)
    if "" in ids:
        there_N[[position for position, photo in enumerate(ids) if not photo]] = False
    return there_N


def named_by(voters: Ranking, row: int, label_B: np.ndarray, label: int, bank: Bank, *, k: int) -> str:
    """Which of the first *k* voters of a photo named *label*: ``photos a, b and c``."""
    positions = [p for p in voters.positions_QK[row, :k].tolist() if p != PADDING and label_B[p] == label]
    return f"{'photo' if len(positions) == 1 else 'photos'} {listed([bank.ids[p] for p in positions])}"
