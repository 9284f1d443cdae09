import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from landseer.matching import (
    Budget,
    Matcher,
    Photo,
    budget_of,
    make_extractor,
    make_pairer,
    mutual_pairs,
    verify,
)
from landseer.matching import describe as describing
from landseer.matching.describe import in_order, one_thread
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.reranking.context import Match

OPTIONS = MatchingOptions(features=LocalFeatureOptions(longest=200, keypoints=300))


@pytest.fixture(scope="module")
def collection(scenes, tmp_path_factory, collect):
    flat = {"flat": np.full((40, 40, 3), 9, np.uint8), "dot": np.full((1, 1, 3), 9, np.uint8)}
    return collect(tmp_path_factory.mktemp("photos"), {**scenes, **flat}, missing=("gone",))


def test_it_is_what_spatial_re_ranking_asks_for(collection):
    match: Match = Matcher(collection, options=OPTIONS).match
    others = ["b", "a-tilted", "flat", "gone", "dot"]
    found = match("a", others)
    assert [type(count) for count in found] == [int] * 5
    assert found[1] > 60 > 8 > found[0]
    assert found[2:] == [0, 0, 0]
    assert match("a", []) == []


def test_hostile_photos_agree_with_nothing(scenes, tmp_path, collect, draw):
    huge = np.full((3375, 6000, 3), 120, np.uint8)
    huge[1000:1700, 2000:2900] = draw(3, width=900, height=700)
    pictures = {
        "huge": huge,
        "grey": draw(4)[..., 0],
        "strip": draw(5, width=4000, height=20),
        "8 x 8": draw(6, width=8, height=8),
        "1 x 1": draw(7, width=1, height=1),
        "flat": np.full((90, 90, 3), 200, np.uint8),
    }
    matcher = Matcher(collect(tmp_path, {**pictures, "a": scenes["a"]}), options=OPTIONS)
    found = dict(zip(pictures, matcher.match("a", list(pictures)), strict=True))
    assert found.pop("grey") < 8
    assert set(found.values()) == {0}
    assert len(matcher.features("grey")) > 60
    assert matcher.features("huge").size == (200, 112)
    assert matcher.match("grey", ["grey", "a"])[0] > 60
    assert matcher.unreadable == {}


def test_pairs_agree_with_each_step_done_by_hand(collection):
    matcher = Matcher(collection, options=OPTIONS, workers=3)
    pairs = list(itertools.product(collection.ids, repeat=2))
    told = []
    found = matcher.verify_pairs(pairs, progress=lambda done, total: told.append((done, total)))
    for (a, b), count in zip(pairs, found.tolist(), strict=True):
        fa, fb = sorted((matcher.features(a), matcher.features(b)), key=lambda f: f.keypoints_K2.tobytes())
        rows = mutual_pairs(fa.descriptors_KD, fb.descriptors_KD, ratio=0.9)
        assert count == verify(fa.keypoints_K2[rows[:, 0]], fb.keypoints_K2[rows[:, 1]], OPTIONS).inliers
    assert told == [(32, 49), (49, 49)]
    assert np.array_equal(found.reshape(7, 7), found.reshape(7, 7).T)
    assert matcher.unreadable == {"gone": "missing"}


def test_kept_features_give_the_same_inliers_without_the_photos(scenes, tmp_path, collect):
    collection = collect(tmp_path / "photos", scenes)
    pairs = list(itertools.combinations(collection.ids, 2))
    fresh = Matcher(collection, options=OPTIONS).verify_pairs(pairs)
    keeping = Matcher(collection, options=OPTIONS, features=tmp_path / "features")
    assert keeping.prepare() == {}
    shutil.rmtree(tmp_path / "photos")
    again = Matcher(collection, options=OPTIONS, features=tmp_path / "features")
    assert np.array_equal(again.verify_pairs(pairs), fresh)
    assert again.unreadable == {}


def test_memory_is_bounded_and_what_was_let_go_comes_back(collection, tmp_path):
    matcher = Matcher(collection, options=OPTIONS, features=tmp_path / "f", memory_mb=0)
    matcher.prepare()
    pairs = list(itertools.product(collection.ids, repeat=2))
    assert np.array_equal(
        matcher.verify_pairs(pairs), Matcher(collection, options=OPTIONS).verify_pairs(pairs)
    )
    assert len(matcher._held._features) == 1
    held = Matcher(collection, options=OPTIONS)._held
    held._most_bytes = 150_000
    for number in range(9):
        held.put(str(number), matcher.features("a"))
        assert held._bytes == sum(one.num_bytes for one in held._features.values()) <= 150_000
    assert list(held._features)[-1] == "8" and 1 < len(held._features) < 9


