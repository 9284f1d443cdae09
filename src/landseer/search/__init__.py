"""Search: which gallery photos are nearest to each query."""

from landseer.search.exact import search_exact
from landseer.search.living import Filter, IndexInfo, LivingIndex, Problem, open_index, verify_index
from landseer.search.scores import score

__all__ = [
    "Filter",
    "IndexInfo",
    "LivingIndex",
    "Problem",
    "open_index",
    "score",
    "search_exact",
    "verify_index",
]
