"""Local features and verified pairs on real photos: what they cost, and beside scikit-image's RANSAC.

    python benchmarks/matching.py --data FOLDER [--pairs 300] [--workers 2] [--rounds 3]
                                  [--xfeat FILE.onnx [--lighterglue FILE.onnx]] [--json]

FOLDER holds photos in GLDv2's layout: ``train/a/b/c/abc....jpg`` and ``metadata/train_clean.csv``.  From its clean
classes so many pairs of one landmark and as many of two are drawn (seed 0).

``ms_a_photo``: processor time to read, shrink and describe a photo, on one thread.  ``pairs_a_second``: whole pairs
(points paired, geometry verified) by the clock, features held in memory, on so many workers; ``ms_a_pair`` is their
processor time.  ``share_of_floor``: of that the bare products of the descriptors, on as many workers.
``separation``: inliers of the pairs of one landmark against those of two.
``ransac``: ``verify`` alone beside ``skimage.measure.ransac`` with the settings of Yokoo et al.'s cleaning (affine,
samples of 3, residual 20 px, 1000 trials, seed 114514), on the same matched points, in turn, on one thread: once on
what our pairing keeps, once on every mutual nearest neighbour, of which most are wrong.  Ours with the same residual.
``cost``: processor hours of GLDv2's 4,132,914 photos, 50 distinct pairs a photo, and days of 64 cores.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy loads its BLAS

import argparse
import csv
import json
import random
import statistics
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from landseer.matching import (
    Extractor,
    LighterGlue,
    Matcher,
    MutualRatio,
    Pairer,
    RootSift,
    XFeat,
    budget_of,
    describe_photo,
    make_pairer,
    verify,
)
from landseer.matching.describe import in_order
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

GLDV2_PHOTOS, PAIRS_A_PHOTO, CORES = 4_132_914, 50, 64
Pair = tuple[str, str]


def drawn_pairs(data: Path, num: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs of one landmark, pairs of two."""
    with (data / "metadata" / "train_clean.csv").open() as table:
        classes = [row["images"].split() for row in csv.DictReader(table)]
    classes = [photos for photos in classes if len(photos) > 1]
    rng = random.Random(0)
    same = [tuple(rng.sample(rng.choice(classes), 2)) for _ in range(num)]
    two = [tuple(rng.choice(photos) for photos in rng.sample(classes, 2)) for _ in range(num)]
    return same, two


def collection_of(data: Path, photos: list[str]) -> Collection:
    columns = {
        "id": photos,
        "path": [f"train/{photo[0]}/{photo[1]}/{photo[2]}/{photo}.jpg" for photo in photos],
        "kind": ["landmark"] * len(photos),
        "clean": [True] * len(photos),
        "split": ["train"] * len(photos),
    }
    table = {field.name: columns.get(field.name, [None] * len(photos)) for field in PHOTO_SCHEMA}
    return Collection(
        photos=pa.table(table, schema=PHOTO_SCHEMA), landmarks=LANDMARK_SCHEMA.empty_table(), root=data
    )


def processor_ms(call) -> float:
    before = time.process_time()
    call()
    return 1000 * (time.process_time() - before)


