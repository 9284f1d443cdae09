"""Exact search beside faiss IndexFlatIP: the same rows, one process tree, in turn, 2 threads.

    python benchmarks/search.py [--rows 10000 100000 200000 1000000] [--dim 512] [--queries 1000] [--json]

For each number of rows, in a child process of its own: queries/s of a batch, median and 95th percentile of a
single query, both for *ours* (``prepare(gallery)`` made beforehand), *plain* (``search_exact`` from plain
Descriptors, with all it takes: norms, the check for NaN, preparing where it does) and *faiss* (its own copy of
the rows added beforehand).  What preparing takes stands in a column of its own.  Then the ratio faiss / ours
(above 1: ours is faster), the share of the machine's peaks, measured in the same process (int8 products for
ours, float32 for faiss; reading memory for a single query: a byte a component for ours, four for faiss), the
peak memory, and how many answers are exact: for a sample, positions and scores against the definition by brute
force in float64, and for all queries, ours against the float32 pass bit for bit.

At the end: how time grows with the number of rows, as the exponent of a power law.
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
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import faiss  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from landseer.search import score, search_exact  # noqa: E402
from landseer.search.certified import prepare  # noqa: E402
from landseer.types import Descriptors  # noqa: E402

BLOCK = 16384
WHO = ("ours", "plain", "faiss")


def unit_rows(num: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Clustered like descriptors of landmarks: about 50 rows around each of num / 50 directions."""
    centres = rng.standard_normal((max(1, num // 50), dim), dtype=np.float32)
    rows = centres[rng.integers(len(centres), size=num)]
    for start in range(0, num, BLOCK):
        part = rows[start : start + BLOCK]
        part += rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def num_exact(positions: np.ndarray, scores: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> int:
    """How many rankings are the definition's, by float64 brute force with every returned score redone
    slowly."""
    k, wide = positions.shape[1], queries.astype(np.float64)
    starts = range(0, len(gallery), BLOCK)
    rough = np.concatenate([wide @ gallery[s : s + BLOCK].astype(np.float64).T for s in starts], axis=1)
    exact = 0
    for query, found, values, rough_N in zip(queries, positions, scores, rough, strict=True):
        near = np.argpartition(-rough_N, k + 20)[: k + 20]
        true = {int(n): score(query, gallery[n]) for n in near}
        want = sorted(true, key=lambda n: (-true[n], n))[:k]
        exact += list(found) == want and [np.float32(v) for v in values] == [true[n] for n in want]
    return exact


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def peaks() -> dict[str, float]:
    """What the machine can do at best: operations a second in float32 and int8, and bytes read a second."""
    size = 2048
    floats, codes = torch.rand(size, size), torch.ones(size, size, dtype=torch.int8)
    plain, memory = floats.numpy(), torch.ones(2**27)
    return {
        "float32_ops_per_s": 2 * size**3 / min(seconds(lambda: plain @ plain.T) for _ in range(7)),
        "int8_ops_per_s": 2 * size**3 / min(seconds(lambda: torch._int_mm(codes, codes.T)) for _ in range(7)),
        "bytes_per_s": 4 * len(memory) / min(seconds(memory.sum) for _ in range(7)),
    }


def measure(num_rows: int, dim: int, num_queries: int, k: int, repeats: int, sample: int) -> dict:
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    rows = unit_rows(num_rows + num_queries, dim, rng)
    gallery = Descriptors(ids=tuple(map(str, range(num_rows))), rows_ND=rows[num_queries:])
    queries = Descriptors(ids=tuple(map(str, range(num_queries))), rows_ND=rows[:num_queries])
    singles = [queries.take((query_id,)) for query_id in queries.ids[:60]]
    prepare(Descriptors(ids=gallery.ids[:1], rows_ND=gallery.rows_ND[:1]))  # what is done once a process
    result: dict = {"rows": num_rows, "dim": dim, "queries": num_queries, "k": k} | peaks()
    result["prepare_s"] = seconds(lambda: prepare(gallery))
    ready = prepare(gallery)
    peer = faiss.IndexFlatIP(dim)
    peer.add(gallery.rows_ND)

    def ask(who: str, asked: Descriptors) -> object:
        if who == "faiss":
            return peer.search(asked.rows_ND, k)
        return search_exact(asked, ready if who == "ours" else gallery, k=k)

    batch: dict[str, list[float]] = {who: [] for who in WHO}
    single: dict[str, list[float]] = {who: [] for who in WHO}
    for _ in range(repeats):
        for who in WHO:
            batch[who].append(seconds(lambda who=who: ask(who, queries)))
    for one in singles:
        for who in WHO:
            single[who].append(seconds(lambda who=who, one=one: ask(who, one)))
    for who in WHO:
        result[f"batch_{who}_queries_per_s"] = num_queries / statistics.median(batch[who])
        result[f"single_{who}_ms"] = 1000 * statistics.median(single[who])
        result[f"single_{who}_p95_ms"] = 1000 * float(np.percentile(single[who], 95))
    for who, rate, width in (("ours", "int8", 1), ("faiss", "float32", 4)):
        ops = 2 * num_rows * dim * result[f"batch_{who}_queries_per_s"]
        result[f"batch_{who}_of_peak"] = ops / result[f"{rate}_ops_per_s"]
        read = width * num_rows * dim / (result[f"single_{who}_ms"] / 1000)
        result[f"single_{who}_of_peak"] = read / result["bytes_per_s"]
    for who in ("ours", "plain"):
        rate = result[f"batch_{who}_queries_per_s"]
        result[f"batch_{who}_to_faiss"] = rate / result["batch_faiss_queries_per_s"]
        result[f"single_{who}_to_faiss"] = result["single_faiss_ms"] / result[f"single_{who}_ms"]
    result["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result | exactness(queries, gallery, ready, peer, k=k, sample=sample)


def exactness(queries, gallery, ready, peer, *, k: int, sample: int) -> dict:  # type: ignore[no-untyped-def]
    """How many answers are what they should be."""
    ours = search_exact(queries, ready, k=k)
    faiss_scores, faiss_positions = peer.search(queries.rows_ND, k)
    chosen = np.random.default_rng(1).choice(len(queries), size=min(sample, len(queries)), replace=False)
    rows = queries.rows_ND[chosen], gallery.rows_ND
    # in parts so small that the gallery is not prepared on the way
    parts = [
        search_exact(queries.take(queries.ids[s : s + 100]), gallery, k=k)
        for s in range(0, len(queries), 100)
    ]
    float32_positions = np.concatenate([part.positions_QK for part in parts])
    float32_scores = np.concatenate([part.scores_QK for part in parts])
    alone = [search_exact(queries.take((query_id,)), ready, k=k) for query_id in queries.ids[:60]]
    same_alone = [
        np.array_equal(one.positions_QK[0], ours.positions_QK[n])
        and np.array_equal(one.scores_QK[0], ours.scores_QK[n])
        for n, one in enumerate(alone)
    ]
    same = (ours.positions_QK == float32_positions) & (ours.scores_QK == float32_scores)
    return {
        "checked": len(chosen),
        "exact_ours": num_exact(ours.positions_QK[chosen], ours.scores_QK[chosen], *rows),
        "exact_faiss": num_exact(faiss_positions[chosen], faiss_scores[chosen], *rows),
        "same_as_float32_pass": int(same.all(axis=1).sum()),
        "asked_alone": len(alone),
        "same_asked_alone": sum(same_alone),
        "same_positions_as_faiss": int((ours.positions_QK == faiss_positions).all(axis=1).sum()),
    }


def growth(found: list[dict]) -> dict:
    """Exponents b of time ~ rows ** b, by least squares over the logarithms."""
    rows = np.log([one["rows"] for one in found])
    slopes = {}
    for who in WHO:
        batch = np.log([1 / one[f"batch_{who}_queries_per_s"] for one in found])
        single = np.log([one[f"single_{who}_ms"] for one in found])
        slopes[f"batch_{who}"] = round(float(np.polyfit(rows, batch, 1)[0]), 2)
        slopes[f"single_{who}"] = round(float(np.polyfit(rows, single, 1)[0]), 2)
    return slopes


def show(found: dict) -> None:
    print(
        f"{found['rows']} x {found['dim']}, k={found['k']}; prepared in {found['prepare_s']:.2f} s, "
        f"{found['peak_memory_gb']:.1f} GB at most"
    )
    print("           queries/s   faiss=1   of peak   one query ms    p95   faiss=1   of peak")
    for who in WHO:
        batch, single = found.get(f"batch_{who}_to_faiss", 1.0), found.get(f"single_{who}_to_faiss", 1.0)
        shares = [found.get(f"{kind}_{who}_of_peak") for kind in ("batch", "single")]
        share, single_share = ("" if value is None else f"{value:.2f}" for value in shares)
        print(
            f"  {who:<8} {found[f'batch_{who}_queries_per_s']:>9.0f} {batch:>9.2f} {share:>9}"
            f"   {found[f'single_{who}_ms']:>12.2f} {found[f'single_{who}_p95_ms']:>6.2f}"
            f" {single:>9.2f} {single_share:>9}"
        )
    print(
        f"  exact rankings of {found['checked']}: ours {found['exact_ours']}, faiss {found['exact_faiss']}; of "
        f"{found['queries']}: {found['same_as_float32_pass']} equal to the float32 pass to the last bit, "
        f"{found['same_asked_alone']} of {found['asked_alone']} equal when asked alone, "
        f"{found['same_positions_as_faiss']} with faiss's positions"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 200_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    settings = (asked.dim, asked.queries, asked.k, asked.repeats, asked.sample)
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for num_rows in asked.rows:
            found.append(pool.apply(measure, (num_rows, *settings)))
            print(json.dumps(found[-1]), flush=True) if asked.json else show(found[-1])
    if len(found) > 1:
        print(
            json.dumps({"growth": growth(found)}) if asked.json else f"growth with the rows: {growth(found)}"
        )


if __name__ == "__main__":
    main()
