"""How far recognition can be trusted: the figures show the numbers, the page the figures or why there are none."""

import re
from dataclasses import replace

import numpy as np
import pytest

from landseer.evaluation import Calibrated, confidences_in, evaluate_recognition, reliability
from landseer.reporting import Trust, render_page
from landseer.reporting.figures import Calibration, reliability_figure
from landseer.types import Recognition, Truth

from .test_report_page import Page, world

NUM = 40


def table(seed, *, calibrated=True, shown=lambda q: q % 4):
    """Queries of landmark 1, every fourth of none; half of the answers right, a third accepted."""
    rng = np.random.default_rng(seed)
    recognition = Recognition(
        query_ids=tuple(f"q{q}" for q in range(NUM)),
        landmark_Q=rng.integers(1, 3, NUM),
        confidence_Q=rng.random(NUM).astype(np.float32),
    )
    truth = Truth(
        query_ids=recognition.query_ids,
        relevant=((),) * NUM,
        junk=((),) * NUM,
        landmarks=tuple((1,) if shown(q) else () for q in range(NUM)),
        split=("Public",) * NUM,
        recognition_split=("Public",) * NUM,
    )
    how = Calibrated(how="on some photos", accepted_Q=recognition.confidence_Q > 0.66) if calibrated else None
    return evaluate_recognition(recognition, truth, calibrated=how, resamples=0).per_query


def trust(**changes):
    given = {
        "per_query": table(3),
        "baseline_per_query": table(2),
        "calibrated": True,
        "calibration": "on 12 photos of <none>",
    }
    return Trust(**{**given, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return world(tmp_path_factory.mktemp("photos"))


def section(run, **changes):
    """The section's HTML, and the whole page as its reader gets it."""
    text = render_page(replace(run, trust=trust(**changes)))
    return re.search(r'<section id="trust".*?</section>', text, re.DOTALL)[0], Page(text)


def test_a_calibrated_run_has_both_figures_and_their_numbers(run):
    html, page = section(run)
    found = reliability(confidences_in(table(3)))
    assert html.count('class="chart"') == 2
    assert f"ECE {found.expected_calibration_error:.3f}" in html
    assert f"Reliability diagram of {NUM} predictions" in html
    assert "was learned on 12 photos of &lt;none&gt;. No query had a part in it." in html
    titles = re.findall(r"<title>([\d.]+) to ([\d.]+): (\d+) queries, (\d+)% right", html)
    told = {(low, high): (int(count), int(share)) for low, high, count, share in titles}
    for low, high, count, share in zip(
        found.edges, found.edges[1:], found.count_B, found.accuracy_B, strict=False
    ):
        if count:
            assert told.pop((f"{low:.2f}", f"{high:.2f}")) == (count, round(100 * share))
    assert told == {}
    rows = table(3).to_pylist()
    false = np.mean([row["accepted"] for row in rows if row["landmark"] is None])
    right = np.mean([row["accepted"] and row["right"] for row in rows if row["landmark"] is not None])
    assert abs(false - np.mean([row["accepted"] for row in rows])) > 0.05
    assert f"trained {right:.2f} at {false:.2f} false accepts" in html
    assert any(attrs.get("href") == "#trust" for attrs, _ in page.all("a"))


def test_a_run_that_is_not_calibrated_says_why_in_one_line(run):
    votes = table(1, calibrated=False)
    html, _ = section(run, per_query=votes, calibrated=False, calibration="the recipe holds none out")
    assert "nothing was calibrated. The recipe holds none out." in html
    assert html.count('class="chart"') == 1 and "ECE" not in html and "dot trained" not in html
    assert "Without a threshold every query is given a landmark." in html


def test_without_baseline_or_queries_of_none_there_is_less_to_draw(run):
    html, _ = section(run, baseline_per_query=None)
    assert "untrained" not in re.sub(r"<ul.*?</ul>", "", html, flags=re.DOTALL)
    html, _ = section(run, per_query=table(1, shown=lambda _: True), baseline_per_query=None)
    assert "there is nothing to trade" in html


def test_a_page_without_recognition_has_no_such_section(run):
    text = render_page(run)
    assert 'id="trust"' not in text and "#trust" not in text


def test_bars_are_as_high_as_the_share_that_is_right():
    bins = Calibration(edges=(0, 0.5, 1), count_B=(4, 8), confidence_B=(0.25, 0.9), accuracy_B=(0.25, 0.75))
    drawn = str(reliability_figure(bins, None, label="l"))
    rects = [
        tuple(map(float, found))
        for found in re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    ]
    (_, low), (_, few), (_, high), (_, many) = rects
    assert high == pytest.approx(3 * low, abs=0.3) and many == pytest.approx(2 * few, abs=0.3)
    assert rects[0][0] + low == pytest.approx(rects[2][0] + high, abs=0.2)  # they stand on one line
    empty = Calibration(edges=(0, 0.5, 1), count_B=(0, 8), confidence_B=(np.nan, 0.9), accuracy_B=(np.nan, 1))
    assert "nan" not in str(reliability_figure(empty, empty, label="l"))
