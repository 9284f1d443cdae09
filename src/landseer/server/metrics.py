"""What a server counts, for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where several processes put their numbers together."""


class Metrics:
    """The numbers of one process; ``text`` gives those of all processes that share a folder."""

    def __init__(self) -> None:
        self._registry = here = CollectorRegistry()
        self.requests = Counter(
            "landseer_requests", "Requests answered.", ["method", "route", "status"], registry=here
        )
        self.seconds = Histogram(
            "landseer_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=here
        )
        self.parts = Histogram(
            "landseer_search_seconds", "Parts of a search.", ["part"], buckets=_SECONDS, registry=here
        )
        self.batch = Histogram(
            "landseer_batch_photos", "Questions answered together.", buckets=(1, 2, 4, 8, 16), registry=here
        )
        self.under_way = Gauge(
            "landseer_requests_under_way", "Requests under way.", multiprocess_mode="livesum", registry=here
        )
        self.photos = Gauge(
            "landseer_index_photos", "Photos in the index.", multiprocess_mode="max", registry=here
        )

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        registry = self._registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
