"""Approximate search: less than exact, by a share that was measured."""

from landseer.search.approximate.build import Approximate, build_approximate, load_approximate
from landseer.search.approximate.plan import Plan, choose
from landseer.search.approximate.tuning import Measured

__all__ = ["Approximate", "Measured", "Plan", "build_approximate", "choose", "load_approximate"]
