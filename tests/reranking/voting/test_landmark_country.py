from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landseer.recipe import LandmarkCountryOptions
from landseer.reranking.context import Bank, Context
from landseer.reranking.voting import landmark_country, within
from landseer.reranking.voting.landmark_country import add_landmark_country
from landseer.search import score, search_exact
from landseer.types import Descriptors, Ranking

COSINE = {"voting": "cosine"}
COUNTRIES = ("CN", "FR", "IN", "PE")


def descriptors(prefix, rows, **facts):
    rows = np.asarray(rows, np.float32)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows, **facts)


def ranked(query_ids, gallery_ids, positions, scores, **facts):
    positions = np.array(positions, np.int64).reshape(len(query_ids), -1)
    scores = np.array(scores, np.float32).reshape(positions.shape)
    return Ranking(
        query_ids=query_ids, gallery_ids=gallery_ids, positions_QK=positions, scores_QK=scores, **facts
    )


# Bank: L7 CN, L7 CN, L3 IN, L9 CN, L9 FR.  A query has its cosine to each gallery photo in a component of its own.
BANK = Bank(
    ids=("b0", "b1", "b2", "b3", "b4"),
    landmark_N=np.array([7, 7, 3, 9, 9], np.int64),
    country_N=np.array([0, 0, 2, 0, 1], np.int16),
    countries=COUNTRIES,
)


def example(cosines, nearest, voters):
    """One query: its cosines, the nearest bank photo of each gallery photo, and its own voters (position, cosine)."""
    num = len(cosines)
    queries, gallery = descriptors("q", [cosines], normalised=False), descriptors("i", np.eye(num))
    context = Context(
        queries=queries,
        gallery=gallery,
        bank=BANK,
        query_voters=ranked(queries.ids, BANK.ids, [p for p, _ in voters], [c for _, c in voters]),
        gallery_voters=ranked(gallery.ids, BANK.ids, nearest, [0.9] * num),
    )
    return search_exact(queries, gallery, k=num), context


WORKED = ([0.30, 0.60, 0.80, 0.85], [0, 2, 3, 4], [(0, 0.8), (1, 0.6), (2, 0.6)])


def test_the_worked_example_normalised():
    before, context = example(*WORKED)
    assert before.positions_QK.tolist() == [[3, 2, 1, 0]]
    after = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE))
    assert after.positions_QK.tolist() == [[0, 1, 2, 3]]
    assert after.scores_QK[0] == pytest.approx([1.07, 0.93, 0.87, 0.85], abs=1e-6)
    assert after.score_kind == "landmark-country"


def test_the_worked_example_raw():
    before, context = example(*WORKED)
    after = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE, normalise=False))
    assert after.scores_QK[0] == pytest.approx([0.30 + 1.4 + 0.14, 0.60 + 0.6 + 0.06, 0.94, 0.85], abs=1e-6)
    assert after.positions_QK.tolist() == [[0, 1, 2, 3]]


def test_the_numbers_of_the_slides_raw():
    # landmark .7, country .9 not normalised, alpha 1, beta .1: .7 -> 1.49, .1 -> .89, .6 -> .60, .5 -> .59
    before, context = example([0.7, 0.1, 0.6, 0.5], [0, 0, 4, 3], [(0, 0.7), (3, 0.2)])
    bank = replace(BANK, landmark_N=np.array([7, 7, 3, -1, 9], np.int64))
    context = replace(context, bank=bank)
    options = LandmarkCountryOptions(**COSINE, voters=2, normalise=False)
    after = add_landmark_country(before, context, options)
    assert after.positions_QK.tolist() == [[0, 1, 2, 3]]
    assert after.scores_QK[0] == pytest.approx([1.49, 0.89, 0.60, 0.59], abs=1e-6)


def test_the_hard_variant():
    before, context = example(*WORKED)
    after = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE, hard=True))
    assert after.positions_QK.tolist() == [[0, 2, 3, 1]]
    assert after.scores_QK[0] == pytest.approx([0.3 + 1 + 0.1, 0.9, 0.85, 0.6], abs=1e-6)


