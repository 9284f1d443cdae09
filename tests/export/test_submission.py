"""Submissions come back as they were written, and every mistake in one is named with its row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.export import (
    read_recognition_submission,
    read_retrieval_submission,
    sample_queries,
    write_recognition_submission,
    write_retrieval_submission,
)
from landseer.types import Ranking, Recognition

QUICK = settings(max_examples=40)
QUERIES = ("q1", "q2", "q3")
GALLERY = tuple(f"{number:016x}" for number in range(150))


def ranking(positions) -> Ranking:
    positions_QK = np.array(positions)
    scores_QK = np.where(positions_QK < 0, -np.inf, -np.arange(positions_QK.shape[1])).astype(np.float32)
    return Ranking(
        query_ids=QUERIES[: len(positions)],
        gallery_ids=GALLERY,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
    )


def recognition(landmarks=(7, -1, 9), confidences=(0.1, 0.5, 1e-7)) -> Recognition:
    return Recognition(
        query_ids=QUERIES,
        landmark_Q=np.array(landmarks, np.int64),
        confidence_Q=np.array(confidences, np.float32),
    )


def test_a_retrieval_submission_is_what_the_challenge_expects(tmp_path):
    write_retrieval_submission(ranking([[3, 1, -1], [-1, -1, -1], [0, 2, 1]]), tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == (
        f"id,images\nq1,{GALLERY[3]} {GALLERY[1]}\nq2,\nq3,{GALLERY[0]} {GALLERY[2]} {GALLERY[1]}\n".encode()
    )


def test_a_recognition_submission_is_what_the_challenge_expects(tmp_path):
    write_recognition_submission(recognition(), tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "id,landmarks\nq1,7 0.1\nq2,\nq3,9 1e-07\n"


@given(
    st.lists(st.permutations(range(5)), min_size=3, max_size=3), st.integers(1, 5), st.permutations(QUERIES)
)
@QUICK
def test_any_ranking_comes_back_in_the_order_of_the_challenge(tmp_path_factory, rows, k, asked):
    before = ranking([row[:k] for row in rows])
    path = tmp_path_factory.mktemp("s") / "submission.csv"
    write_retrieval_submission(before, path, query_ids=asked, index_ids=GALLERY[:5])
    after = read_retrieval_submission(path, query_ids=QUERIES, gallery_ids=GALLERY)
    assert path.read_text().splitlines()[1].startswith(asked[0] + ",")
    assert np.array_equal(after.positions_QK, before.positions_QK)
    assert np.array_equal(after.scores_QK, before.scores_QK)


@given(
    st.lists(st.integers(-1, 2**63 - 1), min_size=3, max_size=3),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
)
@QUICK
def test_any_recognition_comes_back_to_the_bit(tmp_path_factory, landmarks, confidences):
    before = recognition(landmarks, confidences)
    path = tmp_path_factory.mktemp("s") / "submission.csv"
    write_recognition_submission(before, path)
    after = read_recognition_submission(path)
    assert np.array_equal(after.landmark_Q, before.landmark_Q)
    named = before.landmark_Q >= 0
    assert np.array_equal(after.confidence_Q[named], before.confidence_Q[named])
    assert not after.confidence_Q[~named].any()


def test_a_hundred_answers_are_written_and_no_more(tmp_path):
    before = ranking([list(range(150))])
    write_retrieval_submission(before, tmp_path / "s.csv")
    after = read_retrieval_submission(tmp_path / "s.csv", gallery_ids=GALLERY)
    assert np.array_equal(after.positions_QK, before.positions_QK[:, :100])


def test_the_sample_says_which_queries_and_in_which_order(tmp_path):
    (tmp_path / "sample_submission.csv").write_text("id,images\nq3,x y\nq1,x\nq2,\n")
    assert sample_queries(tmp_path / "sample_submission.csv") == ("q3", "q1", "q2")
    (tmp_path / "bad.csv").write_text("query,images\nq3,x y\n")
    with pytest.raises(ValueError, match=r"bad\.csv has no column 'id'"):
        sample_queries(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("write", "made"),
    [(write_retrieval_submission, ranking([[0], [1], [2]])), (write_recognition_submission, recognition())],
)
def test_queries_that_are_not_those_of_the_challenge_are_named(tmp_path, write, made):
    for asked, line in (
        (("q1", "q2", "q3", "q4", "q5"), "2 queries of the challenge have no answer, the first is 'q4'"),
        (("q1", "q3"), "1 queries are none the challenge asks for, 'q2' for one"),
    ):
        with pytest.raises(ValueError, match=line):
            write(made, tmp_path / "s.csv", query_ids=asked)
    assert not list(tmp_path.iterdir())
    write(made, tmp_path / "s.csv")
    with pytest.raises(ValueError, match="exists already"):
        write(made, tmp_path / "s.csv")


def test_what_a_cell_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "s.csv"
    with pytest.raises(ValueError, match="is not in the index of the challenge"):
        write_retrieval_submission(ranking([[3]]), path, index_ids=GALLERY[:3])
    odd = Ranking(
        query_ids=("q",),
        gallery_ids=("a b",),
        positions_QK=np.array([[0]]),
        scores_QK=np.zeros((1, 1), np.float32),
    )
    with pytest.raises(ValueError, match="photo 'a b' is empty or has a blank"):
        write_retrieval_submission(odd, path)
    with pytest.raises(ValueError, match="the confidence of query 'q1' is inf"):
        write_recognition_submission(recognition(confidences=(np.inf, 0, 0)), path)
    assert not list(tmp_path.iterdir())


HUNDRED_AND_ONE = " ".join(GALLERY[:101])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "row 1: the header is '', not 'id,images'"),
        ("id;images\nq1;a\n", "row 1: the header is 'id;images', not 'id,images'"),
        ("id,landmarks\nq1,1 1\n", "row 1: the header is 'id,landmarks', not 'id,images'"),
        ("q1,a b\n", "row 1: the header is 'q1,a b', not 'id,images'"),
        ("id,images\nq1,a\nq2,b\nq9,a\nq3,\n", "row 4: query 'q9' is none the challenge asks for"),
        ("id,images\nq1,a\nq1,b\n", "row 3: query 'q1' is there already, in row 2"),
        ("id,images\nq1,a\nq2,b\n", "1 queries have no row, the first is 'q3'"),
        ("id,images\nq1,a\nq2,b z\nq3,\n", "row 3: photo 'z' is none of the 2 ids given for the gallery"),
        ("id,images\n\nq1,a\nq2,b a b\nq3,\n", "row 4: photo 'b' is listed twice for query 'q2'"),
        (f"id,images\nq1,{HUNDRED_AND_ONE}\nq2,\nq3,\n", "row 2: query 'q1' has 101 answers, more than 100"),
        ("id,images\nq1,a,b\n", "row 2: 3 cells, not the 2 of 'id,images'"),
        ("id,images\nq1\n", "row 2: 1 cells, not the 2 of 'id,images'"),
        ("id,images\n ,a\n", "row 2: the query's id is empty"),
    ],
)
def test_a_bad_retrieval_submission_is_named_by_its_row(tmp_path, text, line):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError) as told:
        read_retrieval_submission(tmp_path / "s.csv", query_ids=QUERIES, gallery_ids=("a", "b"))
    assert line in str(told.value)
    assert str(told.value).startswith(str(tmp_path / "s.csv"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("id,images\nq1,1 1\n", "row 1: the header is 'id,images', not 'id,landmarks'"),
        ("id,landmarks\nq1,1\nq2,\nq3,\n", "row 2: '1' is not one landmark and its score, nor empty"),
        (
            "id,landmarks\nq1,1 0.5 2 0.4\nq2,\nq3,\n",
            "row 2: '1 0.5 2 0.4' is not one landmark and its score",
        ),
        ("id,landmarks\nq1,1 0.5\nq2,2 high\nq3,\n", "row 3: score 'high' is not a number"),
        ("id,landmarks\nq1,1 nan\nq2,\nq3,\n", "row 2: score 'nan' is not a number"),
        ("id,landmarks\nq1,1 1e39\nq2,\nq3,\n", "row 2: score '1e39' is not a number"),
        ("id,landmarks\nq1,-1 0.5\nq2,\nq3,\n", "row 2: '-1' is not the number of a landmark"),
        ("id,landmarks\nq1,1.0 0.5\nq2,\nq3,\n", "row 2: '1.0' is not the number of a landmark"),
        ("id,landmarks\nq1,9223372036854775808 0.5\nq2,\nq3,\n", "is not the number of a landmark"),
        ("id,landmarks\nq1,\nq2,8 0.5\nq3,\n", "row 3: there is no landmark 8"),
        ("id,landmarks\nq1,\nq2,\n", "1 queries have no row, the first is 'q3'"),
        ("id,landmarks\nq1,\nq4,\n", "row 3: query 'q4' is none the challenge asks for"),
    ],
)
def test_a_bad_recognition_submission_is_named_by_its_row(tmp_path, text, line):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError) as told:
        read_recognition_submission(tmp_path / "s.csv", query_ids=QUERIES, landmarks={1, 2})
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_files_with_other_line_ends_are_read(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\xef\xbb\xbfid,images\r\nq1,a b\r\nq2,\r\n")
    found = read_retrieval_submission(tmp_path / "s.csv")
    assert found.query_ids == ("q1", "q2")
    assert found.gallery_ids == ("a", "b")
    (tmp_path / "b.csv").write_bytes(b"id,images\nq1,\xff\n")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_retrieval_submission(tmp_path / "b.csv")
