"""Re-ranking by votes at the size of GLDv2: sort and insert, landmark and country; 2 threads.

    python benchmarks/votes.py [--shares 0.01 0.1 1] [--dim 512] [--repeats 3] [--json]

Everything is generated: 117,577 queries, 761,757 gallery photos and 4,132,914 bank photos of 203,094 landmarks
in 200 countries, times each share.  The number of a landmark's photos falls as (rank + 30) ** -0.9: the commonest
has 9.4 thousand photos in the bank, two of three have ten or fewer, much as in GLDv2; gallery photos and queries
are drawn alike.  Given is what searches leave: the 3 nearest bank photos of every query and gallery photo, the 100
nearest gallery photos of every query and the 100 nearest within each voted country.  Timed is all that follows, from
a fresh context (which puts the gallery together by landmark) and from one that was used (again); beside the clock
stands the time of both threads' processors, which other work on the machine changes less.  Descriptors are float16
memory maps.  Peak memory is that of the whole process with all that it was given, the pages of the maps that were
read among it.

At the end: how time grows with the share, as the exponent of a power law.
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
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from landseer.recipe import LandmarkCountryOptions, TwoStageOptions  # noqa: E402
from landseer.reranking.chain import num_moved  # noqa: E402
from landseer.reranking.context import Bank, Context  # noqa: E402
from landseer.reranking.voting.landmark_country import add_landmark_country  # noqa: E402
from landseer.reranking.voting.two_stage import sort_and_insert  # noqa: E402
from landseer.types import Descriptors, Ranking  # noqa: E402

QUERIES, GALLERY, BANK, LANDMARKS, COUNTRIES = 117_577, 761_757, 4_132_914, 203_094, 200
VOTERS, WIDTH = 3, 100
METHODS = {
    "sort+insert": lambda r, c: sort_and_insert(r, c, TwoStageOptions()),
    "landmark-country": lambda r, c: add_landmark_country(r, c, LandmarkCountryOptions(voting="cosine")),
}


def popularity(num: int, offset: float, power: float) -> np.ndarray:
    """Running share of the first of *num* things whose numbers fall as (rank + offset) ** -power."""
    share = (np.arange(1.0, num + 1) + offset) ** -power
    return np.cumsum(share) / share.sum()


def drawn(shares: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    return np.minimum(np.searchsorted(shares, rng.random(num)), len(shares) - 1)


def falling(shape: tuple[int, int], rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    return -np.sort(-rng.uniform(low, high, shape).astype(np.float32), axis=1)


class World:
    """Generated labels, and what searches would have found."""

    def __init__(self, share: float, dim: int, folder: Path) -> None:
        rng = self.rng = np.random.default_rng(0)
        queries, gallery, bank, landmarks = (
            max(300, round(n * share)) for n in (QUERIES, GALLERY, BANK, LANDMARKS)
        )
        self.shares = popularity(landmarks, 30, 0.9)
        self.country_of = drawn(popularity(COUNTRIES, 0, 1), landmarks, rng).astype(np.int16)
        landmark_N = np.sort(drawn(self.shares, bank, rng))  # so that a landmark's photos are a run
        self.bank_start = np.searchsorted(landmark_N, np.arange(landmarks + 1))
        self.bank = Bank(
            ids=tuple(f"{n:016x}" for n in range(bank)),
            landmark_N=landmark_N,
            country_N=self.country_of[landmark_N],
            countries=tuple(f"{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(COUNTRIES)),
        )
        self.query_ids = tuple(f"q{n:015x}" for n in range(queries))
        self.gallery_ids = tuple(f"i{n:015x}" for n in range(gallery))
        self.landmark_of_gallery = drawn(self.shares, gallery, rng)
        self.landmark_of_query = drawn(self.shares, queries, rng)
        self.descriptors = [
            self.mapped(folder / name, ids, dim)
            for name, ids in (("q", self.query_ids), ("i", self.gallery_ids))
        ]

    def mapped(self, file: Path, ids: tuple[str, ...], dim: int) -> Descriptors:
        rows = np.lib.format.open_memmap(file.with_suffix(".npy"), "w+", np.float16, (len(ids), dim))
        for start in range(0, len(ids), 2**14):
            part = self.rng.standard_normal((min(2**14, len(ids) - start), dim), dtype=np.float32)
            rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        rows.flush()
        del rows
        return Descriptors(ids=ids, rows_ND=np.load(file.with_suffix(".npy"), mmap_mode="r"))

    def voters(self, ids: tuple[str, ...], landmark_of: np.ndarray) -> Ranking:
        """Seven of ten voters are photos of the landmark, the others of any."""
        shape = (len(ids), VOTERS)
        other = drawn(self.shares, len(ids) * VOTERS, self.rng).reshape(shape)
        landmark = np.where(self.rng.random(shape) < 0.7, landmark_of[:, None], other)
        size = np.diff(self.bank_start)[landmark]
        place = (self.rng.integers(2**31, size=(len(ids), 1)) + np.arange(VOTERS)) % np.maximum(size, 1)
        position = np.where(size > 0, self.bank_start[landmark] + place, -1)
        # a landmark of fewer bank photos than voters, or of none: any photo instead, and no photo twice
        for column in range(VOTERS):
            while True:
                bad = position[:, column] < 0
                bad |= (position[:, :column] == position[:, column : column + 1]).any(axis=1)
                if not bad.any():
                    break
                position[bad, column] = self.rng.integers(len(self.bank), size=bad.sum())
        return Ranking(
            query_ids=ids,
            gallery_ids=self.bank.ids,
            positions_QK=position.astype(np.int64),
            scores_QK=falling(shape, self.rng, 0.2, 0.9),
        )

    def runs(
        self, label_of_gallery: np.ndarray, num_labels: int, label_Q: np.ndarray, width: int
    ) -> np.ndarray:
        """Up to *width* photos of a label for every query ``[Q, width]``, padded."""
        order = np.argsort(label_of_gallery, kind="stable")
        start = np.searchsorted(label_of_gallery[order], np.arange(num_labels + 1))
        size = np.where(label_Q < 0, 0, np.diff(start)[label_Q])
        place = self.rng.integers(2**31, size=(len(label_Q), 1)) + np.arange(width)
        found = order[start[label_Q][:, None] % len(order) + place % np.maximum(size, 1)[:, None]]
        return np.where(np.arange(width) < size[:, None], found, -1)

    def ranked(self, positions: np.ndarray, high: float) -> Ranking:
        """A ranking of these photos, each once, padding last."""
        there = positions != -1
        order = np.argsort(~there, axis=1, kind="stable")
        positions = np.take_along_axis(positions, order, axis=1)
        positions = positions[:, : max(1, int(there.sum(axis=1).max()))]
        scores = falling(positions.shape, self.rng, 0.1, high)
        return Ranking(
            query_ids=self.query_ids,
            gallery_ids=self.gallery_ids,
            positions_QK=positions,
            scores_QK=np.where(positions == -1, np.float32(-np.inf), scores),
        )

    def answers(self) -> Ranking:
        """Half the photos of the query's landmark, 40 at most, among others."""
        num = len(self.query_ids)
        own = self.runs(self.landmark_of_gallery, len(self.country_of), self.landmark_of_query, 40)
        own = np.where(self.rng.random(own.shape) < 0.5, own, -1)
        span = len(self.gallery_ids) // 160
        other = self.rng.integers(span, size=(num, 160)) + span * np.arange(160)  # 160 different ones
        both = np.concatenate([own, self.rng.permuted(other, axis=1)], axis=1)
        for start in range(0, num, 2000):  # no photo twice
            part = both[start : start + 2000]
            twice = (part[:, 40:, None] == part[:, None, :40]).any(axis=2)
            part[:, 40:][twice] = -1
        shuffled = self.rng.permuted(both, axis=1)
        order = np.argsort(shuffled == -1, axis=1, kind="stable")[:, :WIDTH]
        return self.ranked(np.take_along_axis(shuffled, order, axis=1), 0.8)

    def within_countries(self, voters: Ranking, tagged: Ranking) -> Ranking:
        """As many photos of each voted country as a ranking is wide."""
        assert self.bank.country_N is not None
        country_of_gallery = self.bank.country_N[tagged.positions_QK[:, 0]]
        voted = self.bank.country_N[voters.positions_QK]
        columns = []
        for place in range(VOTERS):
            fresh = ~(voted[:, :place] == voted[:, place : place + 1]).any(axis=1)
            wanted = np.where(fresh, voted[:, place], -1)
            columns.append(self.runs(country_of_gallery, COUNTRIES, wanted, WIDTH))
        return self.ranked(np.concatenate(columns, axis=1), 0.7)


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of both threads' processors: other work on the machine changes these less."""
    started, worked = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - worked


