"""The run explorer, judged against answers worked out the slow way on runs made by hand (``run_folder.py``)."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from landseer.pipeline.online import RULES, JudgedAnswer, Refused, RunExplorer, Unknown
from landseer.pipeline.online.run_tags import first_right, tags_of
from landseer.pipeline.online.runs import SORTS

_spec = importlib.util.spec_from_file_location("run_folder", Path(__file__).with_name("run_folder.py"))
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``C``, the run ``RUN`` that goes wrong, and ``BETTER`` that does not, side by side."""
    folder = tmp_path_factory.mktemp("runs")
    collection = by_hand.collection_in(folder)
    by_hand.run_in(folder / "RUN", collection)
    by_hand.run_in(folder / "BETTER", collection, spoilt=False)
    return folder


@pytest.fixture(scope="module")
def run(made):
    return RunExplorer(made / "RUN", against=made / "BETTER")


def ranked(query, *, spoilt=True):
    """Gallery photos and cosines, best first, by plain arithmetic."""
    rows = by_hand.rows_of(spoilt)
    cosine = {
        photo: sum(float(a) * float(b) for a, b in zip(rows[query], rows[photo], strict=True))
        for photo in (*by_hand.PLACE_OF, *by_hand.STRANGERS)
    }
    return sorted(cosine.items(), key=lambda pair: -pair[1])


def is_right(query, photo):
    return query != "lost" and by_hand.PLACE_OF.get(photo) == by_hand.QUERIES[query]


def slow_ap(query, *, spoilt):
    """Average precision by its definition."""
    if query == "lost":
        return 0.0
    hits, total, rank = 0, 0.0, 0
    for photo, _ in ranked(query, spoilt=spoilt):
        if photo in by_hand.JUNK.get(query, ()):
            continue
        rank += 1
        if is_right(query, photo):
            hits += 1
            total += hits / rank
    return total / 5


def test_every_query_has_its_ap_and_that_of_the_other_run(run):
    found, following, total = run.queries(limit=100)
    assert (len(found), following, total) == (10, None, 10)
    for query in found:
        assert query.ap == pytest.approx(slow_ap(query.id, spoilt=True))
        assert query.other_ap == pytest.approx(slow_ap(query.id, spoilt=False))
        assert query.change == pytest.approx(query.ap - query.other_ap)
        assert (query.landmark, query.trained) == (by_hand.QUERIES[query.id], by_hand.QUERIES[query.id] == 0)
        assert query.landmark_name == by_hand.NAMES[query.landmark]
    assert run.facts.mean_ap == pytest.approx(np.mean([slow_ap(q, spoilt=True) for q in by_hand.QUERIES]))


def test_answers_are_judged_in_order_with_cosine_and_reason(run):
    for query in by_hand.QUERIES:
        answers = run.answers(query)
        expected = ranked(query)
        assert [answer.photo for answer in answers] == [photo for photo, _ in expected]
        assert [answer.cosine for answer in answers] == pytest.approx([c for _, c in expected], abs=1e-6)
        for answer in answers:
            junk = answer.photo in by_hand.JUNK.get(query, ())
            verdict = "junk" if junk else "right" if is_right(query, answer.photo) else "wrong"
            assert (answer.verdict, answer.landmark) == (verdict, by_hand.PLACE_OF.get(answer.photo))
        assert [answer.why for answer in answers] == [f"first of {query}"] + [None] * 17
    assert len(run.answers("q0", 4)) == 4
    assert [a.photo for a in run.other_answers("q3")] == [p for p, _ in ranked("q3", spoilt=False)]
    assert run.nearest_right("q5") == pytest.approx(
        max(cosine for photo, cosine in ranked("q5") if is_right("q5", photo)), abs=1e-6
    )
    assert run.nearest_right("lost") is None


def test_each_failed_query_is_told_why_and_no_other(run):
    tags = {query.id: query.tags for query in run.queries(limit=100)[0] if query.tags}
    assert tags == {
        "q3": ("label-disagreement",),
        "q4": ("near-duplicate",),
        "q5": ("viewpoint",),
        "lost": ("no-positive",),
    }
    counted = run.tags()
    assert counted == {
        "failed": 4,
        **Counter(tag for found in tags.values() for tag in found),
        "no-answers": 0,
        "unexplained": 0,
    }
    assert run.tags(landmark=1) == {
        **dict.fromkeys(counted, 0),
        "failed": 2,
        "near-duplicate": 1,
        "no-positive": 1,
    }
    assert run.facts.failed == 4


def test_a_query_whose_photo_could_not_be_read_has_no_answers(made):
    explorer = RunExplorer(made / "RUN")
    explorer._this._row.pop("q6")
    told = {query.id: query for query in explorer._told()}
    assert told["q6"].tags == ("no-answers",) and told["q6"].first_right is None


