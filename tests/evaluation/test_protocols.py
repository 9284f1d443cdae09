"""Each protocol against its definition, worked examples and the mistakes it shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.datasets import import_revisited
from landseer.evaluation import (
    PROTOCOLS,
    Gldv2,
    Ilias,
    Knn,
    Places,
    Revisited,
    evaluate,
    evaluate_mistakes,
    mistakes_table,
    protocol_for,
)
from landseer.types import PADDING, Ranking, Truth

GALLERY = tuple("abcdefghijklmnop")
REVISITED = Path(__file__).parents[2].parent / "shared" / "data" / "revisited"


def ranking_of(answers, gallery=GALLERY):
    """Query -> answers, best first, all with the same score."""
    width = max(map(len, answers.values()), default=0)
    positions = np.full((len(answers), width), PADDING, np.int64)
    for row, found in enumerate(answers.values()):
        positions[row, : len(found)] = [gallery.index(photo) for photo in found]
    scores = np.where(positions == PADDING, -np.inf, 0.5).astype(np.float32)
    return Ranking(query_ids=tuple(answers), gallery_ids=gallery, positions_QK=positions, scores_QK=scores)


def graded(**queries):
    """Query -> (easy, hard, junk), each a string of photos."""
    num = len(queries)
    return Truth(
        query_ids=tuple(queries),
        relevant=tuple((*easy, *hard) for easy, hard, _ in queries.values()),
        junk=tuple(tuple(junk) for _, _, junk in queries.values()),
        landmarks=tuple((n,) for n in range(num)),
        split=("Public",) * num,
        recognition_split=("Public",) * num,
        hard=tuple(tuple(hard) for _, hard, _ in queries.values()),
    )


def plain(**queries):
    """Query -> relevant photos."""
    truth = graded(**{query: (good, "", "") for query, good in queries.items()})
    return replace(truth, hard=())


def score(ranking, truth, protocol, **more):
    return evaluate(ranking, truth, protocol=protocol, **{"resamples": 0, **more}).report


def test_ap_at_100_worked_by_hand():
    """Relevant {a, b, c} and the answer x a a b, which a gallery that holds a twice can give."""
    twice = Ranking(
        query_ids=("q",),
        gallery_ids=("x", "a", "a", "b"),
        positions_QK=np.array([[0, 1, 2, 3]], np.int64),
        scores_QK=np.full((1, 4), 0.5, np.float32),
    )
    assert score(twice, plain(q="abc"), Gldv2()).value("mAP@100", "Public") == pytest.approx(1 / 3)


def test_the_trapezoid_worked_by_hand():
    """Ranks 0 and 2 (from 0) of two relevant photos: (1 + 1)/4 + (1/2 + 2/3)/4."""
    report = score(ranking_of({"q": "axb"}, (*GALLERY, "x")), graded(q=("a", "b", "")), Revisited())
    assert report.value("mAP", "Medium") == pytest.approx(0.79167, abs=5e-6)


def slow_revisited(answers, positives, junk, cuts=(1, 5, 10)):
    """AP and mP@k of one query, from the definition: the ranking without junk, read photo by photo."""
    kept = [photo for photo in answers if photo not in junk]
    ap, num_found, precision_before, last = 0.0, 0, 1.0, 0
    for seen, photo in enumerate(kept, start=1):
        if photo in positives:
            num_found += 1
            last = seen
            ap += (precision_before + num_found / seen) / 2
        precision_before = num_found / seen
    precisions = []
    for k in cuts:
        depth = min(k, last)
        precisions.append(len([photo for photo in kept[:depth] if photo in positives]) / depth)
    return [ap / len(positives), *precisions]


@st.composite
def revisited_worlds(draw):
    truth, answers = {}, {}
    for number in range(draw(st.integers(1, 5))):
        photos = draw(st.permutations(GALLERY))
        cuts = sorted(draw(st.tuples(*[st.integers(0, 8)] * 3)))
        truth[f"q{number}"] = (photos[: cuts[0]], photos[cuts[0] : cuts[1]], photos[cuts[1] : cuts[2]])
        answers[f"q{number}"] = draw(st.permutations(GALLERY))
    # a first query with everything, so that no setup is without queries
    return {"q": ("a", "b", "c"), **truth}, {"q": draw(st.permutations(GALLERY)), **answers}


@settings(max_examples=25)
@given(revisited_worlds())
def test_revisited_agrees_with_a_slow_reading_of_the_definition(world):
    grades, answers = world
    report = score(ranking_of(answers), graded(**grades), Revisited())
    setups = {
        "Easy": lambda easy, hard, junk: (easy, (*junk, *hard)),
        "Medium": lambda easy, hard, junk: ((*easy, *hard), junk),
        "Hard": lambda easy, hard, junk: (hard, (*junk, *easy)),
    }
    for setup, choose in setups.items():
        judged = {query: choose(*row) for query, row in grades.items()}
        slow = [
            slow_revisited(answers[query], positives, junk)
            for query, (positives, junk) in judged.items()
            if positives  # a query without positives is skipped
        ]
        for name, values in zip(("mAP", "mP@1", "mP@5", "mP@10"), zip(*slow, strict=True), strict=True):
            assert report.value(name, setup) == pytest.approx(np.mean(values)), (name, setup)
        assert {n.num_queries for n in report.numbers if n.group == setup} == {len(slow)}


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_the_published_ground_truths_agree_with_the_slow_reading(name):
    """A made-up ranking of the real gallery, positives and junk moved up by chance."""
    if not REVISITED.is_dir():
        pytest.skip(f"no ground truth of Revisited Oxford and Paris at {REVISITED}")
    collection, _ = import_revisited(REVISITED / f"gnd_{name}.json", check_files=False)
    truth, gallery = collection.truth, collection.in_split("index").ids
    place = {photo: position for position, photo in enumerate(gallery)}
    rng = np.random.default_rng(1)
    score_QN = rng.normal(size=(len(truth), len(gallery)))
    for row, moved in zip(score_QN, zip(truth.relevant, truth.hard, truth.junk, strict=True), strict=True):
        for photos, far in zip(moved, (3, -1, 2), strict=True):
            row[[place[photo] for photo in photos]] += far
    order_QN = np.argsort(-score_QN, axis=1).astype(np.int64)
    ranking = Ranking(
        query_ids=truth.query_ids,
        gallery_ids=gallery,
        positions_QK=order_QN,
        scores_QK=np.take_along_axis(score_QN, order_QN, axis=1).astype(np.float32),
    )
    report = score(ranking, truth, Revisited())
    for setup in ("Easy", "Medium", "Hard"):
        slow = []
        for row, good, hard, junk in zip(order_QN, truth.relevant, truth.hard, truth.junk, strict=True):
            easy = set(good) - set(hard)
            positives = {"Easy": easy, "Medium": set(good), "Hard": set(hard)}[setup]
            if positives:
                answers = [gallery[position] for position in row]
                slow.append(slow_revisited(answers, positives, (set(junk) | set(good)) - positives))
        expected = np.mean(slow, axis=0)
        assert 0.05 < expected[0] < 0.95
        found = [report.value(metric, setup) for metric in ("mAP", "mP@1", "mP@5", "mP@10")]
        assert found == pytest.approx(list(expected), abs=1e-12)


def test_revisited_has_a_row_for_each_setup_and_query():
    truth = graded(q=("a", "b", "c"), r=("", "d", ""))
    found = evaluate(ranking_of({"q": "cbad", "r": "d"}), truth, resamples=100)
    rows = found.per_query.to_pylist()
    assert [(row["query"], row["split"]) for row in rows] == [
        ("q", "Easy"), ("q", "Medium"), ("r", "Medium"), ("q", "Hard"), ("r", "Hard"),
    ]  # fmt: skip
    assert [row["first_hit"] for row in rows] == [1, 1, 1, 1, 1]
    assert rows[1]["ap"] == 1.0 and rows[1]["precision_at_10"] == 1.0  # two of two among the first two
    facts = found.report.protocol
    assert facts["average precision"] == "trapezoidal" and "not stated" in facts["query crop"]
    assert facts["junk"] == "removed before ranks are counted"
    cropped = score(ranking_of({"q": "a"}), truth, Revisited(queries="cropped"))
    assert cropped.protocol["query crop"] == "to the box of the query"
    uncropped = score(ranking_of({"q": "a"}), truth, Revisited(queries="uncropped"))
    assert uncropped.protocol["query crop"].startswith("none (a mistake")


def test_a_setup_without_queries_is_not_reported():
    report = score(ranking_of({"q": "ab"}), graded(q=("", "a", "")), Revisited())
    assert {number.group for number in report.numbers} == {"Medium", "Hard"}


def test_ilias_by_hand():
    ranking, truth = ranking_of({"q": "eafb", "r": "c"}), plain(q="abcd", r="c", missing="d")
    report = score(ranking, truth, Ilias(k=3))
    ap = (1 / 2) / 3  # b stands fourth
    assert report.value("mAP@3", "all queries") == pytest.approx((ap + 1 + 0) / 3)
    assert report.value("oracle@3", "all queries") == pytest.approx((1 / 3 + 1 + 0) / 3)
    full = score(ranking, truth, Ilias(k=3, full_divisor=True))
    assert full.value("mAP@3", "all queries") == pytest.approx(((1 / 2) / 4 + 1) / 3)


def test_places_by_hand():
    """Any photo nearby among the first N will do; a query with none nearby is missed."""
    truth = plain(q="cd", r="a", alone="")
    report = score(ranking_of({"q": "abcdef", "r": "a", "alone": "a"}), truth, Places(ns=(1, 3)))
    assert report.value("recall@1", "all queries") == pytest.approx(1 / 3)
    assert report.value("recall@3", "all queries") == pytest.approx(2 / 3)
    assert report.protocol["recall@N"] == "queries with a photo within 25 m among the first N"


def slow_knn(answers, relevant):
    """mAP@R, R-precision, R@5 and CMC@5 of one query."""
    total_r = len(relevant)
    hits = [photo in relevant for photo in answers]
    at_r = sum(sum(hits[:i]) / i for i in range(1, total_r + 1) if i <= len(hits) and hits[i - 1]) / total_r
    return at_r, sum(hits[:total_r]) / total_r, sum(hits[:5]) / total_r, float(any(hits[:5]))


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.permutations(GALLERY), st.sets(st.sampled_from(GALLERY), min_size=1)), min_size=1)
)
def test_knn_agrees_with_a_slow_loop(rows):
    answers = {f"q{n}": found for n, (found, _) in enumerate(rows)}
    truth = plain(**{f"q{n}": sorted(good) for n, (_, good) in enumerate(rows)})
    report = score(ranking_of(answers), truth, Knn())
    slow = zip(*(slow_knn(found, good) for found, good in rows), strict=True)
    for name, values in zip(("mAP@R", "R-precision", "R@5", "CMC@5"), slow, strict=True):
        assert report.value(name, "all queries") == pytest.approx(np.mean(values)), name


@settings(max_examples=25)
@given(revisited_worlds())
def test_a_perfect_ranking_scores_one(world):
    grades, _ = world
    perfect = {
        query: [*easy, *hard, *(photo for photo in GALLERY if photo not in (*easy, *hard))]
        for query, (easy, hard, _) in grades.items()
    }
    graded_truth = graded(**grades)
    report = score(ranking_of(perfect), graded_truth, Revisited())
    assert {n.value for n in report.numbers} == {1.0}
    truth = replace(graded_truth, hard=())
    for protocol in (Gldv2(), Ilias(), Knn()):
        found = score(ranking_of(perfect), truth, protocol)
        assert found.numbers[0].value == 1.0, protocol


def test_mistakes_change_the_numbers_the_way_they_do():
    truth = graded(q=("ab", "c", "jk"))
    ranking = ranking_of({"q": "jkdabc"})
    ways = evaluate_mistakes(ranking, truth)
    assert list(ways) == ["as defined", "rectangular AP", "junk removed after the cut"]
    ap = {way: found.report.value("mAP", "Medium") for way, found in ways.items()}
    assert ap["as defined"] == pytest.approx((0 + 1 / 2 + 1 / 2 + 2 / 3 + 2 / 3 + 3 / 4) / 6)
    assert ap["rectangular AP"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    # of the first five answers two are junk: two hits are left of three
    precision = {way: found.report.value("mP@5", "Medium") for way, found in ways.items()}
    assert precision["as defined"] == pytest.approx(3 / 4)
    assert precision["junk removed after the cut"] == pytest.approx(2 / 4)
    late = ways["junk removed after the cut"].report.protocol
    assert late["junk"] == "removed after the cut (a mistake, on purpose)"
    table = mistakes_table(ways).splitlines()
    assert table[0].split() == ["queries", "scored", "mAP", "mP@1", "mP@5", "mP@10"]
    assert len(table) == 1 + 3 * 3 and "mistake: rectangular AP" in table[2]


def test_the_full_divisor_is_a_mistake_of_truncated_metrics_only():
    truth, ranking = plain(q="abcd"), ranking_of({"q": "ab"})
    ways = evaluate_mistakes(ranking, truth, protocol=Gldv2(k=2))
    values = {way: found.report.value("mAP@2", "Public") for way, found in ways.items()}
    assert values == {"as defined": 1.0, "full divisor": 0.5, "junk removed after the cut": 1.0}
    assert "full divisor" in Ilias().mistakes() and "full divisor" not in Revisited().mistakes()


def test_junk_removed_late_shortens_a_truncated_list():
    truth = replace(graded(q=("ab", "", "j")), hard=())
    ranking = ranking_of({"q": "jab"})
    assert score(ranking, truth, Gldv2(k=2)).value("mAP@2", "Public") == 1.0
    assert score(ranking, truth, Gldv2(k=2, junk_late=True)).value("mAP@2", "Public") == 0.5


def test_a_truth_of_another_protocol_is_refused():
    ranking = ranking_of({"q": "a"})
    with pytest.raises(ValueError, match="does not say which relevant photos are easy and which hard"):
        score(ranking, plain(q="a"), Revisited())
    for protocol in (Gldv2(), Ilias(), Knn()):
        with pytest.raises(ValueError, match="grades relevant photos as easy and hard"):
            score(ranking, graded(q=("a", "b", "")), protocol)
    assert protocol_for(plain(q="a")) == Gldv2() and protocol_for(graded(q=("a", "b", ""))) == Revisited()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_the_house_rules(name):
    """Overlap and strangers are refused, Ignored queries dropped, and the table of queries holds the headline."""
    protocol = PROTOCOLS[name]()
    make = (lambda good: (good, good and "p", "")) if name == "revisited" else (lambda good: good)
    build = graded if name == "revisited" else plain
    truth = build(q=make("ab"), r=make("c"), s=make("d"))
    truth = replace(truth, split=("Public", "Private", "Ignored"))
    found = evaluate(ranking_of({"q": "pab", "r": "efc", "s": "a"}), truth, protocol=protocol, resamples=100)
    assert "s" not in found.per_query["query"].to_pylist()
    headline = found.report.numbers[0]
    assert headline.name == found.report.protocol["metric"] == protocol.metric
    rows = [row for row in found.per_query.to_pylist() if headline.group in (row["split"], "all queries")]
    assert headline.value == pytest.approx(np.mean([row[protocol.column] for row in rows]))
    assert all(beside in {n.name for n in found.report.numbers} for beside in protocol.beside)
    with pytest.raises(ValueError, match="in the gallery themselves"):
        score(ranking_of({"q": "a"}, (*GALLERY, "q")), truth, protocol)
    assert score(ranking_of({"q": "a"}, (*GALLERY, "q")), truth, protocol, allow_overlap=True).numbers
    with pytest.raises(ValueError, match="'zz' was answered but is not in the truth"):
        score(ranking_of({"zz": "a"}), truth, protocol)
    with pytest.raises(ValueError, match="a query occurs more than once in the ranking"):
        score(replace(ranking_of({"q": "a", "r": "a"}), query_ids=("q", "q")), truth, protocol)
    ignored = replace(truth, split=("Ignored",) * 3)
    with pytest.raises(ValueError, match="nothing to score"):
        score(ranking_of({"q": "a"}), ignored, protocol)


def test_a_ranking_too_short_for_its_protocol_says_so():
    def answers(protocol, found):
        return score(ranking_of({"q": found}), plain(q="a"), protocol).protocol["answers a query"]

    assert answers(Gldv2(k=3), "abc") == "3"
    assert answers(Ilias(), "abc") == "3, though ilias looks at 16: what lies deeper counts as missed"
    assert answers(Knn(), GALLERY) == "16"


@pytest.mark.parametrize("protocol", [Gldv2, Ilias])
def test_k_must_be_positive(protocol):
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        protocol(k=0)