def test_landmark_or_country_alone():
    before, context = example(*WORKED)
    landmark = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE, beta=0))
    assert landmark.scores_QK[0] == pytest.approx([1.0, 0.9, 0.85, 0.8], abs=1e-6)
    country = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE, alpha=0))
    assert country.scores_QK[0] == pytest.approx([0.87, 0.85, 0.63, 0.37], abs=1e-6)
    placeless = replace(context, bank=replace(BANK, country_N=None))
    same = add_landmark_country(before, placeless, LandmarkCountryOptions(**COSINE, beta=0))
    assert np.array_equal(same.scores_QK, landmark.scores_QK)


def test_reasons_name_the_voters_and_the_country():
    before, context = example(*WORKED)
    reasons = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE), explain=True).reasons
    assert reasons[0] == {
        0: "4 -> 1: landmark 7 voted +0.70 by photos b0 and b1; country CN +0.07",
        1: "3 -> 2: landmark 3 voted +0.30 by photo b2; country IN +0.03",
        2: "2 -> 3: country CN +0.07",
        3: "1 -> 4: no vote for its landmark or country, unlike others",
    }


def test_what_is_missing_is_named():
    before, context = example(*WORKED)
    for changes, message in (
        ({"bank": None}, "landmark-country needs a vote bank"),
        (
            {"bank": replace(BANK, country_N=None)},
            "countries of the vote bank; none are known, so say beta = 0",
        ),
        ({"queries": None}, "landmark-country needs descriptors of the queries"),
        ({"query_voters": None}, "landmark-country needs descriptors of the vote bank"),
    ):
        with pytest.raises(ValueError, match=message):
            add_landmark_country(before, replace(context, **changes), LandmarkCountryOptions(**COSINE))
    with pytest.raises(ValueError, match=r'needs descriptors of the vote bank.*or say voting = "cosine"'):
        add_landmark_country(before, context, LandmarkCountryOptions())


# Small worlds in multiples of 1/4, so that scores are exact and ties abound.


