"""From descriptors to a submission, at a share of GLDv2's size: searched exactly and approximately.

    python benchmarks/submission.py [--share 0.1] [--recall 0.95] [--json]

117,577 queries, 761,757 gallery photos and 4,132,914 bank photos times the share, of landmarks drawn as in
``benchmarks/votes.py``; a photo's descriptor is the unit sum of its landmark's direction and noise.  Timed, one
after the other: the gallery is searched for the 100 nearest of every query, the bank for the 3 nearest of every query
and gallery photo, the answers are sorted and inserted, and ``submission.csv`` is written.  All of that once with
certified exact search and once with approximate search, which is tuned to the recall first.  mAP@100 is scored for
both, before and after the re-ranking.
"""

from __future__ import annotations

import os

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(
    THREADS
)  # before numpy loads its BLAS

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TypeVar  # noqa: E402

import numpy as np  # noqa: E402

from landseer.evaluation import evaluate  # noqa: E402
from landseer.export import write_retrieval_submission  # noqa: E402
from landseer.recipe import TwoStageOptions  # noqa: E402
from landseer.reranking import Bank, Context, rerank  # noqa: E402
from landseer.search import build_approximate, prepare, search_exact  # noqa: E402
from landseer.types import Descriptors, Ranking, Truth  # noqa: E402
from votes import BANK, GALLERY, LANDMARKS, QUERIES, popularity  # noqa: E402

NOISE = 2.2  # length of the noise beside a direction of length 1
_T = TypeVar("_T")


class World:
    """Descriptors and landmarks of queries, gallery and bank."""

    def __init__(self, share: float, dim: int) -> None:
        rng = np.random.default_rng(0)
        num_landmarks = max(2, int(LANDMARKS * share))
        running = popularity(num_landmarks, 30, 0.9)
        direction = rng.standard_normal((num_landmarks, dim), dtype=np.float32) / np.float32(np.sqrt(dim))
        self.label: dict[str, np.ndarray] = {}
        self.rows: dict[str, Descriptors] = {}
        for name, whole in (("query", QUERIES), ("gallery", GALLERY), ("bank", BANK)):
            num = int(whole * share)
            label = np.searchsorted(running, rng.random(num)).astype(np.int64)
            rows = rng.standard_normal((num, dim), dtype=np.float32) * np.float32(NOISE / np.sqrt(dim))
            for start in range(0, num, 2**14):
                part = slice(start, start + 2**14)
                rows[part] += direction[label[part]]
                rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
            self.label[name] = label
            self.rows[name] = Descriptors(ids=tuple(f"{name[0]}{n:07d}" for n in range(num)), rows_ND=rows)

    def truth(self) -> Truth:
        """Gallery photos of a query's landmark are right."""
        order = np.argsort(self.label["gallery"], kind="stable")
        ids = np.array(self.rows["gallery"].ids, dtype=object)[order]
        first, last = (
            np.searchsorted(self.label["gallery"][order], self.label["query"], side=side)
            for side in ("left", "right")
        )
        num = len(first)
        return Truth(
            query_ids=self.rows["query"].ids,
            relevant=tuple(tuple(ids[low:high]) for low, high in zip(first, last, strict=True)),
            junk=((),) * num,
            landmarks=tuple((int(label),) for label in self.label["query"]),
            split=("Private",) * num,
            recognition_split=("Private",) * num,
        )


def timed(found: dict, name: str, call: Callable[[], _T]) -> _T:
    """What *call* gives; its seconds go to *found*."""
    start = time.perf_counter()
    result = call()
    found[f"{name}_s"] = time.perf_counter() - start
    return result


def measure(world: World, truth: Truth, recall: float | None) -> dict:
    """Seconds of every step and both scores; *recall* None: exact search."""
    found: dict = {"search": "exact" if recall is None else f"approximate, recall {recall}"}
    rows = world.rows
    searches: dict[str, Callable[[Descriptors, int], Ranking]] = {}
    for name, k in (("gallery", 100), ("bank", 3)):
        if recall is None:
            ready = timed(found, f"prepare_{name}", lambda name=name: prepare(rows[name]))
            searches[name] = lambda asked, k, ready=ready: search_exact(asked, ready, k=k)
        else:
            made = timed(
                found,
                f"prepare_{name}",
                lambda name=name, k=k: build_approximate(rows[name], k=k, recall=recall),
            )
            found[f"{name}_plan"], found[f"{name}_recall"] = str(made.plan), str(made.measured)
            searches[name] = lambda asked, k, made=made: made.search(asked, k=k)
    ranking = timed(found, "search_gallery", lambda: searches["gallery"](rows["query"], 100))
    query_voters = timed(found, "voters_of_queries", lambda: searches["bank"](rows["query"], 3))
    gallery_voters = timed(found, "voters_of_gallery", lambda: searches["bank"](rows["gallery"], 3))
    context = Context(
        bank=Bank(ids=rows["bank"].ids, landmark_N=world.label["bank"]),
        query_voters=query_voters,
        gallery_voters=gallery_voters,
    )
    after = timed(found, "sort_and_insert", lambda: rerank(ranking, (TwoStageOptions(),), context).ranking)
    with tempfile.TemporaryDirectory() as folder:
        timed(found, "submission", lambda: write_retrieval_submission(after, Path(folder) / "submission.csv"))
    found["total_s"] = sum(seconds for name, seconds in found.items() if name.endswith("_s"))
    for name, scored in (("map_searched", ranking), ("map_reranked", after)):
        report = evaluate(scored, truth, resamples=0).report
        found[name] = report.value("mAP@100", "Private")
    found["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def main() -> None:
    """Parse, measure both ways, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    world = World(asked.share, asked.dim)
    truth = world.truth()
    sizes = {name: len(rows) for name, rows in world.rows.items()}
    for recall in (None, asked.recall):
        found = {**sizes, **measure(world, truth, recall)}
        if asked.json:
            print(json.dumps(found), flush=True)
            continue
        print(f"{found['search']}, {sizes}:", flush=True)
        for name, value in found.items():
            if name not in (*sizes, "search"):
                print(f"  {name:<20} {value if isinstance(value, str) else format(value, '.4g')}", flush=True)


if __name__ == "__main__":
    main()
