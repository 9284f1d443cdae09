"""``landseer recognise``: what is printed, what is written, and that the file becomes a submission."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import cli, main, recognise_command
from landseer.pipeline.recognise import Recognised
from landseer.reranking import RecognisedCountries, Threshold
from landseer.storage import save_collection, save_descriptors
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors, Recognition

PAGE = Path(__file__).parents[2] / "docs" / "recognition.md"

# cosines of a photo with the bank's photos of landmark 1, a tower in France, and of 2, which has no name; 0, 0: food
ROWS = {
    "a": (1, 0),
    "b": (0, 1),
    "p": (0.96, 0.28),
    "q": (0.28, 0.96),
    "r": (0.5, 0),
    "v": (0.8, 0.6),
    "w": (0.6, 0.8),
    "n": (0.55, 0),
}
LANDMARK = {"a": 1, "b": 2, "v": 1, "w": 2}
SPLIT = {"a": "train", "b": "train", "p": "query", "q": "query", "r": "query"}


def unit_rows(ids):
    rows = np.array([(*ROWS[photo], np.sqrt(max(0, 1 - np.dot(ROWS[photo], ROWS[photo])))) for photo in ids])
    return Descriptors(ids=tuple(ids), rows_ND=rows.astype(np.float32))


def table(schema, **known):
    num = len(next(iter(known.values())))
    return pa.table({f.name: pa.array(known.get(f.name, [None] * num), f.type) for f in schema})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = table(
        PHOTO_SCHEMA,
        id=list(ROWS),
        path=[f"{photo}.jpg" for photo in ROWS],
        landmark=[LANDMARK.get(photo) for photo in ROWS],
        kind=["landmark" if photo in LANDMARK else "none" for photo in ROWS],
        clean=[True] * len(ROWS),
        split=[SPLIT.get(photo, "validation") for photo in ROWS],
    )
    landmarks = table(LANDMARK_SCHEMA, landmark=[1, 2], name=["Tower", None], country=["FR", None])
    save_collection(Collection(photos=photos, landmarks=landmarks, root=Path()), Path("data"), made_by={})
    for name, ids in {"query": "pqr", "bank": "ab", "known": "vw", "none": "n"}.items():
        save_descriptors(unit_rows(ids), Path(name), made_by={})
    Path("r.toml").write_text('title = "r"\n[recognition]\nvoters = 1\n')
    return tmp_path


GIVEN = ("query", "--bank", "bank", "--data", "data", "--recipe", "r.toml")
CALIBRATED = (*GIVEN, "--calibrate", "known", "--none", "none")


def recognise(*arguments):
    result = CliRunner().invoke(cli, ["recognise", *arguments])
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def test_the_table(here):
    assert recognise(*GIVEN) == (
        "query  landmark    confidence  country  votes\n"
        "p      Tower (1)        0.960       FR  0.960\n"
        "q      landmark 2       0.960\n"
        "r      Tower (1)        0.500       FR  0.500\n"
    )


def test_the_table_once_calibrated(here):
    printed = recognise(*CALIBRATED)
    assert f"```\n{printed}```" in PAGE.read_text(encoding="utf-8")
    first, head, *lines = printed.splitlines()
    # just above .55, the cosine of n
    assert first == (
        "threshold 0.5500: recall 1.000 of 2 photos of known landmarks, false-accept rate 0.000 of 1 photos of none"
    )
    assert head.split() == ["query", "landmark", "probability", "country", "votes"]
    assert re.fullmatch(r"r +none I know +FR +0.500", lines[2])
    assert lines[0].split()[1:3] == ["Tower", "(1)"] and 0.5 < float(lines[0].split()[3]) < 0.96


def test_json_has_all_and_is_strict(here):
    def refuse(constant):
        raise AssertionError(constant)

    plain = json.loads(recognise(*GIVEN, "--json"), parse_constant=refuse)
    assert plain["threshold"] is None
    assert plain["queries"][1] == {
        "query": "q",
        "landmark": 2,
        "name": None,
        "confidence": float(np.float32(0.96)),
        "country": None,
        "country_votes": 0.0,
    }
    found = json.loads(recognise(*CALIBRATED, "--json"), parse_constant=refuse)
    assert found["threshold"]["num_known"] == 2 and found["threshold"]["recall"] == 1
    rejected = found["queries"][2]
    assert rejected["landmark"] is None and 0 < rejected["confidence"] < 0.5 and rejected["country"] == "FR"


def test_where_no_threshold_is_needed_json_stays_strict_and_the_line_says_so():
    every = Threshold(
        confidence=-math.inf,
        slope=1.0,
        offset=0.0,
        recall=1.0,
        false_accept_rate=0.0,
        num_known=2,
        num_unknown=1,
    )
    done = Recognised(
        recognition=Recognition(
            query_ids=("p",), landmark_Q=np.array([-1]), confidence_Q=np.zeros(1, np.float32)
        ),
        countries=RecognisedCountries(
            query_ids=("p",), countries=(None,), confidence_Q=np.zeros(1, np.float32)
        ),
        names=(None,),
        threshold=every,
    )
    facts = recognise_command.facts_of(done)
    assert facts["threshold"]["confidence"] is None and facts["threshold"]["recall"] == 1
    json.dumps(facts, allow_nan=False)
    assert recognise_command.text_of(done, None).startswith("threshold none needed: recall 1.000")


def test_more_than_twenty_queries_are_cut_in_the_table_only(here):
    rows = Descriptors(
        ids=tuple(f"x{n}" for n in range(23)), rows_ND=np.tile(unit_rows("p").rows_ND, (23, 1))
    )
    save_descriptors(rows, Path("many"), made_by={})
    given = ("many", *GIVEN[1:])
    lines = recognise(*given).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"x{n}" for n in range(20)]
    assert lines[-1] == "and 3 more; --out or --json has all"
    assert len(json.loads(recognise(*given, "--json"))["queries"]) == 23
    lines = recognise(*given, "--out", "found.csv").splitlines()
    assert len(lines) == 22 and lines[-1] == "23 queries, 23 with a landmark: found.csv"
    assert len(Path("found.csv").read_text().splitlines()) == 24


def test_the_file_becomes_a_submission(here):
    assert recognise(*CALIBRATED, "--out", "found.csv").splitlines()[-1] == (
        "3 queries, 2 with a landmark: found.csv"
    )
    head, p, q, r = Path("found.csv").read_text().splitlines()
    assert (head, r) == ("query,landmark,confidence", "r,,")
    Path("sample.csv").write_text("id,landmarks\nr,\nq,\np,\n")
    done = CliRunner().invoke(
        cli, ["export", "submission", "found.csv", "--out", "s.csv", "--sample", "sample.csv"]
    )
    assert done.output == "3 queries, recognition: s.csv\n"
    cells = [line.partition(",")[2].replace(",", " ") for line in (q, p)]
    assert Path("s.csv").read_text() == f"id,landmarks\nr,\nq,{cells[0]}\np,{cells[1]}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "mine.csv"), "mine.csv exists already"),
        (("--calibrate", "bank", "--out", "found.csv"), "'a' that is in the vote bank"),
        (("--calibrate", "nowhere", "--out", "found.csv"), "nowhere does not exist"),
        (("--none", "none", "--out", "found.csv"), "--none serves"),
        (("--recipe", "other.toml", "--out", "found.csv"), "File 'other.toml' does not exist"),
        (("--bank", "query", "--out", "found.csv"), "no photo of the vote bank is a training photo"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(here, monkeypatch, capsys, arguments, said):
    Path("mine.csv").write_text("mine")
    monkeypatch.setattr("sys.argv", ["landseer", "recognise", *GIVEN, *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    assert end.value.code == 2 and printed.out == ""
    assert printed.err.startswith("landseer: ") and printed.err.count("\n") == 1
    assert re.search(said, printed.err)
    assert [file.name for file in Path().glob("*.csv")] == ["mine.csv"]
    assert Path("mine.csv").read_text() == "mine"
