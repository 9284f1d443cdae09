"""Exact search beside faiss IndexFlatIP: the same rows, the same process, alternating, 2 threads.

    python benchmarks/search.py [--rows 10000 100000 200000] [--dim 512] [--queries 1000] [--json]

Prints seconds for a batch, the median of a single query, the ratio ours / faiss (below 1: ours is faster),
the ratio to the floor (the bare float32 products in the same blocks, nothing selected), and how many of
each one's rankings are exact: positions and scores equal to the definition's, checked against brute force
in float64 for a sample.

Ours returns a checked Ranking from plain Descriptors, its pass over the gallery for norms and NaN included;
faiss has its own copy of the rows added beforehand, which is not counted.
"""

from __future__ import annotations

import os

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(
    THREADS
)  # before numpy loads its BLAS

import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402

import faiss  # noqa: E402
import numpy as np  # noqa: E402

from landseer.search import score, search_exact  # noqa: E402
from landseer.types import Descriptors  # noqa: E402

BLOCK = 4096


def unit_rows(num: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Clustered like descriptors of landmarks: about 50 rows around each of num / 50 directions."""
    centres = rng.standard_normal((max(1, num // 50), dim), dtype=np.float32)
    rows = centres[rng.integers(len(centres), size=num)]
    rows += rng.standard_normal((num, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def bare_products(queries: np.ndarray, gallery: np.ndarray) -> None:
    """The floor: every score computed, none looked at."""
    out = np.empty((len(queries), BLOCK), np.float32)
    for start in range(0, len(gallery), BLOCK):
        rows = gallery[start : start + BLOCK]
        np.matmul(
            queries,
            rows.T,
            out=out if len(rows) == BLOCK else np.empty((len(queries), len(rows)), np.float32),
        )


def num_exact(positions: np.ndarray, scores: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> int:
    """How many rankings are the definition's, by float64 brute force with every returned score redone
    slowly."""
    k, exact = positions.shape[1], 0
    for query, found, values in zip(queries, positions, scores, strict=True):
        rough = gallery.astype(np.float64) @ query.astype(np.float64)
        near = np.argpartition(-rough, k + 20)[: k + 20]
        true = {int(n): score(query, gallery[n]) for n in near}
        want = sorted(true, key=lambda n: (-true[n], n))[:k]
        exact += list(found) == want and [np.float32(v) for v in values] == [true[n] for n in want]
    return exact


def seconds(call: object, *args: object) -> float:
    started = time.perf_counter()
    call(*args)  # type: ignore[operator]
    return time.perf_counter() - started


def measure(num_rows: int, *, dim: int, num_queries: int, k: int, repeats: int, sample: int) -> dict:
    rng = np.random.default_rng(0)
    rows = unit_rows(num_rows + num_queries, dim, rng)
    gallery_rows, query_rows = rows[num_queries:], rows[:num_queries]
    gallery = Descriptors(ids=tuple(map(str, range(num_rows))), rows_ND=gallery_rows)
    queries = Descriptors(ids=tuple(map(str, range(num_queries))), rows_ND=query_rows)
    singles = [Descriptors(ids=(str(n),), rows_ND=query_rows[n : n + 1]) for n in range(20)]
    peer = faiss.IndexFlatIP(dim)
    peer.add(gallery_rows)

    batch: dict[str, list[float]] = {"ours": [], "faiss": [], "floor": []}
    single: dict[str, list[float]] = {"ours": [], "faiss": [], "floor": []}
    for _ in range(repeats):
        batch["ours"].append(seconds(lambda: search_exact(queries, gallery, k=k)))
        batch["faiss"].append(seconds(peer.search, query_rows, k))
        batch["floor"].append(seconds(bare_products, query_rows, gallery_rows))
    for one in singles:
        single["ours"].append(seconds(lambda one=one: search_exact(one, gallery, k=k)))
        single["faiss"].append(seconds(peer.search, one.rows_ND, k))
        single["floor"].append(seconds(lambda one=one: gallery_rows @ one.rows_ND[0]))

    ours = search_exact(queries, gallery, k=k)
    faiss_scores, faiss_positions = peer.search(query_rows, k)
    chosen = rng.choice(num_queries, size=min(sample, num_queries), replace=False)
    result = {"rows": num_rows, "dim": dim, "queries": num_queries, "k": k, "checked": len(chosen)}
    for name, took in (("batch", batch), ("single", single)):
        middle = {who: statistics.median(values) for who, values in took.items()}
        result |= {f"{name}_{who}_s": value for who, value in middle.items()}
        result |= {f"{name}_ours_to_{peer_}": middle["ours"] / middle[peer_] for peer_ in ("faiss", "floor")}
    result["exact_ours"] = num_exact(
        ours.positions_QK[chosen], ours.scores_QK[chosen], query_rows[chosen], gallery_rows
    )
    result["exact_faiss"] = num_exact(
        faiss_positions[chosen], faiss_scores[chosen], query_rows[chosen], gallery_rows
    )
    result["same_positions_as_faiss"] = int((ours.positions_QK == faiss_positions).all(axis=1).sum())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 200_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    faiss.omp_set_num_threads(THREADS)
    for num_rows in options.rows:
        found = measure(
            num_rows,
            dim=options.dim,
            num_queries=options.queries,
            k=options.k,
            repeats=options.repeats,
            sample=options.sample,
        )
        if options.json:
            print(json.dumps(found))
            continue
        print(f"{num_rows} x {options.dim}, k={options.k}")
        for name, what in (("batch", f"{options.queries} queries"), ("single", "one query")):
            took = {who: found[f"{name}_{who}_s"] for who in ("ours", "faiss", "floor")}
            print(
                f"  {what:<14} "
                + "   ".join(f"{who} {value:.4f} s" for who, value in took.items())
                + f"   ours/faiss {took['ours'] / took['faiss']:.2f}"
                + f"   ours/floor {took['ours'] / took['floor']:.2f}"
            )
        print(
            f"  exact rankings of {found['checked']}: "
            f"ours {found['exact_ours']}, faiss {found['exact_faiss']}; "
            f"same positions {found['same_positions_as_faiss']} of {options.queries}"
        )


if __name__ == "__main__":
    main()
