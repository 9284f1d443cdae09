"""Run as processes of their own: one that writes groups of photos to an index, and one that reads it.

Expects as globals: ``INDEX``, ``SECONDS``, ``SEED`` and, for the reader, ``RESULT`` (a file to write what it saw to).
The photos of a group are only ever written or removed together, so a reader that sees fewer, or scores that
differ within a group, has seen half a change.
"""

from __future__ import annotations

import json
import random
import time

import numpy as np

from landseer.search import open_index
from landseer.types import Descriptors

NUM_GROUPS, GROUP = 30, 5


def group_of(number, version):
    """Five photos that are only ever written together; their score for the query is their version."""
    ids = tuple(f"{number}-{n}" for n in range(GROUP))
    rows = np.tile(np.array([[version, 1]], np.float32), (GROUP, 1))
    return Descriptors(ids=ids, rows_ND=rows, normalised=False), [
        {"id": photo, "group": number} for photo in ids
    ]


def write(path, seconds, seed):
    rng = random.Random(seed)
    end, version = time.monotonic() + seconds, 0
    with open_index(path, write=True) as index:
        while time.monotonic() < end:
            version += 1
            number = rng.randrange(NUM_GROUPS)
            rows, table = group_of(number, version)
            kind = rng.choice(["add", "add", "add", "remove", "compact"])
            if kind == "add":
                index.add(rows, table, model="m", replace=True)
            elif kind == "remove" and all(index.holds(rows.ids)):
                index.remove(rows.ids)
            elif kind == "compact":
                index.compact()


def read(path, seconds, seed, result):
    rng = random.Random(seed)
    query = Descriptors(ids=("q",), rows_ND=np.array([[1, 0]], np.float32), normalised=False)
    end, num, states = time.monotonic() + seconds, 0, set()
    index = open_index(path)
    while time.monotonic() < end:
        if rng.random() < 0.05:
            index.close()
            index = open_index(path)
        where = rng.choice([None, f'"group" = {rng.randrange(NUM_GROUPS)}'])
        found = index.search(query, k=NUM_GROUPS * GROUP + 1, where=where)
        scores: dict[str, list[float]] = {}
        for photo, score in found.answers(0):
            scores.setdefault(photo.partition("-")[0], []).append(score)
        assert all(len(group) == GROUP and len(set(group)) == 1 for group in scores.values()), (where, scores)
        num += 1
        states.add(found.gallery_fingerprint)
    result.write_text(json.dumps([num, len(states)]))


if __name__ == "__writer__":
    write(INDEX, SECONDS, SEED)  # noqa: F821
if __name__ == "__reader__":
    read(INDEX, SECONDS, SEED, RESULT)  # noqa: F821
