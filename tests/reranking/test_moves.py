import numpy as np

from landseer.reranking.moves import explained, listed
from landseer.types import Ranking


def ranking(positions):
    positions = np.array(positions, np.int64)
    scores = np.where(positions < 0, -np.inf, -np.arange(positions.shape[1])).astype(np.float32)
    queries = tuple(f"q{n}" for n in range(len(positions)))
    return Ranking(query_ids=queries, gallery_ids=tuple("abcdef"), positions_QK=positions, scores_QK=scores)


def test_answers_that_moved_have_a_reason_and_others_none():
    before = ranking([[4, 2, 0], [1, 3, -1]])
    after = ranking([[4, 0, 5], [3, 1, -1]])
    assert explained(before, after, lambda query, position: f"query {query}, photo {position}") == (
        {0: "3 -> 2: query 0, photo 0", 5: "new -> 3: query 0, photo 5"},
        {3: "2 -> 1: query 1, photo 3", 1: "1 -> 2: query 1, photo 1"},
    )


def test_names_are_listed_as_one_would_say_them():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 more"
