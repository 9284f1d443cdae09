"""Files that hold arrays by name: what is in them, told before any of it is read.

``arrays_in`` lists a file's arrays with shape and type; each is read when it is asked for, so that choosing one of
several costs nothing.  An array that stands alone in its file has the name ``""``.
"""

from __future__ import annotations

import tokenize
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from landseer.storage.foreign.matlab import Matrix, matrices_of
from landseer.storage.foreign.pickles import load_plain_pickle
from landseer.storage.foreign.reading import not_installed, parsing, refuse_bomb, size_of

HDF5_MARK = b"\x89HDF\r\n\x1a\n"
_MATLAB_BLOCK = 512
"""A MATLAB v7.3 file is an HDF5 file behind a text block of this many bytes."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """One array of a file.  ``kind`` is ``number``, ``text`` or ``other``."""

    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]


def arrays_in(path: Path) -> dict[str, Held]:
    """The arrays of a ``.npy``, ``.npz``, ``.mat``, HDF5, torch, safetensors or pickle file, by name.

    Raises ``ValueError``, one line, where the file is damaged, is of none of these kinds, or its parser is not
    installed.
    """
    listing = LISTINGS.get(path.suffix.lower())
    if listing is None:
        known = ", ".join(LISTINGS)
        raise ValueError(f"{path} is of no kind that is read ({path.suffix or 'no suffix'}); known: {known}")
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return listing(path)


def kind_of(dtype: np.dtype[Any]) -> str:
    """``number`` for what can be a component or a position, ``text``, or ``other``."""
    if dtype.kind in "fiu":
        return "number"
    return "text" if dtype.kind in "UST" else "other"


def _npy(path: Path) -> dict[str, Held]:
    # a map never allocates what a header merely declares
    with parsing(path, "an array", also=(SyntaxError, tokenize.TokenError)), np.errstate(over="ignore"):
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of arrays; name it .npz")
    return {"": Held(shape=array.shape, kind=kind_of(array.dtype), read=lambda: array)}


def _npz(path: Path) -> dict[str, Held]:
    found = {}
    with (
        parsing(path, "an archive of arrays", also=(SyntaxError, tokenize.TokenError)),
        zipfile.ZipFile(path) as archive,
    ):
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, dtype = _npy_header(file)
            name = member.removesuffix(".npy")
            refuse_bomb(path, size_of(shape, dtype.itemsize), name)
            found[name] = Held(shape=shape, kind=kind_of(dtype), read=partial(_npz_member, path, name))
    return found


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _npz_member(path: Path, name: str) -> np.ndarray:
    with parsing(path, "an archive of arrays"), np.load(path, allow_pickle=False) as archive:
        found: np.ndarray = archive[name]
        return found


def _hdf5_parser(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise not_installed("h5py", path) from None
    return h5py


def _mat(path: Path) -> dict[str, Held]:
    with path.open("rb") as file:
        start = file.read(_MATLAB_BLOCK + len(HDF5_MARK))
    if HDF5_MARK in (start[: len(HDF5_MARK)], start[_MATLAB_BLOCK:]):
        return _hdf5(path, matlab=True)
    with parsing(path, "a MATLAB file"):
        listed = matrices_of(path)
    for one in listed:
        refuse_bomb(path, size_of(one.shape, 8), one.name)
    return {
        one.name: Held(
            shape=one.shape,
            kind="other" if one.read is None else "number",
            read=partial(_mat_member, path, one),
        )
        for one in listed
    }


def _mat_member(path: Path, matrix: Matrix) -> np.ndarray:
    assert matrix.read is not None, "only what is a number is chosen"
    with parsing(path, "a MATLAB file"):
        return matrix.read()


def _hdf5(path: Path, *, matlab: bool = False) -> dict[str, Held]:
    h5py = _hdf5_parser(path)
    found: dict[str, Held] = {}

    def note(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset) or node.shape is None:
            return
        text = h5py.check_string_dtype(node.dtype) is not None
        if not text and kind_of(node.dtype) == "other":
            return
        refuse_bomb(path, size_of(node.shape, node.dtype.itemsize), name)
        # MATLAB's columns come first in the file, so HDF5 sees its matrices turned
        shape = tuple(reversed(node.shape)) if matlab else node.shape
        read = partial(_hdf5_member, path, name, text=text, matlab=matlab)
        found[name] = Held(shape=shape, kind="text" if text else "number", read=read)

    with parsing(path, "an HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(note)
    return found


def _hdf5_member(path: Path, name: str, *, text: bool, matlab: bool) -> np.ndarray:
    h5py = _hdf5_parser(path)
    with parsing(path, "an HDF5 file"), h5py.File(path, "r") as file:
        values: np.ndarray = file[name].asstr()[()] if text else file[name][()]
    values = np.asarray(values)
    return values.T if matlab else values


def _torch(path: Path) -> dict[str, Held]:
    import torch

    with parsing(path, "a file of tensors"):
        found = torch.load(path, map_location="cpu", weights_only=True)
    named = found if isinstance(found, Mapping) else {"": found}
    return {str(name): held for name, value in named.items() if (held := _held_value(path, str(name), value))}


def _held_value(path: Path, name: str, value: Any) -> Held | None:
    """A tensor, an array or a list of ids of a file that was read whole; None for anything else."""
    import torch

    if isinstance(value, torch.Tensor):
        return _held_tensor(path, name, value)
    if isinstance(value, np.ndarray):
        return Held(shape=value.shape, kind=kind_of(value.dtype), read=lambda: value)
    if isinstance(value, list | tuple) and value and all(isinstance(entry, str) for entry in value):
        return Held(shape=(len(value),), kind="text", read=lambda: np.array(value, dtype=object))
    return None


def _held_tensor(path: Path, name: str, tensor: Any) -> Held | None:
    """A tensor's array; one of a kind numpy lacks (bfloat16) as float32, which holds it exactly."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_complex() or tensor.dtype is torch.bool:
        return None
    # a tensor may repeat a small storage without end
    refuse_bomb(path, size_of(tuple(tensor.shape), tensor.element_size()), name)
    numpy_knows = (
        tensor.dtype in (torch.float64, torch.float32, torch.float16) or not tensor.is_floating_point()
    )
    return Held(
        shape=tuple(tensor.shape),
        kind="number",
        read=lambda: (tensor if numpy_knows else tensor.float()).detach().numpy(),
    )


