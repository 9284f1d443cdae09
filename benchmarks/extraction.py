"""Extraction beside its floor and beside the loop a user would write.

The floor is the core-seconds of bare decoding plus those of bare forward passes over batches already in
memory, each measured alone on one thread.  The peer is a ``torch.utils.data.DataLoader`` with one worker
process a core that feeds forward passes with torch's own threads.  All run in one process tree, in turn,
on the same photos::

    python benchmarks/extraction.py --data COLLECTION --split index --model MODEL

Two ratios are printed.  ``core-seconds`` is floor / processor time spent, which other programs on the machine
hardly touch.  ``wall`` is floor / (workers x seconds passed), which says whether the cores were kept busy,
and means something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from landseer.extraction import extract
from landseer.models import Embedder, load_embedder
from landseer.photos import load_square
from landseer.recipe import DescriptorOptions
from landseer.storage import load_collection
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection


def collection_of(data: Path, splits: list[str], limit: int | None) -> Collection:
    """A collection folder, or every file below a plain folder."""
    if (data / "manifest.json").exists():
        collection = load_collection(data)
        collection = collection.in_split(*splits) if splits else collection
    else:
        paths = [str(file.relative_to(data)) for file in sorted(data.rglob("*")) if file.is_file()]
        known = {"id": paths, "path": paths}
        constant = {"kind": "unknown", "clean": True, "split": "index"}
        arrays = [
            pa.array(known.get(field.name, [constant.get(field.name)] * len(paths)), field.type)
            for field in PHOTO_SCHEMA
        ]
        photos = pa.table(arrays, schema=PHOTO_SCHEMA)
        collection = Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=data)
    return collection.select(np.arange(len(collection)) < (limit or len(collection)))


def processor_s() -> float:
    """User and system seconds of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(call) -> tuple[float, float]:
    """(seconds passed, processor seconds) of a call."""
    wall, processor = time.perf_counter(), processor_s()
    call()
    return time.perf_counter() - wall, processor_s() - processor


class Pixels(torch.utils.data.Dataset):
    """The photos as the peer's loader sees them."""

    def __init__(self, collection: Collection, size: int) -> None:
        self.collection, self.size = collection, size

    def __len__(self) -> int:
        return len(self.collection)

    def __getitem__(self, position: int) -> np.ndarray:
        return load_square(self.collection.root, self.collection.paths[position], self.size)


def measure(
    embedder: Embedder, collection: Collection, options: DescriptorOptions, *, workers: int, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """(seconds passed, processor seconds) of each way, once a round."""
    size, batch = options.size, options.batch
    kept = np.zeros((len(collection), size, size, 3), np.uint8)
    batches = [kept[start : start + batch] for start in range(0, len(kept), batch)]

    def decode() -> None:
        for position, path in enumerate(collection.paths):
            kept[position] = load_square(collection.root, path, size)

    def forward() -> None:
        for pixels in batches:
            embedder.describe(pixels, scales=options.scales)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(embedder, collection, Path(folder) / "out", options=options, workers=workers)

    def peer() -> None:
        loader = torch.utils.data.DataLoader(Pixels(collection, size), batch_size=batch, num_workers=workers)
        rows = [embedder.describe(pixels, scales=options.scales) for pixels in loader]
        np.concatenate(rows)

    decode()
    embedder.describe(batches[0], scales=options.scales)  # the first pass of a shape builds its kernels
    found: dict[str, list[tuple[float, float]]] = {"decode": [], "forward": [], "extract": [], "peer": []}
    for _ in range(repeats):
        torch.set_num_threads(1)
        found["decode"].append(timed(decode))
        found["forward"].append(timed(forward))
        found["extract"].append(timed(whole))
        torch.set_num_threads(workers)
        found["peer"].append(timed(peer))
    return found


def summary(found: dict[str, list[tuple[float, float]]], num: int, workers: int) -> dict[str, object]:
    """Medians over the rounds; a ratio is taken within its round."""
    floor = [d[1] + f[1] for d, f in zip(found["decode"], found["forward"], strict=True)]

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "photos": num,
        "workers": workers,
        "rounds": len(floor),
        "load": round(os.getloadavg()[0], 1),
        "floor_core_s": median(floor),
        "decode_core_s": median([processor for _, processor in found["decode"]]),
        "forward_core_s": median([processor for _, processor in found["forward"]]),
        **{
            key: value
            for way in ("extract", "peer")
            for key, value in {
                f"{way}_s": median([wall for wall, _ in found[way]]),
                f"{way}_core_s": median([processor for _, processor in found[way]]),
                f"{way}_photos_per_s": median([num / wall for wall, _ in found[way]]),
                f"{way}_to_floor_core_seconds": median(
                    [low / processor for low, (_, processor) in zip(floor, found[way], strict=True)]
                ),
                f"{way}_to_floor_wall": median(
                    [low / (workers * wall) for low, (wall, _) in zip(floor, found[way], strict=True)]
                ),
            }.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a collection, or a folder of photos")
    parser.add_argument("--split", action="append", default=[], help="of a collection; may be repeated")
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first photos")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    collection = collection_of(asked.data, asked.split, asked.limit)
    options = DescriptorOptions(size=asked.size, batch=asked.batch)
    found = measure(
        load_embedder(asked.model), collection, options, workers=asked.workers, repeats=asked.repeats
    )
    figures = summary(found, len(collection), asked.workers)
    if asked.json:
        print(json.dumps(figures))
        return
    print(
        "{photos} photos, {workers} workers, {rounds} rounds, load {load}\n"
        "floor    {floor_core_s:8.1f} core-s  (decode {decode_core_s:.1f} + forward {forward_core_s:.1f})\n"
        "landseer {extract_core_s:8.1f} core-s {extract_s:7.1f} s {extract_photos_per_s:7.1f} photos/s"
        "   floor / landseer: core-seconds {extract_to_floor_core_seconds:.2f},"
        " wall {extract_to_floor_wall:.2f} (goal 0.90)\n"
        "peer     {peer_core_s:8.1f} core-s {peer_s:7.1f} s {peer_photos_per_s:7.1f} photos/s"
        "   floor / peer:     core-seconds {peer_to_floor_core_seconds:.2f},"
        " wall {peer_to_floor_wall:.2f}".format(**figures)
    )


if __name__ == "__main__":
    main()