def measure(share: float, dim: int, repeats: int) -> dict:
    import torch

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        world = World(share, dim, Path(folder))
        queries, gallery = world.descriptors
        query_voters = world.voters(world.query_ids, world.landmark_of_query)
        gallery_voters = world.voters(world.gallery_ids, world.landmark_of_gallery)
        before = world.answers()
        context = Context(
            queries=queries,
            gallery=gallery,
            bank=world.bank,
            query_voters=query_voters,
            gallery_voters=gallery_voters,
            in_country=world.within_countries(query_voters, gallery_voters),
        )
        result: dict = {
            "share": share,
            "queries": len(world.query_ids),
            "gallery": len(world.gallery_ids),
            "bank": len(world.bank),
            "generated_s": time.perf_counter() - started,
            "memory_given_gb": peak_gb(),
        }
        del world
        for name, method in METHODS.items():
            firsts, agains = [], []
            for _ in range(repeats):
                fresh = replace(context, _kept={})
                firsts.append(seconds(lambda fresh=fresh, method=method: method(before, fresh)))
                agains.append(seconds(lambda fresh=fresh, method=method: method(before, fresh)))
            result[f"{name}_s"] = statistics.median(clock for clock, _ in firsts)
            result[f"{name}_worst_s"] = max(clock for clock, _ in firsts)
            result[f"{name}_processor_s"] = statistics.median(worked for _, worked in firsts)
            result[f"{name}_again_s"] = statistics.median(clock for clock, _ in agains)
            result[f"{name}_moved"] = num_moved(before, method(before, context))
            result[f"{name}_memory_gb"] = peak_gb()
        return result


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(found: dict) -> None:
    print(
        f"{found['queries']} queries, {found['gallery']} gallery and {found['bank']} bank photos "
        f"({found['memory_given_gb']:.2f} GB at most while they were generated)"
    )
    for name in METHODS:
        print(
            f"  {name:<18} {found[f'{name}_s']:>7.2f} s (worst {found[f'{name}_worst_s']:.2f}; "
            f"{found[f'{name}_processor_s']:.2f} processor s), again {found[f'{name}_again_s']:.2f} s, "
            f"{found[f'{name}_moved']} answers moved, "
            f"{found[f'{name}_memory_gb']:.2f} GB at most so far"
        )


def growth(found: list[dict]) -> dict:
    """Exponents b of time ~ share ** b, by least squares over the logarithms."""
    shares = np.log([one["share"] for one in found])
    return {
        name: round(float(np.polyfit(shares, np.log([one[f"{name}_s"] for one in found]), 1)[0]), 2)
        for name in METHODS
    }


def run(shares: list[float], dim: int, repeats: int, *, as_json: bool) -> None:
    """Measure, each share in a process of its own, and print."""
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for share in shares:
            found.append(pool.apply(measure, (share, dim, repeats)))
            print(json.dumps(found[-1]), flush=True) if as_json else show(found[-1])
    if len(found) > 1:
        grows = growth(found)
        print(json.dumps({"growth": grows}) if as_json else f"growth with the share: {grows}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    run(asked.shares, asked.dim, asked.repeats, as_json=asked.json)


if __name__ == "__main__":
    main()
