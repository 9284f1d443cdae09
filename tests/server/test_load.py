"""Many at once: no error, right answers, and as many as a plain loop gives; ``benchmarks/serve.py`` measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "serve.py"


def loaded(**options):
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--json", *words], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    print(found)
    assert found["errors"] == 0 and found["different"] == 0
    assert found["ratio"] >= 0.85
    return found


@pytest.mark.slow
def test_thirty_two_clients_are_answered_right():
    found = loaded(photos=20_000, clients=32, seconds=10, loop=3)
    assert found["answers"] > 32


@pytest.mark.soak
def test_five_minutes_of_load_on_100000_photos_leave_memory_flat():
    found = loaded(photos=100_000, clients=32, seconds=300)
    assert abs(found["memory_growth"]) < 0.02