def area_under_curve(same: np.ndarray, two: np.ndarray) -> float:
    """How often a pair of one landmark has more inliers than one of two; equal ones count half."""
    difference = same[:, None] - two[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def way(
    name: str, collection: Collection, extractor: Extractor, pairer: Pairer, options: MatchingOptions, args
) -> dict:
    """One extractor with one pairer."""
    matcher = Matcher(collection, options=options, extractor=extractor, pairer=pairer, workers=args.workers)
    num_photos, pairs = len(collection), args.same + args.two
    cv2.setNumThreads(1)
    describing = processor_ms(
        lambda: [describe_photo(extractor, collection.root, path) for path in collection.paths]
    )
    features = [matcher.features(photo) for photo in collection.ids]
    clock, worked, floor = [], [], []
    for _ in range(args.rounds):
        before = time.perf_counter()
        worked.append(processor_ms(lambda: matcher.verify_pairs(pairs)) / len(pairs))
        clock.append(len(pairs) / (time.perf_counter() - before))
        floor.append(processor_ms(lambda: bare_products(matcher, pairs, args.workers)) / len(pairs))
    inliers = matcher.verify_pairs(pairs)
    same, two = inliers[: len(args.same)], inliers[len(args.same) :]
    ms_photo, ms_pair = describing / num_photos, statistics.median(worked)
    hours = GLDV2_PHOTOS * (ms_photo + PAIRS_A_PHOTO * ms_pair) / 3.6e6
    return {
        "way": name,
        "model": options.model,
        "photos": num_photos,
        "points_a_photo": round(statistics.mean(len(one) for one in features)),
        "kb_a_photo": round(statistics.mean(len(one.packed()) for one in features) / 1000, 1),
        "budget": str(budget_of(extractor, GLDV2_PHOTOS)),
        "ms_a_photo": round(ms_photo, 1),
        "ms_a_pair": round(ms_pair, 2),
        "share_of_floor": round(statistics.median(floor) / ms_pair, 2),
        "workers": args.workers,
        "pairs_a_second": round(statistics.median(clock)),
        "separation": {
            "auc": round(area_under_curve(same, two), 3),
            "two_landmarks_most": int(two.max()),
            "one_landmark_above_that": round(float((same > two.max()).mean()), 3),
            "verified_by_8": [round(float((some >= 8).mean()), 3) for some in (same, two)],
        },
        "cost": {"core_hours": round(hours), f"days_of_{CORES}_cores": round(hours / CORES / 24, 2)},
    }


def bare_products(matcher: Matcher, pairs: list[Pair], workers: int) -> None:
    """In threads like those of the pairs, since memory is handed out otherwise in the main one."""
    chunks = [pairs[start : start + 32] for start in range(0, len(pairs), 32)]

    def products(chunk: list[Pair]) -> None:
        for pair in chunk:
            left, right = (matcher.features(photo).descriptors_KD.astype(np.float32) for photo in pair)
            if len(left) and len(right):
                cv2.gemm(left, right, 1.0, None, 0.0, flags=cv2.GEMM_2_T)

    for _ in in_order(products, chunks, workers=workers):
        pass


def ransac_beside(collection: Collection, extractor: Extractor, ratio: float, args) -> dict:
    """Ours and scikit-image's on the same points, in turn."""
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    matcher = Matcher(collection, extractor=extractor, pairer=MutualRatio(ratio))
    options = MatchingOptions(model="affine", residual=20.0)
    points = []
    for a, b in args.same + args.two:
        first, second = matcher.features(a), matcher.features(b)
        rows = matcher.pairer(first, second)
        if len(rows) > 3:  # scikit-image needs more points than a sample
            points.append((first.keypoints_K2[rows[:, 0]], second.keypoints_K2[rows[:, 1]]))
    points = points[:: max(1, len(points) // args.ransac_pairs)]

    def theirs() -> None:
        for pair in points:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of every degenerate sample
                ransac(
                    pair, AffineTransform, min_samples=3, residual_threshold=20, max_trials=1000, rng=114514
                )

    def ours() -> None:
        for pair in points:
            verify(*pair, options)

    ours()
    times = [(processor_ms(ours), processor_ms(theirs)) for _ in range(args.rounds)]
    return {
        "points": "mutual nearest" if ratio == 1 else f"ratio {ratio}",
        "pairs": len(points),
        "points_a_pair": round(statistics.mean(len(a) for a, _ in points)),
        "ours_ms": round(statistics.median(mine for mine, _ in times) / len(points), 3),
        "skimage_ms": round(statistics.median(other for _, other in times) / len(points), 2),
        "times_faster": round(statistics.median(other / mine for mine, other in times)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--ransac-pairs", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--xfeat", type=Path)
    parser.add_argument("--lighterglue", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.same, args.two = drawn_pairs(args.data, args.pairs)
    collection = collection_of(args.data, sorted({photo for pair in args.same + args.two for photo in pair}))
    found: dict[str, list[dict]] = {"ways": [], "ransac": []}

    sift = RootSift(LocalFeatureOptions())
    for model in ("affine", "homography", "fundamental"):
        options = MatchingOptions(model=model)
        found["ways"].append(way("rootsift", collection, sift, make_pairer(options), options, args))
    if args.xfeat:
        features = LocalFeatureOptions(extractor="xfeat")
        network, options = XFeat(args.xfeat, features), MatchingOptions(features=features)
        found["ways"].append(way("xfeat", collection, network, make_pairer(options), options, args))
        if args.lighterglue:
            pairer = LighterGlue(args.lighterglue, least_score=options.least_score)
            rounds, args.rounds = args.rounds, 1  # 30 ms a pair
            found["ways"].append(way("xfeat + lighterglue", collection, network, pairer, options, args))
            args.rounds = rounds
    found["ransac"] = [ransac_beside(collection, sift, ratio, args) for ratio in (0.9, 1.0)]
    if args.json:
        print(json.dumps(found))
        return
    for kind, rows in found.items():
        print(kind)
        for row in rows:
            print("  " + ", ".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
