"""Descriptors of other tools come as those tools' own libraries wrote them; what is wrong gets one line."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landseer.search import search_exact
from landseer.storage import load_descriptors, save_descriptors
from landseer.storage.foreign import read_descriptors, read_ids
from landseer.types import Descriptors

faiss = pytest.importorskip("faiss")
h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")
torch = pytest.importorskip("torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

IDS = ("a", "b", "c d", "ü", "塔", "f,g")
ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
UNIT = (ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)).astype(np.float32)


def npy(path, rows):
    np.save(path, rows)


def npz(path, rows):
    np.savez(path, X=rows)


def npz_packed(path, rows):
    np.savez_compressed(path, X=rows)


def mat(path, rows):
    scipy_io.savemat(path, {"X": rows, "title": "features", "about": {"a": 1}})


def mat_packed(path, rows):
    scipy_io.savemat(path, {"title": "features", "X": rows}, do_compression=True)


def mat73(path, rows):
    """As MATLAB writes -v7.3: HDF5 behind a block of text, matrices turned."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["X"] = rows.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


def hdf5(path, rows):
    with h5py.File(path, "w") as file:
        file.create_dataset("group/X", data=rows, chunks=True, compression="gzip")
        file["title"] = "features"


def torch_alone(path, rows):
    torch.save(torch.from_numpy(np.ascontiguousarray(rows)), path)


def torch_named(path, rows):
    torch.save({"X": torch.from_numpy(np.ascontiguousarray(rows)), "epoch": 3}, path)


def safetensors(path, rows):
    safetensors_numpy.save_file({"X": np.ascontiguousarray(rows)}, path)


def pickled(path, rows):
    path.write_bytes(pickle.dumps({"X": rows}))


WRITERS = {
    "npy": (".npy", npy),
    "npz": (".npz", npz),
    "npz, packed": (".npz", npz_packed),
    "mat": (".mat", mat),
    "mat, packed": (".mat", mat_packed),
    "mat 7.3": (".mat", mat73),
    "hdf5": (".h5", hdf5),
    "torch": (".pt", torch_alone),
    "torch, named": (".pth", torch_named),
    "safetensors": (".safetensors", safetensors),
    "pickle": (".pkl", pickled),
}
EACH = pytest.mark.parametrize(("suffix", "write"), WRITERS.values(), ids=WRITERS)


def refused(*arguments, **options) -> str:
    with pytest.raises(ValueError) as told:
        read_descriptors(*arguments, **options)
    assert "\n" not in str(told.value)
    return str(told.value)


@EACH
def test_rows_come_as_they_were_written(tmp_path, suffix, write, caplog):
    path = tmp_path / f"x{suffix}"
    write(path, ROWS)
    found = read_descriptors(path, IDS)
    assert found.ids == IDS
    assert found.rows_ND.dtype == np.float32
    assert np.array_equal(found.rows_ND, ROWS)
    assert not found.normalised
    assert len(found.fingerprint) == 16
    assert not caplog.records


@EACH
def test_a_table_with_a_photo_a_column_is_turned_and_says_so(tmp_path, suffix, write, caplog):
    path = tmp_path / f"x{suffix}"
    write(path, UNIT.T)
    found = read_descriptors(path, IDS)
    assert np.array_equal(found.rows_ND, UNIT)
    assert found.normalised
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is [4, 6] for 6 ids: a photo a column, so it was turned"
    ]


@EACH
def test_doubles_become_floats_and_say_so(tmp_path, suffix, write, caplog):
    path = tmp_path / f"x{suffix}"
    write(path, ROWS.astype(np.float64))
    found = read_descriptors(path, IDS)
    assert np.array_equal(found.rows_ND, ROWS)
    assert found.rows_ND.dtype == np.float32
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} holds float64; its rows were made float32"
    ]


