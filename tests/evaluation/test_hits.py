"""Every figure that follows from hits, against a loop over lists of ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.evaluation.hits import (
    average_precision,
    find_hits,
    precision_to_last,
    trapezoidal_average_precision,
)
from landseer.types import PADDING, Ranking

PHOTOS = "abcdefgh"


@st.composite
def worlds(draw):
    """A ranking with padding and photos that the gallery holds twice; queries it lacks; relevant and junk photos."""
    gallery = tuple(draw(st.lists(st.sampled_from(PHOTOS), min_size=5, max_size=10)))
    num, depth = draw(st.integers(1, 4)), draw(st.integers(4, len(gallery)))
    positions = np.full((num, depth), PADDING, np.int64)
    for row in range(num):
        found = draw(st.permutations(range(len(gallery))))[
            : draw(st.sampled_from([depth, depth, depth - 2, 0]))
        ]
        positions[row, : len(found)] = found
    # all scores tie: only the order of a row may matter
    scores = np.where(positions == PADDING, -np.inf, 0.5).astype(np.float32)
    ranking = Ranking(
        query_ids=tuple(f"q{row}" for row in range(num)),
        gallery_ids=gallery,
        positions_QK=positions,
        scores_QK=scores,
    )
    queries = draw(st.permutations([*ranking.query_ids, "absent"]))
    relevant, junk = [], []
    for _ in queries:
        judged = draw(st.permutations("abcdefghz"))
        good = draw(st.integers(1, 5))
        relevant.append(tuple(judged[:good]))
        junk.append(tuple(judged[good : good + draw(st.integers(0, 4))]))
    return ranking, tuple(queries), relevant, junk


def answers_of(ranking, query):
    if query not in ranking.query_ids:
        return []
    return [photo for photo, _ in ranking.answers(ranking.query_ids.index(query))]


def slow(ranking, query, relevant, junk, junk_late):
    """(rank without junk, rank that a cut looks at) of each hit, answer by answer."""
    hits, met, rank = [], set(), 0
    for raw, photo in enumerate(answers_of(ranking, query), start=1):
        if photo in junk:
            continue
        rank += 1
        if photo in relevant and photo not in met:
            hits.append((rank, raw if junk_late else rank))
        met.add(photo)
    return hits


@settings(max_examples=50)
@given(worlds(), st.integers(1, 9), st.booleans(), st.booleans())
def test_figures_agree_with_a_slow_loop(world, k, junk_late, full_divisor):
    ranking, queries, relevant, junk = world
    hits = find_hits(ranking, queries, relevant, junk, junk_late=junk_late)
    ap_Q = average_precision(hits, k=k, full_divisor=full_divisor)
    whole_Q, within_Q = average_precision(hits, k=None), hits.num_within(k)
    for q, query in enumerate(queries):
        found = slow(ranking, query, relevant[q], junk[q], junk_late)
        m = len(relevant[q])
        total = 0.0
        for nth, (rank, cut) in enumerate(found, start=1):
            total += nth / rank if cut <= k else 0
        assert ap_Q[q] == pytest.approx(total / (m if full_divisor else min(m, k)))
        assert whole_Q[q] == pytest.approx(
            sum(nth / rank for nth, (rank, _) in enumerate(found, start=1)) / m
        )
        assert within_Q[q] == sum(cut <= k for _, cut in found)
        assert hits.first_Q[q] == (found[0][1] if found else np.inf)
    assert hits.num_relevant_Q.tolist() == [len(good) for good in relevant]


def slow_trapezoids(precisions, num_relevant):
    """The area under precision over recall, drawn answer by answer: *precisions* as (is it a hit, precision)."""
    area, before = 0.0, 1.0
    for is_hit, precision in precisions:
        area += (before + precision) / 2 / num_relevant if is_hit else 0
        before = precision
    return area


@settings(max_examples=50)
@given(worlds(), st.integers(1, 9))
def test_trapezoids_and_precision_to_the_last_agree_with_a_slow_loop(world, k):
    ranking, queries, relevant, junk = world
    hits = find_hits(ranking, queries, relevant, junk)
    area_Q, precision_Q = trapezoidal_average_precision(hits), precision_to_last(hits, k)
    for q, query in enumerate(queries):
        ranks = [rank for rank, _ in slow(ranking, query, relevant[q], junk[q], False)]
        curve = [(rank in ranks, sum(hit <= rank for hit in ranks) / rank) for rank in range(1, 20)]
        assert area_Q[q] == pytest.approx(slow_trapezoids(curve, len(relevant[q])))
        # a relevant photo that was never answered stands beyond any k
        last = max(ranks) if len(ranks) == len(relevant[q]) else k
        depth = min(k, last)
        assert precision_Q[q] == pytest.approx(sum(rank <= depth for rank in ranks) / depth)


@settings(max_examples=50)
@given(worlds(), st.integers(1, 9))
def test_junk_changes_neither_numerator_nor_denominator(world, k):
    """Taken out of the ranking beforehand, junk leaves the same hits."""
    ranking, queries, relevant, junk = world
    with_junk = find_hits(ranking, queries, relevant, junk)
    clean = np.full_like(ranking.positions_QK, PADDING)
    for row, query in enumerate(ranking.query_ids):
        bad = junk[queries.index(query)]
        kept = [
            at for at in ranking.positions_QK[row] if at != PADDING and ranking.gallery_ids[at] not in bad
        ]
        clean[row, : len(kept)] = kept
    scores = np.where(clean == PADDING, -np.inf, 0.5).astype(np.float32)
    without = Ranking(
        query_ids=ranking.query_ids, gallery_ids=ranking.gallery_ids, positions_QK=clean, scores_QK=scores
    )
    plain = find_hits(without, queries, relevant, [()] * len(queries))
    assert plain.query_H.tolist() == with_junk.query_H.tolist()
    assert plain.rank_H.tolist() == with_junk.rank_H.tolist()
    assert np.array_equal(average_precision(plain, k=k), average_precision(with_junk, k=k))


@settings(max_examples=50)
@given(worlds())
def test_small_blocks_find_the_same(world):
    ranking, queries, relevant, junk = world
    whole = find_hits(ranking, queries, relevant, junk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landseer.evaluation.hits._CELLS_AT_ONCE", 1)
        parts = find_hits(ranking, queries, relevant, junk)
    assert parts.query_H.tolist() == whole.query_H.tolist() and parts.rank_H.tolist() == whole.rank_H.tolist()


def test_no_query_at_all():
    ranking = Ranking(
        query_ids=(),
        gallery_ids=("a",),
        positions_QK=np.empty((0, 0), np.int64),
        scores_QK=np.empty((0, 0), np.float32),
    )
    hits = find_hits(ranking, (), [], [])
    assert hits.num_queries == 0 and average_precision(hits, k=1).shape == (0,)
