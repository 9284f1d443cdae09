import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.recipe import TwoStageOptions
from landseer.reranking.context import Bank, Context
from landseer.reranking.voting.two_stage import sort_and_insert
from landseer.types import Ranking

LABELS = [-1, 0, 1, 2, 3, 4, 5, 6, 7]  # of the bank, so that label l is at position l + 1


def voted(of, photos, *, prefix="g"):
    """Voters of *photos*, each a list of (label, similarity), best first."""
    width = max((len(voters) for voters in photos), default=1)
    positions = np.full((len(photos), width), -1, np.int64)
    scores = np.full((len(photos), width), -np.inf, np.float32)
    for row, voters in enumerate(photos):
        for place, (position, similarity) in enumerate(voters):
            positions[row, place], scores[row, place] = position, similarity
    return Ranking(query_ids=of, gallery_ids=BANK.ids, positions_QK=positions, scores_QK=scores)


BANK = Bank(
    ids=tuple(f"b{n}" for n in range(3 * len(LABELS))),  # three photos of each label, as a voter votes once
    landmark_N=np.array(LABELS * 3, np.int64),
)


def ranked(gallery_ids, rows, scores=None, **facts):
    positions = np.array(rows, np.int64).reshape(len(rows), -1)
    if scores is None:
        falling = np.linspace(0.9, 0.1, positions.shape[1], dtype=np.float32)
        scores = np.where(positions == -1, -np.inf, falling).astype(np.float32)
    return Ranking(
        query_ids=tuple(f"q{n}" for n in range(len(rows))),
        gallery_ids=gallery_ids,
        positions_QK=positions,
        scores_QK=np.array(scores, np.float32),
        **facts,
    )


def shown(ranking, row=0):
    return "".join(photo for photo, _ in ranking.answers(row))


def at(label):
    return LABELS.index(label)


# The worked example: list [a:5, b:7, c:7, d:2], query label 7 with .4; e .95, g .5, f .1 have label 7, too.
EXAMPLE = {
    "a": (5, 0.6),
    "b": (7, 0.8),
    "c": (7, 0.3),
    "d": (2, 0.9),
    "e": (7, 0.95),
    "f": (7, 0.1),
    "g": (7, 0.5),
}
IDS = tuple(EXAMPLE)


def example(rows=((0, 1, 2, 3),), ids=IDS, **facts):
    before = ranked(ids, list(rows), **facts)
    context = Context(
        bank=BANK,
        query_voters=voted(before.query_ids, [[(at(7), 0.4)]] * len(rows)),
        gallery_voters=voted(ids, [[(at(label), score)] for label, score in EXAMPLE.values()]),
    )
    return before, context


def run(options, *, rows=((0, 1, 2, 3, -1, -1, -1),), explain=False, ids=IDS, **facts):
    before, context = example(rows, ids, **facts)
    return sort_and_insert(before, context, TwoStageOptions(voters=1, **options), explain=explain)


def test_the_worked_example():
    assert shown(run({})) == "bcegad"
    assert shown(run({"threshold": None})) == "bcegfad"
    assert shown(run({}, rows=((0, 1, 2, 3),))) == "bceg"  # cut to the width


def test_a_sum_equal_to_the_threshold_is_not_enough():
    before, _ = example(((0, 3, -1),))
    context = Context(
        bank=BANK,
        query_voters=voted(before.query_ids, [[(at(7), 0.5)]]),
        gallery_voters=voted(IDS, [[(at(7 if n in (4, 6) else 5), 0.25 + n / 64)] for n in range(7)]),
    )
    after = sort_and_insert(before, context, TwoStageOptions(voters=1, threshold=0.75 + 4 / 64))
    assert shown(after) == "gad"  # e's sum is the threshold itself


def test_each_step_alone():
    assert shown(run({"insert": False})) == "bcad"
    assert shown(run({"sort": False})) == "abcegd"  # after the last answer of the landmark


def test_without_a_positive_the_insertions_come_first():
    lost = ((0, 3, -1, -1, -1, -1),)  # c passes: .4 + .3 > .6
    assert shown(run({}, rows=lost)) == "ebgcad"
    assert shown(run({"sort": False}, rows=lost)) == "ebgcad"


def test_the_historic_variants():
    # 2 cos - 1 instead of cos, not divided: the query has -.2, e .9, b .6, g 0, c -.4, f -.8
    old = {"similarity": "1-d2", "normalise": False, "threshold": None}
    assert shown(run(old)) == "bcegfad"
    assert shown(run({**old, "order": "gallery"})) == "bcefgad"
    assert shown(run({**old, "positive": True})) == "bcad"  # the query's own vote is not above 0
    assert shown(run({**old, "threshold": 0.5})) == "bcead"  # .9 - .2 = .7; 0 - .2 is too little


