"""Neighbours of the same label, and how much nearer they are, against loops anyone can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.cleaning import NO_LANDMARK, UNLABELLED, find_neighbours, neighbours
from landseer.recipe.cleaning_options import CleaningOptions
from landseer.types import Descriptors


def unit_rows(seed: int, num: int, dim: int = 6) -> Descriptors:
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Descriptors(ids=tuple(f"p{n:04}" for n in range(num)), rows_ND=rows, fingerprint=f"seed {seed}")


def slow(descriptors: Descriptors, label_N: np.ndarray, options: CleaningOptions):
    """Photo -> (neighbours, agreement, others), by the words of the docstring."""
    rows = descriptors.rows_ND.astype(np.float64)
    found = []
    for photo, label in enumerate(label_N):
        cosines = rows @ rows[photo]
        order = [int(p) for p in np.argsort(-cosines, kind="stable") if p != photo][: options.neighbours]
        same = [p for p in order if label >= 0 and label_N[p] == label]
        other = [p for p in order if label_N[p] not in (label, UNLABELLED)]
        size = int((label_N == label).sum()) if label >= 0 else 0
        against = int(((label_N != UNLABELLED) & (label_N != label)).sum())
        num = min(options.agreement, size - 1, against)
        agreement = np.nan
        if num > 0:
            last = cosines[order[-1]]
            means = [
                np.mean([*cosines[few[:num]], *[last] * (num - len(few[:num]))]) for few in (same, other)
            ]
            agreement = means[0] - means[1]
        found.append((same[: options.same_label], agreement, other[:3]))
    return found


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0, 1, 2, 3, UNLABELLED, NO_LANDMARK]), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(3, 5),
    st.integers(1, 6),
)
def test_neighbours_agree_with_the_loop(seed, labels, num, same_label, agreement):
    options = CleaningOptions(neighbours=num, same_label=same_label, agreement=agreement)
    descriptors, label_N = unit_rows(seed, len(labels)), np.array(labels)
    found = find_neighbours(descriptors, label_N, options)
    for photo, (same, agrees, others) in enumerate(slow(descriptors, label_N, options)):
        assert found.of(photo).tolist() == same
        assert found.agreement_N[photo] == pytest.approx(agrees, abs=1e-5, nan_ok=True)
        assert [p for p in found.others_N3[photo].tolist() if p >= 0] == others


def test_copies_that_crowd_a_photo_out_of_its_own_list_cost_one_neighbour():
    rows = np.tile(np.eye(1, 6, dtype=np.float32), (9, 1))
    same = Descriptors(ids=tuple("abcdefghi"), rows_ND=rows)
    found = find_neighbours(same, np.array([0] * 8 + [1]), CleaningOptions(neighbours=3))
    assert [found.of(photo).tolist() for photo in (0, 7)] == [[1, 2, 3], [0, 1, 2]]


def test_blocks_are_kept_and_damaged_ones_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 10)
    descriptors, label_N = unit_rows(0, 25), np.arange(25) % 3
    options = CleaningOptions(neighbours=8)
    first = find_neighbours(descriptors, label_N, options, folder=tmp_path)
    blocks = sorted(tmp_path.glob("neighbours-*/block-*"))
    assert len(blocks) == 3
    (blocks[1] / "positions.npy").write_bytes(b"junk")
    kept = {block: (block / "manifest.json").stat().st_mtime_ns for block in blocks}
    again = find_neighbours(descriptors, label_N, options, folder=tmp_path)
    for name in ("offsets_N1", "positions_M", "agreement_N", "others_N3"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    remade = [block for block in blocks if (block / "manifest.json").stat().st_mtime_ns != kept[block]]
    assert remade == [blocks[1]]
    find_neighbours(descriptors, np.roll(label_N, 1), options, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "other labels need a folder of their own"
