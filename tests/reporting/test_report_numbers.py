"""What stands in the report's tables and curves, against slow oracles; figures as drawings."""

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.reporting import figures, results
from landseer.reporting.answers import chosen
from landseer.reporting.results import Scored
from landseer.types import Number, Ranking, Report, Truth


def number(name, group, value=0.5):
    return Number(name=name, value=value, low=value - 0.1, high=value + 0.1, num_queries=9, group=group)


def report(*numbers):
    return Report(title="t", numbers=numbers, protocol={}, made_by={})


def query(name, ap, landmark=1, **more):
    facts = {"split": "Public", "seen": None, "num_relevant": 5, "precision": 0.5, **more}
    return Scored(query=name, ap=ap, landmark=landmark, **facts)


def test_headline_is_ordered_and_pairs_both_reports():
    now = report(number("GAP", "Public"), number("mAP@100", "Public", 0.7), number("mAP@100", "Private"))
    before = report(number("mAP@100", "Public", 0.4), number("mAP@100", "landmarks trained on"))
    groups = results.headline(now, before)
    assert [group for group, _ in groups] == ["Private", "Public", "landmarks trained on"]
    public = dict(groups)["Public"]
    assert [row.name for row in public] == ["mAP@100", "GAP"]
    assert public[0].change == pytest.approx(0.3)
    assert public[1].untrained is None
    assert public[1].change is None
    assert dict(groups)["landmarks trained on"][0].trained is None


def test_stages_show_the_leading_figure_of_each_group():
    first = report(number("GAP", "Public", 0.3), number("mAP@100", "Public", 0.4), number("P@1", "Public"))
    second = report(number("mAP@100", "Private", 0.6), number("mAP@100", "Public", 0.5))
    stages = [
        results.StageNumbers(model="a", stage="one", report=first),
        results.StageNumbers(model="a", stage="two", report=second),
    ]
    name, groups, rows = results.stage_rows(stages)
    assert (name, groups) == ("mAP@100", ["Private", "Public"])
    values = [[found and found.value for found in numbers] for _, _, numbers in rows]
    assert values == [[None, 0.4], [0.6, 0.5]]
    assert [row[:2] for row in rows] == [("a", "one"), ("a", "two")]
    assert results.stage_rows([]) == ("", [], [])


def test_span_holds_every_interval_and_is_never_empty():
    row = results.HeadlineRow(name="m", trained=number("m", "g", 0.52), untrained=number("m", "g", 0.71))
    assert results.span_of([row]) == (0.4, 0.9)
    point = Number(name="m", value=1.0, low=1.0, high=1.0, num_queries=1, group="g")
    low, high = results.span_of([results.HeadlineRow(name="m", trained=point, untrained=None)])
    assert low < high
    first = Number(
        name="median position of first hit", value=1.0, low=1.0, high=1.0, num_queries=1, group="g"
    )
    assert not results.is_share(first), "a first place is no share of anything"
    assert results.span_of([results.HeadlineRow(name="m", trained=first, untrained=row.trained)]) == (
        0.4,
        0.7,
    )
    rank = Number(name="median rank", value=30.0, low=20.0, high=40.0, num_queries=1, group="g")
    assert results.span_of([results.HeadlineRow(name="m", trained=rank, untrained=None)]) == (0.0, 1.0)


def test_only_queries_that_count_are_scored():
    rows = [
        {"query": "a", "split": "Public", "num_relevant": 3, "ap": 0.5},
        {"query": "b", "split": "Ignored", "num_relevant": 3, "ap": 0.5},
        {"query": "c", "split": "Private", "num_relevant": 0, "ap": 0.0},
        {"query": "d", "split": "Private", "num_relevant": 2, "ap": None},
    ]
    table = pa.Table.from_pylist(
        [{"landmark": 1, "seen": True, "precision_at_10": 0.2, **row} for row in rows]
    )
    before = table.slice(0, 0)
    (only,) = results.scored(table, before)
    assert (only.query, only.ap, only.ap_before) == ("a", 0.5, None)
    (paired,) = results.scored(table, table)
    assert (paired.ap_before, paired.change) == (0.5, 0.0)


