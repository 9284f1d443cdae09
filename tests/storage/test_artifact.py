"""An artifact appears whole or not at all, whoever is killed, in the way or out of room."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from landseer.storage import (
    open_artifact,
    read_array,
    read_json,
    read_table,
    remove_leftovers,
    verify,
    writing,
)

MADE_BY = {"recipe": "base", "size": 224}


def make(path: Path, content: str = "hello", **options) -> None:
    with writing(path, "note", made_by=MADE_BY, **options) as part:
        (part / "deep").mkdir()
        (part / "deep" / "text.txt").write_text(content)
        np.save(part / "rows.npy", np.arange(6, dtype=np.float32).reshape(2, 3))


def beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry != path)


def test_what_was_written_is_found(tmp_path):
    make(tmp_path / "a", parents={"collection": "0123"})
    manifest = open_artifact(tmp_path / "a", "note")
    verify(tmp_path / "a", manifest)
    assert (manifest.kind, manifest.made_by, manifest.parents) == ("note", MADE_BY, {"collection": "0123"})
    assert set(manifest.files) == {"deep/text.txt", "rows.npy"}
    assert manifest.program.startswith("landseer ")
    assert beside(tmp_path / "a") == []


def test_the_fingerprint_says_what_it_is_and_what_made_it(tmp_path):
    def printed(name: str, content: str = "hello", kind: str = "note", **options) -> str:
        with writing(tmp_path / name, kind, **{"made_by": MADE_BY, **options}) as part:
            (part / "text.txt").write_text(content)
            (part / "place.txt").write_text(name)  # differs each time
        return open_artifact(tmp_path / name, kind).fingerprint

    facts = {"machine_facts": ("place.txt",)}
    first = printed("a", **facts)
    assert printed("b", **facts) == first
    assert printed("c", **facts, made_by={"size": 224, "recipe": "base"}) == first
    others = [
        printed("d", "other", **facts),
        printed("e", kind="letter", **facts),
        printed("f", **facts, made_by={**MADE_BY, "size": 225}),
        printed("g", **facts, parents={"collection": "1"}),
        printed("h"),
    ]
    assert len({first, *others}) == 6
    assert printed("i", fingerprint="chosen") == "chosen"


def test_made_by_that_json_reorders_is_no_damage(tmp_path):
    with writing(tmp_path / "a", "note", made_by={"scales": (0.7, 1), "folds": {10: "x", 9: "y"}}):
        pass
    assert open_artifact(tmp_path / "a", "note").made_by == {
        "scales": [0.7, 1],
        "folds": {"10": "x", "9": "y"},
    }


@pytest.mark.parametrize("mistake", [RuntimeError, KeyboardInterrupt, ValueError, FileNotFoundError])
def test_a_failure_leaves_nothing_and_passes_through(tmp_path, mistake):
    with pytest.raises(mistake, match="midway"), writing(tmp_path / "out" / "a", "note", made_by={}) as part:
        (part / "half.txt").write_text("half")
        raise mistake("midway")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_target_is_kept(tmp_path):
    make(tmp_path / "a", "first")
    with pytest.raises(ValueError, match=r"a exists already; remove it or choose another --out"):
        make(tmp_path / "a", "second")
    assert (tmp_path / "a" / "deep" / "text.txt").read_text() == "first"


def test_replace_takes_the_place_of_an_artifact_only(tmp_path):
    make(tmp_path / "a", "first")
    make(tmp_path / "a", "second", replace=True)
    assert (tmp_path / "a" / "deep" / "text.txt").read_text() == "second"
    assert beside(tmp_path / "a") == []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").touch()
    with pytest.raises(ValueError, match="photos is no landseer artifact and is not replaced"):
        make(tmp_path / "photos", replace=True)
    assert (tmp_path / "photos" / "dear.jpg").exists()


def test_a_failed_replacement_keeps_the_old_one(tmp_path):
    make(tmp_path / "a", "first")
    with pytest.raises(RuntimeError), writing(tmp_path / "a", "note", made_by={}, replace=True):
        raise RuntimeError
    assert (tmp_path / "a" / "deep" / "text.txt").read_text() == "first"


def test_of_two_writers_the_first_to_finish_wins(tmp_path):
    with (
        pytest.raises(ValueError, match="a exists already"),
        writing(tmp_path / "a", "note", made_by={}) as part,
    ):
        make(tmp_path / "a", "the quicker one")
        assert part.is_dir(), "the quicker one cleared away a living writer's folder"
    assert (tmp_path / "a" / "deep" / "text.txt").read_text() == "the quicker one"
    assert beside(tmp_path / "a") == []


def test_two_writers_that_finish_at_once(tmp_path, monkeypatch):
    """The target appears between the last look and the rename: the rename itself refuses."""
    rename = Path.rename

    def late(part: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        make(tmp_path / "a", "the quicker one")
        return rename(part, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(ValueError, match="another process may have written it meanwhile"):
        make(tmp_path / "a", "the slower one")
    assert (tmp_path / "a" / "deep" / "text.txt").read_text() == "the quicker one"
    assert beside(tmp_path / "a") == []


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from landseer.storage import writing
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    with writing(path, "note", made_by={"n": 1}, replace=True) as part:
        for number in range(4):
            np.save(part / f"{number}.npy", np.full(1 << 14, number))
        print("inside", flush=True)
"""


