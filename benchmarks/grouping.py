"""Photos with their labels hidden, put together by place: pairwise precision and recall, adjusted Rand index.

    python benchmarks/grouping.py C:RUN/trained [C:RUN/untrained ...] --splits index --features FOLDER
                                  [--xfeat FILE.onnx] [--likeness 4 4.5 5 5.5 6] [--proven 1]

Descriptors are read from the folder of a measured model, RUN/trained/index and so on for each split.  Thresholds are
chosen on collections made of training photos (``benchmarks/train_side.py``, splits index and query) with models that
were not trained on those, by several ``--likeness``; the defaults are then applied once where it counts.

Pairs of photos with a label count.  *Strict* takes each photo without a label for a place of its own: a lower bound of
precision, since such a photo may well show the place of its group.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy loads its BLAS

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from landseer.cleaning.agreement import agreement
from landseer.cleaning.grouping import group_photos
from landseer.matching import MatchingSetup
from landseer.recipe.cleaning_options import LEAST_INLIERS
from landseer.recipe.grouping_options import GroupingOptions
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.storage import load_collection, load_descriptors
from landseer.types import Descriptors


class Hidden:
    """Photos, their descriptors, and the labels that the grouping does not see."""

    def __init__(self, named: str, splits: Sequence[str]) -> None:
        data, _, folder = named.partition(":")
        self.name = folder
        self.collection = load_collection(Path(data)).in_split(*splits)
        parts = [load_descriptors(Path(folder) / split) for split in splits]
        self.descriptors = Descriptors(
            ids=tuple(photo for part in parts for photo in part.ids),
            rows_ND=np.concatenate([part.rows_ND for part in parts]),
        )
        label_of = dict(zip(self.collection.ids, self.collection.landmark_N.tolist(), strict=True))
        self.inliers: dict[str, dict[tuple[str, str], int]] = {}
        """Of the pairs that were matched, by the way of matching."""
        self.label_N = np.array([label_of[photo] for photo in self.descriptors.ids], np.int64)

    def line(self, way: str, options: GroupingOptions, setup: MatchingSetup | None) -> str:
        """Group, compare, tell."""
        extractor = setup.options.features.extractor if setup else "rootsift"
        matcher = setup.matcher(self.collection) if setup else None
        kept = self.inliers.setdefault(way, {})

        def count(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
            assert matcher is not None
            missing = [pair for pair in pairs if pair not in kept]
            kept.update(zip(missing, matcher.verify_pairs(missing).tolist(), strict=True))
            return np.array([kept[pair] for pair in pairs], np.int64)

        before = time.process_time()
        found = group_photos(
            self.descriptors, options, count=count if matcher else None, inliers=LEAST_INLIERS[extractor]
        )
        seconds = time.process_time() - before
        group_of = {photo: group.number for group in found.groups for photo in group.members}
        group_N = np.array([group_of.get(photo, -1) for photo in self.descriptors.ids], np.int64)
        known_N = self.label_N >= 0
        seen = agreement(group_N[known_N], self.label_N[known_N])
        strict = agreement(group_N, self.label_N)
        cells = [
            self.name,
            way,
            f"{options.likeness:g}",
            f"{seen.precision:.3f}",
            f"{seen.recall:.3f}",
            f"{seen.rand:.3f}",
            f"{strict.precision:.3f}",
            str(len(found.groups)),
            str(max(map(len, found.groups), default=0)),
            f"{(group_N[known_N] >= 0).mean():.2f}",
            f"{len(kept):,}",
            f"{seconds:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    """Parse, group, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="COLLECTION:MEASURED")
    parser.add_argument("--splits", nargs="+", default=["index"])
    parser.add_argument("--features", type=Path, help="folder of local features, kept")
    parser.add_argument("--xfeat", type=Path)
    parser.add_argument("--likeness", nargs="+", type=float, default=[GroupingOptions().likeness])
    parser.add_argument("--proven", type=float, default=GroupingOptions().proven)
    args = parser.parse_args()
    ways: list[tuple[str, MatchingSetup | None]] = [("descriptors", None)]
    folder = args.features
    ways.append(("RootSIFT", MatchingSetup(features=folder and folder / "rootsift")))
    if args.xfeat:
        options = MatchingOptions(features=LocalFeatureOptions(extractor="xfeat"))
        ways.append(
            (
                "XFeat",
                MatchingSetup(
                    options=options, extractor_weights=args.xfeat, features=folder and folder / "xfeat"
                ),
            )
        )
    print(
        "| model | way | likeness | precision | recall | ARI | strict precision | groups | largest | in a group "
        "| pairs matched | processor s |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for named in args.models:
        hidden = Hidden(named, args.splits)
        for way, setup in ways:
            for likeness in args.likeness:
                grouping = GroupingOptions(likeness=likeness, proven=min(args.proven, likeness))
                print(hidden.line(way, grouping, setup), flush=True)


if __name__ == "__main__":
    main()