def _safetensors(path: Path) -> dict[str, Held]:
    from safetensors import SafetensorError, safe_open

    found = {}
    with (
        parsing(path, "a safetensors file", also=(SafetensorError,)),
        safe_open(path, framework="pt") as file,
    ):
        for name in file.keys():  # noqa: SIM118  (an open file of tensors is no mapping)
            shape = tuple(file.get_slice(name).get_shape())
            found[name] = Held(shape=shape, kind="number", read=partial(_safetensor, path, name))
    return found


def _safetensor(path: Path, name: str) -> np.ndarray:
    from safetensors import safe_open

    with parsing(path, "a safetensors file"), safe_open(path, framework="pt") as file:
        held = _held_tensor(path, name, file.get_tensor(name))
    if held is None:
        raise ValueError(f"{path}: tensor {name!r} is not a table of numbers")
    return held.read()


def _pickle(path: Path) -> dict[str, Held]:
    found = load_plain_pickle(path)
    named = found if isinstance(found, dict) else {"": found}
    return {
        str(name): Held(shape=value.shape, kind=kind_of(value.dtype), read=partial(np.asarray, value))
        for name, value in named.items()
        if isinstance(value, np.ndarray)
    }


LISTINGS: dict[str, Callable[[Path], dict[str, Held]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".pkl": _pickle,
    ".pickle": _pickle,
}


def choose(path: Path, held: Mapping[str, Held], key: str | None) -> str:
    """The name of the one table of numbers that is meant.

    Raises ``ValueError`` that lists the choices where *key* is not among them, or there are several and no *key*.
    """
    tables = {name: one for name, one in held.items() if one.kind == "number" and len(one.shape) == 2}
    shown = ", ".join(f"{name or 'unnamed'} {list(one.shape)}" for name, one in tables.items())
    if key is not None:
        if key not in tables:
            raise ValueError(f"{path} holds no table of numbers called {key!r}; it holds {shown or 'none'}")
        return key
    if not tables:
        others = ", ".join(
            f"{name or 'unnamed'} {list(one.shape)} ({one.kind})" for name, one in held.items()
        )
        raise ValueError(f"{path} holds no table of numbers; it holds {others or 'nothing'}")
    if len(tables) > 1:
        first = next(iter(tables))
        raise ValueError(f"{path} holds several tables ({shown}); name one, as in {path}::{first}")
    return next(iter(tables))
