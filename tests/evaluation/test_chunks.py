"""Merged rankings of the parts of a gallery are the ranking of the whole."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.evaluation import Revisited, evaluate, merge_rankings
from landseer.types import PADDING, Ranking, Truth


def ranked(score_QN, ids, k):
    """The first *k* by (score descending, position ascending)."""
    k = min(k, len(ids))
    order = np.lexsort((np.broadcast_to(np.arange(len(ids)), score_QN.shape), -score_QN))[:, :k]
    return Ranking(
        query_ids=tuple(f"q{n}" for n in range(len(score_QN))),
        gallery_ids=tuple(ids),
        positions_QK=order.astype(np.int64),
        scores_QK=np.take_along_axis(score_QN, order, axis=1).astype(np.float32),
        gallery_fingerprint="-".join(ids),
    )


def parts_of(score_QN, cuts, k):
    ids = [f"p{n}" for n in range(score_QN.shape[1])]
    edges = [0, *sorted(cuts), len(ids)]
    return [ranked(score_QN[:, a:b], ids[a:b], k) for a, b in itertools.pairwise(edges)], ids


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.integers(0, 12), max_size=3),
    st.integers(1, 14),
)
def test_merging_equals_ranking_the_whole(seed, num, cuts, k):
    """Many scores tie, parts may be empty or hold fewer than k."""
    score_QN = np.random.default_rng(seed).integers(4, size=(3, num)).astype(np.float32)
    parts, ids = parts_of(score_QN, [min(cut, num) for cut in cuts], k)
    merged = merge_rankings(iter(parts), k=min(k, num))
    whole = ranked(score_QN, ids, k)
    assert merged.gallery_ids == whole.gallery_ids
    assert merged.positions_QK.tolist() == whole.positions_QK.tolist()
    assert merged.scores_QK.tolist() == whole.scores_QK.tolist()
    # without k: as deep as is certain, which is at least as deep as the parts, and right down to there
    deep = merge_rankings(parts)
    depth = deep.positions_QK.shape[1]
    assert depth >= min(k, num)
    assert deep.positions_QK.tolist() == ranked(score_QN, ids, depth).positions_QK.tolist()


def test_what_cannot_be_merged_is_refused():
    score_QN = np.arange(12, dtype=np.float32).reshape(2, 6)
    (first, second), _ = parts_of(score_QN, [3], 2)
    with pytest.raises(
        ValueError, match="a part holds only 2 answers a query, so 3 of the whole are not certain"
    ):
        merge_rankings([first, second], k=3)
    with pytest.raises(ValueError, match="there is no ranking to merge"):
        merge_rankings([])
    with pytest.raises(ValueError, match="ranking 2 answers other queries than the first"):
        merge_rankings([first, replace(second, query_ids=("q1", "q0"))])
    with pytest.raises(ValueError, match="ranking 2 scores by tier, the first by cosine"):
        merge_rankings([first, replace(second, score_kind="tier")])
    with pytest.raises(ValueError, match="photo 'p0' of gallery 2 is in an earlier one, too"):
        merge_rankings([first, first])
    padded = replace(first, positions_QK=first.positions_QK.copy(), scores_QK=first.scores_QK.copy())
    padded.positions_QK[0, 1], padded.scores_QK[0, 1] = PADDING, -np.inf
    with pytest.raises(ValueError, match="a part holds only 1 answers"):
        merge_rankings([second, padded], k=2)


def test_the_merged_gallery_has_a_fingerprint_of_its_own():
    score_QN = np.arange(12, dtype=np.float32).reshape(2, 6)
    first, second = parts_of(score_QN, [3], 6)[0]
    names = {
        merge_rankings(order).gallery_fingerprint for order in ([first, second], [second, first], [first])
    }
    assert len(names) == 3


def test_distractors_in_chunks_score_as_one_gallery():
    rng = np.random.default_rng(2)
    score_QN = rng.random((3, 60)).astype(np.float32)
    parts, ids = parts_of(score_QN, [20, 40, 50], 60)
    truth = Truth(
        query_ids=("q0", "q1", "q2"),
        relevant=(("p0", "p1", "p2"), ("p3", "p4"), ("p5",)),
        junk=(("p6",), (), ("p7", "p8")),
        landmarks=((0,), (1,), (2,)),
        split=("Public",) * 3,
        recognition_split=("Public",) * 3,
        hard=(("p1",), ("p4",), ("p5",)),
    )
    whole, merged = ranked(score_QN, ids, 60), merge_rankings(parts)
    scored = [evaluate(found, truth, protocol=Revisited(), resamples=0) for found in (whole, merged)]
    assert scored[0].report.numbers == scored[1].report.numbers
    alone = evaluate(parts[0], truth, resamples=0).report
    assert alone.value("mAP", "Medium") > scored[0].report.value("mAP", "Medium")
