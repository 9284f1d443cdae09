"""Bytes of loose files and of tar members read in place."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from landseer.photos import UnreadablePhoto, list_members, read_bytes, source


def write_tar(
    path: Path, members: dict[str, bytes], *, mode: str = "w", form: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, mode, format=form) as archive:
        for name, body in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return path


def body(number: int) -> bytes:
    return np.random.default_rng(number).bytes(number * 37 % 3000)


LONG = "a" * 90 + "/" + "b" * 90 + ".jpg"
MEMBERS = {f"0/1/2/{n:016x}.jpg": body(n) for n in range(50)} | {
    LONG: b"long",
    "./dot.jpg": b"dot",
    "straße/Köln.jpg": b"dom",
    "empty.jpg": b"",
}


def refused(root: Path, path: str) -> str:
    with pytest.raises(UnreadablePhoto) as caught:
        read_bytes(root, path)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def test_a_loose_file_comes_back_whole(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "photo.jpg").write_bytes(body(9))
    assert read_bytes(tmp_path, "a/b/photo.jpg") == body(9)


def test_a_loose_file_may_have_colons_in_its_name(tmp_path):
    (tmp_path / "12::30.jpg").write_bytes(b"noon")
    assert read_bytes(tmp_path, "12::30.jpg") == b"noon"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_of_a_tar_comes_back_whole(tmp_path, form):
    write_tar(tmp_path / "shard.tar", MEMBERS, form=form)
    assert list_members(tmp_path / "shard.tar") == list(MEMBERS)
    for name, wanted in reversed(MEMBERS.items()):
        assert read_bytes(tmp_path, f"shard.tar::{name}") == wanted


def test_a_name_that_occurs_twice_means_its_last_bytes(tmp_path):
    write_tar(tmp_path / "s.tar", {"x.jpg": b"old"})
    write_tar(tmp_path / "s.tar", {"x.jpg": b"new"}, mode="a")
    assert read_bytes(tmp_path, "s.tar::x.jpg") == b"new"


def test_folders_and_links_in_a_tar_are_no_photos(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for kind, name in ((tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "link.jpg")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert list_members(tmp_path / "s.tar") == []
    assert refused(tmp_path, "s.tar::link.jpg") == "missing"


def test_what_is_not_there_is_missing(tmp_path):
    write_tar(tmp_path / "s.tar", {"x.jpg": b"x"})
    (tmp_path / "file.jpg").write_bytes(b"x")
    for path in ("none.jpg", "no/such/folder.jpg", "file.jpg/below.jpg", "none.tar::x.jpg", "s.tar::y.jpg"):
        assert refused(tmp_path, path) == "missing"


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refused(tmp_path, "folder.jpg") == "a folder"
    assert refused(tmp_path, "pipe.jpg") == "not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "secret.jpg").chmod(0)
    assert refused(tmp_path, "secret.jpg") == "no permission"


def test_a_huge_file_is_not_loaded(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as stream:
        stream.truncate(5 << 30)  # sparse: takes no room
    assert refused(tmp_path, "huge.jpg") == "too large: 5.0 GiB"


@pytest.mark.parametrize(
    "path", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "../s.tar::x.jpg", "/s.tar::x.jpg", "a\0b"]
)
def test_no_path_leaves_its_root(tmp_path, path):
    with pytest.raises(ValueError, match="leaves its root"):
        read_bytes(tmp_path, path)


def test_a_compressed_tar_is_refused_clearly(tmp_path):
    write_tar(tmp_path / "s.tar", {"x.jpg": b"x"}, mode="w:gz")
    assert refused(tmp_path, "s.tar::x.jpg") == "not a plain tar"
    with pytest.raises(ValueError, match=r"s\.tar: not a plain tar; photos are read from plain tar files"):
        list_members(tmp_path / "s.tar")


def test_a_tar_that_is_cut_gives_what_it_has(tmp_path):
    whole = write_tar(tmp_path / "s.tar", {f"{n}.jpg": bytes(2000) for n in range(4)}).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: 2 * 2560 + 512 + 700])
    assert read_bytes(tmp_path, "s.tar::1.jpg") == bytes(2000)
    assert refused(tmp_path, "s.tar::2.jpg") == "truncated"
    assert refused(tmp_path, "s.tar::3.jpg") == "missing"


def test_a_tar_that_grows_is_looked_at_again(tmp_path):
    write_tar(tmp_path / "s.tar", {"x.jpg": b"x"})
    assert refused(tmp_path, "s.tar::y.jpg") == "missing"
    write_tar(tmp_path / "s.tar", {"y.jpg": bytes(20000)}, mode="a")
    assert read_bytes(tmp_path, "s.tar::y.jpg") == bytes(20000)


def test_a_tar_is_scanned_once_however_many_members_are_read(tmp_path, monkeypatch):
    write_tar(tmp_path / "s.tar", MEMBERS)
    scans = []
    scan = source._scan
    monkeypatch.setattr(source, "_scan", lambda tar: scans.append(tar) or scan(tar))
    for name in MEMBERS:
        read_bytes(tmp_path, f"s.tar::{name}")
    assert len(scans) == 1


def test_the_tars_read_longest_ago_are_forgotten(tmp_path):
    for n in range(5):
        write_tar(tmp_path / f"{n}.tar", {f"{m}.jpg": b"x" for m in range(10)})
    positions = source._Positions(max_members=25)
    for n in (0, 1, 0, 2, 3, 4):
        positions.find(tmp_path / f"{n}.tar", "3.jpg")
    assert [tar.name for tar in positions._tars] == ["3.tar", "4.tar"]
    positions = source._Positions(max_members=25)
    for n in (0, 1, 0, 2):
        positions.find(tmp_path / f"{n}.tar", "3.jpg")
    assert [tar.name for tar in positions._tars] == ["0.tar", "2.tar"]  # 0 was read again after 1
    positions = source._Positions(max_members=5)
    assert positions.find(tmp_path / "0.tar", "3.jpg")[1] == 1  # one tar is kept however large