@EACH
def test_every_cut_file_gets_one_line(tmp_path, suffix, write):
    path = tmp_path / f"x{suffix}"
    write(path, ROWS)
    intact = path.read_bytes()
    for keep in np.linspace(0, len(intact) - 1, 25).astype(int):
        path.write_bytes(intact[:keep])
        try:
            found = read_descriptors(path, IDS)
        except ValueError as error:
            assert "\n" not in str(error)
            assert path.name in str(error)
        else:  # only padding was cut
            assert np.array_equal(found.rows_ND, ROWS)


@EACH
def test_bytes_flipped_at_random_give_rows_or_one_line(tmp_path, suffix, write):
    path = tmp_path / f"x{suffix}"
    write(path, ROWS)
    intact = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(intact)
        for position in rng.integers(len(damaged), size=2):
            damaged[position] = rng.choice([0, 255, rng.integers(256)])
        path.write_bytes(damaged)
        try:
            read_descriptors(path, IDS)
        except ValueError as error:
            assert "\n" not in str(error)


@given(st.integers(0, 5), st.integers(1, 5), st.sampled_from(sorted(WRITERS)), st.integers(0, 2**32 - 1))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_any_rows_come_back(tmp_path_factory, num, dim, name, seed):
    suffix, write = WRITERS[name]
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    path = tmp_path_factory.mktemp("f") / f"x{suffix}"
    write(path, rows)
    found = read_descriptors(path, [f"p{row}" for row in range(num)], transpose=False)
    assert np.array_equal(found.rows_ND, rows)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert found.normalised == bool(np.all(np.abs(lengths - 1) <= 1e-3))


@pytest.mark.parametrize("kind", ["f2", ">f2", ">f4", "i1", "u1", "i2", "u4", "i8", ">f8"])
@pytest.mark.parametrize(
    ("suffix", "write"), [(".npy", npy), (".mat", mat), (".h5", hdf5)], ids=["npy", "mat", "hdf5"]
)
def test_every_kind_of_number_is_read(tmp_path, kind, suffix, write):
    if suffix == ".mat" and kind.endswith("f2"):
        pytest.skip("MATLAB has no half precision")
    rows = np.arange(24).reshape(6, 4).astype(kind)
    path = tmp_path / f"x{suffix}"
    write(path, rows)
    found = read_descriptors(path, IDS)
    assert np.array_equal(found.rows_ND, np.arange(24).reshape(6, 4))
    assert found.rows_ND.dtype == (np.float16 if kind.endswith("f2") else np.float32)


def test_a_big_endian_matlab_file_is_read(tmp_path):
    """Written by hand: scipy writes the order of the machine."""
    numbers = ROWS.T.astype(">f4").tobytes()  # column by column
    name = np.array([(1 << 16) | 1], ">u4").tobytes() + b"X\0\0\0"
    body = np.array([6, 8, 7, 0, 5, 8, 6, 4], ">u4").tobytes() + name
    body += np.array([7, len(numbers)], ">u4").tobytes() + numbers
    path = tmp_path / "x.mat"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    path.write_bytes(header + np.array([14, len(body)], ">u4").tobytes() + body)
    assert np.array_equal(scipy_io.loadmat(path)["X"], ROWS)
    assert np.array_equal(read_descriptors(path, IDS).rows_ND, ROWS)


def test_half_precision_stays_and_brain_floats_become_floats(tmp_path):
    np.save(tmp_path / "h.npy", UNIT.astype(np.float16))
    found = read_descriptors(tmp_path / "h.npy", IDS)
    assert found.rows_ND.dtype == np.float16
    assert found.normalised
    torch.save(torch.tensor(ROWS).bfloat16(), tmp_path / "b.pt")
    found = read_descriptors(tmp_path / "b.pt", IDS)
    assert found.rows_ND.dtype == np.float32
    assert np.array_equal(found.rows_ND, torch.tensor(ROWS).bfloat16().float().numpy())


@pytest.mark.parametrize(
    ("suffix", "write", "turned"), [(".npy", npy, False), (".mat", mat, True)], ids=["npy", "mat"]
)
def test_rows_stay_on_disk_where_nothing_changes(tmp_path, suffix, write, turned):
    path = tmp_path / f"x{suffix}"
    write(path, UNIT.T if turned else UNIT)
    rows_ND = read_descriptors(path, IDS).rows_ND
    assert isinstance(rows_ND, np.memmap)
    assert rows_ND.flags.c_contiguous


