from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.recipe import NearestLabelOptions
from landseer.reranking.context import Bank, Context
from landseer.reranking.voting.nearest_label import compare_nearest_labels
from landseer.types import Ranking


def ranked(of, among, positions, scores, **facts):
    return Ranking(
        query_ids=of,
        gallery_ids=among,
        positions_QK=np.array(positions, np.int64).reshape(len(of), -1),
        scores_QK=np.array(scores, np.float32).reshape(len(of), -1),
        **facts,
    )


BANK = Bank(ids=("b0", "b1", "b2"), landmark_N=np.array([7, 9, -1], np.int64))
IDS = ("i0", "i1", "i2", "i3")


def case(nearest_of_query=0):
    before = ranked(("q0",), IDS, [1, 0, 2, -1], [0.9, 0.5, 0.4, -np.inf])
    context = Context(
        bank=BANK,
        query_voters=ranked(("q0",), BANK.ids, [nearest_of_query], [0.8]),
        gallery_voters=ranked(IDS, BANK.ids, [0, 1, 2, 0], [0.7, 0.6, 0.5, 0.9]),
    )
    return before, context


def test_the_published_rule():
    after = compare_nearest_labels(*case(), NearestLabelOptions())
    assert after.positions_QK.tolist() == [[0, 1, 2, -1]]
    assert after.scores_QK[0] == pytest.approx([0.5 + 0.7, 0.9 - 0.06, 0.4 - 0.05, -np.inf])
    assert after.score_kind == "nearest-label"


def test_a_photo_without_a_landmark_agrees_with_none():
    after = compare_nearest_labels(*case(nearest_of_query=2), NearestLabelOptions())
    assert after.positions_QK.tolist() == [[1, 0, 2, -1]]
    assert after.scores_QK[0, :3] == pytest.approx([0.9 - 0.06, 0.5 - 0.07, 0.4 - 0.05])


def test_reasons_say_what_the_nearest_photos_show():
    before, context = case()
    assert compare_nearest_labels(before, context, NearestLabelOptions(), explain=True).reasons[0] == {
        0: "2 -> 1: its nearest labelled photo, cosine 0.70, shows landmark 7, as the query's",
        1: "1 -> 2: its nearest labelled photo, cosine 0.60, shows landmark 9, not that of the query's",
    }
    options = NearestLabelOptions(agree=0, disagree=-10)
    blank = compare_nearest_labels(before, context, options, explain=True).reasons[0]
    assert blank[2] == "3 -> 2: its nearest labelled photo, cosine 0.50, shows no landmark"


def test_what_is_missing_is_named_and_an_empty_gallery_stays():
    before, context = case()
    with pytest.raises(ValueError, match="nearest-label needs a vote bank"):
        compare_nearest_labels(before, Context(), NearestLabelOptions())
    empty = ranked(("q0",), (), [-1], [-np.inf])
    assert compare_nearest_labels(empty, context, NearestLabelOptions()).positions_QK.tolist() == [[-1]]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.125, 0.5]))
def test_it_agrees_with_a_plain_loop(seed, agree, disagree):
    rng = np.random.default_rng(seed)
    num, num_bank, width = int(rng.integers(1, 12)), int(rng.integers(1, 6)), int(rng.integers(1, 8))
    queries, ids = ("q0", "q1"), tuple(f"i{n}" for n in range(num))
    bank = Bank(ids=tuple(f"b{n}" for n in range(num_bank)), landmark_N=rng.integers(-1, 3, size=num_bank))
    positions, scores = np.full((2, width), -1), np.full((2, width), -np.inf)
    for row in range(2):
        some = rng.permutation(num)[:width]
        positions[row, : len(some)] = some
        scores[row, : len(some)] = -np.sort(-rng.integers(0, 8, size=len(some)) / 8)
    before = ranked(queries, ids, positions, scores)
    context = Context(
        bank=bank,
        query_voters=ranked(queries, bank.ids, rng.integers(num_bank, size=2), [0.5, 0.5]),
        gallery_voters=ranked(
            ids, bank.ids, rng.integers(num_bank, size=num), rng.integers(-4, 9, size=num) / 8
        ),
    )
    after = compare_nearest_labels(before, context, NearestLabelOptions(agree=agree, disagree=disagree))
    for row in range(2):
        expected = []
        label = bank.landmark_N[context.query_voters.positions_QK[row, 0]]
        for position, value in zip(
            before.positions_QK[row].tolist(), before.scores_QK[row].tolist(), strict=True
        ):
            if position == -1:
                continue
            nearest = context.gallery_voters.positions_QK[position, 0]
            cosine = float(context.gallery_voters.scores_QK[position, 0])
            same = bank.landmark_N[nearest] == label != -1
            expected.append((position, value + agree * cosine if same else value - disagree * cosine))
        expected.sort(key=lambda entry: (-entry[1], entry[0]))
        there = after.positions_QK[row] != -1
        found = zip(
            after.positions_QK[row][there].tolist(), after.scores_QK[row][there].tolist(), strict=True
        )
        assert list(found) == expected


def test_gallery_order_does_not_matter():
    before, context = case()
    order = np.array([2, 0, 3, 1])
    place = np.append(np.argsort(order), -1)
    voters = context.gallery_voters
    ids = tuple(IDS[n] for n in order)
    moved = replace(
        context,
        gallery_voters=ranked(ids, BANK.ids, voters.positions_QK[order], voters.scores_QK[order]),
    )
    there = ranked(("q0",), ids, place[before.positions_QK], before.scores_QK)
    one = compare_nearest_labels(before, context, NearestLabelOptions())
    other = compare_nearest_labels(there, moved, NearestLabelOptions())
    assert np.array_equal(place[one.positions_QK], other.positions_QK)