def test_features_are_made_once(collection, tmp_path, monkeypatch):
    made = []
    plain = describing.describe_photo
    monkeypatch.setattr(describing, "describe_photo", lambda *args: made.append(args[2]) or plain(*args))
    matcher = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    assert matcher.prepare(["a", "b"]) == {}
    assert matcher.prepare() == {"gone": "missing"}
    told = []
    assert matcher.prepare(progress=lambda done, total: told.append((done, total))) == {"gone": "missing"}
    assert sorted(made) == sorted([*collection.paths, "gone.png", "gone.png"][:8])
    assert told == [(6, 7), (7, 7)]


def test_an_extension_of_the_collection_uses_what_is_there(scenes, tmp_path, collect):
    small = collect(tmp_path / "photos", {"a": scenes["a"]})
    Matcher(small, options=OPTIONS, features=tmp_path / "f").prepare()
    large = collect(tmp_path / "photos", scenes)
    told = []
    Matcher(large, options=OPTIONS, features=tmp_path / "f").prepare(progress=lambda *now: told.append(now))
    assert told[0] == (1, 4)


def test_other_settings_are_refused(collection, tmp_path):
    Matcher(collection, options=OPTIONS, features=tmp_path / "f").prepare()
    other = MatchingOptions(features=LocalFeatureOptions(longest=200, keypoints=299))
    with pytest.raises(ValueError, match=r"holds features of other settings \(keypoints: 300, not 299\)"):
        Matcher(collection, options=other, features=tmp_path / "f")
    # how points are paired and verified is no part of the features
    loose = MatchingOptions(features=OPTIONS.features, ratio=0.8, model="homography")
    assert len(Matcher(collection, options=loose, features=tmp_path / "f").shelf) == 6


@pytest.mark.parametrize("file", ["points.bin", "table.npy", "manifest.json"])
@pytest.mark.parametrize("how", ["a bit in the middle", "a bit near the end", "cut", "gone"])
def test_damage_is_found_and_described_again(scenes, tmp_path, file, how, collect):
    """At once in memory, and for good by the next ``prepare``."""
    collection = collect(tmp_path / "photos", scenes)
    plain = Matcher(collection, options=OPTIONS)
    expected = {
        photo: (plain.features(photo).packed(), plain.features(photo).size) for photo in collection.ids
    }

    def found(matcher):
        return {photo: (matcher.features(photo).packed(), matcher.features(photo).size) for photo in expected}

    Matcher(collection, options=OPTIONS, features=tmp_path / "f").prepare(commit_every=2)
    path = tmp_path / "f" / "shard-00000001" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if "middle" in how else -4] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if "bit" in how else content[:-20])
    second = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    assert found(second) == expected
    second.prepare()
    assert len(second.shelf) == 4
    for photo, path in zip(collection.ids, collection.paths, strict=True):
        assert second.shelf.read(Photo(photo, path)).packed() == expected[photo][0]
    shutil.rmtree(tmp_path / "photos")
    third = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    assert len(third.shelf) == 4
    assert found(third) == expected


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from conftest import collection_of, drawn
from landseer.matching import Matcher
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions
from landseer.storage import artifact
where, when = Path(sys.argv[2]), int(sys.argv[3])
collection = collection_of(where / "photos", {str(n): drawn(n, width=64, height=64) for n in range(6)})
options = MatchingOptions(features=LocalFeatureOptions(longest=64, keypoints=50))
calls, plain = [], os.fsync
def fsync(handle):
    calls.append(handle)
    if len(calls) == when:
        os._exit(9)
    plain(handle)
os.fsync = fsync
matcher = Matcher(collection, options=options, features=where / "features", workers=1)
matcher.prepare(commit_every=2)
print(len(matcher.shelf), [matcher.features(photo).packed().hex()[:400] for photo in collection.ids])
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path):
    """A kill at each sync of two shards: whole shards or none, and the end is that of a run nobody disturbed."""

    def run(folder, when):
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder), str(when)]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    plain = run(tmp_path / "plain", 0)
    assert plain.returncode == 0, plain.stderr
    for when in (1, 3, 5, 6, 8):
        folder = tmp_path / str(when)
        assert run(folder, when).returncode == 9
        for shard in (folder / "features").glob("shard-*"):
            assert (shard / "manifest.json").is_file()
        again = run(folder, 0)
        assert (again.returncode, again.stdout) == (0, plain.stdout), again.stderr
        assert not [left for left in (folder / "features").iterdir() if left.name.startswith(".")]