def writer(path: Path) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def killed_writers_leave_it_whole_or_absent(path: Path, *, times: int, seed: int) -> None:
    rng = random.Random(seed)
    seen = set()
    for _ in range(times):
        child = writer(path)
        time.sleep(rng.uniform(0, 0.06))
        kill(child)
        if path.exists():
            verify(path, open_artifact(path, "note"))
            assert [int(read_array(path / f"{number}.npy")[-1]) for number in range(4)] == [0, 1, 2, 3]
        seen.add((path.exists(), bool(beside(path))))
    assert any(left for _, left in seen), "no kill hit a writer at work: the test shows nothing"
    remove_leftovers(path)
    assert beside(path) == []


def test_kill_leaves_it_whole_or_absent(tmp_path):
    killed_writers_leave_it_whole_or_absent(tmp_path / "a", times=10, seed=1)


@pytest.mark.slow
def test_many_kills_leave_it_whole_or_absent(tmp_path):
    killed_writers_leave_it_whole_or_absent(tmp_path / "a", times=150, seed=2)


def test_only_dead_writers_are_cleared_away(tmp_path):
    def parts() -> list[str]:
        return [name for name in beside(tmp_path / "a") if ".part-" in name]

    living = subprocess.Popen(
        [
            sys.executable,
            "-c",
            WRITER.replace("while True", "if True") + "        time.sleep(60)",
            tmp_path / "a",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert [living.stdout.readline() for _ in "12"] == ["ready\n", "inside\n"]
        mine = parts()
        assert len(mine) == 1
        make(tmp_path / "a", "while the other lives")
        assert parts() == mine
    finally:
        kill(living)
    assert parts() == mine
    make(tmp_path / "a", "after its end", replace=True)
    assert parts() == []


def test_a_neighbour_with_a_like_name_is_left_alone(tmp_path):
    for name in ("a[1]", "a"):
        (tmp_path / f".{name}.parted").mkdir()
        (tmp_path / f".{name}.part-1-dead").mkdir()
    (tmp_path / ".a.part-file").touch()
    make(tmp_path / "a[1]")
    assert beside(tmp_path / "a[1]") == [".a.part-1-dead", ".a.part-file", ".a.parted", ".a[1].parted"]


@pytest.mark.parametrize("name", ["x" * 255, "ö" * 127, "塔" * 85])
def test_the_longest_name_a_file_system_takes(tmp_path, name):
    make(tmp_path / name)
    assert open_artifact(tmp_path / name, "note").kind == "note"


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be written \(File name too long\); choose another --out"):
        make(tmp_path / ("x" * 256))
    with pytest.raises(ValueError, match="cannot be read"):
        open_artifact(tmp_path / ("x" * 256), "note")


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"a cannot be written \(.+\); choose another --out"):
        make(tmp_path / "file" / "a")


def test_a_parent_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)  # a superuser may write anywhere, so no chmod
    with pytest.raises(ValueError, match=r"a cannot be written \(Permission denied\); choose another --out"):
        make(tmp_path / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_read_only_parent_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied"):
        make(tmp_path / "a")


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device"), OSError("9 requested and 4 written")]
)
def test_a_full_disk_leaves_nothing(tmp_path, full):
    message = r"no room for .*a \(.+\); free some or choose another --out"
    with pytest.raises(ValueError, match=message), writing(tmp_path / "a", "note", made_by={}) as part:
        (part / "half.txt").write_text("half")
        raise full
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_manifest_leaves_nothing(tmp_path, monkeypatch):
    def refused(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(ValueError, match="no room for"):
        make(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_still_takes_artifacts(tmp_path, monkeypatch):
    def refused(*_args):
        raise OSError(errno.EBADF, "Bad file descriptor")

    (tmp_path / ".a.part-1-unknown").mkdir()
    monkeypatch.setattr("fcntl.flock", refused)
    make(tmp_path / "a")
    assert open_artifact(tmp_path / "a", "note").kind == "note"
    assert beside(tmp_path / "a") == [".a.part-1-unknown"], "nobody can tell whether its writer lives"


def test_what_is_no_artifact_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder; expected a landseer note"):
        open_artifact(tmp_path / "nowhere", "note")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no manifest\.json, so it is not a landseer note"):
        open_artifact(tmp_path / "empty", "note")
    make(tmp_path / "a")
    with pytest.raises(ValueError, match="a is a landseer note, not a ranking"):
        open_artifact(tmp_path / "a", "ranking")
    with pytest.raises(ValueError, match=r"made by other settings \(\w+, not abc\); make it again"):
        open_artifact(tmp_path / "a", "note", made_by="abc")
    with pytest.raises(ValueError, match="extra is not a file of this note"):
        verify(tmp_path / "a", open_artifact(tmp_path / "a", "note"), "extra")


def test_missing_and_truncated_files_are_named(tmp_path):
    make(tmp_path / "a")
    text = tmp_path / "a" / "deep" / "text.txt"
    text.write_text("hell")
    with pytest.raises(ValueError, match=r"text\.txt has 4 bytes, not 5; make the note again"):
        open_artifact(tmp_path / "a", "note")
    text.unlink()
    with pytest.raises(ValueError, match=r"text\.txt is missing; make the note again"):
        open_artifact(tmp_path / "a", "note")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"kind": "note"}', '"note"', "\x00"])
def test_a_manifest_that_is_none_is_damaged(tmp_path, text):
    make(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        open_artifact(tmp_path / "a", "note")


def test_a_manifest_edited_by_hand_is_damaged(tmp_path):
    make(tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"
    found = json.loads(file.read_text())
    found["made_by"]["size"] = 448
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged \(its sha256 changed\)"):
        open_artifact(tmp_path / "a", "note")


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04K\x01.")
    np.savez(tmp_path / "c.npz", np.arange(3))
    (tmp_path / "d.npy").write_bytes(b"")
    for name in ("a.npy", "b.npy", "c.npz", "d.npy", "missing.npy"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as an array"):
            read_array(tmp_path / name)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (2, 3), ()])
@pytest.mark.parametrize("mmap", [False, True])
def test_arrays_of_any_size(tmp_path, shape, mmap):
    np.save(tmp_path / "a.npy", np.ones(shape, np.float16))
    found = read_array(tmp_path / "a.npy", mmap=mmap)
    assert found.shape == shape
    assert np.all(found == 1)


def test_folder_names_are_no_columns(tmp_path):
    folder = tmp_path / "split=train"
    folder.mkdir()
    pq.write_table(pa.table({"id": ["a"]}), folder / "t.parquet")
    assert read_table(folder / "t.parquet").column_names == ["id"]


def test_tables_and_json_that_are_none_are_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no, not really PAR1")
    (tmp_path / "t.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read as a Parquet table"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.json cannot be read as JSON"):
        read_json(tmp_path / "t.json")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        read_json(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', 'fortran_order': False, 'shape': (3", b"{'descr': (((", b"'''"]
)
def test_an_array_whose_header_is_no_python_is_one_line(tmp_path, header):
    file = tmp_path / "rows.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match="cannot be read as an array") as found:
        read_array(file)
    assert "\n" not in str(found.value)
