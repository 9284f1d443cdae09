"""How well noisy labels are found where the truth is known, at what thresholds, and what it costs.

    python benchmarks/cleaning.py COLLECTION --descriptors DESC --truth FILE [--evidence FOLDER]
                                  [--extractor xfeat --extractor-weights FILE.onnx] [--centres 1]
                                  [--svg FILE.svg] [--workers 2] [--json]

FILE: GLDv2's ``train_clean.csv``, which lists the photos that are clean, or the mini world's ``truth.csv``, whose
column ``wrong_label`` says which are not.  What the collection's column ``clean`` says plays no part.

Four figures for each setting: precision and recall of the kept photos (of those kept, how many are clean; of the clean,
how many are kept), and of the noise (of those dropped, how many are noise; of the noise, how much is dropped).

``geometry``: the grid of Yokoo et al. (least neighbours 1 to 10; 20 to 50 inliers) and the counts that fit our points.
``descriptors`` and ``both``: over the margin; ``agreement alone``, ``centre alone``: the two halves of the margin.
``cost``: pairs a second by the clock and processor milliseconds a pair when every pair is verified, and the pairs
that each mode needs with its defaults, of those that the lists hold.  Computed from it, GLDv2's 4,132,914 photos on 64
cores.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy loads its BLAS

import argparse
import csv
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from landseer.cleaning import (
    Compared,
    Evidence,
    Goal,
    PairStore,
    centre_margin,
    decide,
    find_neighbours,
    gather,
)
from landseer.cleaning.decide import ENOUGH, descriptor_score
from landseer.cleaning.verifying import pair_verifier
from landseer.matching import MatchingSetup
from landseer.pipeline.clean_version import training_photos
from landseer.recipe.cleaning_options import CleaningOptions
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.storage import load_collection
from landseer.storage.foreign import read_descriptors

FREQUENCIES = (10, 5, 4, 3, 2, 1)
INLIERS = {"rootsift": (5, 6, 7, 8, 10, 20, 30, 40, 50), "xfeat": (12, 15, 17, 20, 25, 30, 40, 50)}
MARGINS = (0.05, 0.02, 0.0, -0.01, -0.02, -0.03, -0.04, -0.05, -0.06, -0.08, -0.1)
GLDV2_PHOTOS, PAIRS_A_PHOTO, CORES = 4_132_914, 50, 64


def noise_of(file: Path, ids: tuple[str, ...]) -> np.ndarray:
    """Which photos are noise, bool ``[N]``."""
    with file.open(newline="") as table:
        rows = list(csv.DictReader(table))
    if "wrong_label" in rows[0]:
        wrong = {row["id"] for row in rows if row["wrong_label"] == "1"}
        return np.array([photo in wrong for photo in ids])
    clean = {photo for row in rows for photo in row["images"].split()}
    return np.array([photo not in clean for photo in ids])


def figures(kept_N: np.ndarray, noise_N: np.ndarray, judged_N: np.ndarray) -> dict[str, float]:
    clean_N, kept_N = ~noise_N & judged_N, kept_N & judged_N
    noise_N, dropped_N = noise_N & judged_N, ~kept_N & judged_N

    def share(part, whole):
        return float((part & whole).sum() / max(1, whole.sum()))

    return {
        "kept": int(kept_N.sum()),
        "precision": share(clean_N, kept_N),
        "recall": share(kept_N, clean_N),
        "noise_precision": share(noise_N, dropped_N),
        "noise_recall": share(dropped_N, noise_N),
    }


def curve(score_N: np.ndarray, noise_N: np.ndarray, judged_N: np.ndarray) -> dict:
    """Precision over recall of the kept, best first; its area, and what it is worth at the goal."""
    clean = ~noise_N[judged_N][np.argsort(-score_N[judged_N], kind="stable")]
    found = np.cumsum(clean)
    precision, recall = found / np.arange(1, len(clean) + 1), found / clean.sum()
    enough = precision >= 0.95
    return {
        "precision": precision,
        "recall": recall,
        "area": float(precision[clean].mean()),
        "precision_at_recall_85": float(precision[np.searchsorted(recall, 0.85)]),
        "recall_at_precision_95": float(recall[enough].max()) if enough.any() else 0.0,
    }


class Remembered:
    """Verifies pairs, and those it has seen at no cost."""

    def __init__(self, verify) -> None:
        self.verify, self.seen = verify, {}

    def __call__(self, pairs):
        new = [pair for pair in pairs if pair not in self.seen]
        if new:
            self.seen.update(zip(new, self.verify(new)[0].tolist(), strict=True))
        return np.array([self.seen[pair] for pair in pairs]), np.ones(len(pairs), bool)


class Bench:
    """One collection, one set of descriptors, one kind of points."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.photos = training_photos(
            load_collection(args.collection), read_descriptors(args.descriptors, normalise=True)
        )
        self.judged_N = self.photos.label_N >= 0
        self.noise_N = noise_of(args.truth, self.photos.collection.ids)
        features = LocalFeatureOptions(extractor=args.extractor)
        self.setup = MatchingSetup(
            options=MatchingOptions(features=features),
            extractor_weights=args.extractor_weights,
            features=args.evidence / f"features-{args.extractor}",
        )
        self.options = CleaningOptions(centres=args.centres)
        self.least = self.options.least_inliers(args.extractor)

    def measure(self) -> dict:
        photos, options = self.photos, self.options
        before = time.perf_counter()
        neighbours = find_neighbours(photos.descriptors, photos.label_N, options)
        searched_s = time.perf_counter() - before
        centre_N = centre_margin(photos.descriptors.rows_ND, photos.label_N, centres=options.centres)
        margin_N = (neighbours.agreement_N + centre_N) / 2
        matcher = self.setup.matcher(photos.collection, workers=self.args.workers)
        matcher.prepare()
        with pair_verifier(matcher, photos.collection, self.setup, workers=self.args.workers) as verify:
            self.compared = Compared(
                ids=photos.collection.ids,
                label_N=photos.label_N,
                key_N=photos.key_N,
                verify_pairs=Remembered(verify),
                store=PairStore(None, {}),
            )
            clock, worked = time.perf_counter(), time.process_time()
            goal = Goal(neighbours=options.least_neighbours, inliers=self.least, every_pair=True)
            every = gather(neighbours, self.compared, goal)
            clock, worked = time.perf_counter() - clock, time.process_time() - worked
            evidence = Evidence(
                label_N=photos.label_N,
                described_N=np.ones(len(margin_N), bool),
                margin_N=margin_N,
                best_NF=every.best_NF,
            )
            needed = self.needed(neighbours, margin_N, goal)
        found = {
            "photos": int(self.judged_N.sum()),
            "noise": int((self.noise_N & self.judged_N).sum()),
            "least_inliers": self.least,
            "grid": self.grid(evidence),
            "margins": self.margins(evidence),
            "curves": self.curves(evidence, neighbours.agreement_N, centre_N),
            "cost": {
                "search_s": searched_s,
                "pairs_listed": every.listed,
                "pairs": every.possible,
                "pairs_a_second": every.verified / clock,
                "ms_a_pair": 1000 * worked / every.verified,
                **needed,
            },
        }
        found["gldv2"] = gldv2_hours(found)
        return found

    def needed(self, neighbours, margin_N: np.ndarray, goal: Goal) -> dict[str, int]:
        """Pairs that each mode verifies with its defaults."""
        once = replace(goal, every_pair=False)
        open_N = self.judged_N & (descriptor_score(margin_N, self.options.margin) < ENOUGH)
        return {
            "pairs_of_geometry": gather(neighbours, self.compared, once).verified,
            "pairs_of_geometry_at_30": gather(neighbours, self.compared, replace(once, inliers=30)).verified,
            "pairs_of_both": gather(neighbours, self.compared, once, asked_N=open_N).verified,
            "photos_open_after_descriptors": int(open_N.sum()),
        }

    def kept(self, evidence: Evidence, **changes) -> dict[str, float]:
        inliers = changes.pop("inliers", self.least)
        options = replace(self.options, **changes)
        return figures(decide(evidence, options, inliers=inliers).kept_N, self.noise_N, self.judged_N)

    def grid(self, evidence: Evidence) -> list[dict]:
        return [
            {
                "least_neighbours": frequency,
                "inliers": inliers,
                **self.kept(evidence, mode="geometry", least_neighbours=frequency, inliers=inliers),
            }
            for frequency in FREQUENCIES
            for inliers in INLIERS[self.args.extractor]
        ]

    def margins(self, evidence: Evidence) -> list[dict]:
        return [
            {"mode": mode, "margin": margin, **self.kept(evidence, mode=mode, margin=margin)}
            for mode in ("descriptors", "both")
            for margin in MARGINS
        ]

    def curves(self, evidence: Evidence, agreement_N: np.ndarray, centre_N: np.ndarray) -> dict[str, dict]:
        scores = {
            mode: decide(evidence, replace(self.options, mode=mode), inliers=self.least).score_N
            for mode in ("geometry", "descriptors", "both")
        }
        scores["agreement alone"] = np.nan_to_num(agreement_N, nan=-2)
        scores["centre alone"] = np.nan_to_num(centre_N, nan=-2)
        return {name: curve(score_N, self.noise_N, self.judged_N) for name, score_N in scores.items()}


