"""A pickle gives plain data, or one line; it never runs anything."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from landseer.storage.foreign import load_plain_pickle
from landseer.storage.foreign.pickles import ARRAYS as ARRAYS_ONLY

QUICK = settings(max_examples=40)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = {
    "arrays": [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(5.0),
        np.empty((0, 3), np.float32),
        np.array(["a", "bb"]),
        np.array([b"a"]),
        np.array([True]),
        np.array(["a", [1]], dtype=object),
    ],
    "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True)],
    "others": [
        b"",
        b"x\xff",
        bytearray(b"y"),
        {1, "a"},
        frozenset([2]),
        1 + 2j,
        (1, (2, 3)),
        None,
        2**70,
        -1.5,
        "ü",
    ],
    "ordered": collections.OrderedDict(b=1, a=2),
    ("a", 1): "flat tuples may be keys",
}


def plain(path: Path, content: bytes):
    path.write_bytes(content)
    return load_plain_pickle(path)


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ValueError) as told:
        load_plain_pickle(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)
    return str(told.value)


def same(left, right) -> bool:
    if isinstance(left, np.ndarray):
        alike = left.dtype == right.dtype and left.flags.f_contiguous == right.flags.f_contiguous
        return type(left) is type(right) and alike and np.array_equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_come_as_pickle_itself_gives_them(tmp_path, protocol):
    content = pickle.dumps(PLAIN, protocol=protocol)
    assert same(plain(tmp_path / "p", content), pickle.loads(content))


LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.uint8]), hnp.array_shapes(min_side=0), elements=st.just(1)
)
VALUES = st.recursive(
    LEAVES | ARRAYS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9
)


@given(VALUES, st.sampled_from(PROTOCOLS))
@QUICK
def test_any_plain_data_come_back(tmp_path_factory, value, protocol):
    assert same(plain(tmp_path_factory.mktemp("p") / "p", pickle.dumps(value, protocol=protocol)), value)


def test_what_python_2_wrote_is_read(tmp_path):
    """``pickle.dumps({'a': numpy.array([1.5])}, 2)`` of Python 2.7 and numpy 1.16."""
    content = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87"
        b"Rq\x04(K\x01K\x01\x85cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tb\x89U\x08\x00\x00\x00\x00\x00\x00\xf8?tbs."
    )
    assert same(plain(tmp_path / "p", content), {"a": np.array([1.5])})


class Calls:
    """Pickles as a call of *function*."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "function", [os.system, subprocess.getoutput, eval, exec, open, __import__, getattr, np.load, np.fromfile]
)
def test_nothing_is_called(tmp_path, monkeypatch, protocol, function):
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    message = refused(tmp_path / "p", pickle.dumps([Calls(function, f"touch {mark}")], protocol=protocol))
    assert "only numbers, text and arrays are read" in message
    assert not mark.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_class_is_made(tmp_path, protocol):
    for value in (datetime.date(2020, 1, 1), Path("x"), collections.Counter("a"), np.dtype("f4"), PLAIN.keys):
        try:
            content = pickle.dumps({"value": value}, protocol=protocol)
        except TypeError:
            continue
        path = tmp_path / "p"
        path.write_bytes(content)
        try:
            found = load_plain_pickle(path)
        except ValueError as error:
            assert "\n" not in str(error)
        else:  # a bare dtype comes out as a description without effect
            assert type(found["value"]).__module__.startswith("landseer")


RECORDS = np.zeros(2, dtype=[("a", "f4"), ("b", "O")])
HOSTILE = {
    "records that hold objects": pickle.dumps(RECORDS),
    "records": pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
    "dates": pickle.dumps(np.array(["2020-01-01"], dtype="M8[D]")),
    "nothing": b"",
    "no pickle": b"id,images\n1,2\n",
    "an unknown protocol": b"\x80\xff.",
    "an early end": pickle.dumps(PLAIN)[:-9],
    "a deeply nested key": b"\x80\x04})" + b"\x85" * 20_000 + b"K\x01s.",
    "a deeply nested member": b"\x80\x04\x8f()" + b"\x85" * 20_000 + b"\x90.",
    "a deeply nested member of a frozen set": b"\x80\x04()" + b"\x85" * 20_000 + b"\x91.",
    "a deeply nested key of a dict of old": b"()" + b"\x85" * 20_000 + b"K\x01d.",
    "a deeply nested key among several": b"\x80\x04}()" + b"\x85" * 20_000 + b"K\x01u.",
    "a deeply nested member by a call": b"\x80\x02c__builtin__\nset\n()" + b"\x85" * 20_000 + b"l\x85R.",
    "bytes without end": b"\x80\x05\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a byte array without end": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"abc.",
    "text without end": b"\x80\x05\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "an array of more than is there": pickle.dumps(np.zeros(4)).replace(
        b"K\x04\x85", b"J\x00\x00\x00\x7f\x85"
    ),
    "an array with a state it should not have": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00"
    b"\x85c_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R}b.",
    "a state on a dict": b"\x80\x02}}b.",
    "a call of what is no function": b"\x80\x02K\x01)R.",
    "the array class, called": b"\x80\x02cnumpy\nndarray\nK\x08\x85R.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pabc\n.",
    "a memory that is not there": b"\x80\x02h\x07.",
    "too little on the stack": b"\x80\x02\x86.",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_the_hostile_get_one_line(tmp_path, content):
    refused(tmp_path / "p", content)


def test_a_remembered_object_far_away_costs_nothing(tmp_path):
    """In C this fills 16 GB: the table of remembered objects grows to the number."""
    assert plain(tmp_path / "p", b"\x80\x02]r\xff\xff\xff\x7f.") == []


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x96", b"\x8d"], ids=["bytes", "byte array", "text"])
def test_what_is_only_declared_takes_no_memory(tmp_path, opcode):
    tracemalloc.start()
    refused(tmp_path / "p", b"\x80\x05" + opcode + struct.pack("<Q", 2**27) + b"abc.")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_bytes_flipped_at_random_give_data_or_one_line(tmp_path):
    rng = np.random.default_rng(0)
    for protocol in PROTOCOLS:
        intact = pickle.dumps(PLAIN, protocol=protocol)
        for _ in range(40):
            damaged = bytearray(intact)
            for position in rng.integers(len(damaged), size=3):
                damaged[position] = rng.integers(256)
            path = tmp_path / "p"
            path.write_bytes(damaged)
            try:
                load_plain_pickle(path)
            except ValueError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_less_may_be_admitted(tmp_path, protocol):
    path = tmp_path / "p"
    content = pickle.dumps({"a": [*PLAIN["arrays"], *PLAIN["scalars"]], "b": b"x"}, protocol=protocol)
    path.write_bytes(content)
    assert same(load_plain_pickle(path, admitted=ARRAYS_ONLY), pickle.loads(content))
    for value, name in ((collections.OrderedDict(), "collections.OrderedDict"), (1 + 2j, "complex")):
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        load_plain_pickle(path)
        with pytest.raises(ValueError, match=rf"it names .*{name}, and only numbers"):
            load_plain_pickle(path, admitted=ARRAYS_ONLY)


def test_what_is_not_known_here_cannot_be_admitted(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(pickle.dumps(os.getcwd, protocol=0))
    with pytest.raises(ValueError, match=r"it names (posix|nt)\.getcwd, and only numbers"):
        load_plain_pickle(path, admitted={("posix", "getcwd"), ("nt", "getcwd")})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.pkl cannot be read"):
        load_plain_pickle(tmp_path / "gone.pkl")
