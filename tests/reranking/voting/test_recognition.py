from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.recipe.recognition_options import RecognitionOptions
from landseer.reranking.context import Bank
from landseer.reranking.voting.recognition import recognise, recognise_countries
from landseer.search import search_exact
from landseer.types import Descriptors, Ranking


def descriptors(prefix, rows):
    rows = np.asarray(rows, np.float32)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows)


def nearest(queries, bank, labels):
    """What the one nearest photo of the bank says."""
    given = Bank(ids=bank.ids, landmark_N=labels, descriptors=bank)
    return recognise(search_exact(queries, bank, k=1), given, RecognitionOptions(voters=1))


def test_a_single_voter_is_the_nearest_photo():
    bank = descriptors("b", [[1, 0], [0, 1], [0.6, 0.8], [0, 1]])
    found = nearest(
        descriptors("q", [[0.8, 0.6], [0, 1], [1, 0]]), bank, np.array([10, 20, -1, 40], np.int64)
    )
    assert found.query_ids == ("q0", "q1", "q2")
    assert list(found.landmark_Q) == [-1, 20, 10]  # nearest to an unlabelled one; a tie goes to the first
    assert found.confidence_Q == pytest.approx([0.0, 1.0, 1.0])


def test_a_single_voter_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    bank, queries = rng.standard_normal((50, 6)), rng.standard_normal((9, 6))
    labels = rng.integers(5, size=50)
    found = nearest(descriptors("q", queries), descriptors("b", bank), labels)
    for row, query in enumerate(queries):
        best = max(range(50), key=lambda n: query @ bank[n])
        assert found.landmark_Q[row] == labels[best]
        assert found.confidence_Q[row] == pytest.approx(query @ bank[best], rel=1e-5)


VOTE_BANK = Bank(
    ids=tuple(f"b{n}" for n in range(6)),
    landmark_N=np.array([7, 7, 3, 3, 9, -1], np.int64),
    country_N=np.array([0, 0, 1, 1, -1, 0], np.int16),
    countries=("CN", "IN"),
)


def voters(positions, scores, gallery_ids=VOTE_BANK.ids):
    positions = np.array(positions, np.int64)
    return Ranking(
        query_ids=tuple(f"q{n}" for n in range(len(positions))),
        gallery_ids=gallery_ids,
        positions_QK=positions,
        scores_QK=np.array(scores, np.float32),
    )


def test_two_voters_beat_a_nearer_one():
    asked = voters([[2, 0, 1], [4, 5, 0]], [[0.9, 0.8, 0.6], [0.5, 0.4, 0.3]])
    found = recognise(asked, VOTE_BANK, RecognitionOptions())
    assert found.landmark_Q.tolist() == [7, 9]
    assert found.confidence_Q == pytest.approx([1.4 / 3, 0.5 / 3])
    raw = recognise(asked, VOTE_BANK, RecognitionOptions(normalise=False))
    assert raw.confidence_Q == pytest.approx([1.4, 0.5])
    distances = recognise(asked, VOTE_BANK, RecognitionOptions(similarity="1-d2", normalise=False))
    assert distances.confidence_Q == pytest.approx([0.6 + 0.2, 0.0])


def test_the_eighth_power_of_five_listens_to_the_nearest():
    asked = voters([[2, 0, 1, 4, 5]], [[0.9, 0.8, 0.8, 0.8, 0.1]])
    found = recognise(asked, VOTE_BANK, RecognitionOptions(voters=5, power=8, normalise=False))
    assert found.landmark_Q.tolist() == [3]  # .9 ** 8 = .43 beats 2 * .8 ** 8 = .34
    assert found.confidence_Q == pytest.approx([0.9**8])


def test_without_any_vote_there_is_no_landmark():
    found = recognise(voters([[5, -1, -1]], [[0.9, -np.inf, -np.inf]]), VOTE_BANK, RecognitionOptions())
    assert (found.landmark_Q.tolist(), found.confidence_Q.tolist()) == ([-1], [0])