def test_lengths_decide_and_are_changed_only_when_asked(tmp_path):
    path = tmp_path / "x.npy"
    for off, unit in ((0.0009, True), (0.0011, False), (-0.0011, False)):
        rows = UNIT.copy()
        rows[3] *= 1 + off
        np.save(path, rows)
        found = read_descriptors(path, IDS)
        assert found.normalised is unit
        assert np.array_equal(found.rows_ND, rows)
    np.save(path, ROWS)
    made = read_descriptors(path, IDS, normalise=True)
    assert made.normalised
    assert np.allclose(made.rows_ND, UNIT, atol=1e-7)
    assert made.fingerprint != read_descriptors(path, IDS).fingerprint
    rows = ROWS.copy()
    rows[4] = 0
    np.save(path, rows)
    assert "row 4, photo '塔', is all zeros" in refused(path, IDS, normalise=True)
    assert not read_descriptors(path, IDS).normalised


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("normalise", [False, True])
def test_what_is_no_number_is_named_with_its_photo(tmp_path, bad, normalise):
    rows = ROWS.astype(np.float64)
    rows[2, 1] = bad
    np.save(tmp_path / "x.npy", rows)
    assert "row 2, photo 'c d', holds a NaN" in refused(tmp_path / "x.npy", IDS, normalise=normalise)


def test_a_bad_row_behind_the_first_block_is_named(tmp_path):
    rows = np.ones((20_000, 2), np.float32)
    rows[17_001] = np.nan
    np.save(tmp_path / "x.npy", rows)
    assert "row 17001, photo '17001'" in refused(tmp_path / "x.npy", [str(row) for row in range(20_000)])


def test_a_square_table_is_settled_by_lengths_or_by_the_caller(tmp_path):
    path, ids = tmp_path / "x.npy", IDS[:4]
    np.save(path, UNIT[:4])
    assert np.array_equal(read_descriptors(path, ids).rows_ND, UNIT[:4])
    np.save(path, UNIT[:4].T)
    assert np.array_equal(read_descriptors(path, ids).rows_ND, UNIT[:4])
    np.save(path, ROWS[:4])
    assert "is square [4, 4], so nothing tells rows from columns; say transpose=False" in refused(path, ids)
    assert np.array_equal(read_descriptors(path, ids, transpose=False).rows_ND, ROWS[:4])
    assert np.array_equal(read_descriptors(path, ids, transpose=True).rows_ND, ROWS[:4].T)


def test_the_matrices_of_matlab_7_3_are_told_as_matlab_has_them(tmp_path):
    mat73(tmp_path / "x.mat", ROWS.T)
    assert "holds no table of numbers called 'Y'; it holds X [4, 6]" in refused(
        tmp_path / "x.mat", IDS, key="Y"
    )


def test_several_tables_need_a_name(tmp_path):
    path = tmp_path / "x.mat"
    scipy_io.savemat(path, {"Q": ROWS[:2].T, "X": ROWS.T})
    assert f"holds several tables (Q [4, 2], X [4, 6]); name one, as in {path}::Q" in refused(path, IDS)
    assert np.array_equal(read_descriptors(f"{path}::Q", ("q", "r")).rows_ND, ROWS[:2])
    assert np.array_equal(read_descriptors(path, IDS, key="X").rows_ND, ROWS)
    assert "no table of numbers called 'Y'; it holds Q [4, 2], X [4, 6]" in refused(f"{path}::Y", IDS)
    assert "give one" in refused(f"{path}::Q", IDS, key="X")


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (
            lambda p: np.save(p, np.zeros(6, np.float32)),
            "holds no table of numbers; it holds unnamed [6] (number)",
        ),
        (lambda p: np.save(p, np.zeros((6, 4), bool)), "holds no table of numbers"),
        (lambda p: np.save(p, np.zeros((6, 4), complex)), "holds no table of numbers"),
        (lambda p: np.save(p, np.array([["a", "b"]])), "holds no table of numbers"),
        (lambda p: np.save(p, np.array([[{}] * 4] * 6), allow_pickle=True), "cannot be read as an array"),
        (lambda p: np.save(p, np.zeros((6, 4), "f4,f4")), "holds no table of numbers"),
        (lambda p: np.save(p, ROWS[:5]), "is a table [5, 4], and there are 6 ids"),
        (lambda p: p.write_bytes(b"not an array"), "cannot be read as an array"),
        (lambda p: p.write_bytes(b""), "cannot be read as an array"),
    ],
)
def test_what_is_no_table_gets_one_line(tmp_path, write, line):
    path = tmp_path / "x.npy"
    write(path)
    assert line in refused(path, IDS)


