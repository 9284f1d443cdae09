import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.reranking.context import Context
from landseer.reranking.neighbours.graph import (
    SparseRows,
    batches,
    best_of_each,
    nearest_in_gallery,
    nearest_others,
    starts,
    summed,
)
from landseer.search import search_exact
from landseer.types import Descriptors


def descriptors(rows):
    rows = np.asarray(rows, np.float32)
    return Descriptors(ids=tuple(f"g{n}" for n in range(len(rows))), rows_ND=rows)


def sparse(table):
    row_M, column_M = np.nonzero(table)
    num = np.bincount(row_M, minlength=len(table))
    return SparseRows(start_R=starts(num), column_M=column_M.astype(np.int32), value_M=table[row_M, column_M])


def dense(rows, num_columns):
    table = np.zeros((len(rows), num_columns), np.float32)
    for row in range(len(rows)):
        cells = slice(rows.start_R[row], rows.start_R[row + 1])
        assert np.all(np.diff(rows.column_M[cells]) > 0)
        table[row, rows.column_M[cells]] = rows.value_M[cells]
    return table


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8))
def test_sparse_rows_do_what_tables_do(seed, height, width):
    rng = np.random.default_rng(seed)
    table = np.float32(rng.integers(0, 3, size=(height, width)))
    rows = sparse(table)
    assert np.array_equal(dense(rows, width), table)
    assert np.array_equal(dense(rows.transposed(width), height), table.T)
    first, stop = sorted(rng.integers(0, height + 1, size=2))
    assert np.array_equal(dense(rows.part(first, stop), width), table[first:stop])
    chosen = rng.integers(0, height, size=5)
    assert np.array_equal(dense(rows.take(chosen), width), table[chosen])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(-3, 3)), max_size=30))
def test_cells_of_one_place_are_added_up(cells):
    table = np.zeros((5, 7))
    for row, column, value in cells:
        table[row, column] += value
    columns = np.array(cells, np.int64).reshape(-1, 3).T
    row_M, column_M, value_M = summed(columns[0], columns[1], columns[2], num_columns=7)
    assert list(zip(row_M, column_M, strict=True)) == sorted({cell[:2] for cell in cells})
    assert list(value_M) == list(table[row_M, column_M])


@given(st.lists(st.integers(0, 9), max_size=20))
def test_batches_are_runs_that_fit(costs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landseer.reranking.neighbours.graph.CELLS_AT_ONCE", 8)
        parts = list(batches(costs))
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(len(costs)))
    for part, after in zip(parts, [*parts, slice(len(costs), len(costs))][1:], strict=True):
        assert sum(costs[part]) <= 8 or part.stop - part.start == 1
        assert after.start == len(costs) or sum(costs[part.start : after.start + 1]) > 8


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)), max_size=30),
    st.integers(1, 5),
)
def test_the_best_pairs_of_each_row_equal_ones_by_position(pairs, width):
    pairs = list({pair[:2]: pair for pair in pairs}.values())
    columns = np.array(pairs, np.int64).reshape(-1, 3).T
    positions, scores = best_of_each(columns[0], columns[1], np.float32(columns[2]), shape=(4, width))
    for row in range(4):
        want = sorted((-score, position) for pair_row, position, score in pairs if pair_row == row)[:width]
        padding = width - len(want)
        assert list(positions[row]) == [position for _, position in want] + [-1] * padding
        assert list(scores[row]) == [-score for score, _ in want] + [-np.inf] * padding


def test_a_photo_is_not_its_own_neighbour_not_even_among_equals():
    photos = descriptors([[1, 0]] * 4 + [[0, 1]])
    positions, scores = nearest_others(photos, search_exact, k=2)
    assert positions.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    assert scores.tolist() == [[1, 1]] * 4 + [[0, 0]]
    positions, scores = nearest_others(photos, search_exact, k=5)
    assert positions[:, 4].tolist() == [-1] * 5
    assert positions[3].tolist() == [0, 1, 2, 4, -1]


def test_the_gallery_is_searched_in_itself_once():
    asked = []

    def search(queries, gallery, *, k):
        asked.append(k)
        return search_exact(queries, gallery, k=k)

    gallery = descriptors([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    context = Context(gallery=gallery, search=search)
    wide, _ = nearest_in_gallery(context, gallery, k=2)
    narrow, _ = nearest_in_gallery(context, gallery, k=1)
    assert asked == [3]
    assert np.array_equal(narrow, wide[:, :1])
    nearest_in_gallery(context, gallery, k=3)
    nearest_in_gallery(context, descriptors([[1, 0], [0, 1]]), k=1)
    assert asked == [3, 4, 2]
