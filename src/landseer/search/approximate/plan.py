"""Which search answers soonest at a recall, from the numbers of rows and components, the memory and the recall.

Measured on clustered unit rows of 512 components, k = 100, 2 cores (``benchmarks/search.py --approximate``):

- Codes of 4 bits for every 2 components, all scanned with faiss's fast-scan kernels, take a quarter of the
  memory of the certified scan in int8 and a fraction of its time for a single query, and leave so few
  candidates that all of them can be scored exactly.
- For a batch the int8 scan without its proof (``search_unproven``) is quicker still, and finds more.  So where
  memory allows, both are kept: codes for a few queries, bytes for many.
- Lists (IVF) over the same codes save time only where neighbours share lists.  On rows whose nearest 100
  come from many clusters they must look into most lists, and are then slower than a plain scan.  So a pilot
  looks at where the neighbours of a sample lie before lists are filled.
- Codes for every 4 components halve the memory, and need eight times the candidates.
- HNSW needs 2.3 KB a row, a minute to build for 200,000, cannot forget a row, and has a tenth of the rate of
  the codes at a recall of 0.95.  RaBitQ has the memory of the codes for 4 components, and less recall and
  rate.  Neither is built.

Axes: N gallery rows, D components, K answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

MOST_CANDIDATES = 16
"""So many for each answer, at most."""
_FEWEST_ROWS = 50_000
_FEWEST_COMPONENTS = 32
_ROWS_FOR_LISTS = 2**17
_SURE = 0.9995
"""A sample cannot tell a higher recall from 1."""
_SCAN = {"exact": 1.0, "codes": 0.6, "lists": 0.9}
"""Time to score a row of the gallery, in units of the exact scan's."""
_CANDIDATE_COMPONENTS = 2**15
"""A candidate costs as much as scanning rows of so many components together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to search, and why.  ``num_candidates`` and ``num_probes`` are 0 until they are tuned."""

    kind: Literal["exact", "codes", "lists"]
    reason: str
    num_rows: int
    dim: int
    k: int
    recall: float
    """What was asked for."""
    components: int = 2
    """So many components share a code of 4 bits."""
    prepared: bool = False
    """Whether a byte a component is kept in memory (``landseer.search.prepare``): for exact search, or for batches."""
    most_bytes: int | None = None
    """What may be kept in memory beside the rows; None: whatever is best."""
    num_lists: int = 0
    num_probes: int = 0
    """So many lists are looked into."""
    num_candidates: int = 0
    """So many rows are scored for each query."""

    @property
    def memory_bytes(self) -> int:
        """What the search keeps in memory beside the rows."""
        codes = 0 if self.kind == "exact" else -(-self.dim // (2 * self.components)) + 16
        return self.num_rows * (codes + (self.dim + 8 if self.prepared else 0) + 8)

    @property
    def cost(self) -> float:
        """Work of a query, in components scanned exactly; of use to compare plans of one gallery."""
        share = self.num_probes / self.num_lists if self.kind == "lists" else 1.0
        scanned = self.num_rows * self.dim * share * _SCAN[self.kind] * 2 / self.components
        return scanned + self.num_candidates * _CANDIDATE_COMPONENTS

    def __str__(self) -> str:
        if self.kind == "exact":
            return f"exact search: {self.reason}"
        lists = f", {self.num_probes} of {self.num_lists} lists" if self.kind == "lists" else ""
        many = "; a byte a component for many queries together" if self.prepared else ""
        return (
            f"codes of 4 bits for every {self.components} components{lists}, "
            f"{self.num_candidates} candidates a query{many}: {self.reason}"
        )


def choose(num: int, dim: int, *, k: int, recall: float, memory_bytes: int | None = None) -> Plan:
    """The plan for *num* rows of *dim* components, *k* answers and a recall of *recall*, yet to be tuned.

    *memory_bytes* is what may be kept in memory beside the rows (by default, whatever is best).  Raises
    ``ValueError`` for a recall outside (0, 1], or a *k* below 1.
    """
    if not 0 < recall <= 1 or k < 1:
        raise ValueError(f"recall must be above 0 and at most 1, k at least 1, not {recall} and {k}")
    codes = Plan(kind="codes", reason="", num_rows=num, dim=dim, k=k, recall=recall, most_bytes=memory_bytes)
    if recall > _SURE:
        return exactly(codes, f"no sample shows a recall of {recall:g}")
    if num < _FEWEST_ROWS or num <= 2 * k:
        return exactly(codes, f"it is as fast for {num} rows")
    if dim < _FEWEST_COMPONENTS or dim % 4:
        return exactly(codes, f"codes need {_FEWEST_COMPONENTS} components or more, in fours, not {dim}")
    for components in (2, 4):
        codes = replace(codes, components=components)
        if memory_bytes is None or codes.memory_bytes <= memory_bytes:
            return _scanned_or_listed(codes)
    return exactly(codes, f"codes take {codes.memory_bytes} bytes of memory, not {memory_bytes}")


def exactly(plan: Plan, reason: str) -> Plan:
    """Exact search instead of *plan*."""
    exact = Plan(
        kind="exact",
        reason=reason,
        num_rows=plan.num_rows,
        dim=plan.dim,
        k=plan.k,
        recall=plan.recall,
        most_bytes=plan.most_bytes,
        prepared=True,
    )
    fits = plan.most_bytes is None or exact.memory_bytes <= plan.most_bytes
    return exact if fits else replace(exact, prepared=False)


def scanned(plan: Plan, reason: str) -> Plan:
    """*plan* with codes that are all scanned, and a byte a component for batches where memory allows."""
    plan = replace(plan, kind="codes", num_lists=0, reason=reason, prepared=True)
    fits = plan.most_bytes is None or plan.memory_bytes <= plan.most_bytes
    return plan if fits else replace(plan, prepared=False)


def _scanned_or_listed(plan: Plan) -> Plan:
    if plan.num_rows < _ROWS_FOR_LISTS:
        return scanned(plan, f"lists would not make {plan.num_rows} rows faster")
    num_lists = 2 ** round(math.log2(plan.num_rows) / 2)
    return replace(plan, kind="lists", num_lists=num_lists, reason="neighbours share lists")
