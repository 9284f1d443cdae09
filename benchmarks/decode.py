"""Photo to model input beside bare decoders: one thread, processor time, rounds taken in turn.

    python benchmarks/decode.py [--photos FOLDER] [--size 224] [--rounds 5] [--json]

Without a folder it draws photos of 1024 x 768 and 256 x 192.  Trust the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from landseer.photos import decode, load_square


def drawn(width: int, height: int, number: int) -> list[bytes]:
    """JPEGs with detail at several scales and some sensor noise, about as large as photos are."""
    files = []
    for seed in range(number):
        rng = np.random.default_rng(seed)
        total = rng.normal(0, 6, (height, width, 3))
        for cells in (4, 16, 64):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float) / 3
        stream = io.BytesIO()
        Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
        files.append(stream.getvalue())
    return files


def pillow_full(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cv2_full(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def pillow_square(data: bytes, size: int) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def cv2_square(data: bytes, size: int) -> np.ndarray:
    return cv2.resize(cv2_full(data), (size, size), interpolation=cv2.INTER_AREA)


def milliseconds(acts: dict[str, Callable[[int], object]], number: int, rounds: int) -> dict[str, float]:
    """Best processor time a photo of each act over *rounds*, the acts taken in turn."""
    best = dict.fromkeys(acts, float("inf"))
    for _ in range(rounds):
        for name, act in acts.items():
            start = time.process_time()
            for position in range(number):
                act(position)
            best[name] = min(best[name], (time.process_time() - start) / number * 1000)
    return best


def measure(files: list[bytes], size: int, rounds: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for position, data in enumerate(files):
            (root / f"{position}.jpg").write_bytes(data)
        acts: dict[str, Callable[[int], object]] = {
            "decode, full": lambda n: decode(files[n]),
            f"decode, min_side={size}": lambda n: decode(files[n], min_side=size),
            "Pillow, full": lambda n: pillow_full(files[n]),
            "cv2, full": lambda n: cv2_full(files[n]),
            f"load_square, {size}": lambda n: load_square(root, f"{n}.jpg", size),
            f"Pillow full + bicubic, {size}": lambda n: pillow_square((root / f"{n}.jpg").read_bytes(), size),
            f"cv2 full + area, {size}": lambda n: cv2_square((root / f"{n}.jpg").read_bytes(), size),
        }
        times = milliseconds(acts, len(files), rounds)
    bare, squared = times["cv2, full"], times[f"load_square, {size}"]
    # how many times faster than ours each is (below 1: slower)
    ratios = {
        name: (squared if "square" in name or "+" in name else bare) / value for name, value in times.items()
    }
    return {name: {"ms": round(value, 3), "ratio": round(ratios[name], 2)} for name, value in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs; 200 of them are taken")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.photos:
        paths = sorted(options.photos.rglob("*.jpg"))
        if not paths:
            raise SystemExit(f"no .jpg below {options.photos}")
        sets = {str(options.photos): [path.read_bytes() for path in paths[:: max(1, len(paths) // 200)]]}
    else:
        sets = {"1024 x 768": drawn(1024, 768, 12), "256 x 192": drawn(256, 192, 60)}
    results = {name: measure(files, options.size, options.rounds) for name, files in sets.items()}
    if options.json:
        print(json.dumps({"size": options.size, "rounds": options.rounds, "sets": results}))
        return
    for name, rows in results.items():
        print(f"{name}, one thread; speed beside 'cv2, full' (decoding) or 'load_square' (to a square)")
        for act, row in rows.items():
            print(f"  {act:32} {row['ms']:8.3f} ms  x {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