def declares(shape, order="'<f4'"):
    header = f"{{'descr': {order}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "shape", ["(6, 999999999999)", "(10**9, 10**9)", "(2305843009213693952, 4)", "(-6, 4)", "(6,"]
)
def test_a_shape_that_is_only_declared_is_refused_at_once(tmp_path, shape):
    (tmp_path / "x.npy").write_bytes(declares(shape) + ROWS.tobytes())
    refused(tmp_path / "x.npy", IDS)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("X.npy", declares(shape) + ROWS.tobytes())
    refused(tmp_path / "x.npz", IDS)


def test_files_far_larger_inside_than_outside_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", shape=(10**9, 10**6), dtype="f4", chunks=(1000, 1000))
    assert "it is damaged" in refused(tmp_path / "x.h5", IDS)
    torch.save(torch.zeros(1).expand(10**9, 10**6), tmp_path / "x.pt")
    assert "it is damaged" in refused(tmp_path / "x.pt", IDS)


class Runs:
    def __reduce__(self):
        import os

        return os.system, ("touch mark",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".npy", ".npz"])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"x{suffix}"
    if suffix.startswith(".pt"):
        torch.save({"X": Runs()}, path)
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps({"X": Runs()}))
    elif suffix == ".npy":
        np.save(path, np.array([[Runs()]], dtype=object), allow_pickle=True)
    else:
        np.savez(path, X=np.array([[Runs()]], dtype=object))
    message = refused(path, IDS)
    assert not (tmp_path / "mark").exists()
    if suffix in (".pt", ".pkl"):
        assert "posix.system" in message