def test_lists_are_ordered_filtered_and_cut(run):
    every = run.queries(limit=100)[0]
    ids = [query.id for query in every]
    assert ids == [q.id for q in sorted(every, key=lambda q: (q.ap, q.id))]
    assert [q.id for q in run.queries(sort="-ap", limit=100)[0]] == [
        q.id for q in sorted(every, key=lambda q: (-q.ap, q.id))
    ]
    changes = [q.change for q in run.queries(sort="change", limit=100)[0]]
    assert changes == sorted(changes) and changes[0] < 0
    assert [q.change for q in run.queries(sort="-change", limit=100)[0]] == changes[::-1]
    names = [q.landmark_name for q in run.queries(sort="landmark", limit=100)[0]]
    assert names == sorted(names)
    pages, after = [], 0
    while after is not None:
        found, after, total = run.queries(after=after, limit=3)
        pages += [query.id for query in found]
        assert total == 10
    assert pages == ids
    assert {q.id for q in run.queries(landmark=0, limit=100)[0]} == {"q0", "q3", "q6"}
    assert {q.id for q in run.queries(tag="viewpoint")[0]} == {"q5"}
    assert {q.id for q in run.queries(tag="failed", landmark=1)[0]} == {"q4", "lost"}
    assert set(SORTS) == {"ap", "-ap", "landmark", "change", "-change"}


def test_confusions_count_wrong_landmarks_of_the_first_five(run):
    wrong = {}
    for query, place in by_hand.QUERIES.items():
        first = [p for p, _ in ranked(query) if p not in by_hand.JUNK.get(query, ())][:5]
        others = [by_hand.PLACE_OF[p] for p in first if p in by_hand.PLACE_OF and not is_right(query, p)]
        wrong.setdefault(place, Counter()).update(other for other in others if other != place)
    expected = [
        (place, by_hand.NAMES[place], *min(others.items(), key=lambda pair: (-pair[1], pair[0])))
        for place, others in wrong.items()
        if others
    ]
    expected.sort(key=lambda row: (-row[3], row[0]))
    assert [(c.landmark, c.name, c.taken_for, c.answers) for c in run.confusions] == expected
    assert expected[0] == (0, "Old Gate", 1, 5)
    assert run.confusions[0].queries == 3 and run.confusions[0].taken_for_name == "Long Bridge"


def test_the_difference_is_that_of_the_means_and_lies_in_its_interval(run):
    difference = run.facts.difference
    means = [np.mean([slow_ap(q, spoilt=spoilt) for q in by_hand.QUERIES]) for spoilt in (True, False)]
    assert difference.value == pytest.approx(means[0] - means[1])
    assert difference.low <= difference.value <= difference.high and difference.num_queries == 10
    # three places, each lower or equal: of 8 sign flips 2 are as extreme
    assert difference.test.exact and difference.test.p == pytest.approx(2 / 8)
    assert (run.facts.name, run.facts.other, run.facts.other_mean_ap) == (
        "RUN",
        "BETTER",
        pytest.approx(means[1]),
    )


def test_without_another_run_the_untrained_model_stands_beside_it(made):
    facts = RunExplorer(made / "BETTER", data=made / "C").facts
    assert (facts.name, facts.other) == ("BETTER", "untrained")
    assert facts.difference.value > 0


def test_runs_in_folders_of_one_name_are_told_apart(made, tmp_path):
    shutil.copytree(made / "BETTER", tmp_path / "second" / "RUN")
    facts = RunExplorer(made / "RUN", against=tmp_path / "second" / "RUN").facts
    assert (facts.name, facts.other) == (f"{made.name}/RUN", "second/RUN")


def test_pictures_are_small_made_anew_and_of_this_run_only(run):
    content = run.picture("q0", 48)
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "JPEG" and max(picture.size) == 48 and b"who took it" not in content
    assert run.picture("q0", 48) == content and max(Image.open(io.BytesIO(run.picture("q0", 64))).size) == 64
    for photo in ("g99", "../photos/q0.jpg", "q0.jpg", ""):
        with pytest.raises(Unknown, match="no such photo"):
            run.picture(photo, 48)


def test_kept_pictures_are_bounded(made, monkeypatch):
    explorer = RunExplorer(made / "RUN")
    monkeypatch.setattr("landseer.pipeline.online.runs._KEPT_BYTES", 4000)
    for query in by_hand.QUERIES:
        explorer.picture(query, 64)
        assert sum(map(len, explorer._small.values())) == explorer._small_bytes <= 4000
    assert len(explorer._small) >= 1