def world(seed, *, num_models=1, exact=True, removed=0.1):
    """A ranking by exact search, a context whose tags and voters come from searching the bank, and the width."""
    rng = np.random.default_rng(seed)
    num_queries, num, num_bank, dim = 4, int(rng.integers(1, 40)), int(rng.integers(1, 25)), 3
    ids = tuple("" if rng.random() < removed else f"i{n}" for n in range(num))

    def rows(count):
        if exact:
            return rng.integers(-2, 5, size=(count, dim)).astype(np.float32) / 4
        made = rng.standard_normal((count, dim)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    contexts = []
    for number in range(num_models):
        facts = {"normalised": not exact}
        queries, labelled = (
            descriptors("q", rows(num_queries), **facts),
            descriptors("b", rows(num_bank), **facts),
        )
        gallery = descriptors("i", rows(num), **facts)
        bank = Bank(
            ids=labelled.ids,
            landmark_N=rng.integers(-1, 5, size=num_bank),
            country_N=rng.integers(-1, 3, size=num_bank).astype(np.int16),
            countries=COUNTRIES,
            descriptors=labelled,
        )
        contexts.append(
            Context(
                queries=queries,
                gallery=gallery,
                bank=bank,
                query_voters=search_exact(queries, labelled, k=3),
                gallery_voters=replace(search_exact(gallery, labelled, k=1), query_ids=ids),
                weight=1.0 if num_models == 1 else (0.5, 2.0, 1.0)[number],
            )
        )
    return contexts, ids, int(rng.integers(1, 8))


def named_anew(context, ids):
    """*context* with gallery ids of a living index, whose removed photos have none."""
    gallery = context.gallery
    bare = object.__new__(Descriptors)
    for name in ("rows_ND", "metric", "normalised", "fingerprint", "unreadable"):
        object.__setattr__(bare, name, getattr(gallery, name))
    object.__setattr__(bare, "ids", ids)
    return replace(context, gallery=bare)


def search_living(queries, gallery, *, k):
    """Exact search among the photos that are not removed."""
    live = [n for n, photo in enumerate(gallery.ids) if photo]
    some = Descriptors(
        ids=tuple(gallery.ids[n] for n in live), rows_ND=gallery.rows_ND[live], normalised=gallery.normalised
    )
    found = search_exact(queries, some, k=k)
    positions = np.append(np.array(live, np.int64), -1)[found.positions_QK]
    return replace(found, gallery_ids=gallery.ids, positions_QK=positions)


def slow_table(contexts, options, ids):
    """The whole table [Q, N], photo by photo, in float64; -inf for removed photos."""
    models = [(c, c.weight if len(contexts) > 1 else 1.0) for c in contexts]
    table = np.full((len(contexts[0].queries), len(ids)), -np.inf)
    for query in range(table.shape[0]):
        for photo in range(table.shape[1]):
            if not ids[photo]:
                continue
            # one dot product of the rows side by side, rounded once
            left = np.concatenate([c.queries.rows_ND[query] * np.float32(w) for c, w in models])
            right = np.concatenate([c.gallery.rows_ND[photo] for c, _ in models])
            total = float(score(left, right))
            for context, weight in models:
                counts = weight if options.merge == "before" else 1.0
                for factor, labels in (
                    (options.alpha, context.bank.landmark_N),
                    (options.beta, context.bank.country_N),
                ):
                    nearest = context.gallery_voters.positions_QK[photo, 0]
                    tag = int(labels[nearest])
                    total += slow_vote(context, labels, query, options).get(tag, 0.0) * factor * counts
            table[query, photo] = total
    return table


def slow_vote(context, labels, query, options):
    voters = context.query_voters
    votes = {}
    for position, cosine in zip(
        voters.positions_QK[query, : options.voters].tolist(),
        voters.scores_QK[query, : options.voters].tolist(),
        strict=True,
    ):
        if position != -1 and labels[position] != -1:
            votes[int(labels[position])] = votes.get(int(labels[position]), 0.0) + max(cosine, 0.0)
    if options.hard:
        best = max(votes, key=lambda at: votes[at], default=-1)
        return {best: 1.0} if votes.get(best, 0) > 0 else {}
    total = sum(votes.values())
    return {label: vote / total for label, vote in votes.items()} if options.normalise and total else votes


def slow_ranking(table, k):
    """The best of each row by score, rounded to float32, then position."""
    rows = []
    for total in table.astype(np.float32):
        best = sorted(np.flatnonzero(total > -np.inf).tolist(), key=lambda n: (-total[n], n))[:k]
        rows.append([(n, float(total[n])) for n in best])
    return rows


OPTIONS = st.builds(
    LandmarkCountryOptions,
    voters=st.integers(1, 3),
    voting=st.just("cosine"),
    normalise=st.booleans(),
    alpha=st.sampled_from([0, 0.5, 1]),
    beta=st.sampled_from([0, 0.125, 1]),
    hard=st.booleans(),
    merge=st.sampled_from(["before", "after"]),
)


def agrees(after, expected):
    for row, best in enumerate(expected):
        there = after.positions_QK[row] != -1
        assert after.positions_QK[row][there].tolist() == [n for n, _ in best]
        assert after.scores_QK[row][there] == pytest.approx([value for _, value in best], abs=1e-6)


@pytest.fixture(params=["scored", "searched"])
def large_parts(request, monkeypatch):
    """Parts of the gallery with more photos than asked for: all scored, or searched in."""
    monkeypatch.setattr(within, "_WORTH_A_SEARCH", 1 if request.param == "searched" else 10**9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), OPTIONS)
def test_sparse_candidates_give_the_whole_tables_answers(large_parts, seed, options):
    (context,), ids, k = world(seed)
    context = named_anew(context, ids)
    before = search_living(context.queries, context.gallery, k=k)
    after = add_landmark_country(before, context, options)
    agrees(after, slow_ranking(slow_table([context], options, ids), k))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), OPTIONS, st.integers(2, 3))
def test_so_do_those_of_several_models(seed, options, num_models):
    contexts, ids, k = world(seed, num_models=num_models, removed=0)
    together = [
        descriptors(
            prefix,
            np.concatenate(
                [getattr(c, what).rows_ND * (c.weight if what == "queries" else 1) for c in contexts], 1
            ),
            normalised=False,
        )
        for prefix, what in (("q", "queries"), ("i", "gallery"))
    ]
    before = search_exact(*together, k=k)
    before = replace(before, scores_QK=before.scores_QK / 2)  # the cosines are summed anew
    after = add_landmark_country(before, Context(models=tuple(contexts)), options)
    agrees(after, slow_ranking(slow_table(contexts, options, ids), k))