def test_scores_are_tiers_and_never_rise():
    found = run({})
    assert found.score_kind == "tier"
    before = example(((0, 1, 2, 3, -1, -1, -1),))[0].scores_QK[0]
    expected = [4 + before[1], 4 + before[2], 2 + 0.95, 2 + 0.5, before[0], before[3]]
    assert found.scores_QK[0, :6] == pytest.approx(expected, abs=1e-6)
    assert found.positions_QK[0, 6] == -1 and found.scores_QK[0, 6] == -np.inf
    by_gallery = run({"threshold": None, "order": "gallery"})
    assert by_gallery.scores_QK[0, 2:5] == pytest.approx([2.95, 2.1, 2.1])  # f before g: the lowest so far


def test_scores_that_are_no_cosines_are_squeezed_in_order():
    wide = [[120.0, 3.0, 0.0, -50.0, -np.inf, -np.inf, -np.inf]]
    found = run({}, scores=wide, score_kind="dot")
    assert shown(found) == "bcegad"
    assert found.scores_QK[0, [0, 1, 4, 5]] == pytest.approx([4.75, 4, 120 / 121, -50 / 51])
    above = run({}, scores=[[1.002, 1.001, 0.5, -1, -np.inf, -np.inf, -np.inf]])
    assert above.scores_QK[0, 0] == 5  # the rounding of float16 rows may lift a cosine above 1


def test_a_query_without_a_landmark_stays():
    before, context = example(((3, 0, 1, 2),))
    lost = Context(
        bank=BANK,
        query_voters=voted(before.query_ids, [[(at(-1), 0.9)]]),
        gallery_voters=context.gallery_voters,
    )
    after = sort_and_insert(before, lost, TwoStageOptions(voters=1, threshold=None))
    assert np.array_equal(after.positions_QK, before.positions_QK)


def test_removed_photos_are_never_inserted():
    ids = tuple("" if photo == "e" else photo for photo in IDS)
    assert shown(run({}, ids=ids)) == "bcgad"


def test_reasons_say_who_voted():
    found = run({}, explain=True)
    place = IDS.index
    assert found.reasons[0] == {
        place("b"): "2 -> 1: landmark 7 voted 0.40 by photo b8; this photo 0.80 by photo b8",
        place("c"): "3 -> 2: landmark 7 voted 0.40 by photo b8; this photo 0.30 by photo b8",
        place("e"): "new -> 3: landmark 7 voted 0.40 by photo b8; this photo 0.95 by photo b8",
        place("g"): "new -> 4: landmark 7 voted 0.40 by photo b8; this photo 0.50 by photo b8",
        place("a"): "1 -> 5: behind photos of landmark 7, which the query was voted to show",
        place("d"): "4 -> 6: behind photos of landmark 7, which the query was voted to show",
    }


def test_what_is_missing_is_named():
    before, context = example()
    with pytest.raises(ValueError, match="two-stage needs a vote bank"):
        sort_and_insert(before, Context(), TwoStageOptions())
    with pytest.raises(ValueError, match="two-stage: 1 voters a photo are given, but 3 vote"):
        sort_and_insert(before, context, TwoStageOptions())


def test_the_gallery_is_voted_on_once():
    before, context = example()
    sort_and_insert(before, context, TwoStageOptions(voters=1))
    (kept,) = context._kept.values()
    sort_and_insert(before, context, TwoStageOptions(voters=1, threshold=0.1))
    assert [one is kept for one in context._kept.values()] == [True]


def test_an_empty_gallery_and_no_queries():
    empty = ranked((), [[-1, -1]])
    context = Context(
        bank=BANK, query_voters=voted(empty.query_ids, [[(at(7), 0.4)]]), gallery_voters=voted((), [])
    )
    assert sort_and_insert(empty, context, TwoStageOptions(voters=1)).positions_QK.tolist() == [[-1, -1]]
    nobody = Ranking(
        query_ids=(),
        gallery_ids=IDS,
        positions_QK=np.empty((0, 4), np.int64),
        scores_QK=np.empty((0, 4), np.float32),
    )
    context = Context(bank=BANK, query_voters=voted((), []), gallery_voters=example()[1].gallery_voters)
    assert len(sort_and_insert(nobody, context, TwoStageOptions(voters=1))) == 0


def slow_vote(voters, options):
    """(label, score) as the definition says, with a dictionary."""
    votes = {}
    for position, cosine in voters[: options.voters]:
        weight = cosine if options.similarity == "cosine" else 2 * cosine - 1
        label = int(BANK.landmark_N[position])
        if label != -1:
            votes[label] = votes.get(label, 0.0) + weight
    if not votes:
        return -1, 0.0
    label = max(votes, key=lambda at: votes[at])
    return label, votes[label] / (options.voters if options.normalise else 1)


