"""A served index of a few invented places, and Debian's Chromium in front of it."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = "/usr/bin/chromium"
TOKEN = "spoken-by-nobody"
HOSTILE = '<img src=x onerror="document.title=1"> & Söhne'
PLACES = {
    "Old Gate": ("FR", 48.86, 2.34),
    "Long Bridge": ("FR", 45.76, 4.83),
    "Round Tower": ("JP", 35.01, 135.77),
    HOSTILE: ("NZ", -41.29, 174.78),
}
PHOTOS_OF_EACH = 8
LIGHTS = ((1, 0.2, 0.2), (0.2, 1, 0.2), (0.2, 0.2, 1), (1, 1, 0.2))
RECIPE = """
title = "explorer"
seed = 5
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
[descriptors]
size = 64
[[reranking]]
method = "expansion"
query_neighbours = 5
[[reranking]]
method = "landmark-country"
voting = "cosine"
alpha = 0.3
beta = 0.03
"""


def photo_of(place: int, take: int) -> Image.Image:
    """One take of a place: the same wall of coloured stones in the same colour of light, seen from a little further on.

    An untrained network tells the colours apart, and points can be matched on the stones.
    """
    wall, taken = np.random.default_rng(place), np.random.default_rng([place, take])
    light = LIGHTS[place]
    stones = np.repeat(np.repeat(wall.integers(30, 256, (40, 56, 3)), 8, axis=0), 8, axis=1) * light
    top, left = taken.integers(0, 60, 2)
    seen = stones[top : top + 240, left : left + 320] * taken.uniform(0.85, 1.1)
    return Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos.csv``, its photos, and ``queries/`` in no index: ``NUMBER.jpg`` a place, ``strange.jpg`` none."""
    root = tmp_path_factory.mktemp("explorer")
    with (root / "photos.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "landmark", "country", "taken", "latitude", "longitude"])
        for place, (name, (country, latitude, longitude)) in enumerate(PLACES.items()):
            for take in range(PHOTOS_OF_EACH):
                path = f"photos/{place}/{take}.jpg"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                photo_of(place, take).save(root / path, quality=92)
                labelled = name if take else None  # the first of each waits for a name
                table.writerow(
                    [
                        path,
                        labelled,
                        country,
                        f"{2012 + take}-05-0{take + 1}",
                        latitude + take / 100,
                        longitude,
                    ]
                )
    (root / "queries").mkdir()
    for place in range(len(PLACES)):
        photo_of(place, 100).save(root / f"queries/{place}.jpg", quality=92)
    stripes = np.where(np.add.outer(np.arange(240), np.arange(320)) % 80 < 40, 230, 40)
    Image.fromarray(np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8)).save(
        root / "queries/strange.jpg"
    )
    (root / "queries/broken.jpg").write_bytes(b"no photo at all")
    (root / "recipe.toml").write_text(RECIPE)
    return root


@dataclass
class Served:
    """A server in a process of its own, and how to reach it."""

    address: str
    queries: Path


@pytest.fixture(scope="session")
def built(world: Path) -> Path:
    from landseer import build_index, import_table, save_collection

    collection, _ = import_table(world / "photos.csv")
    save_collection(collection, world / "C", made_by={})
    build_index(
        world / "C", world / "INDEX", model=world / "recipe.toml", recipe=world / "recipe.toml", workers=1
    )
    return world / "INDEX"


@contextlib.contextmanager
def serving(built: Path, world: Path, folder: Path) -> Iterator[Served]:
    """A copy of the index, served by a process of its own."""
    shutil.copytree(built, folder / "INDEX")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LANDSEER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "landseer", "serve", str(folder / "INDEX"), "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/api/ready")
        yield Served(f"http://127.0.0.1:{port}", world / "queries")
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="session")
def served(built: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that only look."""
    with serving(built, world, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="session")
def curated(built: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that change labels, each those of a place of its own."""
    with serving(built, world, tmp_path_factory.mktemp("curated")) as server:
        yield server


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        assert process.poll() is None, process.stderr.read().decode()
        try:
            urllib.request.urlopen(url).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} was not ready within a minute")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}; on Debian: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is open, and what it must never do."""

    page: object
    faults: list[str] = field(default_factory=list)
    """Errors of the console and requests to anywhere else."""


@pytest.fixture
def visit(chromium: object) -> Iterator[Callable[..., object]]:
    """Opens an address in a window of its own; at the end no console error and no foreign request may have happened."""
    visits: list[Visit] = []
    contexts = []

    def open_page(
        address: str,
        *,
        width: int = 1280,
        height: int = 900,
        touch: bool = False,
        wait: bool = True,
        base: str | None = None,
        **more: object,
    ) -> object:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, has_touch=touch, is_mobile=touch, **more
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        made = Visit(page)
        visits.append(made)
        page.on("pageerror", lambda error: made.faults.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: message.type == "error" and made.faults.append(f"console: {message.text}"),
        )
        home = "/".join((base or address).split("/")[:3])
        page.on(
            "request",
            lambda request: _is_foreign(request.url, home) and made.faults.append(f"asked {request.url}"),
        )
        page.goto(address)
        if wait:
            page.wait_for_selector("#collection:has-text('photos')", state="attached")
        return page

    open_page.expected = set()
    yield open_page
    faults = [
        fault
        for made in visits
        for fault in made.faults
        if not any(part in fault for part in open_page.expected)
    ]
    for context in contexts:
        context.close()
    assert faults == []


def _is_foreign(url: str, home: str) -> bool:
    return not url.startswith((f"{home}/", "blob:", "data:"))
