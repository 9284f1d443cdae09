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

    python benchmarks/search.py --approximate [--rows 100000 200000] [--recall 0.95] [--json]

Approximate search beside a grid of faiss indexes, in turn: for each point of the grid queries/s of a batch (the
fastest of the repeats), the processor time of a query of it (which other work on the machine disturbs less),
median of a single query, recall@k as the share of answers that score no less than the true k-th, seconds to
build, memory.  *Ours* is ``build_approximate`` from end to end with exact scores, *exact* the certified search
it falls back to.  Then the better of these two against the best points that reach the recall.
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

from landseer.search import build_approximate, score, search_exact  # noqa: E402
from landseer.search.certified import prepare  # noqa: E402
from landseer.types import Descriptors  # noqa: E402

BLOCK = 16384
REST_S = 0.05
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
    """After a rest: threads of whoever worked before spin for some 30 ms, and would take a core from this one."""
    time.sleep(REST_S)
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


def grid(num_rows: int, dim: int) -> dict[str, list[dict[str, float]]]:
    """faiss indexes, and the settings each is tried at."""
    lists = 2 ** round(np.log2(2 * num_rows**0.5))
    some, half, every = lists // 4, lists // 2, lists
    return {
        f"PQ{dim // 2}x4fs,Refine(SQ8)": [{"k_factor": f} for f in (2, 3, 4)],
        f"IVF{lists},PQ{dim // 2}x4fs,Refine(SQ8)": [
            {"nprobe": n, "k_factor": f} for n, f in ((some, 4), (half, 4), (every, 3))
        ],
        f"IVF{lists},PQ{dim // 4}x4fs,Refine(SQ8)": [
            {"nprobe": n, "k_factor": f} for n, f in ((some, 16), (half, 24), (every, 24), (every, 32))
        ],
        f"IVF{lists},RaBitQ,Refine(SQ8)": [
            {"nprobe": n, "k_factor": f} for n, f in ((some, 16), (every, 16), (every, 48))
        ],
        f"IVF{lists},Flat": [{"nprobe": n} for n in (some, half)],
        "HNSW32": [{"efSearch": ef} for ef in (256, 512, 1024, 2048)],
    }


def measure_approximate(
    num_rows: int, dim: int, num_queries: int, k: int, repeats: int, recall: float
) -> list[dict]:
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    rows = unit_rows(num_rows + num_queries, dim, np.random.default_rng(0))
    gallery = Descriptors(ids=tuple(map(str, range(num_rows))), rows_ND=rows[num_queries:])
    queries = Descriptors(ids=tuple(map(str, range(num_queries))), rows_ND=rows[:num_queries])
    singles = [queries.take((query_id,)) for query_id in queries.ids[:30]]
    prepare(Descriptors(ids=gallery.ids[:1], rows_ND=gallery.rows_ND[:1]))
    started = time.perf_counter()
    ready = prepare(gallery)
    exact_s = time.perf_counter() - started
    kth = search_exact(queries, ready, k=k).scores_QK[:, -1:]
    started = time.perf_counter()
    ours = build_approximate(ready, k=k, recall=recall)
    ours_s = time.perf_counter() - started
    asks: dict[str, Callable[[Descriptors], object]] = {
        "exact": lambda asked: search_exact(asked, ready, k=k),
        "ours": ours.search,
    }
    facts = {
        "exact": {"build_s": exact_s, "memory_mb": num_rows * (dim + 16) / 2**20},
        "ours": {"build_s": ours_s, "memory_mb": ours.plan.memory_bytes / 2**20, "plan": str(ours.plan)},
    }
    facts["ours"]["measured"] = str(ours.measured)
    for name, settings in grid(num_rows, dim).items():
        started = time.perf_counter()
        index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT)
        index.train(gallery.rows_ND[: 2**16])
        index.add(gallery.rows_ND)
        built = {"build_s": time.perf_counter() - started}
        built["memory_mb"] = faiss.serialize_index(index).size / 2**20
        for setting in settings:
            point = f"{name} " + ",".join(f"{key}={value:g}" for key, value in setting.items())
            facts[point] = built
            asks[point] = lambda asked, index=index, setting=setting: ask_faiss(index, asked, k, setting)
    batch: dict[str, list[tuple[float, float]]] = {who: [] for who in asks}
    single: dict[str, list[float]] = {who: [] for who in asks}
    for _ in range(repeats):
        for who, ask in asks.items():
            time.sleep(REST_S)
            before = time.process_time()
            wall = seconds(lambda ask=ask: ask(queries))
            batch[who].append((wall, time.process_time() - before))
    for one in singles:
        for who, ask in asks.items():
            single[who].append(seconds(lambda ask=ask, one=one: ask(one)))
    found = []
    for who, ask in asks.items():
        positions = getattr(answered := ask(queries), "positions_QK", answered)
        scores = np.stack(
            [rows[num_queries:][p] @ q for p, q in zip(positions, queries.rows_ND, strict=True)]
        )
        wall, processor = np.min(batch[who], axis=0)  # other work on the machine only adds
        found.append(
            {
                "rows": num_rows,
                "who": who,
                "recall": float((scores >= kth - 1e-6).mean()),
                "queries_per_s": num_queries / wall,
                "processor_us": 1e6 * processor / num_queries,
                "single_ms": 1000 * statistics.median(single[who]),
                **facts[who],
            }
        )
    return found


