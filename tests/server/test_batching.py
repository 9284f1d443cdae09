"""Questions that wait are answered together, in sizes that repeat, each with its own reply."""

from __future__ import annotations

import asyncio
import threading

import pytest

from landseer.pipeline.online import Query, Refused
from landseer.server.batching import Batcher, TooMany


def run(num, *, most=16, fail=()):
    sizes, gate = [], threading.Event()

    def ask(queries):
        gate.wait(10)
        if any(query.k in fail for query in queries):
            raise RuntimeError("broken")
        return [Refused(f"no {query.k}") if query.k == 5 else query.k for query in queries]

    async def all_of_them():
        batcher = Batcher(ask, observe=sizes.append, most=most)
        asked = [asyncio.create_task(batcher.ask(Query(photo="x", k=k))) for k in range(1, num + 1)]
        await asyncio.sleep(0.05)
        gate.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        return found

    return asyncio.run(all_of_them()), sizes


def test_each_has_its_own_reply_and_batches_are_powers_of_two():
    found, sizes = run(40)
    assert [str(each) if isinstance(each, Refused) else each for each in found] == [
        "no 5" if k == 5 else k for k in range(1, 41)
    ]
    assert sum(sizes) == 40 and max(sizes) == 16
    assert all(size & (size - 1) == 0 for size in sizes)


def test_a_fault_costs_its_batch_and_no_other():
    found, _ = run(8, most=1, fail=(3,))
    assert [isinstance(each, RuntimeError) for each in found] == [k == 3 for k in range(1, 9)]


def test_when_too_many_wait_the_next_is_told_to_come_again():
    found, _ = run(300)
    refused = [each for each in found if isinstance(each, TooMany)]
    assert len(refused) == 300 - 256
    assert sum(isinstance(each, int) for each in found) == 255  # and one Refused


@pytest.mark.parametrize("num", [1, 2, 3])
def test_few_are_answered_at_once(num):
    found, sizes = run(num)
    assert found == list(range(1, num + 1)) and sum(sizes) == num
