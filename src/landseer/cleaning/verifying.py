"""Pairs of photos verified on all cores: threads of one process up to four, beyond that a process for each four.

About a quarter of a millisecond of a pair holds Python's lock, so more threads of one process gain little.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

from landseer.cleaning.evidence import VerifyPairs
from landseer.matching import Matcher, MatchingSetup
from landseer.types import Collection

THREADS = 4
"""Of one process."""
_Pairs = Sequence[tuple[str, str]]
_Counts = tuple[np.ndarray, np.ndarray]


@contextmanager
def pair_verifier(
    matcher: Matcher, collection: Collection, setup: MatchingSetup, *, workers: int
) -> Iterator[VerifyPairs]:
    """A function that verifies pairs of photos of *collection*: by *matcher*, or by processes with one like it.

    Processes read the features that *setup* keeps in its folder, so it must have one where *workers* are more than
    four.  They are spawned, so a script needs the usual ``if __name__ == "__main__"``, and end with this process,
    however that ends.
    """
    if workers <= THREADS:
        yield lambda pairs: _counted(matcher, pairs)
        return
    assert setup.features is not None, "processes share features through their folder"
    processes = -(-workers // THREADS)
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_settle,
        initargs=(collection, setup),
    )

    def verify(pairs: _Pairs) -> _Counts:
        # whole runs of pairs, since pairs of one photo stand together
        step = max(1, -(-len(pairs) // processes))
        parts = [pairs[start : start + step] for start in range(0, len(pairs), step)]
        inliers, lasting = zip(*pool.map(_work, parts), strict=True)
        return np.concatenate(inliers), np.concatenate(lasting)

    try:
        yield verify
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _counted(matcher: Matcher, pairs: _Pairs) -> _Counts:
    inliers_P = matcher.verify_pairs(pairs)
    unreadable = matcher.unreadable
    return inliers_P, np.array([a not in unreadable and b not in unreadable for a, b in pairs], bool)


_here: list[Matcher] = []
"""The matcher of a worker process."""


def _settle(collection: Collection, setup: MatchingSetup) -> None:
    """Make this process a good worker: with a matcher of its own, and gone when its parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    _here.append(setup.matcher(collection, workers=THREADS))


def _work(pairs: _Pairs) -> _Counts:
    return _counted(_here[0], pairs)
