"""Revisited Oxford and Paris: what is read, and what a pickle may not ask for."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.cli import cli
from landseer.datasets import import_revisited
from landseer.storage import load_collection, save_collection

REVISITED = Path(__file__).parents[2].parent / "shared" / "data" / "revisited"
GROUND_TRUTH = {
    "imlist": ["a_1", "a_2", "b_1", "b_2", "x_1"],
    "qimlist": ["qa", "qb", "qa2"],
    "gnd": [
        {"easy": [0], "hard": [1], "junk": [4], "bbx": [1.5, 2, 30, 40.25]},
        {"easy": [], "hard": [2, 3], "junk": [], "bbx": [0, 0, 10, 10]},
        {"easy": [1], "hard": [0], "junk": [], "bbx": [0, 0, 10, 10]},
    ],
}


def changed(query=0, **entries):
    gnd = [dict(entry) for entry in GROUND_TRUTH["gnd"]]
    gnd[query] |= entries
    return {**GROUND_TRUTH, "gnd": gnd}


def with_arrays(kind):
    """The ground truth as numpy keeps it."""
    entries = [
        {key: np.array(value, kind if key != "bbx" else float) for key, value in entry.items()}
        for entry in GROUND_TRUTH["gnd"]
    ]
    return {"imlist": np.array(GROUND_TRUTH["imlist"]), "qimlist": GROUND_TRUTH["qimlist"], "gnd": entries}


@pytest.fixture
def put(tmp_path, make):
    """Writes a ground truth (as a pickle or JSON) beside a folder of the photos it names."""

    def write(value=GROUND_TRUTH, name="gnd_tiny.json", protocol=None, photos=True):
        (tmp_path / "jpg").mkdir(exist_ok=True)
        if photos:
            for photo in (*GROUND_TRUTH["imlist"], *GROUND_TRUTH["qimlist"]):
                (tmp_path / "jpg" / f"{photo}.jpg").write_bytes(make.jpeg())
        file = tmp_path / name
        if isinstance(value, bytes):
            file.write_bytes(value)
        elif name.endswith(".json"):
            file.write_text(json.dumps(value))
        else:
            file.write_bytes(pickle.dumps(value, protocol=protocol))
        return file

    return write


def test_grades_boxes_and_landmarks(put):
    collection, summary = import_revisited(put())
    assert (summary.splits["index"], summary.splits["query"], summary.problems) == (5, 3, ())
    truth = collection.truth
    assert truth.query_ids == ("qa", "qb", "qa2")
    assert truth.relevant == (("a_1", "a_2"), ("b_1", "b_2"), ("a_2", "a_1"))
    assert truth.hard == (("a_2",), ("b_1", "b_2"), ("a_1",))
    assert truth.junk == (("x_1",), (), ())
    assert truth.landmarks == ((0,), (1,), (0,))  # qa and qa2 have the same relevant photos
    rows = {row["id"]: row for row in collection.photos.to_pylist()}
    assert rows["qa"]["crop"] == [1.5, 2.0, 30.0, 40.25] and rows["a_1"]["crop"] is None
    assert (rows["b_2"]["landmark"], rows["x_1"]["landmark"], rows["x_1"]["kind"]) == (1, None, "unknown")
    assert rows["qb"]["path"] == "qb.jpg" and collection.root.name == "jpg"


def test_the_grades_and_boxes_survive_storage(put, tmp_path):
    collection, _ = import_revisited(put())
    save_collection(collection, tmp_path / "C", made_by={"importer": "revisited"})
    loaded = load_collection(tmp_path / "C")
    assert loaded.truth == collection.truth
    assert loaded.photos["crop"].to_pylist() == collection.photos["crop"].to_pylist()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [np.int64, np.dtype(">i4"), np.uint8, object])
def test_pickles_of_every_protocol_read_like_json(put, protocol, kind):
    as_json, _ = import_revisited(put())
    as_pickle, _ = import_revisited(put(with_arrays(kind), "gnd_tiny.pkl", protocol))
    plain, _ = import_revisited(put(GROUND_TRUTH, "gnd_tiny.pkl", protocol))
    assert as_json.truth == as_pickle.truth == plain.truth
    assert as_json.photos == as_pickle.photos == plain.photos


def test_scalars_of_numpy_are_read(put):
    value = changed(easy=[np.int64(0)], bbx=list(np.array([1.5, 2, 30, 40.25])))
    assert import_revisited(put(value, "gnd_tiny.pkl"))[0].truth == import_revisited(put())[0].truth


def test_a_pickle_of_python_2_is_read(put):
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n"
        b"(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntb"
    )
    entry = b"(dS'easy'\n(lsS'hard'\n" + array + b"sS'junk'\n(lsS'bbx'\n(lI0\naI0\naI9\naI9\nas"
    text = b"(dS'imlist'\n(lS'a'\naS'b'\nasS'qimlist'\n(lS'q'\nasS'gnd'\n(l" + entry + b"as."
    collection, _ = import_revisited(put(text, "gnd_old.pkl", photos=False), check_files=False)
    assert collection.truth.hard == (("b",),)


class Calls:
    """Pickles as a call of *maker* with *arguments*."""

    def __init__(self, maker, *arguments):
        self.call = (maker, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(os.system, "touch pwned"), r"(posix|nt)\.system"),
        (Calls(eval, "open('pwned', 'w')"), r"(builtins|__builtin__)\.eval"),
        (Calls(getattr, [], "append"), r"(builtins|__builtin__)\.getattr"),
        (Calls(np.load, "x.npy"), r"numpy\.load"),
        (Calls(bytearray, b"x"), r"(builtins|__builtin__)\.bytearray"),
        (Calls(io.BytesIO, b"x"), r"_?io\.BytesIO"),
        (Path("x"), r"pathlib\.\w+"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_asks_for_more_is_refused_by_name(put, tmp_path, monkeypatch, value, name, protocol):
    monkeypatch.chdir(tmp_path)
    file = put(changed(easy=value), "gnd_bad.pkl", protocol)
    with pytest.raises(
        ValueError, match=rf"gnd_bad\.pkl .*: it names {name}, and only numbers, text and arrays"
    ):
        import_revisited(file)
    assert not Path("pwned").exists()


def test_other_codecs_and_outside_objects_are_refused(put):
    for text, name in [
        (b"c_codecs\nencode\n(Vx\nVzlib\ntR.", "_codecs.encode to 'zlib'"),
        (b"Pme\n.", "the outside object 'me'"),
    ]:
        with pytest.raises(ValueError, match=f"it names {name}"):
            import_revisited(put(text, "gnd_bad.pkl"))


@pytest.mark.parametrize(
    "text",
    [
        b"\x80\x04})" + b"\x85" * 20_000 + b"K\x01s.",
        b"\x80\x05\x8e" + (2**40).to_bytes(8, "little") + b"abc.",
    ],
    ids=["a deeply nested key", "bytes that are only declared"],
)
def test_what_would_end_the_process_is_refused(put, text):
    with pytest.raises(ValueError, match=r"gnd_bad\.pkl cannot be read as plain data"):
        import_revisited(put(text, "gnd_bad.pkl"))


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_pickle_is_one_line_or_the_same_truth(data):
    """Whatever byte is changed or cut: a clear refusal, or what stands there is read."""
    whole = pickle.dumps(with_arrays(np.int64), protocol=data.draw(st.sampled_from([0, 2, 4])))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(
        st.sampled_from([b"", bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]])
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gnd_x.pkl"
        file.write_bytes(damaged)
        try:
            import_revisited(file, check_files=False)
        except ValueError as error:
            assert "gnd_x.pkl" in str(error)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "lacks imlist, qimlist or gnd"),
        ({**GROUND_TRUTH, "imlist": []}, "imlist must be a list of names"),
        ({**GROUND_TRUTH, "qimlist": ["qa", "qb", 3]}, "qimlist must be a list of names"),
        ({**GROUND_TRUTH, "qimlist": ["qa", "qb"]}, "2 queries but 3 entries of gnd"),
        ({**GROUND_TRUTH, "qimlist": ["qa", "qb", "a_1"]}, "names a photo twice, 'a_1' for one"),
        ({**GROUND_TRUTH, "qimlist": ["qa", "qb", "qa"]}, "names a photo twice"),
        (changed(easy=[5]), "query 'qa', easy must be positions in imlist, 0 to 4"),
        (changed(junk=[-1]), "junk must be positions"),
        (changed(hard=["a_1"]), "hard must be positions"),
        (changed(easy=[True]), "easy must be positions"),
        (changed(easy=3), "easy must be a list"),
        ({**GROUND_TRUTH, "gnd": 1}, "gnd must be a list"),
        (changed(bbx=[1, 2, 3]), "bbx must be four numbers"),
        (changed(bbx=[1, 2, 3, 10**400]), "bbx must be four numbers"),
        (changed(bbx=[1, 2, 3, "4"]), "bbx must be four numbers"),
        (changed(bbx=[5, 2, 3, 9]), r"bbx \[5.0, 2.0, 3.0, 9.0\] is empty"),
        (changed(easy=[0, 4]), "query 'qa' has 'x_1' in two of easy, hard and junk"),
        ({**GROUND_TRUTH, "gnd": [{"ok": []}] * 3}, "old Oxford5k and Paris6k files are not read"),
        (b"{", "cannot be read as JSON"),
    ],
)
def test_a_ground_truth_that_cannot_be_is_refused(put, value, message):
    with pytest.raises(ValueError, match=message):
        import_revisited(put(value))


def test_a_folder_with_one_ground_truth_will_do(put, tmp_path):
    with pytest.raises(ValueError, match=r"holds no gnd_\*"):
        import_revisited(tmp_path)
    put(), put(name="gnd_tiny.pkl")
    assert len(import_revisited(tmp_path)[0]) == 8
    put(name="gnd_other.json")
    with pytest.raises(
        ValueError, match=r"several ground truths \(gnd_other, gnd_tiny\); name the file itself"
    ):
        import_revisited(tmp_path)
    with pytest.raises(ValueError, match="is no ground truth"):
        import_revisited(tmp_path / "jpg" / "qa.jpg")


def test_missing_photos_are_left_out_and_stay_in_the_truth(put, tmp_path):
    file = put()
    (tmp_path / "jpg" / "a_1.jpg").unlink()
    collection, summary = import_revisited(file)
    assert (len(collection), summary.missing_files) == (7, 1)
    assert collection.truth.relevant[0] == ("a_1", "a_2")
    lost = next(problem for problem in summary.problems if "relevant" in problem.what)
    assert (lost.count, lost.examples) == (2, ("photo 'a_1' of query 'qa'", "photo 'a_1' of query 'qa2'"))
    assert len(import_revisited(file, keep_missing=True)[0]) == 8
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="name their folder with --photos"):
        import_revisited(file, photos=empty)


def test_the_command(put, tmp_path):
    file = put()
    (tmp_path / "jpg").rename(tmp_path / "elsewhere")
    out = tmp_path / "C"
    arguments = ["import", "revisited", str(file), "--photos", str(tmp_path / "elsewhere"), "--out", str(out)]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["splits"]["query"] == 3
    assert load_collection(out).truth.hard[1] == ("b_1", "b_2")


@pytest.mark.parametrize(
    ("name", "photos", "easy", "hard", "junk", "without_easy"),
    [("roxford5k", 4993, 3029, 2497, 1356, 2), ("rparis6k", 6322, 6874, 10350, 7153, 0)],
)
def test_the_published_ground_truths(name, photos, easy, hard, junk, without_easy):
    if not REVISITED.is_dir():
        pytest.skip(f"no ground truth of Revisited Oxford and Paris at {REVISITED}")
    (pickled, _), (parsed, _) = (
        import_revisited(REVISITED / f"gnd_{name}.{ending}", check_files=False) for ending in ("pkl", "json")
    )
    assert pickled.truth == parsed.truth and pickled.photos == parsed.photos
    truth = parsed.truth
    assert (len(parsed.in_split("index")), len(truth)) == (photos, 70)
    found = [len(good) - len(far) for good, far in zip(truth.relevant, truth.hard, strict=True)]
    assert (sum(found), sum(map(len, truth.hard)), sum(map(len, truth.junk))) == (easy, hard, junk)
    assert sum(num == 0 for num in found) == without_easy and all(truth.hard)
