"""``rank``, ``rerank`` and ``evaluate`` on files of other tools: the same numbers as from folders of our own."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.storage import load_ranking, save_collection, save_descriptors
from landseer.storage.foreign import write_ranks, write_trec_run
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors, Truth

QUERIES, GALLERY = ("p", "q"), ("a", "b", "c", "d")


def unit_rows(num, seed):
    rows = np.random.default_rng(seed).standard_normal((num, 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Two queries and four photos as folders of our own and as bare arrays with lists of ids, and their truth."""
    monkeypatch.chdir(tmp_path)
    for name, ids, seed in (("query", QUERIES, 1), ("index", GALLERY, 2)):
        rows = unit_rows(len(ids), seed)
        save_descriptors(Descriptors(ids=ids, rows_ND=rows), Path(name), made_by={"model": "m"})
        np.save(f"{name}.npy", rows)
        Path(f"{name}.ids.txt").write_text("\n".join(ids) + "\n")
    truth = Truth(
        query_ids=QUERIES,
        relevant=(("a", "c"), ("b",)),
        junk=((), ()),
        landmarks=((1,), (2,)),
        split=("Private", "Public"),
        recognition_split=("Private", "Public"),
    )
    ids = (*QUERIES, *GALLERY)
    columns = {
        "id": ids,
        "path": [f"{photo}.jpg" for photo in ids],
        "kind": ["unknown"] * len(ids),
        "clean": [False] * len(ids),
        "split": ["query"] * len(QUERIES) + ["index"] * len(GALLERY),
    }
    photos = pa.table(
        {f.name: pa.array(columns.get(f.name, [None] * len(ids)), f.type) for f in PHOTO_SCHEMA}
    )
    collection = Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=Path(), truth=truth)
    save_collection(collection, Path("data"), made_by={"source": "test"})
    assert (
        invoke("rank", "--queries", "query", "--gallery", "index", "-k", "4", "--out", "own").exit_code == 0
    )
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(cli, list(words))


def numbers(place, *words):
    found = invoke("evaluate", place, "--truth", "data", "--json", *words)
    assert found.exit_code == 0, found.output
    return [
        (entry["name"], entry["group"], entry["value"])
        for entry in json.loads(found.stdout)[place]["numbers"]
    ]


def test_rank_takes_arrays_with_lists_of_ids(made):
    result = invoke("rank", "--queries", "query.npy", "--gallery", "index.npy", "-k", "4", "--out", "theirs")
    assert result.exit_code == 0, result.output
    own, theirs = load_ranking(Path("own")), load_ranking(Path("theirs"))
    assert own.answers(0) == theirs.answers(0) and own.answers(1) == theirs.answers(1)
    Path("index.ids.txt").rename("photos.txt")
    missing = invoke("rank", "--queries", "query.npy", "--gallery", "index.npy", "--out", "none")
    assert isinstance(missing.exception, ValueError) and "ids" in str(missing.exception)
    named = ("--gallery-ids", "photos.txt", "-k", "4", "--out", "named")
    assert invoke("rank", "--queries", "query.npy", "--gallery", "index.npy", *named).exit_code == 0
    assert load_ranking(Path("named")).answers(0) == own.answers(0)


def test_rank_normalises_only_when_told(made):
    np.save("index.npy", 3 * np.load("index.npy"))
    words = ("rank", "--queries", "query.npy", "--gallery", "index.npy", "-k", "4")
    assert invoke(*words, "--out", "long").exit_code == 0
    assert invoke(*words, "--normalise", "--out", "unit").exit_code == 0
    own, long, unit = (load_ranking(Path(name)) for name in ("own", "long", "unit"))
    assert long.score_kind == "dot" and np.allclose(long.scores_QK, 3 * own.scores_QK, atol=1e-5)
    assert unit.score_kind == "cosine" and np.allclose(unit.scores_QK, own.scores_QK, atol=1e-6)


def test_evaluate_gives_a_run_of_another_tool_the_same_numbers(made):
    own = load_ranking(Path("own"))
    write_trec_run(own, Path("run.trec"))
    write_ranks(own, Path("ranks.npy"))
    np.save("positions.npy", own.positions_QK[:, :3])
    want = numbers("own")
    assert numbers("run.trec") == want
    assert numbers("ranks.npy") == want, "the ids are those of the truth and of the index photos"
    assert numbers("positions.npy", "--query-ids", "query.ids.txt", "--gallery-ids", "index.ids.txt")
    assert numbers("ranks.npy", "--format", "ranks") == want


def test_ids_in_another_order_change_what_is_meant(made):
    own = load_ranking(Path("own"))
    write_ranks(own, Path("ranks.npy"))
    Path("turned.txt").write_text("\n".join(reversed(GALLERY)) + "\n")
    assert numbers("ranks.npy", "--gallery-ids", "turned.txt") != numbers("ranks.npy")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("none.npy", "none.npy"),
        ("query.ids.txt", "no ranking that is recognised"),
        ("short.npy", "short.npy"),
    ],
)
def test_what_is_no_ranking_is_one_line(made, place, expected):
    np.save("short.npy", np.zeros((7, 9), np.int64))
    result = invoke("evaluate", place, "--truth", "data")
    assert isinstance(result.exception, ValueError)
    assert expected in str(result.exception) and "\n" not in str(result.exception)


def test_rerank_takes_the_files_of_another_tool(made):
    write_ranks(load_ranking(Path("own")), Path("ranks.npy"))
    Path("chain.toml").write_text('title = "x"\n[[reranking]]\nmethod = "expansion"\nquery_neighbours = 1\n')
    chain = ("--recipe", "chain.toml")
    files = ("--queries", "query.npy", "--gallery", "index.npy")
    result = invoke("rerank", "own", *chain, "--queries", "query", "--gallery", "index", "--out", "first")
    assert result.exit_code == 0 and "expansion" in result.output, result.output
    assert invoke("rerank", "ranks.npy", *chain, *files, "--out", "second").exit_code == 0
    first, second = load_ranking(Path("first")), load_ranking(Path("second"))
    assert first.answers(0) == second.answers(0) and first.answers(1) == second.answers(1)
    facts = json.loads(invoke("rerank", "own", *chain, *files, "--json", "--out", "third").stdout)
    assert [step["method"] for step in facts] == ["expansion"]
    again = invoke("rerank", "own", *chain, *files, "--out", "third")
    assert isinstance(again.exception, ValueError) and "third exists already" in str(again.exception)