def slow_row(row, query, gallery, ids, options):
    """Section 4.5, line by line: the positions of one row, before."""
    width, row = len(row), [n for n in row if n != -1]
    label, score = slow_vote(query, options)
    own = [slow_vote(voters, options) for voters in gallery]
    positives = [n for n in row if own[n][0] == label != -1]
    insert = []
    if options.insert and label != -1:
        insert = [n for n in range(len(gallery)) if own[n][0] == label and n not in row and ids[n]]
        if options.threshold is not None:
            insert = [n for n in insert if score + own[n][1] > options.threshold]
        if options.positive:
            insert = [n for n in insert if score > 0 and own[n][1] > 0]
        if options.order == "score":
            insert.sort(key=lambda n: (-own[n][1], n))
    leading = positives if options.sort else row[: max((row.index(n) + 1 for n in positives), default=0)]
    found = (leading + insert + [n for n in row if n not in leading])[:width]
    return found + [-1] * (width - len(found))


OPTIONS = st.builds(
    TwoStageOptions,
    voters=st.integers(1, 3),
    similarity=st.sampled_from(["cosine", "1-d2"]),
    normalise=st.booleans(),
    sort=st.just(True),
    insert=st.booleans(),
    threshold=st.sampled_from([None, 0.6, 0.1, -0.5]),
    positive=st.booleans(),
    order=st.sampled_from(["score", "gallery"]),
) | st.builds(
    TwoStageOptions, sort=st.just(False), insert=st.just(True), threshold=st.sampled_from([None, 0.3])
)


def random_voters(rng, num, *, exact):
    found = []
    for _ in range(num):
        cosines = (
            rng.integers(-4, 9, size=3) / 8 if exact else rng.uniform(-0.2, 1, size=3).astype(np.float32)
        )
        positions = rng.choice(12, size=3, replace=False) % 4 + len(LABELS) * np.arange(3)
        found.append([(int(p), float(c)) for p, c in zip(positions, np.sort(cosines)[::-1], strict=True)])
    return found


def random_case(rng, *, exact):
    num, width = int(rng.integers(1, 25)), int(rng.integers(1, 9))
    ids = tuple("" if rng.random() < 0.1 else f"g{n}" for n in range(num))
    rows = []
    for _ in range(4):
        chosen = rng.permutation(num)[: rng.integers(0, min(num, width) + 1)].tolist()
        rows.append(chosen + [-1] * (width - len(chosen)))
    query, gallery = random_voters(rng, 4, exact=exact), random_voters(rng, num, exact=exact)
    before = ranked(ids, rows)
    context = Context(
        bank=BANK, query_voters=voted(before.query_ids, query), gallery_voters=voted(ids, gallery)
    )
    return before, context, query, gallery


@given(st.integers(0, 2**32 - 1), OPTIONS)
def test_it_agrees_with_the_slow_oracle(seed, options):
    before, context, query, gallery = random_case(np.random.default_rng(seed), exact=True)
    after = sort_and_insert(before, context, options)
    for row, voters in enumerate(query):
        expected = slow_row(before.positions_QK[row].tolist(), voters, gallery, before.gallery_ids, options)
        assert after.positions_QK[row].tolist() == expected


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.6, 0.2]))
def test_gallery_order_does_not_matter(seed, threshold):
    rng = np.random.default_rng(seed)
    before, context, _, gallery = random_case(rng, exact=False)
    order = rng.permutation(len(gallery))
    place = np.append(np.argsort(order), -1)  # -1 stays -1
    ids = tuple(before.gallery_ids[n] for n in order)
    moved = ranked(ids, place[before.positions_QK].tolist(), before.scores_QK)
    there = Context(
        bank=BANK,
        query_voters=context.query_voters,
        gallery_voters=voted(ids, [gallery[n] for n in order]),
    )
    options = TwoStageOptions(threshold=threshold)
    one, other = sort_and_insert(before, context, options), sort_and_insert(moved, there, options)
    assert np.array_equal(place[one.positions_QK], other.positions_QK)
    assert np.array_equal(one.scores_QK, other.scores_QK)


def test_many_queries_are_done_in_blocks(monkeypatch):
    before, context, _, _ = random_case(np.random.default_rng(3), exact=True)
    whole = sort_and_insert(before, context, TwoStageOptions(threshold=None))
    monkeypatch.setattr("landseer.reranking.voting.two_stage._CELLS_AT_ONCE", 1)
    again = sort_and_insert(before, context, TwoStageOptions(threshold=None))
    assert np.array_equal(whole.positions_QK, again.positions_QK)
    assert np.array_equal(whole.scores_QK, again.scores_QK)


@pytest.mark.parametrize(("least", "want"), [(None, "bceg"), (-1.0, "bceg"), (0.39, "bceg"), (0.41, "abcd")])
def test_a_query_voted_on_with_too_little_stays_as_it_is(least, want):
    """The example's query has a vote of .4."""
    before, context = example()
    found = sort_and_insert(before, context, TwoStageOptions(voters=1, least_vote=least))
    assert shown(found)[:4] == want
    assert np.all(np.diff(found.scores_QK) <= 0)
