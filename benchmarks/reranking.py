"""What re-rankers cost: seconds, peak memory, and how both grow.

    python benchmarks/reranking.py [--part label-free votes] [--items 1000 10000 100000] [--json]

``label-free``: the methods that need descriptors alone, on clustered unit vectors of which a tenth are queries
and the rest the gallery; the ranking of 100 answers a query is given.  Each method at each size runs in a
process of its own with 2 threads.  ``seconds`` is everything the method does, its searches included;
``processor_seconds`` is what both threads worked in that time, and more than the seconds where both did, less
where others used the machine.  ``peak_gb`` is the process's whole memory, descriptors and ranking included.
Diffusion is shown as its offline and its online part, traversal as the graph and the walk.
``votes``: the methods that need labels, at the size of GLDv2
(``benchmarks/votes.py``).  At the end how
seconds and peak grow with the items, as exponents of a power law.
"""

from __future__ import annotations

import os

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(
    THREADS
)  # before numpy loads its BLAS

import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import resource  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from landseer.recipe import (  # noqa: E402
    DiffusionOptions,
    ExpansionOptions,
    ReciprocalOptions,
    TraversalOptions,
)
from landseer.reranking.context import Context  # noqa: E402
from landseer.reranking.neighbours.diffusion import diffuse, keep_diffusion, prepare_diffusion  # noqa: E402
from landseer.reranking.neighbours.expansion import expand  # noqa: E402
from landseer.reranking.neighbours.graph import nearest_in_gallery  # noqa: E402
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal  # noqa: E402
from landseer.reranking.neighbours.traversal import traverse  # noqa: E402
from landseer.search import search_exact  # noqa: E402
from landseer.types import Descriptors, Ranking  # noqa: E402
from search import unit_rows  # noqa: E402

WIDTH = 100


def world(items: int, dim: int) -> tuple[Ranking, Context]:
    rows, num_queries = unit_rows(items, dim, np.random.default_rng(0)), items // 10
    queries = Descriptors(ids=tuple(f"q{n}" for n in range(num_queries)), rows_ND=rows[:num_queries])
    gallery = Descriptors(ids=tuple(f"g{n}" for n in range(items - num_queries)), rows_ND=rows[num_queries:])
    return search_exact(queries, gallery, k=WIDTH), Context(queries=queries, gallery=gallery)


Steps = Iterator[tuple[str, Callable[[], object]]]


def reciprocal(ranking: Ranking, context: Context) -> Steps:
    yield "", lambda: rerank_reciprocal(ranking, context, ReciprocalOptions())


def local(ranking: Ranking, context: Context) -> Steps:
    yield "", lambda: rerank_reciprocal(ranking, context, ReciprocalOptions(form="local"))


def query_expansion(ranking: Ranking, context: Context) -> Steps:
    yield "", lambda: expand(ranking, context, ExpansionOptions())


def augmentation(ranking: Ranking, context: Context) -> Steps:
    yield "", lambda: expand(ranking, context, ExpansionOptions(gallery_neighbours=10))


def diffusion(ranking: Ranking, context: Context) -> Steps:
    options = DiffusionOptions()
    gallery = context.gallery
    assert gallery is not None
    yield (
        "offline",
        lambda: keep_diffusion(context, prepare_diffusion(gallery, options, context.search)),
    )
    yield "online", lambda: diffuse(ranking, context, options)


def traversal(ranking: Ranking, context: Context) -> Steps:
    options = TraversalOptions()
    gallery = context.gallery
    assert gallery is not None
    yield "graph", lambda: nearest_in_gallery(context, gallery, k=options.neighbours)
    yield "walk", lambda: traverse(ranking, context, options)


LABEL_FREE = {
    "k-reciprocal": reciprocal,
    "k-reciprocal local": local,
    "query expansion": query_expansion,
    "augmentation": augmentation,
    "diffusion": diffusion,
    "traversal": traversal,
}


def measure(method: str, items: int, dim: int) -> list[dict]:
    torch.set_num_threads(THREADS)
    ranking, context = world(items, dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = []
    for step, call in LABEL_FREE[method](ranking, context):
        started, worked = time.perf_counter(), time.process_time()
        call()
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.append(
            {
                "method": f"{method} {step}".strip(),
                "items": items,
                "queries": len(ranking),
                "dim": dim,
                "seconds": seconds,
                "processor_seconds": worked,
                "ms_per_query": 1000 * seconds / len(ranking),
                "peak_gb": peak / 2**20,
                "before_gb": before / 2**20,
            }
        )
    return found


def growth(found: list[dict]) -> Iterator[dict]:
    """Exponents b of y ~ items ** b, by least squares over the logarithms."""
    for method in dict.fromkeys(one["method"] for one in found):
        own = [one for one in found if one["method"] == method]
        if len(own) > 1:
            items = np.log([one["items"] for one in own])
            yield {
                "method": method,
                **{
                    f"{name}_grows": round(
                        float(np.polyfit(items, np.log([one[key] for one in own]), 1)[0]), 2
                    )
                    for name, key in (
                        ("seconds", "seconds"),
                        ("processor_seconds", "processor_seconds"),
                        ("peak", "peak_gb"),
                    )
                },
            }


def label_free(asked: argparse.Namespace) -> None:
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for method in asked.methods or LABEL_FREE:
            for items in asked.items:
                for one in pool.apply(measure, (method, items, asked.dim)):
                    found.append(one)
                    print(json.dumps(one) if asked.json else shown(one), flush=True)
    for one in growth(found):
        print(json.dumps(one) if asked.json else f"{one.pop('method')}: {one}")


def shown(one: dict) -> str:
    return (
        f"{one['method']:<22} {one['items']:>8} items, {one['queries']:>6} queries: {one['seconds']:>8.2f} s "
        f"({one['processor_seconds']:.2f} of processors, {one['ms_per_query']:.2f} ms a query), "
        f"{one['peak_gb']:.2f} GB at most ({one['before_gb']:.2f} before)"
    )


def by_votes(asked: argparse.Namespace) -> None:
    import votes  # beside this file; alone it has more options

    votes.run([0.01, 0.1, 1.0], asked.dim, 3, as_json=asked.json)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {"label-free": label_free, "votes": by_votes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--methods", choices=LABEL_FREE, nargs="+", help="of the label-free part")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    for part in asked.part:
        PARTS[part](asked)


if __name__ == "__main__":
    main()