def ask_faiss(index: faiss.Index, asked: Descriptors, k: int, setting: dict[str, float]) -> np.ndarray:
    for name, value in setting.items():
        faiss.ParameterSpace().set_index_parameter(
            index, name if name != "k_factor" else "k_factor_rf", value
        )
    return index.search(asked.rows_ND, k)[1]


def show_approximate(found: list[dict], recall: float) -> None:
    print(f"\n{found[0]['rows']:,} rows")
    print("  queries/s  cpu us  single ms  recall  build s  memory MB")
    for one in found:
        print(
            f"  {one['queries_per_s']:9.0f}{one['processor_us']:8.0f}{one['single_ms']:11.2f}"
            f"{one['recall']:8.4f}{one['build_s']:9.1f}{one['memory_mb']:11.0f}  {one['who']}"
        )
    print(f"  ours: {found[1]['plan']}; {found[1]['measured']}")
    print(f"  {against_the_grid(found, recall)}")


def against_the_grid(found: list[dict], recall: float) -> dict:
    """Ours, the better of approximate and exact, to the best point of the grid that reaches *recall*.

    Above 1: ours is better.
    """
    ratios: dict = {"rows": found[0]["rows"]}
    enough = [one for one in found if one["recall"] >= recall]
    for name, better in (("queries_per_s", 1), ("processor_us", -1), ("single_ms", -1)):
        best = {
            ours: max(one[name] ** better for one in enough if (one["who"] in ("ours", "exact")) == ours)
            for ours in (True, False)
        }
        ratios[f"{name}_to_grid"] = round(float(best[True] / best[False]), 2)
    return ratios


def growth_approximate(found: list[list[dict]]) -> dict:
    """Exponents b of time and memory ~ rows ** b of ours."""
    rows = np.log([one[0]["rows"] for one in found])
    values = {
        "batch": [1 / one[1]["queries_per_s"] for one in found],
        "processor": [one[1]["processor_us"] for one in found],
        "single": [one[1]["single_ms"] for one in found],
        "build": [one[1]["build_s"] for one in found],
        "memory": [one[1]["memory_mb"] for one in found],
    }
    return {name: round(float(np.polyfit(rows, np.log(value), 1)[0]), 2) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--approximate", action="store_true", help="beside a grid of faiss indexes")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument(
        "--rows", type=int, nargs="+", help="default: 10,000 to 1,000,000; --approximate: to 200,000"
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    if asked.approximate:
        return run_approximate(asked)
    asked.rows = asked.rows or [10_000, 100_000, 200_000, 1_000_000]
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
    return None


def run_approximate(asked: argparse.Namespace) -> None:
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for num_rows in asked.rows or [100_000, 200_000]:
            settings = (asked.dim, asked.queries, asked.k, asked.repeats, asked.recall)
            found.append(pool.apply(measure_approximate, (num_rows, *settings)))
            if asked.json:
                print("\n".join(json.dumps(one) for one in found[-1]))
                print(json.dumps(against_the_grid(found[-1], asked.recall)), flush=True)
            else:
                show_approximate(found[-1], asked.recall)
    if len(found) > 1:
        print(json.dumps({"growth": growth_approximate(found)}))


if __name__ == "__main__":
    main()
