"""Copies: near pairs among millions of hashes, and which changes of a photo are found.

    python benchmarks/duplicates.py --hashes 10000000
    python benchmarks/duplicates.py --data COLLECTION --model RUN/trained/model

The first times ``near_pairs`` on random hashes with planted pairs, counts those found, and gives the peak of memory;
beside it faiss's plain scan of the same hashes, timed for some and taken times all.  The second plants changed copies
of some photos among all of a collection's, describes them by the model, and asks which copies are linked to their
original: by hashes alone, and with descriptors; and how many links join photos that have nothing to do with each other.
"""

from __future__ import annotations

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageOps

from landseer.cleaning.duplicates import find_duplicates
from landseer.cleaning.hamming import canonical, near_pairs
from landseer.cleaning.pictures import Comparer
from landseer.cleaning.pool import Pool
from landseer.cleaning.signatures import read_signatures
from landseer.matching import Matcher
from landseer.photos import decode, read_bytes
from landseer.pipeline import describe, open_model
from landseer.recipe.check_options import CheckOptions
from landseer.storage import load_collection, load_descriptors
from landseer.types import Collection, Descriptors

Change = Callable[[Image.Image], Image.Image]


def resized(share: float) -> Change:
    return lambda p: p.resize(
        (max(1, round(p.width * share)), max(1, round(p.height * share))), Image.Resampling.BICUBIC
    )


def cropped(share: float) -> Change:
    """The middle, off centre by a third of what is left, *share* of each side."""
    return lambda p: p.crop(
        (
            round(p.width * (1 - share) / 3),
            round(p.height * (1 - share) / 3),
            round(p.width * (1 - share) / 3 + p.width * share),
            round(p.height * (1 - share) / 3 + p.height * share),
        )
    )


def captioned(p: Image.Image) -> Image.Image:
    p = p.copy()
    ImageDraw.Draw(p).rectangle((0, int(p.height * 0.88), p.width, p.height), fill=(250, 250, 250))
    return p


CHANGES: dict[str, tuple[Change, int]] = {
    "JPEG quality 50": (lambda p: p, 50),
    "JPEG quality 20": (lambda p: p, 20),
    "resized to 1/2": (resized(1 / 2), 90),
    "resized to 1/4": (resized(1 / 4), 90),
    "grey": (lambda p: p.convert("L").convert("RGB"), 90),
    "darker (x 0.6)": (lambda p: p.point(lambda level: level * 0.6), 90),
    "brighter (x 1.3 + 10, clipped)": (lambda p: p.point(lambda level: level * 1.3 + 10), 90),
    "mirrored": (ImageOps.mirror, 90),
    "caption over 12 %": (captioned, 90),
    "border of 5 %": (lambda p: ImageOps.expand(p, max(1, round(0.05 * max(p.size))), (0, 0, 0)), 90),
    "crop to 98 % of each side": (cropped(0.98), 90),
    "crop to 90 %": (cropped(0.9), 90),
    "crop to 70 %": (cropped(0.7), 90),
    "crop to 50 %": (cropped(0.5), 90),
    "crop to 70 %, resized to 1/2, quality 50": (lambda p: resized(1 / 2)(cropped(0.7)(p)), 50),
    "crop to 70 %, mirrored": (lambda p: ImageOps.mirror(cropped(0.7)(p)), 90),
    "turned by 3 degrees": (lambda p: p.rotate(3, Image.Resampling.BICUBIC, expand=True), 90),
    "turned by 90 degrees": (lambda p: p.rotate(90, expand=True), 90),
}


