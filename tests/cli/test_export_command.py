"""``landseer export submission``: from whatever holds a ranking to a checked file."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.storage import save_ranking
from landseer.storage.foreign import read_recognition, write_trec_run
from landseer.types import Ranking

RANKING = Ranking(
    query_ids=("q1", "q2"),
    gallery_ids=("a", "b"),
    positions_QK=np.array([[1, 0], [0, -1]]),
    scores_QK=np.array([[0.5, 0.25], [0.5, -np.inf]], np.float32),
)
SUBMISSION = "id,images\nq2,a\nq1,b a\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sample.csv").write_text("id,images\nq2,x\nq1,x\n")
    Path("index.csv").write_text("id\na\nb\n")
    return tmp_path


def export(*arguments):
    return CliRunner().invoke(cli, ["export", "submission", *arguments])


def test_a_ranking_of_any_kind_becomes_a_submission(here):
    save_ranking(RANKING, Path("folder"), made_by={})
    write_trec_run(RANKING, Path("x.run"))
    Path("older.csv").write_text("id,images\nq1,b a\nq2,a\n")
    Path("table.csv").write_text("query,gallery,score\nq1,a,0\nq1,b,1\nq2,a,0\n")
    for number, source in enumerate(("folder", "x.run", "older.csv", "table.csv")):
        out = f"{number}.csv"
        result = export(source, "--out", out, "--sample", "sample.csv", "--index", "index.csv")
        assert result.exit_code == 0, result.output
        assert result.output == f"2 queries, retrieval: {out}\n"
        assert Path(out).read_text() == SUBMISSION


def test_a_recognition_becomes_a_submission(here):
    Path("found.csv").write_text("query,landmark,confidence\nq1,7,0.5\nq2,,\n")
    result = export("found.csv", "--out", "s.csv", "--sample", "sample.csv")
    assert result.output == "2 queries, recognition: s.csv\n"
    assert Path("s.csv").read_text() == "id,landmarks\nq2,\nq1,7 0.5\n"
    assert export("s.csv", "--out", "again.csv").exit_code == 0
    assert Path("again.csv").read_text() == Path("s.csv").read_text()
    assert read_recognition("s.csv").landmark_Q.tolist() == [-1, 7]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("older.csv", "--out", "s.csv", "--index", "short.csv"),
            "answer 'b' to query 'q1' is not in the index",
        ),
        (
            ("older.csv", "--out", "s.csv", "--sample", "short.csv"),
            "1 queries of the challenge have no answer",
        ),
        (("older.csv", "--out", "sample.csv"), "sample.csv exists already"),
        (("older.csv", "--out", "no/s.csv"), "no is not a folder; make it"),
        (("found.csv", "--out", "s.csv"), "found.csv, row 2: 'x' is not the number of a landmark"),
        (("found.csv", "--out", "s.csv", "--index", "index.csv"), "leave out --index"),
        (("gone", "--out", "s.csv"), "gone does not exist"),
    ],
)
def test_a_mistake_gets_one_line_and_no_file(here, arguments, line):
    Path("older.csv").write_text("id,images\nq1,b a\nq2,a\n")
    Path("short.csv").write_text("id\na\n")
    Path("found.csv").write_text("query,landmark,confidence\nq1,x,0.5\n")
    result = export(*arguments)
    assert isinstance(result.exception, ValueError)
    assert line in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not Path("s.csv").exists()
