"""The rows inside a faiss index."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landseer.storage.foreign.reading import parsing, refuse_bomb, size_of

_log = logging.getLogger(__name__)

_MAPS = ("IndexIDMap", "IndexIDMap2")


def rows_of_index(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None, Literal["cosine", "euclidean"]]:
    """Rows float32 ``[N, D]`` of an index, its own numbers as ids where it has any, and its metric.

    Flat and inverted-file indexes, inside a map of ids or not.  An index that keeps codes (PQ, SQ) gives what the
    codes stand for, which is near its rows and no more.  Rows are in the order of their numbers, so that a list of
    ids in the order they were added fits.

    Raises ``ValueError``, one line, for a damaged file or an index that cannot give its rows back.
    """
    import faiss

    with parsing(path, "a faiss index"), _no_vector_longer_than(faiss, path.stat().st_size):
        index = faiss.read_index(str(path))
    refuse_bomb(path, size_of((index.ntotal, index.d), 4))
    with parsing(path, "an index whose rows can be had"):
        mapped = type(index).__name__ in _MAPS
        rows, numbers = _mapped_rows(faiss, index) if mapped else _rows(faiss, index)
        kinds = {faiss.METRIC_INNER_PRODUCT: "cosine", faiss.METRIC_L2: "euclidean"}
        if index.metric_type not in kinds:
            raise ValueError("its metric is neither inner product nor L2")
    if "Flat" not in _innermost(faiss, index):
        _log.warning(
            "%s keeps codes (%s); its rows are what the codes stand for", path, _innermost(faiss, index)
        )
    metric: Literal["cosine", "euclidean"] = "cosine" if kinds[index.metric_type] == "cosine" else "euclidean"
    return rows, None if numbers is None else tuple(str(number) for number in numbers.tolist()), metric


@contextmanager
def _no_vector_longer_than(faiss: Any, num_bytes: int) -> Iterator[None]:
    """A few damaged bytes would have faiss fill the memory with what the file merely declares."""
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(max(1, num_bytes))
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before)


def _innermost(faiss: Any, index: Any) -> str:
    """The class that keeps the rows, inside maps of ids and transforms."""
    while hasattr(index, "index"):
        index = faiss.downcast_index(index.index)
    return type(index).__name__


def _mapped_rows(faiss: Any, index: Any) -> tuple[np.ndarray, np.ndarray | None]:
    rows, inner = _rows(faiss, faiss.downcast_index(index.index))
    if inner is not None:
        raise ValueError("its rows are numbered twice, by a map and by its lists")
    numbers = faiss.vector_to_array(index.id_map)
    order = np.argsort(numbers, kind="stable")
    return rows[order], numbers[order]


def _rows(faiss: Any, index: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows in the order of their numbers; the numbers are None where they are 0, 1, 2 and so on."""
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is None:
        return np.asarray(index.reconstruct_n(0, index.ntotal), np.float32), None
    numbers = np.sort(_listed_numbers(faiss, inverted))
    if len(np.unique(numbers)) != len(numbers):
        raise ValueError("two rows have one number")
    inverted.set_direct_map_type(faiss.DirectMap.Hashtable)
    rows = np.asarray(index.reconstruct_batch(numbers), np.float32)
    in_order = np.array_equal(numbers, np.arange(len(numbers)))
    return rows, None if in_order else numbers


def _listed_numbers(faiss: Any, inverted: Any) -> np.ndarray:
    lists = inverted.invlists
    parts = [np.empty(0, np.int64)]
    for number in range(inverted.nlist):
        size = lists.list_size(number)
        if size:
            parts.append(faiss.rev_swig_ptr(lists.get_ids(number), size).copy())
    return np.concatenate(parts)
