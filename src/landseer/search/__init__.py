"""Search: which gallery photos are nearest to each query."""

from landseer.search.exact import search_exact
from landseer.search.scores import score

__all__ = ["score", "search_exact"]