def test_what_must_be_installed_is_named(tmp_path, monkeypatch):
    mat73(tmp_path / "x.mat", ROWS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert refused(tmp_path / "x.mat", IDS) == (
        f"reading {tmp_path / 'x.mat'} needs h5py, which is not installed; run: pip install 'landseer[foreign]'"
    )


def test_other_kinds_of_file_are_told_what_is_read(tmp_path):
    (tmp_path / "x.xyz").write_text("x")
    assert "is of no kind that is read as descriptors; known: .npy" in refused(tmp_path / "x.xyz", IDS)
    assert "does not exist" in refused(tmp_path / "gone.npy", IDS)
    (tmp_path / "folder").mkdir()
    assert "holds no manifest.json" in refused(tmp_path / "folder")


def test_a_folder_of_this_program_is_read_by_the_same_call(tmp_path):
    made = Descriptors(ids=IDS, rows_ND=ROWS, normalised=False)
    saved = save_descriptors(made, tmp_path / "d", made_by={"model": "m"})
    found = read_descriptors(tmp_path / "d")
    assert found.fingerprint == saved.fingerprint
    assert np.array_equal(found.rows_ND, load_descriptors(tmp_path / "d").rows_ND)
    unit = read_descriptors(tmp_path / "d", normalise=True)
    assert unit.normalised
    assert np.allclose(unit.rows_ND, UNIT, atol=1e-7)
    assert unit.fingerprint != saved.fingerprint
    assert "leave out what names them" in refused(tmp_path / "d", IDS)


def test_foreign_rows_are_searched_as_ours_are(tmp_path):
    np.save(tmp_path / "x.npy", UNIT)
    theirs, ours = read_descriptors(tmp_path / "x.npy", IDS), Descriptors(ids=IDS, rows_ND=UNIT)
    found, expected = (search_exact(rows, rows, k=3) for rows in (theirs, ours))
    assert np.array_equal(found.positions_QK, expected.positions_QK)
    assert np.array_equal(found.scores_QK, expected.scores_QK)


def test_the_fingerprint_follows_the_content(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "y.npy", ROWS)
    np.save(tmp_path / "z.npy", -ROWS)
    prints = [read_descriptors(tmp_path / f"{name}.npy", IDS).fingerprint for name in "xyz"]
    assert prints[0] == prints[1] != prints[2]
    assert read_descriptors(tmp_path / "x.npy", IDS[::-1]).fingerprint != prints[0]


# ids


def id_lists(folder: Path) -> dict[str, Path | str]:
    (folder / "l.txt").write_text("\n".join(IDS) + "\n\n", encoding="utf-8")
    (folder / "l.json").write_text(json.dumps(IDS))
    (folder / "l.csv").write_text("n,id\n" + "".join(f'1,"{one}"\n' for one in IDS), encoding="utf-8")
    (folder / "named.csv").write_text("photo,n\n" + "".join(f'"{one}",1\n' for one in IDS), encoding="utf-8")
    pq.write_table(pa.table({"n": range(6), "id": list(IDS)}), folder / "l.parquet")
    pq.write_table(pa.table({"n": range(6), "key": list(IDS)}), folder / "only.parquet")
    pq.write_table(pa.table({"a": ["x"] * 6, "b": list(IDS)}), folder / "two.parquet")
    np.save(folder / "l.npy", np.array(IDS))
    (folder / "l.pkl").write_bytes(pickle.dumps(list(IDS)))
    gnd = {"imlist": list(IDS), "qimlist": ["q", "r"], "gnd": [{"easy": np.array([1])}]}
    (folder / "gnd.pkl").write_bytes(pickle.dumps(gnd))
    save_descriptors(Descriptors(ids=IDS, rows_ND=ROWS), folder / "d", made_by={})
    names = ("l.txt", "l.json", "l.csv", "l.parquet", "only.parquet", "l.npy", "l.pkl", "gnd.pkl", "d")
    return {name: folder / name for name in names} | {
        "two.parquet::b": f"{folder / 'two.parquet'}::b",
        "named.csv::photo": f"{folder / 'named.csv'}::photo",
    }


def test_ids_are_read_from_every_list(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    for name, path in id_lists(tmp_path).items():
        assert read_descriptors(tmp_path / "x.npy", path).ids == IDS, name
    np.save(tmp_path / "q.npy", ROWS[:2])
    assert read_descriptors(tmp_path / "q.npy", tmp_path / "gnd.pkl").ids == ("q", "r")
    assert read_ids(f"{tmp_path / 'gnd.pkl'}::qimlist") == ("q", "r")


@pytest.mark.parametrize("name", ["txt", "json", "csv", "parquet", "npy"])
def test_a_list_beside_the_rows_is_found(tmp_path, name):
    np.save(tmp_path / "x.npy", ROWS)
    assert "lay one beside it as x.ids.txt" in refused(tmp_path / "x.npy")
    id_lists(tmp_path)
    (tmp_path / f"l.{name}").rename(tmp_path / f"x.ids.{name}")
    assert read_descriptors(tmp_path / "x.npy").ids == IDS
    assert read_descriptors(tmp_path / "x.npy", [one + "!" for one in IDS]).ids[0] == "a!", (
        "what is given counts"
    )
    (tmp_path / "x.ids.txt").write_text("a")
    (tmp_path / "x.ids.json").write_text("[]")
    assert "both list the ids" in refused(tmp_path / "x.npy")


def test_ids_inside_the_file_are_found(tmp_path):
    np.savez(tmp_path / "x.npz", X=ROWS, ids=np.array(IDS))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = ROWS
        file["ids"] = list(IDS)
    torch.save({"X": torch.tensor(ROWS), "names": list(IDS)}, tmp_path / "x.pt")
    for name in ("x.npz", "x.h5", "x.pt"):
        assert read_descriptors(tmp_path / name).ids == IDS


def test_an_hdf5_group_for_each_photo_is_read(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for photo, row in zip("cab", ROWS, strict=False):
            file[f"db/{photo}.jpg/global_descriptor"] = row
            file[f"db/{photo}.jpg/image_size"] = [1, 2]
    found = read_descriptors(path, key="global_descriptor")
    assert found.ids == ("db/a.jpg", "db/b.jpg", "db/c.jpg")
    assert np.array_equal(found.rows_ND, ROWS[[1, 2, 0]])
    assert "holds no table of numbers" in refused(path)
    with h5py.File(path, "a") as file:
        file["db/d.jpg/global_descriptor"] = [1.0]
    assert "differ in length (1, 4)" in refused(path, key="global_descriptor")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.txt", b"a\nb\na\n", "id 'a' occurs twice, as number 1 and number 3"),
        ("x.txt", b"\xff\xfe", "is not text in UTF-8"),
        ("x.json", b"{", "cannot be read as JSON"),
        ("x.json", b"[" * 100_000, "cannot be read as JSON"),
        ("x.json", b'[["a"]]', "holds no list of ids"),
        ("x.json", b"3", "holds no list of ids"),
        ("x.json", b'{"imlist": ["a"], "qimlist": ["b"]}', "holds imlist of 1, qimlist of 1; name one"),
        ("x.csv", b"name\na\n", "has no column 'id' (it has name); name the one with the ids, as in"),
        ("x.csv", b"n,id\n1,a\n2\n", "row 3: no cell in column 'id'"),
        ("x.csv", b'id\na\n""\n', "id number 2 is empty"),
        ("x.parquet", b"PAR1", "cannot be read as a Parquet table"),
        ("x.npy", b"", "cannot be read as an array"),
        ("x.xml", b"", "is no list of ids that is read"),
    ],
)
def test_a_bad_list_gets_one_line(tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as told:
        read_ids(tmp_path / name)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


# parquet


def test_parquet_tables_of_each_form_are_read(tmp_path):
    flat = pa.array(ROWS.ravel())
    forms = {
        "fixed": {"id": list(IDS), "v": pa.FixedSizeListArray.from_arrays(flat, 4)},
        "lists": {"name": list(IDS), "v": [row.tolist() for row in ROWS]},
        "columns": {"photo": list(IDS), **{f"d{d}": ROWS[:, d] for d in range(4)}},
        "numbers": {"id": range(6), **{f"d{d}": ROWS[:, d] for d in range(4)}},
    }
    for name, columns in forms.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=4)
        found = read_descriptors(tmp_path / f"{name}.parquet")
        assert np.array_equal(found.rows_ND, ROWS), name
        assert found.ids == (tuple("012345") if name == "numbers" else IDS), name


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "the vectors of 'v' differ in length (1 to 2)"),
        ({"id": ["a", "b"], "v": [[1.0], None]}, "1 cells of 'v' are empty"),
        ({"id": ["a", "b"], "v": [[1.0], [None]]}, "row 1, photo 'b', holds a NaN"),
        ({"id": ["a", "b"], "v": [1.0, None]}, "row 1, photo 'b', holds a NaN"),
        ({"id": ["a", "a"], "v": [1.0, 2.0]}, "id 'a' occurs twice"),
        ({"id": ["a", None], "v": [1.0, 2.0]}, "id number 2 is empty"),
        (
            {"id": ["a", "b"], "v": [[1.0]] * 2, "w": [[1.0]] * 2},
            "several columns of vectors (v, w); name one",
        ),
        ({"id": ["a", "b"]}, "neither a column of vectors nor columns of numbers"),
        ({"v": [[1.0], [2.0]]}, "does not say which photos its rows are"),
        ({"id": ["a", "b"], "v": [["x"], ["y"]]}, "not a table of numbers"),
    ],
)
def test_a_bad_parquet_table_gets_one_line(tmp_path, columns, line):
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert line in refused(tmp_path / "x.parquet")


