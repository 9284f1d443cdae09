import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.reranking.context import Bank, Context
from landseer.reranking.voting.votes import (
    Votes,
    cosine_voters,
    count_votes,
    is_there,
    labels_of,
    named_by,
    shelve,
    vote,
    weights_of,
)
from landseer.types import Ranking


def ranking(positions, scores, num_gallery, **facts):
    return Ranking(
        query_ids=tuple(f"q{n}" for n in range(len(positions))),
        gallery_ids=tuple(f"b{n}" for n in range(num_gallery)),
        positions_QK=np.array(positions, np.int64).reshape(len(positions), -1),
        scores_QK=np.array(scores, np.float32).reshape(len(positions), -1),
        **facts,
    )


def slow_votes(labels, weights):
    """{label: sum of its weights}, the label met first first."""
    found = {}
    for label, weight in zip(labels, weights, strict=True):
        if label != -1:
            found[label] = found.get(label, 0.0) + weight
    return found


ROWS = st.integers(1, 6).flatmap(
    lambda k: st.lists(
        st.lists(st.tuples(st.integers(-1, 3), st.integers(-8, 8)), min_size=k, max_size=k),
        min_size=1,
        max_size=8,
    )
)


def test_two_votes_of_the_worked_example_beat_one():
    votes = count_votes(np.array([[7, 7, 3]]), np.array([[0.8, 0.6, 0.6]]))
    assert votes.label_NK.tolist() == [[7, -1, 3]]
    assert votes.vote_NK[0] == pytest.approx([1.4, 0, 0.6])
    assert votes.shares().vote_NK[0] == pytest.approx([0.7, 0, 0.3])
    assert votes.winner_takes_all().label_NK.tolist() == [[7, -1, -1]]
    assert votes.winner_takes_all().vote_NK.tolist() == [[1, 0, 0]]


@given(ROWS)
def test_votes_agree_with_a_dictionary(rows):
    labels = np.array([[label for label, _ in row] for row in rows], np.int64)
    weights = np.array([[weight / 8 for _, weight in row] for row in rows])
    votes = count_votes(labels, weights)
    winner_N, best_N = votes.winners()
    for row, (label_K, weight_K) in enumerate(zip(labels.tolist(), weights.tolist(), strict=True)):
        found = slow_votes(label_K, weight_K)
        got = {
            label: value
            for label, value in zip(votes.label_NK[row].tolist(), votes.vote_NK[row].tolist(), strict=True)
            if label != -1
        }
        assert got == found and list(got) == list(found)
        assert votes.vote_NK[row][votes.label_NK[row] == -1].tolist() == [0] * (len(label_K) - len(found))
        best = max(found.values(), default=0)  # max and dict keep the first of equal ones
        assert best_N[row] == best
        assert winner_N[row] == (max(found, key=lambda label: found[label]) if found else -1)


def test_equal_votes_go_to_the_label_met_first():
    winner_N, _ = count_votes(np.array([[5, 9], [9, 5]]), np.array([[0.5, 0.5], [0.5, 0.5]])).winners()
    assert winner_N.tolist() == [5, 9]


def test_only_negative_votes_still_name_the_best():
    winner_N, score_N = count_votes(np.array([[5, 9]]), np.array([[-0.5, -0.25]])).winners()
    assert (winner_N.tolist(), score_N.tolist()) == ([9], [-0.25])
    all_gone = count_votes(np.array([[5, 9]]), np.array([[-0.5, -0.25]])).winner_takes_all()
    assert all_gone.label_NK.tolist() == [[-1, -1]]


def test_photos_without_a_label_and_padding_vote_for_nothing():
    voters = ranking([[0, 1, -1], [1, -1, -1]], [[0.5, 0.25, -np.inf], [0.5, -np.inf, -np.inf]], 2)
    votes = vote(voters, np.array([4, -1], np.int64), k=3)
    assert votes.label_NK.tolist() == [[4, -1, -1], [-1, -1, -1]]
    winner_N, score_N = votes.winners()
    assert (winner_N.tolist(), score_N.tolist()) == ([4, -1], [0.5, 0])
    assert labels_of(voters, None, k=2).tolist() == [[-1, -1], [-1, -1]]
    assert labels_of(ranking([[-1]], [[-np.inf]], 0), np.empty(0, np.int64), k=1).tolist() == [[-1]]


def test_weights_of_every_kind():
    voters = ranking([[0, 1, -1]], [[0.5, -0.5, -np.inf]], 2)
    assert weights_of(voters, k=3).tolist() == [[0.5, -0.5, 0]]
    assert weights_of(voters, k=2).tolist() == [[0.5, -0.5]]
    assert weights_of(voters, k=3, similarity="1-d2").tolist() == [[0, -2, 0]]
    assert weights_of(voters, k=3, power=8).tolist() == [[2.0**-8, 0, 0]]
    far = 1 - np.sum((np.array([1, 0]) - np.array([0.6, 0.8])) ** 2)
    near = weights_of(ranking([[0]], [[0.6]], 1), k=1, similarity="1-d2")
    assert near[0, 0] == pytest.approx(far)


@given(st.lists(st.integers(-1, 4), max_size=20), st.integers(0, 2**32 - 1))
def test_shelves_hold_every_labelled_photo_once_in_order(labels, seed):
    score_N = np.random.default_rng(seed).integers(3, size=len(labels)) / 4
    for scores, key in ((None, lambda n: n), (score_N, lambda n: (-score_N[n], n))):
        shelves = shelve(np.array(labels, np.int64), scores)
        found = {
            int(label): shelves.position_M[shelves.start_L[i] : shelves.start_L[i + 1]].tolist()
            for i, label in enumerate(shelves.label_L)
        }
        assert found == {
            label: sorted((n for n, at in enumerate(labels) if at == label), key=key)
            for label in sorted(set(labels) - {-1})
        }
        asked = np.arange(-1, 6)
        for label, shelf in zip(asked.tolist(), shelves.find(asked).tolist(), strict=True):
            assert (shelf == -1) == (label not in found)
            assert shelf == -1 or shelves.label_L[shelf] == label


def test_shares_of_no_votes_are_nothing():
    none = Votes(label_NK=np.array([[-1, -1]]), vote_NK=np.zeros((1, 2)))
    assert none.shares().vote_NK.tolist() == [[0, 0]]


def test_removed_photos_are_not_there():
    assert is_there(("a", "", "b", "")).tolist() == [True, False, True, False]
    assert is_there(("a", "b")).tolist() == [True, True]


def test_who_named_it():
    bank = Bank(ids=("b0", "b1", "b2"), landmark_N=np.array([7, 7, 3], np.int64))
    voters = ranking([[1, 2, 0], [2, -1, -1]], [[0.9, 0.8, 0.7], [0.5, -np.inf, -np.inf]], 3)
    assert named_by(voters, 0, bank.landmark_N, 7, bank, k=3) == "photos b1 and b0"
    assert named_by(voters, 0, bank.landmark_N, 7, bank, k=2) == "photo b1"
    assert named_by(voters, 1, bank.landmark_N, 3, bank, k=3) == "photo b2"


def test_voters_weighed_otherwise_are_refused():
    bank = Bank(ids=("b0",), landmark_N=np.array([7], np.int64))
    context = Context(bank=bank, query_voters=ranking([[0]], [[0.5]], 1, score_kind="k-reciprocal"))
    with pytest.raises(
        ValueError, match="two-stage: the voters given for the query photos are weighed by k-reci"
    ):
        cosine_voters(context, "query", "two-stage", ranking([[0]], [[0.5]], 1), k=1)
