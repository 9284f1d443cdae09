"""The living index at work: building, opening, adding, removing, filtered and unfiltered search, side by side.

    python benchmarks/index.py [--rows 1000000] [--dim 512] [--place FOLDER] [--json]

Filtered and unfiltered queries alternate in one process; the filter selects 1 % of the photos.  Beside the
time to add stands its floor: writing and syncing as many bytes.  Every filtered answer of the sample is
compared with brute force.  The index (rows * dim * 4 bytes) lies in a folder of its own that is removed.
"""

from __future__ import annotations

import os

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(
    THREADS
)  # before numpy loads its BLAS

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from landseer.search import LivingIndex, open_index, score  # noqa: E402
from landseer.types import Descriptors  # noqa: E402

STEP, SMALL, K, WHERE = 20_000, 1_000, 100, "landmark = 7"
OPEN = """import sys, time
from landseer.search import open_index
start = time.perf_counter()
index = open_index(sys.argv[1])
print(time.perf_counter() - start)"""


def unit_rows(num: int, dim: int, seed: int) -> np.ndarray:
    """About 50 rows around each of num / 50 directions."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.standard_normal((-(-num // 50), dim), dtype=np.float32), 50, axis=0)[:num]
    rows += rng.standard_normal((num, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos(first: int, rows: np.ndarray) -> tuple[Descriptors, list[dict]]:
    ids = tuple(f"photo{first + n:09d}" for n in range(len(rows)))
    table = [
        {
            "id": photo,
            "path": f"{photo[-3:]}/{photo}.jpg",
            "landmark": (first + n) % 100,
            "kind": "landmark",
            "country": ("FR", "DE", "IT")[n % 3],
            "taken": f"20{10 + n % 14}-05-17T10:00:00.000",
            "latitude": 40 + n % 100 / 10,
            "longitude": n % 77 / 7,
        }
        for n, photo in enumerate(ids)
    ]
    return Descriptors(ids=ids, rows_ND=rows), table


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bare_write(folder: Path, rows: np.ndarray) -> None:
    """The floor of adding: the bytes on disk, and nothing to find them again."""
    with (folder / "floor").open("wb") as file:
        file.write(rows.data)
        file.flush()
        os.fsync(file.fileno())


def changes(index: LivingIndex, folder: Path, num: int, dim: int) -> Iterator[tuple[str, float]]:
    for turn in range(5):
        rows, table = photos(num + turn * SMALL, unit_rows(SMALL, dim, seed=turn))
        yield "add 1,000: the bytes alone", seconds(lambda rows=rows: bare_write(folder, rows.rows_ND))
        yield "add 1,000", seconds(lambda rows=rows, table=table: index.add(rows, table, model="m"))
        gone = [f"photo{n:09d}" for n in range(turn, num, num // SMALL)][:SMALL]
        yield "remove 1,000", seconds(lambda gone=gone: index.remove(gone))


def searches(index: LivingIndex, queries: Descriptors) -> Iterator[tuple[str, float]]:
    one = [queries.take([photo]) for photo in queries.ids]
    yield "first search after opening (all blocks checked)", seconds(lambda: index.search(one[0], k=K))
    yield (
        "first filtered search (all records checked)",
        seconds(lambda: index.search(one[0], k=K, where=WHERE)),
    )
    for number in range(3):
        where = f"landmark = {10 + number}"  # not asked before
        yield (
            "query, 1 % selected by a new filter",
            seconds(lambda where=where: index.search(one[0], k=K, where=where)),
        )
    for how in ("", ", prepared"):
        if how:
            yield "prepare", seconds(index.prepare)
        for query in one[:20]:
            yield f"query{how}", seconds(lambda query=query: index.search(query, k=K))
            yield (
                f"query{how}, 1 % selected",
                seconds(lambda query=query: index.search(query, k=K, where=WHERE)),
            )
        for _ in range(3):
            yield f"100 queries{how}", seconds(lambda: index.search(queries, k=K))
            yield f"100 queries{how}, 1 % selected", seconds(lambda: index.search(queries, k=K, where=WHERE))


def num_exact(index: LivingIndex, queries: Descriptors) -> int:
    """How many filtered answers are the definition's: all selected rows scored slowly."""
    ids = index.ids_where(WHERE)
    rows = index.descriptors(ids).rows_ND
    found, exact = index.search(queries, k=K, where=WHERE), 0
    for number, query in enumerate(queries.rows_ND):
        scores = np.array([score(query, row) for row in rows])
        order = np.argsort(-scores, kind="stable")[:K]
        exact += found.answers(number) == [(ids[n], float(scores[n])) for n in order]
    return exact


def run(num: int, dim: int, place: str | None) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=place) as name:
        path = Path(name) / "index"
        start = time.perf_counter()
        with LivingIndex.create(path, model="m", dim=dim) as index:
            for first in range(0, num, STEP):
                rows, table = photos(first, unit_rows(min(STEP, num - first), dim, seed=first))
                index.add(rows, table, model="m")
        times["build, rows generated on the way"] = [time.perf_counter() - start]
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True
            )
            times.setdefault("open, in a new process", []).append(float(done.stdout))
        with open_index(path, write=True) as index:
            for what, taken in changes(index, Path(name), num, dim):
                times.setdefault(what, []).append(taken)
        queries = Descriptors(
            ids=tuple(f"q{n}" for n in range(100)), rows_ND=unit_rows(STEP, dim, seed=0)[:100]
        )
        with open_index(path) as index:
            for what, taken in searches(index, queries):
                times.setdefault(what, []).append(taken)
            exact = num_exact(index, queries.take(queries.ids[:5]))
            info = index.info()
        with open_index(path, write=True) as index:
            times["compact"] = [seconds(index.compact)]
        times["verify"] = [seconds(lambda: open_index(path).verify())]
    found = {what: statistics.median(taken) for what, taken in times.items()}
    for what in ("query", "query, prepared", "100 queries", "100 queries, prepared"):
        found[f"{what}: filtered / unfiltered"] = found[f"{what}, 1 % selected"] / found[what]
    found["exact answers of 5"] = exact
    found["segments"] = info.segments
    found["bytes / bytes of the rows"] = info.bytes / (num * dim * 4)
    found["peak memory, GB (mapped rows among it)"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--place", help="where the index is made; the system's temporary folder by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for num in options.rows:
        found = run(num, options.dim, options.place)
        if options.json:
            print(json.dumps({"rows": num, "dim": options.dim, **found}), flush=True)
            continue
        print(f"{num:,} x {options.dim}, k = {K}, {THREADS} threads; medians in seconds", flush=True)
        for what, value in found.items():
            print(f"  {what:50} {value:10.4f}", flush=True)


if __name__ == "__main__":
    main()