def test_breakdown_means_and_order():
    members = [
        query("a", 0.2, landmark=1, precision=0.1, num_relevant=4, precision_before=0.3),
        query("b", 0.4, landmark=1, precision=0.3, num_relevant=40),
        query("c", 0.9, landmark=2, precision=0.9),
    ]
    rows = results.breakdown(members, lambda q: q.landmark, lambda key, found: (f"L{key}", str(len(found))))
    assert [(row.name, row.note, row.num_queries) for row in rows] == [("L2", "1", 1), ("L1", "2", 2)]
    assert rows[1].precision == pytest.approx(0.2)
    assert rows[1].ap == pytest.approx(0.3)
    assert rows[1].possible == pytest.approx((0.4 + 1.0) / 2)
    assert rows[1].precision_before == pytest.approx(0.3)
    assert rows[0].precision_before is None


@pytest.mark.parametrize(("num", "kept", "left_out"), [(0, 0, 0), (60, 60, 0), (61, 60, 1), (500, 60, 440)])
def test_a_long_breakdown_keeps_both_ends(num, kept, left_out):
    members = [query(str(i), 0.5, landmark=i, precision=i / 1000) for i in range(num)]
    rows = results.breakdown(members, lambda q: q.landmark, lambda key, _: (str(key), ""))
    shown, hidden = results.shortened(rows)
    assert (len(shown), hidden) == (kept, left_out)
    if num:
        assert (shown[0], shown[-1]) == (rows[0], rows[-1])


@st.composite
def worlds(draw):
    gallery = [f"g{i}" for i in range(draw(st.integers(1, 9)))]
    num, k = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    rows, relevant, junk = [], [], []
    for _ in range(num):
        order = draw(st.permutations(range(len(gallery))))[: draw(st.integers(0, min(k, len(gallery))))]
        rows.append(order + [-1] * (k - len(order)))
        kinds = draw(st.lists(st.sampled_from("rjn"), min_size=len(gallery), max_size=len(gallery)))
        relevant.append(tuple(g for g, kind in zip(gallery, kinds, strict=True) if kind == "r"))
        junk.append(tuple(g for g, kind in zip(gallery, kinds, strict=True) if kind == "j"))
    positions = np.array(rows, dtype=np.int64)
    scores = np.where(positions < 0, -np.inf, -np.arange(k)).astype(np.float32)
    queries = tuple(f"q{i}" for i in range(num))
    ranked = num - draw(st.integers(0, 1))  # the last query may be missing from the ranking
    ranking = Ranking(
        query_ids=queries[:ranked],
        gallery_ids=tuple(gallery),
        positions_QK=positions[:ranked],
        scores_QK=scores[:ranked],
    )
    truth = Truth(
        query_ids=queries,
        relevant=tuple(relevant),
        junk=tuple(junk),
        landmarks=((1,),) * num,
        split=("Public",) * num,
        recognition_split=("Public",) * num,
    )
    return ranking, truth


@given(worlds())
def test_recall_agrees_with_the_slow_oracle(world):
    ranking, truth = world
    found = results.recall(ranking, truth, truth.query_ids)
    k = ranking.positions_QK.shape[1]
    counted = [row for row in range(len(truth)) if truth.relevant[row]]
    if not counted:
        assert found is None
        return
    for looked_at in range(1, k + 1):
        shares, hits, best = [], [], []
        for row in counted:
            listed = ranking.answers(row) if row < len(ranking) else []
            answers = [photo for photo, _ in listed if photo not in truth.junk[row]][:looked_at]
            right = sum(photo in truth.relevant[row] for photo in answers)
            shares.append(right / len(truth.relevant[row]))
            hits.append(right > 0)
            best.append(min(looked_at, len(truth.relevant[row])) / len(truth.relevant[row]))
        assert found.found_K[looked_at - 1] == pytest.approx(np.mean(shares))
        assert found.any_K[looked_at - 1] == pytest.approx(np.mean(hits))
        assert found.possible_K[looked_at - 1] == pytest.approx(np.mean(best))
    assert np.all(found.found_K <= found.possible_K + 1e-12)