def gldv2_hours(found: dict) -> dict[str, float]:
    """Core-hours and hours of 64 cores for the pairs of GLDv2, from the shares and milliseconds measured here."""
    cost = found["cost"]
    pairs = GLDV2_PHOTOS * PAIRS_A_PHOTO
    hours = {}
    for mode, needed in (
        ("every pair", cost["pairs"]),
        ("geometry", cost["pairs_of_geometry"]),
        ("both", cost["pairs_of_both"]),
    ):
        core_hours = pairs * needed / cost["pairs"] * cost["ms_a_pair"] / 3.6e6
        hours[f"{mode}, core-hours"] = core_hours
        hours[f"{mode}, hours of {CORES} cores"] = core_hours / CORES
    return hours


def table(rows: list[dict]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict, file: Path) -> None:
    """Precision over recall of the kept photos, a line a mode, a dot at its defaults."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "landseer"
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    colours = {"geometry": "#9a5000", "descriptors": "#0a5c9e", "both": "#00695a"}
    for mode, colour in colours.items():
        line = found["curves"][mode]
        axes.plot(line["recall"], line["precision"], color=colour, label=mode)
    for mode in ("descriptors", "both"):
        row = next(row for row in found["margins"] if (row["mode"], row["margin"]) == (mode, -0.03))
        axes.plot(row["recall"], row["precision"], "o", color=colours[mode])
    row = next(
        row
        for row in found["grid"]
        if (row["least_neighbours"], row["inliers"]) == (3, found["least_inliers"])
    )
    axes.plot(row["recall"], row["precision"], "o", color=colours["geometry"])
    axes.axhline(0.95, color="#888", lw=0.7, ls=":")
    axes.axvline(0.85, color="#888", lw=0.7, ls=":")
    lowest = min(line["precision"][-1] for line in found["curves"].values())
    axes.set(
        xlim=(0, 1.005), ylim=(lowest - 0.02, 1.005), xlabel="recall", ylabel="precision of the kept photos"
    )
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("--descriptors", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--evidence", type=Path, help="keeps local features from one call to the next")
    parser.add_argument("--extractor", choices=["rootsift", "xfeat"], default="rootsift")
    parser.add_argument("--extractor-weights", type=Path)
    parser.add_argument("--centres", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.evidence = args.evidence or Path(folder)
        found = Bench(args).measure()
    if args.svg:
        draw(found, args.svg)
    curves = [
        {"by": name, **{key: value for key, value in line.items() if key not in ("precision", "recall")}}
        for name, line in found["curves"].items()
    ]
    if args.json:
        print(json.dumps({**found, "curves": curves}))
        return
    print(f"{found['photos']} photos, {found['noise']} of them noise; {args.extractor}\n")
    for name, rows in (
        ("geometry", found["grid"]),
        ("descriptors and both", found["margins"]),
        ("whole curves", curves),
        ("cost", [found["cost"]]),
        ("GLDv2, computed", [found["gldv2"]]),
    ):
        print(f"## {name}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
