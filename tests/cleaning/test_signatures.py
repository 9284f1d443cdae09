"""What is kept of each photo: read once, again when the file changes, and never half."""

import hashlib
import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from landseer.cleaning import signatures
from landseer.cleaning.signatures import read_signatures
from landseer.photos.hashes import perceptual_hash


def noise(seed, width=60, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for n in range(5):
        (root / f"{n}.png").write_bytes(noise(n))
    return root


@pytest.fixture
def reads(monkeypatch):
    """Paths that are read from now on."""
    found = []
    read_bytes = signatures.read_bytes

    def noting(root, path):
        found.append(path)
        return read_bytes(root, path)

    monkeypatch.setattr(signatures, "read_bytes", noting)
    return found


def places(root, *names):
    return [(root, name) for name in names or [f"{n}.png" for n in range(5)]]


def same(a, b):
    columns = ("bytes_N", "checksum_N", "hash_N", "hashed_N", "pixels_N")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns) and (
        a.unreadable == b.unreadable
    )


def test_each_photo_is_described_by_its_bytes_and_its_looks(photos):
    found = read_signatures(places(photos))
    for n in range(5):
        data = (photos / f"{n}.png").read_bytes()
        assert found.bytes_N[n] == len(data)
        assert found.checksum_N[n].tobytes() == hashlib.sha256(data).digest()[:16]
        assert int(found.hash_N[n]) == perceptual_hash(data)
        assert found.pixels_N[n] == 2400
    assert found.hashed_N.all()
    assert not found.unreadable


def test_a_second_look_reads_nothing(photos, tmp_path, reads):
    first = read_signatures(places(photos), folder=tmp_path / "kept")
    assert len(reads) == 5
    assert same(read_signatures(places(photos), folder=tmp_path / "kept"), first)
    assert len(reads) == 5


def test_a_changed_file_is_read_again_and_a_new_one_added(photos, tmp_path, reads):
    read_signatures(places(photos), folder=tmp_path / "kept")
    (photos / "2.png").write_bytes(noise(99, width=70))
    (photos / "new.png").write_bytes(noise(7))
    names = [*(f"{n}.png" for n in range(5)), "new.png"]
    reads.clear()
    again = read_signatures(places(photos, *names), folder=tmp_path / "kept")
    assert sorted(reads) == ["2.png", "new.png"]
    assert same(again, read_signatures(places(photos, *names)))


def test_stopped_midway_it_goes_on(photos, tmp_path, reads):
    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_signatures(places(photos), folder=tmp_path / "kept", progress=stop, commit_every=2, workers=1)
    reads.clear()
    found = read_signatures(places(photos), folder=tmp_path / "kept")
    assert reads == ["4.png"]
    assert same(found, read_signatures(places(photos)))


def test_a_damaged_shard_is_read_again(photos, tmp_path, reads):
    first = read_signatures(places(photos), folder=tmp_path / "kept", commit_every=3)
    shard = sorted((tmp_path / "kept").glob("shard-*"))[0] / "table.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    reads.clear()
    assert same(read_signatures(places(photos), folder=tmp_path / "kept"), first)
    assert sorted(reads) == ["0.png", "1.png", "2.png"]


def test_unreadable_photos_are_listed_and_tried_again(photos, tmp_path):
    (photos / "1.png").write_bytes(noise(1)[:-200])
    (photos / "3.png").unlink()
    found = read_signatures(places(photos), folder=tmp_path / "kept")
    assert sorted(found.unreadable) == [1, 3]
    assert found.unreadable[3] == "missing"
    assert found.bytes_N[3] == 0
    (photos / "3.png").write_bytes(noise(3))
    assert sorted(read_signatures(places(photos), folder=tmp_path / "kept").unreadable) == [1]


def test_one_place_twice_and_members_of_a_tar(photos, tmp_path, reads):
    with tarfile.open(photos / "shard.tar", "w") as tar:
        tar.add(photos / "0.png", "inside.png")
    asked = places(photos, "0.png", "shard.tar::inside.png", "0.png")
    found = read_signatures(asked, folder=tmp_path / "kept")
    assert found.hash_N[0] == found.hash_N[1] == found.hash_N[2]
    reads.clear()
    assert same(read_signatures(asked, folder=tmp_path / "kept"), found)
    assert not reads


def test_no_photo_at_all_is_a_mistake(photos, tmp_path):
    with pytest.raises(
        ValueError, match=r"none of 2 photos could be read .*missing.*do the photos still lie in"
    ):
        read_signatures(places(photos, "a.png", "b.png"))
    assert len(read_signatures([])) == 0


def test_a_folder_in_use_or_in_the_way_is_refused(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be made .*choose another --out"):
        read_signatures(places(photos), folder=tmp_path / "file" / "kept")
    import fcntl

    (tmp_path / "kept").mkdir()
    handle = os.open(tmp_path / "kept", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is checking"):
        read_signatures(places(photos), folder=tmp_path / "kept")
    os.close(handle)
