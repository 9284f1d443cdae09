"""Photos that look nothing alike: what share of a landmark's interiors is found from outside, with and without votes.

The mini world knows which of its photos were taken inside.  Of every query that shows a building from outside and
has interiors among its right answers, the share of those interiors that is among the first 100 answers, of the search
alone, after the sort-step and after the insert-step (Yokoo et al. 2020), as the mean over queries::

    landseer demo --out demo
    python benchmarks/interiors.py --demo demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from landseer.datasets.miniworld.world import plan_world
from landseer.pipeline.rerank import context_of
from landseer.recipe import TwoStageOptions
from landseer.reranking import rerank
from landseer.storage import load_collection, load_descriptors, load_ranking
from landseer.types import Ranking, Truth

SEED = 0
WAYS = {
    "search alone": (),
    "sort": (TwoStageOptions(insert=False),),
    "sort and insert": (TwoStageOptions(),),
    "sort and insert, whatever the votes": (TwoStageOptions(threshold=None),),
}


def recall(ranking: Ranking, truth: Truth, view_of: dict[str, str], view: str) -> tuple[float, int]:
    """Mean share found of the relevant photos of *view*, over queries from outside that have any; and how many have."""
    relevant_of = dict(zip(truth.query_ids, truth.relevant, strict=True))
    shares = []
    for row, query in enumerate(ranking.query_ids):
        wanted = {photo for photo in relevant_of.get(query, ()) if view_of[photo] == view}
        if wanted and view_of[query] == "exterior":
            found = {photo for photo, _ in ranking.answers(row)}
            shares.append(len(wanted & found) / len(wanted))
    return float(np.mean(shares)), len(shares)


def main() -> None:
    """Read the demonstration's folders and print one line a way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="the --out of landseer demo")
    demo = parser.parse_args().demo
    world = plan_world(seed=SEED, num_landmarks=30, num_photos=2500)  # as the demonstration draws it
    view_of = {photo.id: photo.view for photo in world.photos}
    collection = load_collection(demo / "collection")
    assert collection.truth is not None and set(collection.ids) <= set(view_of)
    for model in ("untrained", "trained"):
        folder = demo / "run" / model
        queries, gallery, bank = (load_descriptors(folder / part) for part in ("query", "index", "bank"))
        ranking = load_ranking(folder / "ranking")
        context = context_of((queries, gallery, bank), collection)
        for way, chain in WAYS.items():
            after = rerank(ranking, chain, context).ranking
            inside, num = recall(after, collection.truth, view_of, "interior")
            outside, _ = recall(after, collection.truth, view_of, "exterior")
            print(f"{model:<10} {way:<36} interiors {inside:.3f} ({num} queries), exteriors {outside:.3f}")


if __name__ == "__main__":
    main()