# faiss


def saved_index(path: Path, index) -> Path:
    faiss.write_index(index, str(path))
    return path


def flat(kind=faiss.IndexFlatIP, rows=ROWS):
    index = kind(rows.shape[1])
    index.add(rows)
    return index


def inverted(numbers=None):
    quantiser = flat(faiss.IndexFlatL2, ROWS[:2])
    index = faiss.IndexIVFFlat(quantiser, 4, 2)
    index.own_fields = False
    index.train(ROWS)
    if numbers is None:
        index.add(ROWS)
    else:
        index.add_with_ids(ROWS, np.array(numbers))
    return index, quantiser


def test_the_rows_of_flat_indexes_come_out(tmp_path):
    for kind, metric in ((faiss.IndexFlatIP, "cosine"), (faiss.IndexFlatL2, "euclidean")):
        path = saved_index(tmp_path / f"{kind.__name__}.faiss", flat(kind))
        found = read_descriptors(path, IDS)
        assert np.array_equal(found.rows_ND, ROWS)
        assert found.metric == metric
    assert "does not say which photos" in refused(path)
    unit = read_descriptors(saved_index(tmp_path / "u.index", flat(faiss.IndexFlatL2, UNIT)), IDS)
    assert (unit.metric, unit.normalised) == ("cosine", True), "for unit rows both metrics give one order"


