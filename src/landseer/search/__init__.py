"""Search: which gallery photos are nearest to each query."""

from landseer.search.approximate import (
    Approximate,
    Measured,
    Plan,
    build_approximate,
    choose,
    load_approximate,
)
from landseer.search.certified import Prepared, prepare
from landseer.search.exact import search_exact
from landseer.search.living import Filter, IndexInfo, LivingIndex, Problem, open_index, verify_index
from landseer.search.scores import score

__all__ = [
    "Approximate",
    "Filter",
    "IndexInfo",
    "LivingIndex",
    "Measured",
    "Plan",
    "Prepared",
    "Problem",
    "build_approximate",
    "choose",
    "load_approximate",
    "open_index",
    "prepare",
    "score",
    "search_exact",
    "verify_index",
]
