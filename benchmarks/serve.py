"""A server under load beside its floor: decoding, describing and searching one photo after the other in a loop.

    python benchmarks/serve.py [--photos 100000] [--dim 256] [--clients 32] [--seconds 30] [--workers 1] [--json]

The index is generated: photos are drawn rows, half of them labelled, and the model is small (test_resnet at 224 px
with an untrained neck), so the server's own work shows as much as it can.  Clients are one process of threads that send
640 px JPEGs over loopback and read whole answers; their processor time is stated beside the server's, for they share
its cores.  The loop runs before and after the load; every answer is compared with the loop's.  Memory is the server's
own, in the first and the last tenth of the load.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

QUERIES, SIDE_PX, K = 64, 640, 20


def query_photos() -> list[bytes]:
    """Smooth pictures with some detail: as large in bytes as photos of that size."""
    found = []
    for seed in range(QUERIES):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((SIDE_PX, SIDE_PX * 3 // 4), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.integers(-10, 11, pixels.shape)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=88)
        found.append(stream.getvalue())
    return found


def generate(folder: Path, photos: int, dim: int) -> Path:
    """An index of *photos* drawn rows with the model in it."""
    from landseer.models import build_embedder
    from landseer.pipeline.indexing.model import IndexModel
    from landseer.recipe import DescriptorOptions, ModelOptions
    from landseer.search import LivingIndex
    from landseer.types import Descriptors

    options = ModelOptions(backbone="test_resnet", weights="none", pooling="gap", neck="fc", dim=dim)
    model = IndexModel(opened=(build_embedder(options), DescriptorOptions(size=224)))
    rng = np.random.default_rng(0)
    with LivingIndex.create(folder / "INDEX", **model.rows, settings={"model": model.name}) as index:
        model.keep_in(index)
        for start in range(0, photos, 20_000):
            num = min(20_000, photos - start)
            rows = rng.standard_normal((num, dim), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            ids = tuple(f"photo{start + n:09d}" for n in range(num))
            table = [
                {
                    "id": photo,
                    "path": f"{photo}.jpg",
                    "landmark": n % 1000 if n % 2 else None,
                    "landmark_name": f"place {n % 1000}" if n % 2 else None,
                }
                for n, photo in enumerate(ids)
            ]
            index.add(Descriptors(ids=ids, rows_ND=rows), table, model=model.fingerprint)
        index.compact()
    return folder / "INDEX"


def looped(online, photos: list[bytes], seconds: float) -> tuple[float, float, list[list[float]]]:
    """Photos a second and processor seconds a photo, one after the other, and the answers."""
    from landseer.pipeline.online import Query

    answers: list[list[float]] = []
    num, start, before = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds or num < len(photos):
        photo = photos[num % len(photos)]
        reply = online.ask([Query(photo=online.look(photo), k=K)])[0]
        if num < len(photos):
            answers.append([answer.score for answer in reply.answers])
        num += 1
    return num / (time.perf_counter() - start), (time.process_time() - before) / num, answers


def started(index: Path, workers: int) -> tuple[subprocess.Popen[str], int]:
    """A server in a process of its own, and its port."""
    command = [
        sys.executable,
        "-m",
        "landseer",
        "serve",
        str(index),
        "--port",
        "0",
        "--workers",
        str(workers),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline().split()[0].rpartition(":")[2])


def family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return found


def resident(pid: int) -> int:
    """Bytes of memory that the server and its workers hold by themselves."""
    total = 0
    for each in family(pid):
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return total


def spent(pid: int) -> float:
    """Processor seconds of the server and its workers."""
    ticks = 0
    for each in family(pid):
        try:
            facts = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(facts[11]) + int(facts[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Load:
    """Clients that ask as fast as they are answered."""

    def __init__(self, port: int, photos: list[bytes], expected: list[list[float]] | None = None) -> None:
        self.port, self.expected = port, expected
        self.bodies = [self._form(photo) for photo in photos]
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.different = 0

    @staticmethod
    def _form(photo: bytes) -> bytes:
        head = b'--edge\r\nContent-Disposition: form-data; name="photo"; filename="x"\r\n\r\n'
        return head + photo + b"\r\n--edge--\r\n"

    def run(self, clients: int, seconds: float) -> None:
        """Ask for so long."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._ask, args=(number, end)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, number: int, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        kind = {"Content-Type": "multipart/form-data; boundary=edge"}
        turn = number
        while time.monotonic() < end:
            which = turn % len(self.bodies)
            turn += 7
            start = time.perf_counter()
            try:
                connection.request("POST", f"/api/search?k={K}", self.bodies[which], kind)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.errors.append(repr(error))
                connection.close()
                continue
            self.seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                self.errors.append(f"{answer.status} {found}")
            elif self.expected:
                scores = [each["score"] for each in found["answers"]]
                # a batch may change the last bits of a descriptor
                self.different += not np.allclose(scores, self.expected[which], atol=1e-5)
        connection.close()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """All numbers."""
    from landseer.pipeline.online import Online

    photos = query_photos()
    index = generate(folder, arguments.photos, arguments.dim)
    with Online(index) as online:
        online.prepare()
        looped(online, photos, 1.0)
        before = looped(online, photos, arguments.loop)
        server, port = started(index, arguments.workers)
        try:
            for clients in (1, 2, 4, 8, 16, arguments.clients):  # batches of every size
                Load(port, photos).run(clients, 3.0)
            load = Load(port, photos, before[2])
            sizes: list[tuple[float, int]] = []
            done = threading.Event()

            def watch() -> None:
                while not done.wait(0.5):
                    sizes.append((time.monotonic(), resident(server.pid)))

            watching = threading.Thread(target=watch)
            watching.start()
            server_s = spent(server.pid)
            client_s = time.process_time()
            start = time.monotonic()
            load.run(arguments.clients, arguments.seconds)
            took = time.monotonic() - start
            client_s, server_s = time.process_time() - client_s, spent(server.pid) - server_s
            done.set()
            watching.join()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        after = looped(online, photos, arguments.loop)
    tenth = max(1, len(sizes) // 10)
    first = statistics.median(size for _, size in sizes[:tenth])
    last = statistics.median(size for _, size in sizes[-tenth:])
    loop_rate = (before[0] + after[0]) / 2
    ordered = sorted(load.seconds)
    return {
        "photos": arguments.photos,
        "clients": arguments.clients,
        "workers": arguments.workers,
        "seconds": round(took, 1),
        "answers": len(ordered),
        "errors": load.errors[:3] or 0,
        "different": load.different,
        "rate": round(len(ordered) / took, 1),
        "loop_rate": round(loop_rate, 1),
        "ratio": round(len(ordered) / took / loop_rate, 3),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p95_ms": round(1000 * ordered[len(ordered) * 95 // 100], 1),
        "server_cpu_ms": round(1000 * server_s / len(ordered), 2),
        "client_cpu_ms": round(1000 * client_s / len(ordered), 2),
        "loop_cpu_ms": round(500 * (before[1] + after[1]), 2),
        "memory_mb": round(last / 1e6, 1),
        "memory_growth": round(last / first - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--loop", type=float, default=10.0, help="seconds of each half of the loop")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>16}  {value}")


if __name__ == "__main__":
    main()
