"""The living index: photos come and go while queries are answered."""

from landseer.search.living.checks import Problem
from landseer.search.living.filters import Filter
from landseer.search.living.index import LivingIndex, open_index, verify_index
from landseer.search.living.reader import IndexInfo

__all__ = ["Filter", "IndexInfo", "LivingIndex", "Problem", "open_index", "verify_index"]
