"""``[[reranking]]``: what is done to a ranking after the search, in order; ``method`` says which options there are.

Defaults are those of the published methods; the docstrings name the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class BankOptions:
    """``[bank]``: the labelled training photos that vote on what others show, in re-ranking and recognition."""

    subset: Literal["clean", "full"] = "clean"
    """Those marked clean, or all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionOptions:
    """``method = "expansion"``: alpha query expansion and database augmentation (Radenovic et al., Arandjelovic)."""

    method: Literal["expansion"] = "expansion"
    query_neighbours: int = 10
    """Answers that join the query, which is searched again; 0: the query stays as it is."""
    gallery_neighbours: int = 0
    """Gallery photos that join each gallery photo before; 0: the gallery stays as it is."""
    alpha: float = 3.0
    """A neighbour counts with its cosine (not below 0) to this power, the photo itself with 1."""
    pass_on: bool = False
    """Methods after this one are given the mixed descriptors, too, in place of the plain ones."""

    def __post_init__(self) -> None:
        _at_least(0, query_neighbours=self.query_neighbours, gallery_neighbours=self.gallery_neighbours)
        require(
            self.query_neighbours + self.gallery_neighbours > 0,
            "query_neighbours",
            "must be above 0, or gallery_neighbours, else nothing is expanded",
        )
        require(self.alpha >= 0, "alpha", f"must not be negative, not {self.alpha}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReciprocalOptions:
    """``method = "k-reciprocal"``: Jaccard distance of k-reciprocal neighbours (Zhong et al. 2017)."""

    method: Literal["k-reciprocal"] = "k-reciprocal"
    k1: int = 20
    """Neighbours that may be reciprocal."""
    k2: int = 6
    """Neighbours over which a photo's neighbourhood is averaged; 1: not at all."""
    weight: float = 0.3
    """Share of the original distance in the final one (lambda); the rest is the Jaccard distance."""
    form: Literal["global", "local"] = "global"
    """``global``: neighbourhoods among all queries and gallery photos; ``local``: among one query and its answers."""

    def __post_init__(self) -> None:
        _at_least(1, k1=self.k1, k2=self.k2)
        require(0 <= self.weight <= 1, "weight", f"must lie between 0 and 1, not {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionOptions:
    """``method = "diffusion"``: offline diffusion over the gallery's mutual neighbours (Yang et al. 2019)."""

    method: Literal["diffusion"] = "diffusion"
    neighbours: int = 50
    """Edges of a gallery photo before those that are not mutual go."""
    gamma: float = 3.0
    """An edge counts with its cosine (not below 0) to this power."""
    alpha: float = 0.99
    """How far the diffusion reaches."""
    truncation: int = 1000
    """Gallery photos in the linear system of each."""
    query_neighbours: int = 10
    """Answers of the search from which a query's diffusion starts."""
    iterations: int = 20
    """Most steps of conjugate gradients."""
    tolerance: float = 1e-6
    """Relative residual at which they stop."""

    def __post_init__(self) -> None:
        _at_least(
            1,
            neighbours=self.neighbours,
            truncation=self.truncation,
            query_neighbours=self.query_neighbours,
            iterations=self.iterations,
        )
        require(self.gamma >= 0, "gamma", f"must not be negative, not {self.gamma}")
        require(0 < self.alpha < 1, "alpha", f"must lie above 0 and below 1, not {self.alpha}")
        require(0 < self.tolerance < 1, "tolerance", f"must lie above 0 and below 1, not {self.tolerance}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraversalOptions:
    """``method = "traversal"``: explore and exploit on the gallery's neighbour graph (Chang et al. 2019, EGT)."""

    method: Literal["traversal"] = "traversal"
    neighbours: int = 100
    """Edges of a photo."""
    threshold: float | None = None
    """An edge of this weight or more is accepted at once; None: only the best edge, time and again (t = infinity)."""

    def __post_init__(self) -> None:
        _at_least(1, neighbours=self.neighbours)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStageOptions:
    """``method = "two-stage"``: sort and insert by voted landmarks (Yokoo et al. 2020)."""

    method: Literal["two-stage"] = "two-stage"
    voters: int = 3
    """Nearest photos of the vote bank that vote on a photo's landmark (k)."""
    similarity: Literal["cosine", "1-d2"] = "cosine"
    """What a vote weighs: the cosine, or 1 minus the squared distance (2 cos - 1), as the 2019 code did."""
    normalise: bool = True
    """Divide the votes by ``voters``."""
    sort: bool = True
    """Answers of the query's landmark come first, in the order of the search."""
    insert: bool = True
    """Gallery photos of the query's landmark that the search missed follow them."""
    threshold: float | None = 0.6
    """A photo is inserted where the query's and its own vote sum to more (tau); None, or -100 in a file: always."""
    positive: bool = False
    """Insert only where both votes are above 0 (the first published code)."""
    order: Literal["score", "gallery"] = "score"
    """Inserted photos stand by their own vote, best first, or in the order of the gallery."""
    least_vote: float | None = None
    """A query whose own vote is lower stays as it is: its landmark may be one that the bank lacks.  Ours."""

    def __post_init__(self) -> None:
        _at_least(1, voters=self.voters)
        require(self.sort or self.insert, "sort", "must be true, or insert, else nothing is done")


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkCountryOptions:
    """``method = "landmark-country"``: bonuses for voted landmarks and countries (2nd place 2021)."""

    method: Literal["landmark-country"] = "landmark-country"
    voters: int = 3
    """Nearest photos of the vote bank that vote on a query's landmarks and countries."""
    voting: Literal["k-reciprocal", "cosine"] = "k-reciprocal"
    """By what a query's voters are chosen and weighed: the cosine, or a blend of it with a local k-reciprocal step."""
    normalise: bool = True
    """A query's votes sum to 1, as in the code; else each is the sum of its voters' similarities, as in the paper."""
    alpha: float = 1.0
    """Bonus of a photo of a voted landmark, times the vote."""
    beta: float = 0.1
    """Bonus of a photo of a voted country, times the vote."""
    hard: bool = False
    """Only the landmark and the country with most votes count, as 1."""
    merge: Literal["before", "after"] = "before"
    """Over several models: each model's bonuses join its own similarities, which are summed (``before_merge`` in the
    code), or the similarities are summed first and every model's bonuses are added."""
    candidates: int = 30
    """Voting by k-reciprocal: the query's nearest bank photos, and the nearest of each of these."""
    k1: int = 10
    """Voting by k-reciprocal: neighbours that may be reciprocal."""
    k2: int = 3
    """Voting by k-reciprocal: neighbours over which a photo's neighbourhood is averaged."""
    blend: float = 0.5
    """Voting by k-reciprocal: share of the Jaccard distance."""

    def __post_init__(self) -> None:
        _at_least(1, voters=self.voters, candidates=self.candidates, k1=self.k1, k2=self.k2)
        require(self.alpha >= 0, "alpha", f"must not be negative, not {self.alpha}")
        require(self.beta >= 0, "beta", f"must not be negative, not {self.beta}")
        require(0 <= self.blend <= 1, "blend", f"must lie between 0 and 1, not {self.blend}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestLabelOptions:
    """``method = "nearest-label"``: the landmark of the nearest labelled photo agrees or not (1st place 2021)."""

    method: Literal["nearest-label"] = "nearest-label"
    agree: float = 1.0
    """Where query and photo agree, the photo's cosine to its nearest labelled one is added, times this."""
    disagree: float = 0.1
    """Else it is taken off, times this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialOptions:
    """``method = "spatial"``: points matched between the query and its first answers (Weyand et al. 2020)."""

    method: Literal["spatial"] = "spatial"
    first: int = 100
    """Answers that are matched."""
    most_inliers: int = 70
    """So many inliers count as 1, and more do not count."""
    weight: float = 1.0
    """What the share of inliers counts beside the score of the search."""

    def __post_init__(self) -> None:
        _at_least(1, first=self.first, most_inliers=self.most_inliers)
        require(self.weight >= 0, "weight", f"must not be negative, not {self.weight}")


RerankingOptions = (
    ExpansionOptions
    | ReciprocalOptions
    | DiffusionOptions
    | TraversalOptions
    | TwoStageOptions
    | LandmarkCountryOptions
    | NearestLabelOptions
    | SpatialOptions
)
"""Any of them; ``method`` tells which."""


def _at_least(least: int, **values: int) -> None:
    for key, value in values.items():
        require(value >= least, key, f"must be at least {least}, not {value}")