def test_what_is_asked_wrongly_is_refused_in_one_line(run, made):
    for wrong in ({"sort": "size"}, {"tag": "tiny"}):
        with pytest.raises(Refused, match="is one of"):
            run.queries(**wrong)
    with pytest.raises(Unknown, match="no such query"):
        run.query("g00")
    with pytest.raises(Unknown):
        run.answers("nobody")


def alone(made, folder):
    """A copy that a test may spoil."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def test_what_cannot_be_opened_is_one_clear_line(made, tmp_path):
    with pytest.raises(ValueError, match=r"C is not a run folder \(it has no run.json\); give the --out"):
        RunExplorer(made / "C")
    folder = alone(made, tmp_path / "a")
    (folder / "RUN" / "report.html").unlink()
    with pytest.raises(ValueError, match=r"RUN is not finished; landseer run with the same --out goes on"):
        RunExplorer(folder / "RUN")
    with pytest.raises(ValueError, match="RUN is not finished"):
        RunExplorer(folder / "BETTER", against=folder / "RUN")
    with pytest.raises(ValueError, match=r"photos of .*C are not below .*nowhere; .*--root"):
        RunExplorer(folder / "BETTER", root=tmp_path / "nowhere")
    (folder / "C").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="does not lie beside it; name it with --data"):
        RunExplorer(folder / "BETTER")
    assert RunExplorer(folder / "BETTER", data=tmp_path / "moved", root=folder / "photos").facts.queries == 10


def test_runs_and_collections_that_do_not_belong_together_are_refused(made, tmp_path):
    facts = json.loads((made / "RUN" / "run.json").read_text())
    folder = alone(made, tmp_path / "a")
    (folder / "RUN" / "run.json").write_text(json.dumps({**facts, "collection": "another"}))
    with pytest.raises(ValueError, match=r"were run on different collections \(.*, another\)"):
        RunExplorer(folder / "BETTER", against=folder / "RUN")
    with pytest.raises(
        ValueError, match=r"was run on another collection \(another\) than .*C; give that one as --data"
    ):
        RunExplorer(folder / "RUN", data=folder / "C")


def test_a_run_that_trains_nothing_stands_alone(made, tmp_path):
    folder = alone(made, tmp_path / "a")
    facts = json.loads((folder / "RUN" / "run.json").read_text())
    facts["recipe"]["stages"] = []
    (folder / "RUN" / "run.json").write_text(json.dumps(facts))
    explorer = RunExplorer(folder / "RUN")
    assert explorer.facts.other is None and explorer.facts.difference is None
    assert explorer.other_answers("q0") is None and explorer.query("q0").change is None
    with pytest.raises(Refused, match="nothing to compare with"):
        explorer.queries(sort="change")


# --- the rules ---------------------------------------------------------------------------------------------

answers = st.lists(
    st.builds(
        lambda verdict, landmark, cosine: (verdict, 7 if verdict == "right" else landmark, cosine),
        st.sampled_from(["right", "wrong", "wrong", "wrong", "junk"]),
        st.sampled_from([None, 1, 2, 7]),
        st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9499, 0.95, 0.99]),
    ),
    max_size=9,
)


def slow_tags(found, nearest):
    """The rules once more, written down answer by answer."""
    counted = [each for each in found if each[0] != "junk"]
    if counted and counted[0][0] == "right":
        return set()
    if nearest is None:
        return {"no-positive"}
    if not counted:
        return {"no-answers"}
    above = []
    for each in counted:
        if each[0] == "right":
            break
        above.append(each)
    tags = set()
    if [each for each in above if each[2] >= 0.95]:
        tags.add("near-duplicate")
    for landmark in (1, 2):
        if [each[1] for each in above[:5]].count(landmark) >= 3:
            tags.add("label-disagreement")
    if nearest < median([each[2] for each in counted if each[0] == "wrong"]):
        tags.add("viewpoint")
    return tags or {"unexplained"}


@example([("wrong", None, 0.5)], 0.5)
@example([("wrong", 7, 0.1)] * 3, 0.3)
@given(answers, st.sampled_from([None, 0.05, 0.3, 0.4, 0.6, 0.97]))
def test_the_rules_hold_for_any_answers(found, nearest):
    judged = [
        JudgedAnswer(rank=rank, photo=str(rank), verdict=verdict, landmark=landmark, score=0.0, cosine=cosine)
        for rank, (verdict, landmark, cosine) in enumerate(found, 1)
    ]
    tags = tags_of(judged, own=(7,), nearest_right=nearest)
    assert set(tags) == slow_tags(found, nearest) and len(set(tags)) == len(tags)
    assert list(tags) == [tag for tag in RULES if tag in tags]
    counted = [each for each in found if each[0] != "junk"]
    expected = [rank for rank, each in enumerate(counted, 1) if each[0] == "right"][:1]
    assert [first_right(judged)] == (expected or [None])