def test_models_that_count_alike_give_the_same_before_and_after_merging():
    contexts, _, k = world(5, num_models=2, removed=0, exact=False)
    context = Context(models=tuple(replace(c, weight=1.0) for c in contexts))
    before = search_exact(contexts[0].queries, contexts[0].gallery, k=k)
    one, other = (
        add_landmark_country(before, context, LandmarkCountryOptions(**COSINE, merge=merge))
        for merge in ("before", "after")
    )
    assert np.array_equal(one.positions_QK, other.positions_QK)
    assert np.array_equal(one.scores_QK, other.scores_QK)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_photos_within_countries_may_be_given(seed):
    (context,), ids, k = world(seed, removed=0)
    before = search_exact(context.queries, context.gallery, k=k)
    options = LandmarkCountryOptions(**COSINE)
    expected = add_landmark_country(before, context, options)
    everything = search_exact(context.queries, context.gallery, k=len(ids))
    tag_N = context.bank.country_N[context.gallery_voters.positions_QK[:, 0]]
    kept = np.zeros(everything.positions_QK.shape, bool)
    for country in range(len(COUNTRIES)):  # the k nearest of every country
        within_QN = tag_N[everything.positions_QK] == country
        kept |= within_QN & (np.cumsum(within_QN, axis=1) <= k)
    order = np.argsort(~kept, axis=1, kind="stable")
    positions = np.where(
        np.take_along_axis(kept, order, 1), np.take_along_axis(everything.positions_QK, order, 1), -1
    )
    scores = np.where(positions == -1, -np.inf, np.take_along_axis(everything.scores_QK, order, 1))
    given_too = replace(everything, positions_QK=positions, scores_QK=scores.astype(np.float32))
    after = add_landmark_country(before, replace(context, in_country=given_too, _kept={}), options)
    assert np.array_equal(after.positions_QK, expected.positions_QK)
    assert np.array_equal(after.scores_QK, expected.scores_QK)


def test_too_few_photos_within_a_country_are_refused():
    before, context = example(*WORKED)
    fewer = ranked(before.query_ids, before.gallery_ids, [2, -1], [0.8, -np.inf])
    with pytest.raises(
        ValueError, match="of a country that query 'q0' was voted to show, fewer than 4 photos"
    ):
        add_landmark_country(before, replace(context, in_country=fewer), LandmarkCountryOptions(**COSINE))
    strange = replace(fewer, query_ids=("other",))
    with pytest.raises(ValueError, match="within countries are of other queries"):
        add_landmark_country(before, replace(context, in_country=strange), LandmarkCountryOptions(**COSINE))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_gallery_order_does_not_matter(seed):
    (context,), ids, k = world(seed, exact=False, removed=0)
    order = np.random.default_rng(seed).permutation(len(ids))
    options = LandmarkCountryOptions(**COSINE)
    voters = context.gallery_voters
    moved = replace(
        context,
        gallery=context.gallery.take([ids[n] for n in order]),
        gallery_voters=replace(
            voters,
            query_ids=tuple(ids[n] for n in order),
            positions_QK=voters.positions_QK[order],
            scores_QK=voters.scores_QK[order],
        ),
        _kept={},
    )
    one, other = (
        add_landmark_country(search_exact(c.queries, c.gallery, k=k), c, options) for c in (context, moved)
    )
    assert np.array_equal(one.positions_QK, np.append(order, -1)[other.positions_QK])
    assert np.array_equal(one.scores_QK, other.scores_QK)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 5), st.integers(1, 6))
def test_voters_by_k_reciprocal_are_those_of_the_definition(seed, blend, candidates, k1):
    from landseer.reranking.neighbours.jaccard import local_jaccard
    from landseer.reranking.voting.voters import reciprocal_voters

    (context,), _, k = world(seed, exact=False, removed=0)
    options = LandmarkCountryOptions(candidates=candidates, k1=k1, k2=2, blend=blend)
    before = search_exact(context.queries, context.gallery, k=k)
    labelled = context.bank.descriptors
    searched = replace(context, query_voters=None)
    found = reciprocal_voters(before, searched, options, method="landmark-country")
    assert found.score_kind == "k-reciprocal"
    for row, query in enumerate(context.queries.rows_ND):
        distance_N = (1 - labelled.rows_ND.astype(float) @ query.astype(float)) / 2
        similar_N = 1 - blend - (1 - blend) * distance_N  # J = 1 outside the candidates
        near = np.argsort(distance_N, kind="stable")[:candidates]
        around = {int(n) for n in near}
        for n in near:
            distances = -labelled.rows_ND.astype(float) @ labelled.rows_ND[n].astype(float)
            around |= set(np.argsort(distances, kind="stable")[:candidates].tolist())
        members = sorted(around)
        similar_N[members] += blend * (1 - local_jaccard(query, labelled.rows_ND[members], k1=k1, k2=2))
        num = min(3, len(members))
        best = np.sort(similar_N[members])[::-1][:num]
        assert found.scores_QK[row, :num] == pytest.approx(best, abs=1e-6)
        assert found.positions_QK[row, num:].tolist() == [-1] * (3 - num)
        assert similar_N[found.positions_QK[row, :num]] == pytest.approx(best, abs=1e-6)
        if candidates >= 3:  # then no photo but a candidate is among the best of all
            assert np.sort(similar_N)[::-1][:num] == pytest.approx(best, abs=1e-6)


