import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.recipe import SpatialOptions
from landseer.reranking.context import Context
from landseer.reranking.spatial import verify_spatially
from landseer.types import Ranking

IDS = ("a", "b", "c", "d")
BEFORE = Ranking(
    query_ids=("q0", "q1"),
    gallery_ids=IDS,
    positions_QK=np.array([[3, 0, 1, 2], [2, 1, -1, -1]], np.int64),
    scores_QK=np.array([[0.9, 0.5, 0.4, 0.3], [0.6, 0.5, -np.inf, -np.inf]], np.float32),
)
INLIERS = {"q0": {"a": 0, "b": 35, "c": 700, "d": 7}, "q1": {"b": 70, "c": 0}}


def by_table(query, photos):
    return [INLIERS[query][photo] for photo in photos]


def test_the_published_rule():
    after = verify_spatially(BEFORE, Context(match=by_table), SpatialOptions())
    assert after.positions_QK.tolist() == [[2, 3, 1, 0], [1, 2, -1, -1]]
    assert after.scores_QK[0] == pytest.approx([1.3, 1.0, 0.9, 0.5])  # 700 inliers count as 70
    assert after.scores_QK[1] == pytest.approx([1.5, 0.6, -np.inf, -np.inf])
    assert after.score_kind == "spatial"


def test_only_the_first_answers_are_matched_and_the_rest_stays_behind():
    asked = []

    def match(query, photos):
        asked.append((query, tuple(photos)))
        return by_table(query, photos)

    after = verify_spatially(BEFORE, Context(match=match), SpatialOptions(first=3, weight=0.5))
    assert asked == [("q0", ("d", "a", "b")), ("q1", ("c", "b"))]
    assert after.positions_QK.tolist() == [[3, 1, 0, 2], [1, 2, -1, -1]]
    assert after.scores_QK[0] == pytest.approx([0.95, 0.65, 0.5, 0.3])


def test_reasons_count_the_points():
    found = verify_spatially(BEFORE, Context(match=by_table), SpatialOptions(), explain=True).reasons
    assert found[1] == {1: "2 -> 1: 70 points match the query", 2: "1 -> 2: 0 points match the query"}
    assert found[0][2] == "4 -> 1: 700 points match the query"


def test_a_matcher_is_needed_and_must_count():
    with pytest.raises(ValueError, match="spatial needs a matcher of photos"):
        verify_spatially(BEFORE, Context(), SpatialOptions())
    for wrong in ([1], [1, 2, 3, -4], [0.5] * 4):
        with pytest.raises(ValueError, match="must count the inliers of query 'q0' with each of 4 photos"):
            verify_spatially(
                BEFORE, Context(match=lambda query, photos, wrong=wrong: wrong), SpatialOptions()
            )


@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.sampled_from([0, 0.5, 2]))
def test_it_agrees_with_a_plain_loop(seed, first, weight):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 10))
    ids = tuple(f"i{n}" for n in range(num))
    scores = -np.sort(-rng.integers(-4, 8, size=num) / 8).astype(np.float32)
    before = Ranking(
        query_ids=("q0",),
        gallery_ids=ids,
        positions_QK=rng.permutation(num)[None],
        scores_QK=scores[None],
    )
    inliers = dict(zip(ids, rng.integers(0, 100, size=num).tolist(), strict=True))
    options = SpatialOptions(first=first, weight=weight, most_inliers=64)
    after = verify_spatially(
        before, Context(match=lambda query, photos: [inliers[photo] for photo in photos]), options
    )
    entries = list(zip(before.positions_QK[0].tolist(), scores.tolist(), strict=True))
    head = [(n, value + weight * min(inliers[ids[n]], 64) / 64) for n, value in entries[:first]]
    expected = sorted(head, key=lambda entry: (-entry[1], entry[0])) + entries[first:]
    assert list(zip(after.positions_QK[0].tolist(), after.scores_QK[0].tolist(), strict=True)) == expected