def test_losses_of_several_stages_run_on_and_skip_what_is_not_finite():
    losses = [
        {"stage": "one", "step": step, "epoch": 0, "loss": loss, "lr": 0.1}
        for step, loss in ((1, 3.0), (2, math.nan), (3, 2.0))
    ]
    losses += [{"stage": "two", "step": step, "epoch": 0, "loss": 1.0, "lr": 0.2} for step in (1, 2)]
    curve = results.loss_curve(losses)
    assert curve.step == [1, 3, 4, 5]
    assert curve.loss == [3.0, 2.0, 1.0, 1.0]
    assert curve.lr == [0.1, 0.1, 0.2, 0.2]
    assert (curve.borders, curve.stages) == ([4.0], ["one", "two"])
    assert results.loss_curve([]) is None
    assert results.loss_curve([{"loss": math.inf}]) is None


def test_losses_counted_through_all_stages_stay_as_they_are():
    losses = [{"stage": "ab"[step > 2], "step": step, "loss": 1.0} for step in (1, 2, 3)]
    curve = results.loss_curve(losses)
    assert (curve.step, curve.lr, curve.borders) == ([1, 2, 3], None, [3])


def test_chosen_queries_are_the_extremes_one_a_landmark():
    members = [query(f"q{i}", i / 20, landmark=i // 4, ap_before=0.5) for i in range(20)]
    kinds = chosen(members, 5)
    assert [q.query for q in kinds["best"]] == ["q19", "q15", "q11", "q7", "q3"]
    assert [q.query for q in kinds["worst"]] == ["q0", "q4", "q8", "q12", "q16"]
    assert kinds["improved"][0].query == "q19"
    assert kinds["worsened"][0].query == "q0"
    assert all(q.change > 0 for q in kinds["improved"])
    assert all(q.change < 0 for q in kinds["worsened"])
    names = [q.query for kind in ("best", "typical", "worst") for q in kinds[kind]]
    assert len(set(names)) == len(names)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3) | st.none()), max_size=12), st.integers(1, 5))
def test_best_and_worst_never_overlap_and_miss_nobody_needlessly(entries, num):
    members = [query(f"q{i}", ap, landmark=landmark) for i, (ap, landmark) in enumerate(entries)]
    kinds = chosen(members, num)
    best, worst = ({q.query for q in kinds[kind]} for kind in ("best", "worst"))
    assert not best & worst
    assert len(best) + len(worst) == min(len(members), 2 * num)
    assert kinds["improved"] == kinds["worsened"] == []


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_inside_even_and_round(low, width, num):
    found = figures.ticks(low, low + width, num)
    assert len(found) <= num + 1
    assert all(low - 1e-6 * width - 1e-9 <= tick <= low + width * (1 + 1e-6) + 1e-9 for tick in found)
    gaps = np.diff(found)
    assert np.allclose(gaps, gaps[:1], rtol=1e-3)


def test_a_long_curve_is_thinned_to_means():
    x, y = figures.thinned(range(4000), np.arange(4000.0), num=400)
    assert len(x) == len(y) == 400
    assert np.mean(y) == pytest.approx(np.mean(np.arange(4000.0)))
    assert figures.thinned([1, 2], [3, 4]) == ([1, 2], [3, 4])


def test_the_histogram_draws_one_bar_a_band_as_high_as_its_count():
    svg = figures.histogram([0.01, 0.02, 0.97, 1.0, 1.0, 0.5], None, num_bins=4)
    counts = [int(found) for found in re.findall(r": (\d+) queries", svg)]
    assert counts == [2, 0, 1, 3]
    heights = [float(found) for found in re.findall(r'class="bar trained".*?height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(heights[3] * 2 / 3, abs=0.2)
    assert heights[1] == 0


def test_interval_strips_put_larger_values_further_right():
    def middle(value):
        estimate = figures.Estimate(value=value, low=value - 0.1, high=value + 0.1)
        svg = figures.interval_strip(estimate, None, span=(0.2, 0.8), label="x")
        return float(re.search(r'cx="([\d.]+)"', svg)[1])

    assert middle(0.3) < middle(0.5) < middle(0.7)
    assert middle(0.5) == 100