def time_hashes(num: int, radii: list[int]) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, num, dtype=np.uint64)
    planted = rng.integers(0, 2**64, 1000, dtype=np.uint64)
    for radius in radii:
        copies = planted.copy()
        for n in range(len(copies)):
            for bit in rng.choice(64, radius, replace=False).tolist():
                copies[n] ^= np.uint64(1 << bit)
        rows = np.unique(canonical(np.concatenate([hashes, planted, copies]))[0])
        begun, cpu = time.perf_counter(), time.process_time()
        found = near_pairs(rows, radius, mirrored=True)
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        pairs = set(zip(rows[found.first_P].tolist(), rows[found.second_P].tolist(), strict=True))
        a, b = canonical(planted)[0].tolist(), canonical(copies)[0].tolist()
        hit = sum((min(pair), max(pair)) in pairs for pair in zip(a, b, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        cells = (
            f"{len(rows):,}",
            radius,
            f"{wall:.0f}",
            f"{cpu:.0f}",
            f"{peak:.2f}",
            f"{hit} of {len(planted)}",
        )
        print(f"| {' | '.join(map(str, cells))} | {len(found):,} |", flush=True)


def time_scan(num: int, radius: int, queries: int = 200) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    rows = np.random.default_rng(0).integers(0, 256, (num, 8), dtype=np.uint8)
    index = faiss.IndexBinaryFlat(64)
    index.add(rows)
    begun = time.process_time()
    index.range_search(rows[:queries], radius + 1)
    each = (time.process_time() - begun) / queries
    print(
        f"faiss IndexBinaryFlat: {each * 1e3:.1f} ms a hash, {each * num / 2 / 3600:.1f} core-hours for all pairs"
    )


def plant(data: Path, folder: Path, num: int, described: set[str]):
    """The collection with copies by every change, *num* each, and which copy is of which photo by what.

    No photo is copied twice: copies of one photo would fill each other's lists of neighbours.
    """
    whole = load_collection(data)
    order = np.random.default_rng(0).permutation(len(whole)).tolist()
    chosen = [at for at in order if not described or whole.ids[at] in described][: num * len(CHANGES)]
    rows, of = whole.photos.to_pylist(), {}
    for at, (name, (change, quality)) in zip(chosen, list(CHANGES.items()) * num, strict=False):
        picture = Image.fromarray(decode(read_bytes(whole.root, whole.paths[at])))
        photo = f"copy-{at}"
        stream = io.BytesIO()
        change(picture).save(stream, "JPEG", quality=quality)
        (folder / f"{photo}.jpg").write_bytes(stream.getvalue())
        rows.append({**rows[at], "id": photo, "path": f"copies/{photo}.jpg"})
        of[photo] = (whole.ids[at], name)
    root = folder.parent / "root"
    root.mkdir()
    for entry in whole.root.iterdir():
        (root / entry.name).symlink_to(entry)
    (root / "copies").symlink_to(folder)
    photos = pa.Table.from_pylist(rows, schema=whole.photos.schema)
    return replace(whole, photos=photos, root=root, truth=None), of


def described_by(model: Path, given: list[Path], collection: Collection, out: Path) -> Descriptors:
    """Those *given*, and the photos they lack by the model that made them."""
    parts = [load_descriptors(folder) for folder in given]
    there = {photo for part in parts for photo in part.ids}
    copies = np.array([photo.startswith("copy-") for photo in collection.ids])
    lacking = collection.select(copies if there else np.ones(len(collection), np.bool_))
    parts.append(describe(open_model(model), lacking, out))
    return Descriptors(
        ids=tuple(photo for part in parts for photo in part.ids),
        rows_ND=np.concatenate([np.asarray(part.rows_ND, np.float32) for part in parts]),
    )


def measure(data: Path, model: Path | None, given: list[Path], num: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copies"
        folder.mkdir()
        described = {photo for each in given for photo in load_descriptors(each).ids}
        collection, of = plant(data, folder, num, described)
        pool, options = Pool.of(collection, {}), CheckOptions()
        signatures = read_signatures([(pool.root(row), path) for row, path in enumerate(pool.paths)])
        ways = {"hashes": None}
        if model is not None:
            ways["with descriptors"] = describe(
                open_model(model), collection, Path(temporary) / "descriptors"
            )
        found, strangers = {}, {}
        for way, descriptors in ways.items():
            comparer = Comparer(pool, Matcher(*pool.collections), options)
            begun = time.process_time()
            links = find_duplicates(pool, signatures, comparer, options=options, descriptors=descriptors)
            seconds = time.process_time() - begun
            named = {
                (pool.ids[a], pool.ids[b])
                for link in links.links
                if link.kind == "picture"
                for a, b in ((link.first, link.second), (link.second, link.first))
            }
            found[way] = named
            source = {photo: of.get(photo, (photo, ""))[0] for photo in pool.ids}
            known = {(source[a], source[b]) for a, b in named if a not in of and b not in of}
            wrong = {
                tuple(sorted(pair))
                for pair in named
                if source[pair[0]] != source[pair[1]]
                and (source[pair[0]], source[pair[1]]) not in known
                and not alike(known, source[pair[0]], source[pair[1]])
            }
            strangers[way] = wrong
            print(
                f"{way}: {links.compared:,} pairs compared, {len(named) // 2:,} linked as one picture, "
                f"{seconds:.0f} core-seconds; {len(wrong)} links of a copy with a photo its original is not linked to"
            )
            for pair in sorted(wrong)[:10]:
                print("   ", *(f"{photo} ({of.get(photo, (photo, 'as it is'))})" for photo in pair))
        print(f"| change | {' | '.join(ways)} |")
        print(f"|---|{'---|' * len(ways)}")
        for name in CHANGES:
            copies = [photo for photo, (_, change) in of.items() if change == name]
            shares = [np.mean([(photo, of[photo][0]) in found[way] for photo in copies]) for way in ways]
            print(
                f"| {name} | {' | '.join(f'{share:.3f}'.lstrip('0') if share < 1 else '1' for share in shares)} |"
            )


def alike(known: set[tuple[str, str]], a: str, b: str) -> bool:
    """Whether both are linked to a third."""
    return bool({y for x, y in known if x == a} & {y for x, y in known if x == b})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hashes", type=int, help="so many random hashes")
    parser.add_argument("--radii", default="4,6", help="bits, separated by commas")
    parser.add_argument("--data", type=Path, help="a collection with its photos")
    parser.add_argument("--model", type=Path, help="a model folder, for descriptors")
    parser.add_argument(
        "--descriptors", type=Path, action="append", default=[], help="made before by that model"
    )
    parser.add_argument("--photos", type=int, default=60, help="photos that are copied, for each change")
    arguments = parser.parse_args()
    if arguments.hashes:
        print("| hashes | radius | seconds | core-seconds | peak GB | planted pairs found | pairs |")
        print("|---|---|---|---|---|---|---|")
        time_hashes(arguments.hashes, [int(part) for part in arguments.radii.split(",")])
        time_scan(arguments.hashes, 6)
    if arguments.data:
        measure(arguments.data, arguments.model, arguments.descriptors, arguments.photos)


if __name__ == "__main__":
    main()
