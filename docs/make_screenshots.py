"""Take ``docs/images/explorer-*.png``: the explorer on a mini world, whose photos the program draws itself.

Run ``landseer demo``, then ``python docs/make_screenshots.py demo``.  It draws the world once more in larger photos (in
``demo/large``, minutes), gives them invented dates and places near their landmark, takes the names of some away, and
describes them by the model that the demo trained.  It needs Chromium and the Python package playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from landseer.datasets import import_gldv2
from landseer.datasets.miniworld import draw_mini_world
from landseer.pipeline import build_index
from landseer.storage import save_collection
from landseer.types import Collection

IMAGES = Path(__file__).parent / "images"
PORT = 8799
RECIPE = """
title = "screenshots"
[[reranking]]
method = "expansion"
query_neighbours = 5
[[reranking]]
method = "landmark-country"
voting = "cosine"
alpha = 0.3
beta = 0.03
"""


def main(demo: Path) -> None:
    """Take all pictures with the model of the finished demo in *demo*."""
    world, index = demo / "large", demo / "mini-world"
    if not world.exists():
        draw_mini_world(world, num_landmarks=30, num_photos=600, size_px=640)
    whole, _ = import_gldv2(world)
    if not index.exists():
        _build(whole, index, demo)
    split = np.array(whole.photos["split"].to_pylist())
    asked = whole.select((split == "query") & (whole.landmark_N >= 0))
    with _served(index), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        _take(browser, [str(world / path) for path in asked.paths])
        browser.close()


def _build(whole: Collection, index: Path, demo: Path) -> None:
    rng = np.random.default_rng(0)
    chosen = replace(whole.select(np.array(whole.photos["split"].to_pylist()) != "query"), truth=None)
    places = {row["landmark"]: (row["latitude"], row["longitude"]) for row in chosen.landmarks.to_pylist()}
    rows = chosen.photos.to_pylist()
    for row in rows:
        row["taken"] = datetime(2012, 1, 1) + timedelta(days=float(rng.integers(0, 4300)), hours=12)
        place = places.get(row["landmark"], (None, None))
        if None not in place:
            row["latitude"], row["longitude"] = (part + float(rng.normal()) * 0.01 for part in place)
        if row["split"] == "index" and rng.random() < 0.3:
            row["landmark"], row["kind"], row["clean"] = None, "unknown", False
    photos = pa.Table.from_pylist(rows, schema=chosen.photos.schema)
    save_collection(replace(chosen, photos=photos), demo / "large-collection", made_by={})
    recipe = demo / "large.toml"
    recipe.write_text(RECIPE)
    model = demo / "run" / "trained" / "model"
    build_index(demo / "large-collection", index, model=model, recipe=recipe)
    shutil.rmtree(demo / "large-collection")


@contextmanager
def _served(index: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "landseer", "serve", str(index), "--port", str(PORT)]
    process = subprocess.Popen(command, env={**os.environ, "LANDSEER_TOKEN": "not-a-secret"})  # noqa: S603  (our own program)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/ready").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _take(browser: Browser, photos: list[str]) -> None:
    page = _open(browser)
    _keep(page, "home")
    best = max(photos[:12], key=lambda photo: _sureness(page, photo))
    page = _open(browser, height=1120)
    _drop(page, best)
    _keep(page, "answer")
    page.locator("#search .tile .photo").nth(1).click()
    page.wait_for_selector(".compare .matches line")
    _keep(page, "compare")
    page = _open(browser, height=1120, color_scheme="dark")
    _drop(page, best)
    _keep(page, "dark")
    page = _open(browser, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    _drop(page, best)
    _keep(page, "phone")
    page = _open(browser)
    page.goto(f"http://127.0.0.1:{PORT}/?page=countries")
    page.wait_for_selector(".country-list li")
    _keep(page, "countries")


def _open(browser: Browser, *, width: int = 1360, height: int = 900, **more: object) -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, **more).new_page()
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.wait_for_selector(".starts img")
    return page


def _sureness(page: Page, photo: str) -> float:
    """How well the votes support the answer to *photo*; less where it has no name."""
    _drop(page, photo)
    sure = float(page.inner_text(".sureness .number"))
    page.reload()
    page.wait_for_selector(".starts img")
    return sure


def _drop(page: Page, photo: str) -> None:
    page.set_input_files("#files", photo)
    page.wait_for_selector(".verdict[aria-busy=false] h1")
    page.wait_for_selector("#search .grid:not(.stale) .photo")


def _keep(page: Page, name: str) -> None:
    """Write the picture in 256 colours, which keeps it below 300 kB."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)
    file = IMAGES / f"explorer-{name}.png"
    page.screenshot(path=str(file))
    Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
