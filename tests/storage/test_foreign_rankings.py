"""Rankings of other tools come back as they were written; what is wrong or could be read in two ways gets one line."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.storage import open_artifact, save_descriptors, save_ranking
from landseer.storage.foreign import (
    fingerprint_of_source,
    read_qrels,
    read_ranking,
    write_ranks,
    write_trec_run,
)
from landseer.types import Descriptors, Ranking

QUICK = settings(max_examples=40)
QUERIES, GALLERY = ("q1", "q2"), ("a", "b", "c")


def ranking(positions=((2, 0, -1), (1, 0, 2)), scores=((0.5, 0.25, -np.inf), (1, 1, -1)), **facts) -> Ranking:
    return Ranking(
        query_ids=QUERIES,
        gallery_ids=GALLERY,
        positions_QK=np.array(positions),
        scores_QK=np.array(scores, np.float32),
        **facts,
    )


@st.composite
def rankings(draw, *, full=False) -> Ranking:
    num_queries, num_gallery = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k = num_gallery if full else draw(st.integers(1, num_gallery))
    positions, scores = np.full((num_queries, k), -1), np.full((num_queries, k), -np.inf, np.float32)
    for row in range(num_queries):
        filled = k if full else draw(st.integers(1 if row == 0 else 0, k))
        positions[row, :filled] = rng.permutation(num_gallery)[:filled]
        # few values, so that some are equal
        scores[row, :filled] = -np.sort(-rng.choice(rng.normal(size=3), size=filled))
    return Ranking(
        query_ids=tuple(f"q{row}" for row in range(num_queries)),
        gallery_ids=tuple(f"x{row}" for row in range(num_gallery)),
        positions_QK=positions,
        scores_QK=scores,
    )


def answers(found: Ranking) -> dict[str, list[tuple[str, float]]]:
    return {query: found.answers(row) for row, query in enumerate(found.query_ids)}


def order(found: Ranking) -> dict[str, list[str]]:
    return {query: [photo for photo, _ in listed] for query, listed in answers(found).items()}


def refused(*arguments, **options) -> str:
    with pytest.raises(ValueError) as told:
        read_ranking(*arguments, **options)
    assert "\n" not in str(told.value)
    return str(told.value)


# TREC


@given(rankings(), st.booleans())
@QUICK
def test_any_run_comes_back(tmp_path_factory, before, named):
    path = tmp_path_factory.mktemp("r") / "x.run"
    write_trec_run(before, path)
    given_ids = {"query_ids": before.query_ids, "gallery_ids": before.gallery_ids} if named else {}
    after = read_ranking(path, **given_ids)
    kept = {query: listed for query, listed in answers(before).items() if listed or named}
    assert answers(after) == kept
    if named:
        assert (after.query_ids, after.gallery_ids) == (before.query_ids, before.gallery_ids)


def test_a_run_is_written_as_trec_has_it(tmp_path):
    write_trec_run(ranking(), tmp_path / "x.run", tag="t")
    assert (tmp_path / "x.run").read_text() == (
        "q1 Q0 c 1 0.5 t\nq1 Q0 a 2 0.25 t\nq2 Q0 b 1 1 t\nq2 Q0 a 2 1 t\nq2 Q0 c 3 -1 t\n"
    )
    with pytest.raises(ValueError, match="exists already"):
        write_trec_run(ranking(), tmp_path / "x.run")
    with pytest.raises(ValueError, match="tag 'a b' has a blank"):
        write_trec_run(ranking(), tmp_path / "y.run", tag="a b")
    assert [file.name for file in tmp_path.iterdir()] == ["x.run"]


def test_a_run_of_any_spacing_is_read_by_score_then_rank(tmp_path, caplog):
    path = tmp_path / "x.txt"
    path.write_bytes(
        b"\xef\xbb\xbfq2\tQ0\tb\t2\t1e0\tt\r\n\n"
        b"  q1   Q0  a 0 0.5 t \r\nq2 Q0 a 1 1.0 t\nq2 Q0 c 3 .25 t\nq1 Q0 b 1 -2 t"
    )
    found = read_ranking(path)
    assert found.query_ids == ("q2", "q1")
    assert answers(found) == {"q2": [("a", 1.0), ("b", 1.0), ("c", 0.25)], "q1": [("a", 0.5), ("b", -2.0)]}
    assert not caplog.records


def test_where_ranks_and_scores_differ_scores_count_and_it_says_so(tmp_path, caplog):
    path = tmp_path / "x.run"
    path.write_text("q1 Q0 a 1 0.5 t\nq1 Q0 b 2 0.75 t\n")
    assert order(read_ranking(path)) == {"q1": ["b", "a"]}
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: ranks and scores contradict each other, for query 'q1' first; scores count"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("q Q0 a 1 0.5 t\n\nq Q0 a 2 0.4 t\n", "line 3: photo 'a' is listed twice for query 'q'"),
        ("q Q0 a 1 0.5 t\n\nq Q0 b 2 t\n", "line 3: 5 columns, not the 6 of a TREC run"),
        ("q Q0 a 1 0.5 t\nq Q0 b 2 0.5 t u\n", "line 2: 7 columns"),
        ("q Q0 a 1 0.5 t\nq Q0 b 2 x t\n", "line 2: score 'x' is not a number"),
        ("q Q0 a one 0.5 t\n", "line 1: rank 'one' is not a number"),
        ("q Q0 a 1 0.5 t\nq Q0 b 2 nan t\n", "line 2: score nan is not a finite number"),
        ("q Q0 a 2 0.5 t\nq Q0 b 1 inf t\n", "line 2: score inf is not a finite number"),
        ("q Q0 a 1 1e300 t\n", "line 1: score 1e+300 is not a finite number"),
        ("", "is no ranking that is recognised"),
        ("a b c\n", "is no ranking that is recognised; known: arrays of positions, a TREC run"),
    ],
)
def test_a_bad_run_gets_one_line(tmp_path, text, line):
    (tmp_path / "x.run").write_text(text)
    assert line in refused(tmp_path / "x.run")


def test_a_run_of_others_is_refused(tmp_path):
    path = tmp_path / "x.run"
    path.write_text("q1 Q0 a 1 0.5 t\nq9 Q0 z 1 0.5 t\n")
    assert "line 2: query 'q9' is none of the 2 ids given for the queries" in refused(path, query_ids=QUERIES)
    assert "line 2: photo 'z' is none of the 3 ids given for the gallery" in refused(
        path, gallery_ids=GALLERY
    )
    assert "is empty; a TREC run has 6 columns" in refused(empty(tmp_path), format="trec")


def empty(folder):
    (folder / "empty.run").write_bytes(b"\n \n")
    return folder / "empty.run"


def test_qrels_are_the_truth(tmp_path):
    path = tmp_path / "x.qrels"
    path.write_text("q2 0 a 1\nq1 0 a 2\nq1 0 b 0\nq2 0 c -1\nq3 0 b 0\n")
    found = read_qrels(path)
    assert found.query_ids == ("q2", "q1", "q3")
    assert found.relevant == (("a",), ("a",), ())
    assert found.junk == (("c",), (), ())
    assert set(found.split) == {"Private"}
    for text, line in (
        ("q 0 a 1\nq 0 a 0\n", "line 2: photo 'a' is listed twice"),
        ("q 0 a x\n", "line 1: relevance 'x' is not a number"),
        ("q 0 a\n", "line 1: 3 columns, not the 4 of TREC qrels"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError) as told:
            read_qrels(path)
        assert line in str(told.value)


# arrays


@given(rankings(full=True))
@QUICK
def test_any_ranks_come_back(tmp_path_factory, before):
    path = tmp_path_factory.mktemp("r") / "ranks.npy"
    write_ranks(before, path)
    stored = np.load(path)
    assert stored.shape == (len(before.gallery_ids), len(before)), "[n_db, n_query]"
    ids = {"query_ids": before.query_ids, "gallery_ids": before.gallery_ids}
    after = read_ranking(path, **ids, format="ranks")
    assert np.array_equal(after.positions_QK, before.positions_QK)
    assert after.score_kind == "order"
    assert np.array_equal(after.scores_QK, np.tile(-np.arange(stored.shape[0]), (len(before), 1)))
    if len(before) != len(before.gallery_ids):
        assert np.array_equal(read_ranking(path, **ids).positions_QK, before.positions_QK)


@given(rankings())
@QUICK
def test_any_positions_with_scores_come_back(tmp_path_factory, before):
    folder = tmp_path_factory.mktemp("r")
    ids = {"query_ids": before.query_ids, "gallery_ids": before.gallery_ids, "format": "positions"}
    np.savez(folder / "x.npz", positions=before.positions_QK, scores=before.scores_QK)
    np.savez(folder / "y.npz", D=-before.scores_QK, I=before.positions_QK)
    np.save(folder / "z.npy", before.positions_QK.astype(np.int32))
    np.save(folder / "z.scores.npy", before.scores_QK)
    for name in ("x.npz", "y.npz", "z.npy"):
        after = read_ranking(folder / name, **ids)
        assert np.array_equal(after.positions_QK, before.positions_QK)
        assert np.array_equal(after.scores_QK, before.scores_QK)
        assert after.score_kind == "foreign"


def test_the_lists_of_revisitop_give_the_ids(tmp_path):
    gnd = {"imlist": list(GALLERY), "qimlist": list(QUERIES), "gnd": []}
    (tmp_path / "gnd_x.pkl").write_bytes(pickle.dumps(gnd))
    np.save(tmp_path / "ranks.npy", np.array([[2, 1], [0, 0], [1, 2]]))
    found = read_ranking(
        tmp_path / "ranks.npy", query_ids=tmp_path / "gnd_x.pkl", gallery_ids=tmp_path / "gnd_x.pkl"
    )
    assert order(found) == {"q1": ["c", "a", "b"], "q2": ["b", "a", "c"]}
    (tmp_path / "ranks.pkl").write_bytes(pickle.dumps({"ranks": np.array([[2, 1], [0, 0], [1, 2]])}))
    pickled = read_ranking(tmp_path / "ranks.pkl", query_ids=QUERIES, gallery_ids=GALLERY)
    assert np.array_equal(pickled.positions_QK, found.positions_QK)


def test_a_square_array_is_read_as_the_caller_says(tmp_path):
    positions = np.array([[1, 0], [1, 0]])
    np.save(tmp_path / "x.npy", positions)
    ids = {"query_ids": QUERIES, "gallery_ids": GALLERY}
    assert "is [2, 2] for 2 queries, so it can be read in two ways; say format 'positions'" in refused(
        tmp_path / "x.npy", **ids
    )
    assert np.array_equal(read_ranking(tmp_path / "x.npy", **ids, format="positions").positions_QK, positions)
    assert "has position 1 twice" in refused(tmp_path / "x.npy", **ids, format="ranks")


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (
            np.array([[0, 3], [1, 0], [2, 1]]).T[:, :3],
            "is position 3, and the gallery ends at 2; do its positions count",
        ),
        (np.array([[0, -2, 1], [0, 1, 2]]), "answer 2 of query 'q1' is position -2"),
        (np.array([[0, 1, 2], [0, -1, 1]]), "query 'q2' has an answer after a -1"),
        (np.array([[0, 1, 0], [0, 1, 2]]), "query 'q1' has position 0 twice"),
        (np.array([[0.5, 1, 2], [0, 1, 2]]), "that are not whole numbers"),
        (np.zeros((4, 4), int), "is [4, 4], not [2, K] nor [N, 2], for 2 queries and a gallery of 3"),
        (np.zeros(4, int), "holds no table of numbers"),
        (np.array([["a", "b"]]), "holds no table of numbers"),
    ],
)
def test_bad_positions_get_one_line(tmp_path, array, line):
    np.save(tmp_path / "x.npy", array)
    assert line in refused(tmp_path / "x.npy", query_ids=QUERIES, gallery_ids=GALLERY)


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        ([[0, 1, 2], [0, 0, 0]], "the scores of query 'q1' rise along its answers; if they are distances"),
        ([[2, 1, 0], [0, np.nan, 0]], "query 'q2' has a score that is not a finite number"),
        ([[2, 1], [0, 0]], "scores are float64 [2, 2] and positions [2, 3]"),
    ],
)
def test_bad_scores_get_one_line(tmp_path, scores, line):
    np.savez(tmp_path / "x.npz", positions=np.array([[0, 1, 2], [2, 1, 0]]), scores=np.array(scores, float))
    assert line in refused(tmp_path / "x.npz", query_ids=QUERIES, gallery_ids=GALLERY)


def test_an_array_without_ids_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0, 1, 2]]))
    assert "names no photos; give the ids of its queries" in refused(tmp_path / "x.npy", gallery_ids=GALLERY)
    assert "give the ids of its gallery" in refused(tmp_path / "x.npy", query_ids=QUERIES)
    assert "unknown format 'best'" in refused(tmp_path / "x.npy", format="best")


# tables and folders


def test_a_table_is_read_with_scores_and_without(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('query,gallery,score\nq2,"b,c",0.5\nq1,a,0.25\nq2,a,0.75\n')
    found = read_ranking(path)
    assert answers(found) == {"q2": [("a", 0.75), ("b,c", 0.5)], "q1": [("a", 0.25)]}
    path.write_text("query,gallery\nq2,b\nq1,a\nq2,a\n")
    found = read_ranking(path, query_ids=("q1", "q2", "q3"), gallery_ids=GALLERY)
    assert answers(found) == {"q1": [("a", 0.0)], "q2": [("b", 0.0), ("a", -1.0)], "q3": []}
    assert (found.score_kind, found.gallery_ids) == ("order", GALLERY)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("query,gallery,score\nq,a,1\nq,a,2\n", "row 3: photo 'a' is listed twice for query 'q'"),
        ("query,gallery,score\nq,a,nan\n", "row 2: score nan is not a finite number"),
        ("query,gallery,score\nq,a,x\n", "cannot be read as a CSV table"),
        ("query,gallery,score\nq,a\n", "cannot be read as a CSV table"),
        ("id,landmarks\nq,1 0.5\n", "is a recognition submission (id,landmarks), not a ranking"),
        ("a,b\n1,2\n", "is no ranking that is recognised"),
    ],
)
def test_a_bad_table_gets_one_line(tmp_path, text, line):
    (tmp_path / "x.csv").write_text(text)
    assert line in refused(tmp_path / "x.csv")


def test_a_submission_is_a_ranking(tmp_path):
    (tmp_path / "x.csv").write_text("id,images\nq1,c a\nq2,\n")
    found = read_ranking(tmp_path / "x.csv")
    assert answers(found) == {"q1": [("c", 0.0), ("a", -1.0)], "q2": []}
    assert found.score_kind == "order"


def test_a_folder_of_this_program_is_read_by_the_same_call(tmp_path):
    save_ranking(ranking(score_kind="votes"), tmp_path / "r", made_by={"k": 3})
    found = read_ranking(tmp_path / "r")
    assert (answers(found), found.score_kind) == (answers(ranking()), "votes")
    assert fingerprint_of_source(tmp_path / "r") == open_artifact(tmp_path / "r", "ranking").fingerprint
    assert "knows its ids" in refused(tmp_path / "r", query_ids=QUERIES)
    save_descriptors(Descriptors(ids=("a",), rows_ND=np.ones((1, 1), np.float32)), tmp_path / "d", made_by={})
    assert fingerprint_of_source(tmp_path / "d") == open_artifact(tmp_path / "d", "descriptors").fingerprint
    assert "is a landseer descriptors, not a ranking" in refused(tmp_path / "d")


def test_the_fingerprint_of_a_file_follows_its_bytes(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    prints = [fingerprint_of_source(tmp_path / name) for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_ranks_cannot_say_a_short_row(tmp_path):
    with pytest.raises(ValueError, match="fewer answers than others"):
        write_ranks(ranking(), tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())