def test_voters_by_k_reciprocal_can_be_given():
    before, context = example(*WORKED)
    voters = replace(context.query_voters, score_kind="k-reciprocal")
    after = add_landmark_country(before, replace(context, query_voters=voters), LandmarkCountryOptions())
    assert after.scores_QK[0] == pytest.approx([1.07, 0.93, 0.87, 0.85], abs=1e-6)
    with pytest.raises(ValueError, match="weighed by k-reciprocal, not by cosine"):
        add_landmark_country(before, replace(context, query_voters=voters), LandmarkCountryOptions(**COSINE))


def test_many_queries_are_done_in_blocks(monkeypatch):
    (context,), ids, k = world(8)
    context = named_anew(context, ids)
    before = search_living(context.queries, context.gallery, k=k)
    whole = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE))
    for name, least in (("_CANDIDATES_AT_ONCE", 2), ("_CELLS_AT_ONCE", 1), ("_QUERIES_AT_ONCE", 3)):
        monkeypatch.setattr(landmark_country, name, least)
        monkeypatch.setattr(within, "_QUERIES_AT_ONCE", 1)
        monkeypatch.setattr(within, "_CELLS_SHARED", 1)
        monkeypatch.setattr(within, "_CELLS_AT_ONCE", 1)
        monkeypatch.setattr(within, "_PAIRS_AT_ONCE", 3)
        again = add_landmark_country(before, context, LandmarkCountryOptions(**COSINE))
        assert np.array_equal(whole.positions_QK, again.positions_QK)
        assert np.array_equal(whole.scores_QK, again.scores_QK)


def test_an_empty_gallery_and_a_bank_without_labels():
    empty = ranked(("q0",), (), [[-1, -1]], [[-np.inf, -np.inf]])
    assert add_landmark_country(empty, Context(), LandmarkCountryOptions()).positions_QK.tolist() == [
        [-1, -1]
    ]
    before, context = example(*WORKED)
    blank = replace(BANK, landmark_N=np.full(5, -1, np.int64), country_N=np.full(5, -1, np.int16))
    after = add_landmark_country(before, replace(context, bank=blank), LandmarkCountryOptions(**COSINE))
    assert np.array_equal(after.positions_QK, before.positions_QK)
    assert np.array_equal(after.scores_QK, before.scores_QK)


def test_an_approximate_search_may_find_fewer(monkeypatch):
    before, context = example([0.9, 0.8, 0.7, 0.6], [0, 3, 0, 3], [(0, 0.8)] * 1 + [(1, 0.6), (3, 0.5)])

    def half_blind(queries, gallery, *, k):
        found = search_exact(queries, gallery, k=k)
        positions, scores = found.positions_QK.copy(), found.scores_QK.copy()
        positions[:, 1:], scores[:, 1:] = -1, -np.inf
        return replace(found, positions_QK=positions, scores_QK=scores)

    monkeypatch.setattr(within, "_WORTH_A_SEARCH", 1)
    one = replace(
        before, positions_QK=np.array([[1, -1, -1]]), scores_QK=np.float32([[0.8, -np.inf, -np.inf]])
    )
    options = LandmarkCountryOptions(**COSINE, alpha=0)
    after = add_landmark_country(one, replace(context, search=half_blind), options)
    assert after.positions_QK.tolist() == [[0, 1, -1]]  # of four photos in CN one was found, one was there
    assert after.scores_QK[0] == pytest.approx([1.0, 0.9, -np.inf])
