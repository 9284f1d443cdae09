"""Pickles of other programs, read without running anything.

Only numbers, text, bytes, lists, dicts, tuples, sets and numpy arrays and scalars of plain numbers or text come
out; any other class is refused by name before it is looked up.  What a pickle may call are functions of this
module.  The interpreter is Python's own, not the one in C, whose table of remembered objects a few bytes can make
fill the memory.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from landseer.storage.foreign.reading import parsing

_PLAIN_CODE = re.compile(r"[biufcSUO]\d{1,6}")
_LEAVES = (str, bytes, int, float, complex, np.generic, type(None))


def load_plain_pickle(path: Path, *, admitted: Collection[tuple[str, str]] | None = None) -> Any:
    """What the pickle *path* holds, of any protocol and of Python 2 too, if it is plain data.

    *admitted*: the (module, name) pairs that it may name, of those that are known here (None: all; ``ARRAYS``: what
    lists, dicts and arrays need).  Raises ``ValueError``, one line, where it holds anything else, is damaged or is no
    pickle.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    # a damaged pickle makes the interpreter stumble in many ways, but it can reach only the functions below
    with parsing(path, "plain data"):
        reader = _Plain(io.BytesIO(content), encoding="latin1")
        reader.admitted = _KNOWN.keys() if admitted is None else admitted
        return reader.load()


class _Dtype:
    """Stands for a numpy dtype until its array is made: only plain kinds can be named."""

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not _PLAIN_CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of kind {code!r} is not plain data")
        self.real = np.dtype(code)

    def restore(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an array's kind is described in an unknown way")
        if state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("an array of records is not plain data")
        self.real = self.real.newbyteorder(">" if state[1] == ">" else "<" if state[1] == "<" else "=")


def _make_dtype(code: object, _align: object = False, _copy: object = False) -> _Dtype:
    return _Dtype(code)


def _array_class(*_: object) -> None:
    raise pickle.UnpicklingError("an array is made in an unknown way")


def _empty_array(_kind: object, _shape: object, _code: object) -> np.ndarray:
    return np.empty(0)


def _fill_array(array: np.ndarray, state: object) -> None:
    """What numpy's ``__setstate__`` does, after everything it relies on was looked at."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
        raise pickle.UnpicklingError("an array's content is described in an unknown way")
    _, shape, dtype, fortran, content = state
    if isinstance(content, str):
        content = content.encode("latin1")  # the bytes of Python 2
    _check_size(shape, dtype.real, content)
    array.__setstate__((1, shape, dtype.real, bool(fortran), content))  # type: ignore[arg-type]


def _check_size(shape: object, dtype: np.dtype[Any], content: object) -> None:
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise pickle.UnpicklingError("an array has an impossible shape")
    fits = isinstance(content, list) if dtype.hasobject else isinstance(content, bytes | bytearray)
    unit = 1 if dtype.hasobject else dtype.itemsize
    if not fits or math.prod(shape) * unit != len(content):  # type: ignore[arg-type]
        raise pickle.UnpicklingError(f"an array of shape {shape} does not hold what it declares")


def _array_of_buffer(content: Any, dtype: object, shape: Any, order: object) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or dtype.real.hasobject or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array is described in an unknown way")
    _check_size(shape, dtype.real, content)
    return np.frombuffer(content, dtype.real).reshape(shape, order=order)


def _scalar(dtype: object, content: Any) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.real.hasobject:
        raise pickle.UnpicklingError("a number is described in an unknown way")
    content = content.encode("latin1") if isinstance(content, str) else content
    _check_size((), dtype.real, content)
    return np.frombuffer(content, dtype.real)[0]


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """How protocols 0 to 2 spell bytes, and nothing else of the codecs."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it names _codecs.encode to {encoding!r}, which spells no bytes")
    if not isinstance(text, str):
        raise pickle.UnpicklingError("bytes are spelled in an unknown way")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _byte_array(content: object = b"", _encoding: object = None) -> bytearray:
    return bytearray(content if isinstance(content, bytes) else _encoded(content))


