"""``landseer evaluate`` by every protocol, its comparisons, its mistakes, and the ones its users make."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.storage import save_collection, save_ranking
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Ranking, Truth

PHOTOS = {  # id -> split, landmark, latitude (longitude 7 everywhere; a metre is 9e-6 degrees)
    "p": ("query", 1, 50.0),
    "q": ("query", 2, 51.0),
    "a": ("index", 1, 50.0001),
    "b": ("index", 2, 51.1),
    "c": ("index", 1, 50.0005),
    "d": ("index", None, 10.0),
    "v": ("validation", 2, 51.0),
}


def collection(truth, places=True):
    rows = [
        {"id": photo, "path": f"{photo}.jpg", "landmark": landmark, "kind": "unknown", "clean": True,
         "split": split, "latitude": latitude if places else None, "longitude": 7.0 if places else None}
        for photo, (split, landmark, latitude) in PHOTOS.items()
    ]  # fmt: skip
    return Collection(
        photos=pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist([{"landmark": 1}, {"landmark": 2}], schema=LANDMARK_SCHEMA),
        root=Path(),
        truth=truth,
    )


def truth(hard=()):
    return Truth(
        query_ids=("p", "q"),
        relevant=(("a", "c"), ("b",)),
        junk=(("d",), ()),
        landmarks=((1,), (2,)),
        split=("Public", "Public"),
        recognition_split=("Public", "Public"),
        hard=hard,
    )


def rank(name, gallery="abcd", **answers):
    positions = np.array([[gallery.index(photo) for photo in found] for found in answers.values()], np.int64)
    ranking = Ranking(
        query_ids=tuple(answers),
        gallery_ids=tuple(gallery),
        positions_QK=positions,
        scores_QK=np.full(positions.shape, 0.5, np.float32),
    )
    save_ranking(ranking, Path(name), made_by={"name": name})


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """Three collections that differ in their truth, and two rankings."""
    monkeypatch.chdir(tmp_path)
    for name, known in (("plain", truth()), ("graded", truth((("c",), ("b",)))), ("photos", None)):
        save_collection(collection(known), Path(name), made_by={"name": name})
    save_collection(collection(None, places=False), Path("nowhere"), made_by={"name": "nowhere"})
    rank("good", p="dacb", q="badc"), rank("bad", p="bdac", q="abcd")


def evaluate(*arguments):
    return CliRunner().invoke(cli, ["evaluate", *arguments])


def numbers(*arguments):
    """(name, group) -> value of the ranking ``good``."""
    result = evaluate("good", *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return {(n["name"], n["group"]): n["value"] for n in json.loads(result.output)["good"]["numbers"]}


def refused(*arguments):
    result = evaluate(*arguments)
    assert isinstance(result.exception, ValueError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_each_protocol_by_hand():
    assert numbers("--truth", "plain")["mAP@100", "Public"] == 1.0
    graded = numbers("--truth", "graded")  # the truth says which protocol
    assert graded["mAP", "Medium"] == 1.0 and graded["mP@10", "Easy"] == 1.0
    assert numbers("--truth", "graded", "--protocol", "revisited") == graded
    assert numbers("--truth", "plain", "--protocol", "ilias")["mAP@1000", "all queries"] == 1.0
    # without a truth by landmark, where nothing is junk: d before a and c
    assert numbers("--truth", "photos", "--protocol", "ilias")["mAP@1000", "all queries"] == pytest.approx(
        ((1 / 2 + 2 / 3) / 2 + 1) / 2
    )
    knn = numbers("--truth", "photos", "--protocol", "knn")
    assert knn["R-precision", "all queries"] == (1 / 2 + 1) / 2 and knn["CMC@1", "all queries"] == 1 / 2
    # a is 11 m from p, c 56 m; b is 11 km from q
    places = numbers("--truth", "photos", "--protocol", "places")
    assert (places["recall@1", "all queries"], places["recall@5", "all queries"]) == (0, 1 / 2)
    assert (
        numbers("--truth", "photos", "--protocol", "places", "--metres", "20000")["recall@1", "all queries"]
        == 0.5
    )


def test_queries_that_were_not_ranked_score_zero_unless_others_were():
    rank("one", p="acbd")
    result = evaluate("one", "--truth", "photos", "--protocol", "knn", "--json")
    found = json.loads(result.output)["one"]["numbers"][0]
    assert (found["value"], found["num_queries"]) == (0.5, 2)
    rank("validation", v="bacd")
    found = json.loads(evaluate("validation", "--truth", "photos", "--protocol", "knn", "--json").output)
    assert (found["validation"]["numbers"][0]["value"], found["validation"]["numbers"][0]["num_queries"]) == (
        1,
        1,
    )


def test_several_rankings_are_compared_with_the_first():
    result = evaluate("bad", "good", "--truth", "plain")
    assert result.exit_code == 0, result.output
    first, second = result.output.split("\n\n")
    assert first.splitlines()[0].split()[:3] == ["run", "queries", "mAP@100"]
    lines = second.splitlines()
    assert lines[0].split() == ["run", "queries", "difference", "95", "%", "p", "p", "(Holm)"]
    assert lines[1].split()[:4] == ["good", "Public", "2", "+0.4583"]
    assert (
        "minus that of bad; p two-sided by all sign flips of landmarks, Holm over 2 comparisons" in lines[-1]
    )
    found = json.loads(evaluate("bad", "good", "--truth", "plain", "--json").output)
    assert found["bad"]["differences"] == []
    assert [entry["group"] for entry in found["good"]["differences"]] == ["Public", "Private and Public"]
    assert found["good"]["differences"][0]["test"] == {"p": 0.5, "num_flips": 4, "exact": True}
    latex = evaluate("bad", "good", "--truth", "plain", "--latex").output
    assert latex.startswith(r"\begin{tabular}") and "$+0.4583$" in latex


def test_mistakes_are_shown_in_one_table_and_one_by_one():
    result = evaluate("good", "--truth", "graded", "--mistakes")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "good" and lines[1].split() == ["queries", "scored", "mAP", "mP@1", "mP@5", "mP@10"]
    assert lines[2].split() == ["Easy", "as", "defined", "1.0000", "1.0000", "1.0000", "1.0000"]
    assert lines[4].split()[1:] == [
        "mistake:",
        "junk",
        "removed",
        "after",
        "the",
        "cut",
        "1.0000",
        "0.0000",
        "1.0000",
        "1.0000",
    ]
    assert lines[-1].startswith("uncropped queries: describe them without")
    one = numbers("--truth", "graded", "--junk-late")
    assert one["mP@1", "Easy"] == 0 and one["mAP", "Easy"] == 1
    rank("late", p="cbad", q="abdc")
    result = evaluate("late", "--truth", "graded", "--rectangular-ap", "--queries", "uncropped", "--json")
    facts = json.loads(result.output)["late"]["protocol"]
    assert facts["average precision"].startswith("rectangular") and facts["query crop"].startswith(
        "none (a mistake"
    )


def test_a_ranking_too_short_is_noted():
    rank("short", p="ab", q="ba")
    output = evaluate("short", "--truth", "graded").output
    assert (
        "note: short has answers a query: 2, though revisited looks at 4: what lies deeper counts as"
        in output
    )
    assert "note" not in evaluate("good", "--truth", "graded").output


def test_what_does_not_fit_is_refused_in_one_line():
    assert "does not say which relevant photos are easy" in refused(
        "good", "--truth", "plain", "--protocol", "revisited"
    )
    assert "grades relevant photos as easy and hard" in refused(
        "good", "--truth", "graded", "--protocol", "gldv2"
    )
    assert "holds no truth" in refused("good", "--truth", "photos")
    assert "7 photos have no" not in (places := refused("good", "--truth", "nowhere", "--protocol", "places"))
    assert "2 of 2 photos have no latitude and longitude, 'p' for one" in places
    for options in (["--rectangular-ap"], ["--metres", "5"], ["--queries", "cropped"]):
        assert f"{options[0]} has no meaning under the protocol gldv2" in refused(
            "good", "--truth", "plain", *options
        )
    assert "--full-divisor has no meaning under the protocol revisited" in refused(
        "good", "--truth", "graded", "--full-divisor"
    )
    assert "choose one" in refused("good", "--truth", "plain", "--json", "--latex")
    assert "--mistakes writes no --per-query" in refused(
        "good", "--truth", "plain", "--mistakes", "--out", "r"
    )
    rank("other", x="ab")
    assert "query 'x' was answered but is not in the truth" in refused("other", "--truth", "plain")
    assert "query 'x' of the ranking is not in the collection" in refused(
        "other", "--truth", "photos", "--protocol", "knn"
    )
    rank("strange", gallery="abz", p="za")
    assert "gallery photo 'z' of the ranking is not in the collection" in refused(
        "strange", "--truth", "photos", "--protocol", "places"
    )
    rank("own", gallery="apc", p="pac")
    for name, options in (
        ("graded", []),
        ("photos", ["--protocol", "knn"]),
        ("photos", ["--protocol", "ilias"]),
    ):
        assert "in the gallery themselves" in refused("own", "--truth", name, *options)
    # told to, knn leaves the query itself out
    allowed = evaluate("own", "--truth", "photos", "--protocol", "knn", "--allow-overlap", "--json")
    values = {n["name"]: n["value"] for n in json.loads(allowed.output)["own"]["numbers"]}
    assert values["mAP@R"] == 1 and values["R-precision"] == 1
