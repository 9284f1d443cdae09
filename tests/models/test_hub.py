"""Weights from the hub, by the real hub code on a cache that the test makes, in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SCRIPT = """
import json, sys, time
import numpy as np
import torch
from landseer.models import build_embedder
from landseer.recipe import ModelOptions

torch.set_num_threads(1)
photos = np.random.default_rng(3).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
for options in json.loads(sys.argv[1]):
    start = time.monotonic()
    try:
        embedder = build_embedder(ModelOptions(**options))
        found = {"rows": embedder.describe(photos[:, :48, :48] if options else photos).tolist(),
                 "source": embedder.source, "mean": embedder.mean}
    except ValueError as error:
        found = {"error": str(error)}
    print(json.dumps({**found, "seconds": time.monotonic() - start}))
"""
SMALL = "test_vit.r160_in1k"
DEFAULT = "vit_small_patch14_dinov2.lvd142m"


def put(cache: Path, name: str, filename: str) -> Path:
    """An entry of the hub's cache for timm/*name*; returns where its weights go."""
    repository, commit = cache / f"models--timm--{name}", "0123456789" * 4
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    return repository / "snapshots" / commit / filename


def ask(home: Path, options: list[dict], **environment: str) -> subprocess.Popen:
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(options)],
        env={**kept, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def answers(process: subprocess.Popen) -> list[dict]:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


def plain_rows(model: torch.nn.Module, side: int, mean, std) -> np.ndarray:
    photos = np.random.default_rng(3).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)[:, :side, :side]
    pixels = torch.from_numpy((photos / 255.0 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        return F.normalize(model.eval().forward_features(pixels)[:, 0], dim=1).numpy()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, list[dict] | np.ndarray]:
    """What four processes said: one told to stay offline, and three whose network is dead in its own way."""
    home = tmp_path_factory.mktemp("hf")
    torch.manual_seed(11)
    small = timm.create_model("test_vit", dynamic_img_size=True)
    save_file(small.state_dict(), put(home / "hub", SMALL, "model.safetensors"))
    default = timm.create_model(DEFAULT.split(".", maxsplit=1)[0], dynamic_img_size=True, num_classes=0)
    # the published file carries a mask token that the model has no place for
    weights = {**default.state_dict(), "mask_token": torch.zeros(1, 384)}
    save_file(weights, put(home / "hub", DEFAULT, "model.safetensors"))
    torch.save(small.state_dict(), put(home / "hub", "test_vit2.r160_in1k", "pytorch_model.bin"))
    put(home / "hub", "test_resnet.r160_in1k", "model.safetensors").write_bytes(b"cut off")
    offline = ask(
        home,
        [
            {},
            {"backbone": SMALL},
            {"backbone": "test_vit"},
            {"backbone": "test_vit2", "pooling": "gap"},
            {"backbone": "test_resnet", "pooling": "gap"},
            {"backbone": "test_efficientnet", "pooling": "gap"},
            {"backbone": "test_vit4", "pooling": "gap"},
        ],
        HF_HUB_OFFLINE="1",
    )
    nowhere = f"http://127.0.0.1:{closed_port()}"
    dead = ask(
        home, [{"backbone": SMALL}, {"backbone": "test_efficientnet", "pooling": "gap"}], HF_ENDPOINT=nowhere
    )
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    mute = ask(
        home,
        [{"backbone": "test_efficientnet", "pooling": "gap"}],
        HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
    )
    proxied = ask(home, [{"backbone": "test_efficientnet", "pooling": "gap"}], https_proxy=nowhere)
    return {
        "offline": answers(offline),
        "dead": answers(dead),
        "mute": answers(mute),
        "proxied": answers(proxied),
        "small": plain_rows(small, 48, 0.5, 0.5),
        "default": plain_rows(default, 56, np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])),
    }


def test_the_default_model_is_loaded_from_the_hubs_cache(told):
    found = told["offline"][0]
    assert np.array(found["rows"]) == pytest.approx(told["default"], abs=1e-5)
    assert found["source"].startswith(f"hub timm/{DEFAULT} sha256 ")


def test_a_small_model_is_loaded_with_and_without_its_tag(told):
    for found in told["offline"][1:3]:
        assert np.array(found["rows"]) == pytest.approx(told["small"], abs=1e-5)
        assert found["mean"] == [0.5, 0.5, 0.5]


def test_what_is_cached_needs_no_network(told):
    assert np.array(told["dead"][0]["rows"]) == pytest.approx(told["small"], abs=1e-5)


@pytest.mark.parametrize("number", [3, 4])
def test_a_cached_file_that_does_not_fit_is_named(told, number):
    error = told["offline"][number]["error"]
    assert "does not hold the weights of test_" in error and "models--timm--test_" in error
    assert "remove it from the hub's cache" in error


@pytest.mark.parametrize(("network", "number"), [("offline", 5), ("dead", 1), ("proxied", 0), ("mute", 0)])
def test_without_a_cache_and_a_network_one_line_says_what_to_do_at_once(told, network, number):
    found = told[network][number]
    assert found["error"] == (
        "the weights of timm/test_efficientnet.r160_in1k are not on this machine and the hub cannot be reached; "
        'go online once, or use a recipe with model.weights = "file" and give --weights FILE'
    )
    assert (
        found["seconds"] < 20
    )  # at once, on a machine that may be busy; the hub's client retries far longer


def test_a_model_the_hub_never_had_is_told_so(told):
    assert told["offline"][6]["error"].startswith(
        "the hub has no weights for test_vit4; use a recipe with model.weights"
    )