def test_the_rows_of_inverted_files_come_out_in_the_order_they_were_added(tmp_path):
    index, _quantiser = inverted()
    found = read_descriptors(saved_index(tmp_path / "i.faiss", index), IDS)
    assert np.array_equal(found.rows_ND, ROWS)


def test_the_numbers_of_an_index_are_its_ids(tmp_path):
    numbers = [50, 40, 30, 20, 10, 0]
    index, _quantiser = inverted(numbers)
    inner = faiss.IndexFlatIP(4)
    mapped = faiss.IndexIDMap2(inner)
    mapped.add_with_ids(ROWS, np.array(numbers))
    for name, one in (("ivf", index), ("map", mapped)):
        path = saved_index(tmp_path / f"{name}.faiss", one)
        found = read_descriptors(path)
        assert found.ids == ("0", "10", "20", "30", "40", "50")
        assert np.array_equal(found.rows_ND, ROWS[::-1])
        assert read_descriptors(path, IDS).ids == IDS, "a list goes by number"


def test_codes_are_said_to_be_codes(tmp_path, caplog):
    index = faiss.index_factory(4, "SQ8")
    index.train(ROWS)
    index.add(ROWS)
    found = read_descriptors(saved_index(tmp_path / "x.faiss", index), IDS)
    assert np.allclose(found.rows_ND, ROWS, atol=0.02)
    assert any("keeps codes (IndexScalarQuantizer)" in record.getMessage() for record in caplog.records)


def test_a_damaged_index_gets_one_line_and_no_memory(tmp_path):
    index, _quantiser = inverted()
    for name, one in (("flat", flat()), ("ivf", index)):
        path = saved_index(tmp_path / f"{name}.faiss", one)
        intact = path.read_bytes()
        rng = np.random.default_rng(0)
        for turn in range(60):
            damaged = bytearray(intact)
            if turn % 3 == 0:
                damaged = damaged[: rng.integers(len(damaged))]
            else:
                damaged[rng.integers(len(damaged))] = rng.choice([0, 127, 255])
            path.write_bytes(damaged)
            try:
                read_descriptors(path, IDS)
            except ValueError as error:
                assert "\n" not in str(error)


def test_reading_leaves_no_limit_behind(tmp_path):
    before = faiss.get_deserialization_vector_byte_limit()
    read_descriptors(saved_index(tmp_path / "x.faiss", flat()), IDS)
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_a_key_of_an_index_is_refused(tmp_path):
    assert "leave out 'X'" in refused(f"{saved_index(tmp_path / 'x.faiss', flat())}::X", IDS)