def test_one_process_adds_at_a_time(collection, tmp_path):
    first = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    second = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    with first.shelf.held(), pytest.raises(ValueError, match="another process is adding features"):
        second.prepare()
    first.prepare(["a"])
    told = []
    assert second.prepare(progress=lambda *now: told.append(now)) == {"gone": "missing"}
    assert told[0] == (1, 7)  # it sees what the first added
    assert len(second.shelf) == 6


def test_where_no_photo_can_be_read_nothing_is_kept(tmp_path, collect):
    collection = collect(tmp_path / "photos", {}, missing=("x", "y"))
    matcher = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    with pytest.raises(ValueError, match=r"none of 2 photos could be read \(the first, 'x': missing\)"):
        matcher.prepare()
    assert len(matcher.shelf) == 0


def test_the_budget_is_said_before_and_holds(scenes, tmp_path, collect, draw):
    collection = collect(tmp_path / "photos", {str(n): draw(n) for n in range(8)})
    matcher = Matcher(collection, options=OPTIONS, features=tmp_path / "f")
    told = matcher.budget()
    assert told == Budget(photos=8, kb_a_photo=(300 * 134 + 32) / 1000)
    assert str(budget_of(matcher.extractor, 4_132_914)) == (
        "local features: at most 40 KB a photo, 166.3 GB for 4,132,914 photos"
    )
    matcher.prepare()
    spent = sum(file.stat().st_size for file in (tmp_path / "f").rglob("*.bin"))
    assert 0.5 * told.gb * 1e9 < spent <= told.gb * 1e9


def test_mistakes_are_named(collection, scenes, tmp_path, collect):
    matcher = Matcher(collection, options=OPTIONS)
    with pytest.raises(ValueError, match="no photo 'nobody'"):
        matcher.match("a", ["nobody"])
    with pytest.raises(ValueError, match="kept in a folder, and none was given"):
        matcher.prepare()
    with pytest.raises(ValueError, match="workers: must be at least 1, not 0"):
        Matcher(collection, options=OPTIONS, workers=0).match("a", ["b"])
    elsewhere = collect(tmp_path / "other", {"a": scenes["b"]})
    with pytest.raises(ValueError, match="the id 'a' names two photos"):
        Matcher(collection, elsewhere, options=OPTIONS)
    assert Matcher(collection, collection, options=OPTIONS).match("a", ["b"]) == matcher.match("a", ["b"])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        Matcher(collection, options=OPTIONS, features=tmp_path / "file")
    xfeat = MatchingOptions(features=LocalFeatureOptions(extractor="xfeat"), pairing="lighterglue")
    with pytest.raises(ValueError, match="xfeat needs its weights"):
        make_extractor(xfeat.features)
    with pytest.raises(ValueError, match="lighterglue needs its weights"):
        make_pairer(xfeat)
    with pytest.raises(ValueError, match="rootsift takes no weights"):
        make_extractor(OPTIONS.features, weights=tmp_path / "file")
    with pytest.raises(ValueError, match="mutual pairing takes no weights"):
        make_pairer(OPTIONS, weights=tmp_path / "file")
    with pytest.raises(ValueError, match="pairing: lighterglue pairs the points of xfeat, not of rootsift"):
        MatchingOptions(pairing="lighterglue")


def test_an_error_of_ours_comes_through(collection):
    """Only what a photo is to blame for becomes zero inliers."""

    class Broken:
        def __call__(self, a, b):
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        Matcher(collection, options=OPTIONS, pairer=Broken()).match("a", ["b", "a-tilted"])


def test_opencv_has_its_threads_back_whoever_leaves_last():
    cv2.setNumThreads(2)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        inside.wait(10)
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 1  # the other is still inside
    leave.set()
    thread.join()
    assert cv2.getNumThreads() == 2


def test_workers_keep_the_order_and_take_no_more_than_they_need():
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number * number, numbers(), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(taken) <= 8 + 3
    results.close()
    assert list(in_order(str, range(30), workers=4)) == [str(number) for number in range(30)]
