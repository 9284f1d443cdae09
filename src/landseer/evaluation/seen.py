"""How much of what is asked was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedShare:
    """Of how many queries the landmark was trained on.  ``unknown``: of so many that cannot be said."""

    queries: int
    seen: int
    unknown: int

    @property
    def share(self) -> float | None:
        """Of the queries of which it can be said; None without any."""
        known = self.queries - self.unknown
        return self.seen / known if known else None

    def __str__(self) -> str:
        if self.share is None:
            return f"of none of {self.queries:,} queries is it known whether the landmark was trained on"
        known = self.queries - self.unknown
        unknown = f"; of {self.unknown:,} more it is not known" if self.unknown else ""
        return f"{self.seen:,} of {known:,} queries ({self.share:.1%}) show a landmark trained on{unknown}"


def share_trained_on(per_query: pa.Table) -> TrainedShare:
    """Of the queries of an evaluation's table (``query``, ``seen``), each counted once however often it was scored."""
    seen = dict(zip(per_query["query"].to_pylist(), per_query["seen"].to_pylist(), strict=True))
    values = list(seen.values())
    return TrainedShare(queries=len(values), seen=values.count(True), unknown=values.count(None))
