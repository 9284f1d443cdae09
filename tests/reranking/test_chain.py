"""Methods one after the other: what each gets, costs and moves, and what is told of it."""

from dataclasses import replace

import numpy as np
import pytest

from landseer.recipe import ExpansionOptions, NearestLabelOptions, ReciprocalOptions, TwoStageOptions
from landseer.reranking import Bank, Context, num_moved, rerank
from landseer.reranking.neighbours.expansion import expand
from landseer.reranking.neighbours.reciprocal import rerank_reciprocal
from landseer.reranking.voting.nearest_label import compare_nearest_labels
from landseer.reranking.voting.two_stage import sort_and_insert
from landseer.search import search_exact
from landseer.types import PADDING, Descriptors, Ranking


def descriptors(prefix, num, seed, dim=8):
    rows = np.random.default_rng(seed).standard_normal((num, dim)) + 0.5
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(num)), rows_ND=rows)


@pytest.fixture
def world():
    queries, gallery, labelled = (
        descriptors(p, n, s) for p, n, s in (("q", 6, 1), ("g", 60, 2), ("b", 40, 3))
    )
    bank = Bank(ids=labelled.ids, landmark_N=np.arange(40) % 4, descriptors=labelled)
    return search_exact(queries, gallery, k=20), Context(queries=queries, gallery=gallery, bank=bank)


def same(one, other):
    return np.array_equal(one.positions_QK, other.positions_QK) and np.array_equal(
        one.scores_QK, other.scores_QK
    )


def test_each_method_works_on_what_the_one_before_left(world):
    ranking, context = world
    chain = (ExpansionOptions(query_neighbours=3), TwoStageOptions(threshold=None))
    done = rerank(ranking, chain, context)
    by_hand = expand(ranking, context, chain[0])
    assert same(done.ranking, sort_and_insert(by_hand, context, chain[1]))
    assert not same(done.ranking, rerank(ranking, chain[::-1], context).ranking)
    assert [step.method for step in done.steps] == ["expansion", "two-stage"]
    assert [step.moved for step in done.steps] == [
        num_moved(ranking, by_hand),
        num_moved(by_hand, done.ranking),
    ]
    assert all(step.seconds > 0 and step.peak_bytes >= 0 for step in done.steps)


def test_an_empty_chain_changes_nothing(world):
    ranking, context = world
    assert rerank(ranking, (), context).ranking is ranking


def test_mixed_descriptors_are_passed_on_only_where_asked(world):
    ranking, context = world
    after = ReciprocalOptions(k1=5, k2=2)
    kept, passed = (
        ExpansionOptions(query_neighbours=2, gallery_neighbours=2, pass_on=on) for on in (False, True)
    )
    expanded = expand(ranking, context, kept)
    assert same(rerank(ranking, (kept, after), context).ranking, rerank_reciprocal(expanded, context, after))
    queries, gallery = context._kept["queries and gallery as expansion left them"]
    assert not np.allclose(queries.rows_ND, context.queries.rows_ND)
    mixed = Context(queries=queries, gallery=gallery, bank=context.bank)
    found = rerank(ranking, (passed, after), context).ranking
    assert same(found, rerank_reciprocal(expanded, mixed, after))
    assert not same(found, rerank_reciprocal(expanded, context, after))


def test_reasons_of_all_methods_are_kept_when_asked(world):
    ranking, context = world
    chain = (ExpansionOptions(query_neighbours=3), NearestLabelOptions())
    assert rerank(ranking, chain, context).ranking.reasons == ()
    told = rerank(ranking, chain, context, explain=True).ranking
    first = expand(ranking, context, chain[0], explain=True)
    second = compare_nearest_labels(replace(first, reasons=()), context, chain[1], explain=True)
    assert same(told, second) and len(told.reasons) == len(ranking)
    several = 0
    for row, reasons in enumerate(told.reasons):
        for position in told.positions_QK[row].tolist():
            parts = [
                f"{options.method}: {step.reasons[row][position]}"
                for options, step in zip(chain, (first, second), strict=True)
                if position in step.reasons[row]
            ]
            assert reasons.get(position, "") == "; ".join(parts)
            several += len(parts) > 1
        assert set(reasons) <= set(told.positions_QK[row].tolist())
    assert several, "some answer was moved by both"
    alone = rerank(ranking, chain[:1], context, explain=True).ranking
    assert alone.reasons == tuple(
        {position: why for position, why in reasons.items() if position in row}
        for reasons, row in zip(first.reasons, first.positions_QK.tolist(), strict=True)
    )


def test_moved_counts_other_ranks_and_new_answers():
    def ranked(*rows):
        positions = np.array(rows, np.int64)
        falling = -np.arange(positions.shape[1], dtype=np.float32)
        return Ranking(
            query_ids=tuple(f"q{n}" for n in range(len(rows))),
            gallery_ids=tuple("abcdef"),
            positions_QK=positions,
            scores_QK=np.where(positions == PADDING, -np.inf, falling).astype(np.float32),
        )

    before = ranked([0, 1, 2], [3, 4, PADDING])
    assert num_moved(before, before) == 0
    assert num_moved(before, ranked([1, 0, 2], [3, 4, PADDING])) == 2
    assert num_moved(before, ranked([0, 1, 5], [3, 4, 5])) == 2
    assert num_moved(before, ranked([0, 1, 2, 5], [3, 4, PADDING, PADDING])) == 1
    assert num_moved(before, ranked([0, 1], [3, PADDING])) == 0
