"""A small index of drawn photos with labels, the application around it, and a server in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from landseer.pipeline import build_index
from landseer.pipeline.online import Online
from landseer.server.app import make_app
from landseer.server.settings import ServerSettings

TOKEN = "a-token-for-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RECIPE = """
title = "drawn"
seed = 5
[model]
backbone = "test_resnet"
weights = "none"
pooling = "gap"
[descriptors]
size = 64
"""
RERANKING = """
title = "kept"
[[reranking]]
method = "expansion"
query_neighbours = 3
[[reranking]]
method = "two-stage"
voters = 2
threshold = -100
[recognition]
voters = 2
"""


def _drawn(seed: int, noise: int = 0, *, size: int = 48) -> Image.Image:
    """Large coloured squares, which also an untrained model tells apart; *noise* makes another photo of them."""
    tiles = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.int64)
    pixels = tiles.repeat(size // 3, axis=0).repeat(size // 3, axis=1)
    pixels += np.random.default_rng([seed, noise]).integers(-12, 13, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _encoded(picture: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, **more)
    return stream.getvalue()


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Image.Image]:
    """Draws photos."""
    return _drawn


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Bytes of a picture."""
    return _encoded


@pytest.fixture(scope="session")
def bearer() -> dict[str, str]:
    """What who knows the token says."""
    return BEARER


@pytest.fixture(scope="session")
def client_on() -> Callable[..., object]:
    """A client of a server with settings of its own."""
    return client_of


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    """A query that is in no index."""
    _drawn(1, noise=8).save(tmp_path / "query.png")
    return tmp_path / "query.png"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    for seed, place in enumerate(("rome", "oslo", "athens")):
        (folder / place).mkdir(parents=True)
        for noise in range(8):
            _drawn(seed, noise).save(folder / place / f"{noise}.png")
    for seed in range(10, 14):
        _drawn(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def built(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that no test changes."""
    folder = tmp_path_factory.mktemp("index")
    (folder / "model.toml").write_text(RECIPE)
    (folder / "kept.toml").write_text(RERANKING)
    build_index(photos, folder / "INDEX", model=folder / "model.toml", recipe=folder / "kept.toml", workers=1)
    return folder / "INDEX"


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(built, tmp_path / "INDEX")
    return tmp_path / "INDEX"


@contextmanager
def client_of(index: Path, **settings: object) -> Iterator[TestClient]:
    told = ServerSettings(index=str(index), **settings)
    with TestClient(
        make_app(Online(index), told), base_url="http://127.0.0.1:8765", raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture(scope="module")
def client(built: Path) -> Iterator[TestClient]:
    """Asks the index that no test changes."""
    with client_of(built) as found:
        yield found


@pytest.fixture
def writer(index: Path) -> Iterator[TestClient]:
    """Knows the token of a server on a copy of the index."""
    with client_of(index, token=TOKEN) as found:
        found.headers.update(BEARER)
        yield found


class Served:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.url = f"http://127.0.0.1:{port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def workers(self) -> list[int]:
        """Its processes that answer, oldest first."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                facts = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if int(facts[1]) == self.process.pid and b"spawn_main" in command:
                found.append(int(folder.name))
        return sorted(found)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers, and stops them at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(index: Path, *options: str, env: dict[str, str] | None = None) -> Served:
        log = tmp_path / f"server{len(running)}.log"
        process = subprocess.Popen(
            [sys.executable, "-m", "landseer", "-v", "serve", str(index), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " answers" in line, log.read_text()
        return Served(process, int(line.split()[0].rpartition(":")[2]), log)

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 20
    for process in running:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