def test_likeness_to_photos_without_a_landmark_is_taken_off():
    asked = voters([[0, 1, 2], [0, 1, 2], [5, -1, -1]], [[0.9, 0.9, 0.3]] * 2 + [[0.9, -np.inf, -np.inf]])
    nothing = voters(
        [[0, 1, 2], [2, -1, -1], [0, 1, 2]],
        [[0.8, 0.4, 0.1], [0.2, -np.inf, -np.inf], [0.9, 0.8, 0.7]],
        ("n0", "n1", "n2"),
    )
    options = RecognitionOptions(penalty=0.5, penalty_neighbours=2)
    found = recognise(asked, VOTE_BANK, options, non_landmarks=nothing)
    assert found.confidence_Q == pytest.approx([0.6 - 0.5 * 0.6, 0.6 - 0.5 * 0.2, 0])
    with pytest.raises(ValueError, match="a penalty needs photos known to show no landmark"):
        recognise(asked, VOTE_BANK, options)
    with pytest.raises(ValueError, match="3 photos without a landmark a query are given, but 5 count"):
        recognise(
            asked,
            VOTE_BANK,
            RecognitionOptions(penalty=1),
            non_landmarks=replace(nothing, gallery_ids=tuple(f"n{n}" for n in range(9))),
        )
    with pytest.raises(ValueError, match="searched for other queries"):
        recognise(asked, VOTE_BANK, options, non_landmarks=replace(nothing, query_ids=("x", "y", "z")))


def test_a_landmark_of_too_many_queries_is_a_distractor():
    asked = voters([[0]] * 3 + [[2]] * 2 + [[5]] * 4, [[0.9]] * 9)
    found = recognise(asked, VOTE_BANK, RecognitionOptions(voters=1, most_queries=2))
    assert found.landmark_Q.tolist() == [7] * 3 + [3] * 2 + [-1] * 4
    assert found.confidence_Q == pytest.approx([-3] * 3 + [0.9] * 2 + [0] * 4)
    allowed = recognise(asked, VOTE_BANK, RecognitionOptions(voters=1, most_queries=3))
    assert allowed.confidence_Q == pytest.approx([0.9] * 5 + [0] * 4)


def test_countries_by_the_same_votes():
    asked = voters(
        [[2, 0, 1], [4, 2, 0], [4, -1, -1]], [[0.9, 0.8, 0.6], [0.9, 0.5, 0.4], [0.9, -np.inf, -np.inf]]
    )
    found = recognise_countries(asked, VOTE_BANK, RecognitionOptions())
    assert found.query_ids == asked.query_ids
    assert found.countries == ("CN", "IN", None)
    assert found.confidence_Q == pytest.approx([1.4 / 3, 0.5 / 3, 0])
    with pytest.raises(ValueError, match="of no photo of the bank is the country known"):
        recognise_countries(asked, replace(VOTE_BANK, country_N=None), RecognitionOptions())


def test_voters_that_do_not_fit_are_refused():
    asked = voters([[0]], [[0.9]])
    with pytest.raises(ValueError, match="1 voters a query are given, but 3 vote"):
        recognise(asked, VOTE_BANK, RecognitionOptions())
    with pytest.raises(ValueError, match="the voters given are of another bank"):
        recognise(replace(asked, gallery_ids=tuple("abcdef")), VOTE_BANK, RecognitionOptions(voters=1))
    empty = Bank(ids=(), landmark_N=np.empty(0, np.int64))
    with pytest.raises(ValueError, match="the bank of labelled photos is empty"):
        recognise(voters([[-1]], [[-np.inf]], ()), empty, RecognitionOptions())


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([1, 2, 8]), st.booleans())
def test_votes_agree_with_a_plain_loop(seed, num_voters, power, normalise):
    rng = np.random.default_rng(seed)
    positions = np.stack([rng.permutation(6)[:5] for _ in range(4)])
    scores = -np.sort(-rng.integers(-4, 9, size=(4, 5)) / 8, axis=1)
    options = RecognitionOptions(voters=num_voters, power=power, normalise=normalise, most_queries=2)
    found = recognise(voters(positions, scores), VOTE_BANK, options)
    named = []
    for row in range(4):
        votes = {}
        for position, cosine in zip(positions[row, :num_voters], scores[row, :num_voters], strict=True):
            label = int(VOTE_BANK.landmark_N[position])
            if label != -1:
                weight = cosine if power == 1 else max(cosine, 0) ** power
                votes[label] = votes.get(label, 0) + weight
        label = max(votes, key=lambda at: votes[at]) if votes else -1
        named.append((label, votes.get(label, 0) / (num_voters if normalise else 1)))
    labels = [label for label, _ in named]
    assert found.landmark_Q.tolist() == labels
    expected = [
        -labels.count(label) if labels.count(label) > 2 and label != -1 else vote for label, vote in named
    ]
    assert found.confidence_Q == pytest.approx(expected)


def test_impossible_options_are_refused():
    for wrong, message in (
        ({"voters": 0}, "voters: must be at least 1"),
        ({"power": 0}, "power: must be above 0"),
        ({"penalty": -1}, "penalty: must not be negative"),
        ({"penalty_neighbours": 0}, "penalty_neighbours: must be at least 1"),
        ({"most_queries": 0}, "most_queries: must be at least 1"),
        ({"false_accepts": 1}, "false_accepts: must be at least 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=message):
            RecognitionOptions(**wrong)
