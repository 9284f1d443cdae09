"""Spatial re-ranking on real photos: mAP@100 before and after, the paired difference, what a pair costs.

    python benchmarks/spatial.py --choose S0:R0/trained S1:R1/trained --table C:RUN/trained --features FOLDER
                                 [--xfeat FILE.onnx [--lighterglue FILE.onnx]] [--first 100] [--first-learned 20]

How much the inliers count, how many count as 1 and how many answers are matched is chosen, for every way, on
collections made of training photos (``benchmarks/train_side.py``) by the mean mAP@100 of their measured models, where
queries of landmarks not trained on weigh as ``--unseen`` says.  The choice is then applied once to the model that
counts, beside the published settings (weight 1, 70 inliers, 100 answers).  ``ms`` is processor time, of a pair with the
points of both photos at hand, and of describing a photo.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy loads its BLAS

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from landseer.evaluation import compare
from landseer.evaluation.scoring import Evaluated
from landseer.matching import Matcher, MatchingSetup
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from reranking_table import BASELINE, Chain, Model, map_of

PUBLISHED = {"method": "spatial", "first": 100, "most_inliers": 70, "weight": 1.0}
WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
MOST_INLIERS = (10, 20, 30, 50, 70, 100)
FIRSTS = (5, 10, 20, 50, 100)


@dataclass
class Counted:
    """Inliers of the pairs that any setting asks for, counted once."""

    matcher: Matcher
    inliers: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, model: Model, first: int) -> None:
        """Every scored query with its first answers."""
        truth = model.collection.truth
        assert truth is not None
        scored = {
            query
            for query, good, split in zip(truth.query_ids, truth.relevant, truth.split, strict=True)
            if good and split != "Ignored"
        }
        pairs = [
            (query, photo)
            for row, query in enumerate(model.ranking.query_ids)
            if query in scored
            for photo, _ in model.ranking.answers(row)[:first]
            if (query, photo) not in self.inliers
        ]
        before = time.process_time()
        counts = self.matcher.verify_pairs(pairs)
        self.seconds += time.process_time() - before
        self.inliers.update(zip(pairs, counts.tolist(), strict=True))

    def match(self, query: str, photos: Sequence[str]) -> list[int]:
        """As a matcher; queries that are not scored have no inliers."""
        return [self.inliers.get((query, photo), 0) for photo in photos]


def with_match(model: Model, counted: Counted) -> Model:
    """The same model, whose context matches."""
    model.context = replace(model.context, match=counted.match)
    return model


def chosen(models: Sequence[Model], most_first: int, unseen: float) -> tuple[Chain, float, float]:
    """The best chain of the grid, its mean mAP@100, and that of the search alone."""
    grid: list[Chain] = [
        ({"method": "spatial", "first": first, "most_inliers": most, "weight": weight},)
        for first, most, weight in itertools.product(FIRSTS, MOST_INLIERS, WEIGHTS)
        if first <= most_first
    ]

    def mean_of(chain: Chain) -> float:
        return float(np.mean([map_of(model.score(chain, resamples=100)[0], unseen) for model in models]))

    scores = [mean_of(chain) for chain in grid]
    best = int(np.argmax(scores))
    return grid[best], scores[best], mean_of(())


def line(name: str, run: str, runs: dict[str, Evaluated], note: str) -> str:
    """One line of the table."""
    found = {n.group: n for n in runs[run].report.numbers if n.name == "mAP@100"}
    both = found["Private and Public"]
    cells = [f"{both.value:.4f}", f"{both.low:.3f}-{both.high:.3f}"]
    cells += [
        f"{found[group].value:.4f}" if group in found else "-"
        for group in ("landmarks trained on", "landmarks not trained on")
    ]
    against = [c for c in compare(runs) if (c.run, c.group) == (run, "Private and Public")]
    cells += [f"{c.value:+.4f} ({c.low:+.3f} to {c.high:+.3f}) | {c.test.p:.4f}" for c in against] or [" | "]
    return f"| {name} | {' | '.join(cells)} | {note} |"


def ways(args: argparse.Namespace) -> list[tuple[str, MatchingSetup, int]]:
    """Name, setup, and most answers that are matched."""
    sift = MatchingSetup(features=args.features / "rootsift")
    found = [("RootSIFT, mutual", sift, args.first)]
    if args.xfeat:
        options = MatchingOptions(features=LocalFeatureOptions(extractor="xfeat"))
        xfeat = MatchingSetup(options=options, extractor_weights=args.xfeat, features=args.features / "xfeat")
        found.append(("XFeat, mutual", xfeat, args.first))
        if args.lighterglue:
            glue = replace(
                xfeat,
                options=replace(options, pairing="lighterglue"),
                pairer_weights=args.lighterglue,
            )
            found.append(("XFeat, LighterGlue", glue, args.first_learned))
    return found


def main() -> None:
    """Parse, choose, apply."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--choose", nargs="+", required=True, metavar="COLLECTION:MEASURED")
    parser.add_argument("--table", required=True, metavar="COLLECTION:MEASURED")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--xfeat", type=Path)
    parser.add_argument("--lighterglue", type=Path)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--first-learned", type=int, default=20)
    parser.add_argument("--unseen", type=float, default=1 / 7)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    sides, counts = [Model(named) for named in args.choose], Model(args.table)
    print("| way | both | 95 % | trained on | not trained on | difference (95 %) | p | ms a pair, settings |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    baseline = counts.score((), resamples=2000)[0]
    print(line(BASELINE, BASELINE, {BASELINE: baseline}, ""), flush=True)
    for name, setup, most in ways(args):
        counted = Counted(setup.matcher(counts.collection, workers=args.workers))
        counted.matcher.prepare()
        for model in (*sides, counts):
            counted.count(model, most)
            with_match(model, counted)
        ms = 1000 * counted.seconds / max(1, len(counted.inliers))
        chain, side, side_before = chosen(sides, most, args.unseen)
        runs = {BASELINE: baseline, "chosen": counts.score(chain, resamples=2000)[0]}
        settings = ", ".join(f"{key} {value}" for key, value in chain[0].items() if key != "method")
        note = f"{ms:.2f}; {settings}; where chosen {side_before:.4f} to {side:.4f}"
        print(line(name, "chosen", runs, note), flush=True)
        if most >= 100:
            runs = {BASELINE: baseline, "published": counts.score((PUBLISHED,), resamples=2000)[0]}
            print(line(f"{name}, as published", "published", runs, ""), flush=True)


if __name__ == "__main__":
    main()
