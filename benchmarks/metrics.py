"""mAP@100 of every query of Google Landmarks v2 beside a plain Python loop: the same ranking, one process, in turn.

    python benchmarks/metrics.py [--scale 1.0] [--repeats 3] [--resamples 2000] [--json]

Data is generated at the real size: 117,577 queries, 761,757 gallery photos, 100 answers a query, and for every query
a list of relevant photos, about 24 on average and up to 400, a third of them among the answers.  (In GLDv2 itself
1,129 queries have relevant photos; here all do, which is a hundred times the work.)

*ours* is ``find_hits`` and ``average_precision``, from ids to one figure a query; *loop* goes down the same answers
with a set a query, as graders do.  Both must agree to 1e-12.  Then the whole of ``evaluate`` without and with the
bootstrap, and a comparison of two runs by paired sign flips.  Seconds are those of the clock and, behind them, of the
processor: on a busy machine only the latter compare.  The peak of memory is that of the whole process, data and all;
what evaluating adds to it stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(
    THREADS
)  # before numpy loads its BLAS

import numpy as np  # noqa: E402

from landseer.evaluation import compare, evaluate  # noqa: E402
from landseer.evaluation.hits import average_precision, find_hits  # noqa: E402
from landseer.types import Ranking, Truth  # noqa: E402

QUERIES, GALLERY, LANDMARKS, K = 117_577, 761_757, 101_302, 100


def generated(scale: float, seed: int) -> tuple[Ranking, Truth]:
    """A ranking and its truth at *scale* times the real number of queries and gallery photos."""
    rng = np.random.default_rng(seed)
    num_queries, num_gallery = int(QUERIES * scale), int(GALLERY * scale)
    gallery = tuple(f"{number:016x}" for number in rng.permutation(num_gallery).tolist())
    queries = tuple(f"q{number:015x}" for number in range(num_queries))
    # an arithmetic walk through the gallery never meets a photo twice
    start_Q = rng.integers(num_gallery, size=num_queries)
    positions_QK = (start_Q[:, None] + 7919 * np.arange(K)) % num_gallery
    scores_QK = np.tile(np.linspace(1, 0.2, K, dtype=np.float32), (num_queries, 1))
    num_relevant_Q = np.minimum(rng.geometric(1 / 24, size=num_queries), 400)
    relevant = []
    for row_K, num in zip(positions_QK, num_relevant_Q.tolist(), strict=True):
        found = row_K[rng.integers(K, size=-(-num // 3))].tolist()
        missed = rng.integers(num_gallery, size=num - len(found)).tolist()
        relevant.append(tuple(gallery[at] for at in dict.fromkeys(found + missed)))
    landmarks = rng.integers(max(2, int(LANDMARKS * scale)), size=num_queries).tolist()
    truth = Truth(
        query_ids=queries,
        relevant=tuple(relevant),
        junk=((),) * num_queries,
        landmarks=tuple((landmark,) for landmark in landmarks),
        split=tuple("Private" if number % 3 else "Public" for number in range(num_queries)),
        recognition_split=("Public",) * num_queries,
    )
    ranking = Ranking(query_ids=queries, gallery_ids=gallery, positions_QK=positions_QK, scores_QK=scores_QK)
    return ranking, truth


def ours(ranking: Ranking, truth: Truth) -> np.ndarray:
    """AP@100 of each query."""
    hits = find_hits(ranking, truth.query_ids, truth.relevant, truth.junk)
    return average_precision(hits, k=K)


def loop(ranking: Ranking, truth: Truth) -> np.ndarray:
    """The same, answer by answer."""
    values, gallery = [], ranking.gallery_ids
    row_of = {query: row for row, query in enumerate(ranking.query_ids)}
    for query, good in zip(truth.query_ids, truth.relevant, strict=True):
        wanted, num_found, total = set(good), 0, 0.0
        for rank, position in enumerate(ranking.positions_QK[row_of[query]].tolist(), start=1):
            if position >= 0 and gallery[position] in wanted:
                wanted.discard(gallery[position])
                num_found += 1
                total += num_found / rank
        values.append(total / min(len(good), K))
    return np.array(values)


def timed(call: Callable[[], object]) -> tuple[np.ndarray, object]:
    """Seconds by the clock and of the processor, and what *call* gives."""
    started = np.array([time.perf_counter(), time.process_time()])
    result = call()
    return np.array([time.perf_counter(), time.process_time()]) - started, result


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(scale: float, repeats: int, resamples: int) -> dict[str, object]:
    ranking, truth = generated(scale, seed=0)
    data_gb = peak_gb()
    seconds: dict[str, list[np.ndarray]] = {"ours": [], "loop": []}
    found = {}
    for _ in range(repeats):
        for who, score in (("ours", ours), ("loop", loop)):
            spent, found[who] = timed(lambda score=score: score(ranking, truth))
            seconds[who].append(spent)
        ours_gb = peak_gb()
    plain_s, _ = timed(lambda: evaluate(ranking, truth, resamples=0))
    whole_s, first = timed(lambda: evaluate(ranking, truth, resamples=resamples))
    swapped = np.random.default_rng(1).permuted(ranking.positions_QK[:, :20], axis=1)
    other = Ranking(
        query_ids=ranking.query_ids,
        gallery_ids=ranking.gallery_ids,
        positions_QK=np.concatenate([swapped, ranking.positions_QK[:, 20:]], axis=1),
        scores_QK=ranking.scores_QK,
    )
    second = evaluate(other, truth, resamples=0)
    paired_s, _ = timed(lambda: compare({"a": first, "b": second}, resamples=resamples))
    return {
        "queries": len(ranking),
        "gallery": len(ranking.gallery_ids),
        "relevant": sum(map(len, truth.relevant)),
        "largest_difference": float(np.abs(found["ours"] - found["loop"]).max()),
        "map": float(found["ours"].mean()),
        "ours_s": (ours_s := np.median(seconds["ours"], axis=0)).tolist(),
        "loop_s": (loop_s := np.median(seconds["loop"], axis=0)).tolist(),
        "ratio": (loop_s / ours_s).tolist(),
        "evaluate_s": plain_s.tolist(),
        "bootstrap_s": (whole_s - plain_s).tolist(),
        "resamples": resamples,
        "paired_s": paired_s.tolist(),
        "data_gb": data_gb,
        "metrics_added_gb": ours_gb - data_gb,
        "peak_gb": peak_gb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.scale, options.repeats, options.resamples)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['queries']:,} queries x {K} answers, {found['gallery']:,} gallery photos, "
        f"{found['relevant']:,} relevant; mAP@100 {found['map']:.4f}, "
        f"largest difference of an AP {found['largest_difference']:.1e}"
    )
    rows = [
        ("mAP@100, ours", "ours_s", ""),
        ("mAP@100, loop", "loop_s", "loop / ours {:.1f} ({:.1f})".format(*found["ratio"])),
        ("evaluate, no bootstrap", "evaluate_s", "11 numbers, 3 groups, a row a query"),
        (f"bootstrap, {found['resamples']:,} resamples", "bootstrap_s", "on top"),
        ("two runs compared in pairs", "paired_s", "9,999 sign flips, 3 groups"),
    ]
    for name, key, note in rows:
        clock, processor = found[key]
        print(f"{name:28}{clock:8.2f} s ({processor:.2f} s)   {note}".rstrip())
    print(
        f"memory: data {found['data_gb']:.2f} GB, metrics add {found['metrics_added_gb']:.2f} GB, "
        f"peak of all {found['peak_gb']:.2f} GB"
    )


if __name__ == "__main__":
    main()