def _complex(real: object, imaginary: object) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise pickle.UnpicklingError("a complex number is spelled in an unknown way")
    return complex(real, imaginary)


def _set(entries: Any = ()) -> set[Any]:
    return set(_hashable(entries))


def _frozenset(entries: Any = ()) -> frozenset[Any]:
    return frozenset(_hashable(entries))


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    _hashable(key for key, _ in pairs)
    return OrderedDict(pairs)


def _hashable(entries: Iterable[Any]) -> list[Any]:
    """The entries, if they are plain or flat tuples: the hash of a deeply nested tuple ends the process."""
    listed = list(entries)
    for entry in listed:
        parts = entry if isinstance(entry, tuple) else (entry,)
        if not all(isinstance(part, _LEAVES) for part in parts):
            raise pickle.UnpicklingError(f"a {type(entry).__name__} as a key is not plain data")
    return listed


_NUMPY: dict[tuple[str, str], Callable[..., Any]] = {
    ("multiarray", "_reconstruct"): _empty_array,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _array_of_buffer,
}
_OF_ARRAYS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _array_class,
    ("numpy", "dtype"): _make_dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): made
        for core in ("core", "_core")
        for (module, name), made in _NUMPY.items()
    },
}
ARRAYS = frozenset(_OF_ARRAYS)
"""What a pickle of lists, dicts, text, numbers and arrays names, whichever Python and numpy wrote it."""
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    **_OF_ARRAYS,
    ("collections", "OrderedDict"): _ordered_dict,
    **{
        (builtins, name): made
        for builtins in ("builtins", "__builtin__")
        for name, made in (
            ("set", _set),
            ("frozenset", _frozenset),
            ("complex", _complex),
            ("bytearray", _byte_array),
            ("bytes", _no_bytes),
        )
    },
}
"""Module and name as a pickle spells them -> the function of ours that stands for them."""


class _Plain(pickle._Unpickler):
    """Python's interpreter of pickles with every way out closed: classes, states and odd keys."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]]
    stack: list[Any]
    admitted: Collection[tuple[str, str]]

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in self.admitted or (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only numbers, text and arrays are read"
            )
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it names the outside object {str(pid)[:40]!r}, and there is none")


def _build(reader: _Plain) -> None:
    state = reader.stack.pop()
    made = reader.stack[-1]
    if isinstance(made, np.ndarray):
        _fill_array(made, state)
    elif isinstance(made, _Dtype):
        made.restore(state)
    else:
        raise pickle.UnpicklingError(f"a {type(made).__name__} with a state is not plain data")


def _byte_array_of_file(reader: Any) -> None:
    """Python's own makes room for as many bytes as are declared before it looks for them."""
    (size,) = struct.unpack("<Q", reader.read(8))
    content = reader.read(min(size, sys.maxsize))
    if len(content) != size:
        raise pickle.UnpicklingError("it ends early")
    reader.stack.append(bytearray(content))


def _guarded(opcode: bytes, keys: slice) -> Callable[[_Plain], None]:
    """An instruction that puts keys into a dict or set, after a look at those: *keys* of the stack."""
    act = pickle._Unpickler.dispatch[opcode[0]]

    def look_first(reader: Any) -> None:
        _hashable(reader.stack[keys])
        act(reader)

    return look_first


_Plain.dispatch = {
    **pickle._Unpickler.dispatch,
    pickle.BUILD[0]: _build,
    pickle.BYTEARRAY8[0]: _byte_array_of_file,
    pickle.SETITEM[0]: _guarded(pickle.SETITEM, slice(-2, -1)),
    pickle.SETITEMS[0]: _guarded(pickle.SETITEMS, slice(None, None, 2)),
    pickle.DICT[0]: _guarded(pickle.DICT, slice(None, None, 2)),
    pickle.ADDITEMS[0]: _guarded(pickle.ADDITEMS, slice(None)),
    pickle.FROZENSET[0]: _guarded(pickle.FROZENSET, slice(None)),
}
