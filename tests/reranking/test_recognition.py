import numpy as np
import pytest

from landseer.reranking import recognise_nearest
from landseer.types import Descriptors


def descriptors(prefix, rows):
    rows = np.asarray(rows, np.float32)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


BANK = descriptors("b", [[1, 0], [0, 1], [0.6, 0.8], [0, 1]])
LANDMARKS = np.array([10, 20, -1, 40], np.int64)


def test_the_nearest_photo_names_the_landmark():
    found = recognise_nearest(descriptors("q", [[0.8, 0.6], [0, 1], [1, 0]]), BANK, LANDMARKS)
    assert found.query_ids == ("q0", "q1", "q2")
    assert list(found.landmark_Q) == [-1, 20, 10]  # nearest to an unlabelled one; a tie goes to the first
    assert found.confidence_Q == pytest.approx([0.96, 1.0, 1.0])


def test_it_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    bank, queries = rng.standard_normal((50, 6)), rng.standard_normal((9, 6))
    labels = rng.integers(5, size=50)
    found = recognise_nearest(descriptors("q", queries), descriptors("b", bank), labels)
    for row, query in enumerate(queries):
        best = max(range(50), key=lambda n: query @ bank[n])
        assert found.landmark_Q[row] == labels[best]
        assert found.confidence_Q[row] == pytest.approx(query @ bank[best], rel=1e-5)


def test_labels_that_do_not_fit_and_an_empty_bank_are_refused():
    queries = descriptors("q", [[1, 0]])
    with pytest.raises(ValueError, match=r"4 photos but labels of shape \(3,\)"):
        recognise_nearest(queries, BANK, LANDMARKS[:3])
    with pytest.raises(ValueError, match="the bank of labelled photos is empty"):
        recognise_nearest(queries, descriptors("b", np.empty((0, 2))), np.empty(0, np.int64))
