"""Copies of every kind among photos; clusters that no chain glues."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from landseer.cleaning import duplicates
from landseer.cleaning.duplicates import clusters, equal_files, find_duplicates, keep_order, stars
from landseer.cleaning.pictures import Comparer, Link
from landseer.cleaning.pool import Pool
from landseer.cleaning.signatures import Signatures, read_signatures
from landseer.matching import Matcher
from landseer.recipe.check_options import CheckOptions
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors


def scene(seed, width=256, height=192):
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(200):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(n) for n in rng.integers(4, 60, size=2))
        cv2.rectangle(picture, (x, y), (x + w, y + h), [int(n) for n in rng.integers(0, 256, 3)], -1)
    return Image.fromarray(cv2.GaussianBlur(picture, (0, 0), 0.8))


def rows_of(names, splits):
    return pa.Table.from_pylist(
        [
            {"id": name, "path": name, "kind": "unknown", "clean": False, "split": split}
            for name, split in zip(names, splits, strict=True)
        ],
        schema=PHOTO_SCHEMA,
    )


def collection_of(root, names, splits=None):
    table = rows_of(names, splits or ["train"] * len(names))
    return Collection(photos=table, landmarks=LANDMARK_SCHEMA.empty_table(), root=Path(root))


def found_in(pool, descriptors=None, **options):
    chosen = CheckOptions(**options)
    places = [(pool.root(row), path) for row, path in enumerate(pool.paths)]
    comparer = Comparer(pool, Matcher(*pool.collections, workers=1), chosen)
    return find_duplicates(
        pool, read_signatures(places), comparer, options=chosen, descriptors=descriptors, workers=1
    )


def named(pool, found):
    """Cluster by cluster: kind, and each photo with how it is the same; the kept one first."""
    return [
        (c.kind, pool.ids[c.kept], *((pool.ids[m.row], m.same) for m in c.members))
        for c in (*found.copies, *found.scenes)
    ]


@pytest.fixture
def world(tmp_path):
    """Four scenes, and of the first a copy of each kind."""
    for n in range(4):
        scene(n).save(tmp_path / f"{n}.png")
    first = scene(0)
    (tmp_path / "0-equal.png").write_bytes((tmp_path / "0.png").read_bytes())
    first.save(tmp_path / "0-q30.jpg", quality=30)
    first.resize((128, 96)).save(tmp_path / "0-small.png")
    first.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "0-mirrored.jpg")
    first.crop((40, 30, 210, 160)).save(tmp_path / "0-crop.png")
    return tmp_path


NAMES = ["0.png", "1.png", "2.png", "3.png", "0-equal.png", "0-q30.jpg", "0-small.png", "0-mirrored.jpg"]


def test_equal_saved_resized_and_mirrored_copies_are_found_and_nothing_else(world):
    pool = Pool.of(collection_of(world, NAMES), {})
    found = found_in(pool)
    assert named(pool, found) == [
        (
            "picture",
            "0.png",
            ("0-equal.png", "bytes"),
            ("0-q30.jpg", "picture"),
            ("0-small.png", "picture"),
            ("0-mirrored.jpg", "picture"),
        )
    ]
    mirrored = [pool.ids[m.row] for m in found.copies[0].members if m.link is not None and m.link.mirrored]
    assert mirrored == ["0-mirrored.jpg"]


def test_equal_files_alone_make_a_cluster_of_their_own_kind(world):
    pool = Pool.of(collection_of(world, ["1.png", "0.png", "0-equal.png"]), {})
    assert named(pool, found_in(pool)) == [("bytes", "0.png", ("0-equal.png", "bytes"))]


def test_a_crop_needs_descriptors(world):
    names = [*NAMES[:4], "0-crop.png"]
    pool = Pool.of(collection_of(world, names), {})
    assert named(pool, found_in(pool)) == []
    rows = np.eye(5, dtype=np.float32)
    rows[4] = [0.8, 0.6, 0, 0, 0]
    near = Descriptors(ids=tuple(names), rows_ND=rows)
    assert named(pool, found_in(pool, near, neighbours=1)) == [
        ("picture", "0.png", ("0-crop.png", "picture"))
    ]


def test_the_same_scene_is_kept_apart_from_the_same_picture(world):
    tilt = np.array([[0.9, -0.2, 30.0], [0.15, 0.95, 12.0]])
    tilted = cv2.warpAffine(np.array(scene(0)), tilt, (256, 192), borderValue=(128, 128, 128))
    Image.fromarray(tilted).save(world / "0-tilted.jpg")
    names = ["0.png", "0-q30.jpg", "0-tilted.jpg", "1.png"]
    pool = Pool.of(collection_of(world, names), {})
    near = Descriptors(ids=tuple(names), rows_ND=np.float32([[1, 0], [0.99, 0.1], [0.98, 0.2], [-1, 0]]))
    found = found_in(pool, near, neighbours=3)
    assert [c.kind for c in found.copies] == ["picture"]
    assert named(pool, found)[1] == ("scene", "0.png", ("0-tilted.jpg", "scene"))


def test_photos_of_other_collections_are_compared_with_ours_and_not_with_each_other(world):
    ours = collection_of(world, ["0.png", "1.png"])
    other = collection_of(world, ["0-q30.jpg", "0-small.png", "0-equal.png"], ["query", "index", "train"])
    pool = Pool.of(ours, {"other": other})
    assert pool.ids == ("0.png", "1.png", "1:0-q30.jpg", "1:0-small.png"), "of train nothing is evaluated"
    found = found_in(pool)
    assert [(link.first, link.second) for link in found.links] == [(0, 2), (0, 3)]
    assert found.copies == (), "a copy elsewhere is nothing to spare here"
    assert pool.shown_id(2) == "0-q30.jpg"


def test_photos_that_show_nothing_are_equal_by_bytes_alone(tmp_path):
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "a.png")
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "b.png")
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "c.jpg")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(b"no photo")
    (tmp_path / "f.png").write_bytes(b"no photo")
    pool = Pool.of(collection_of(tmp_path, ["a.png", "b.png", "c.jpg", "d.png", "e.png", "f.png"]), {})
    near = Descriptors(ids=pool.ids[:4], rows_ND=np.ones((4, 2), np.float32))
    assert named(pool, found_in(pool, near)) == [("bytes", "a.png", ("b.png", "bytes"))]


def signatures(num, **columns):
    plain = {
        "bytes_N": np.arange(num) + 100,
        "checksum_N": np.array([bytes([n]) * 16 for n in range(num)], "V16"),
        "hash_N": np.zeros(num, np.uint64),
        "hashed_N": np.zeros(num, np.bool_),
        "pixels_N": np.full(num, 1000),
        "unreadable": {},
    }
    return Signatures(**{**plain, **columns})


def test_queries_then_clean_then_large_photos_are_kept():
    table = rows_of("abcdefg", ["train", "train", "train", "index", "query", "train", "train"])
    clean = table.schema.get_field_index("clean")
    flags = pa.array([True, False, True, False, False, False, False])
    table = table.set_column(clean, PHOTO_SCHEMA.field("clean"), flags)
    pool = Pool.of(Collection(photos=table, landmarks=LANDMARK_SCHEMA.empty_table(), root=Path()), {})
    pixels, sizes = np.array([10, 120, 20, 1, 1, 99, 99]), np.array([1, 1, 1, 1, 1, 6, 7])
    order = keep_order(pool, signatures(7, pixels_N=pixels, bytes_N=sizes))
    assert "".join("abcdefg"[n] for n in np.argsort(order)) == "edcabgf"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_equal_files_stand_behind_the_first_to_keep(contents, seed):
    num = len(contents)
    order = np.random.default_rng(seed).permutation(num)
    checksum = np.array([bytes([c, 0]) * 8 for c in contents], "V16")
    found = equal_files(signatures(num, bytes_N=np.full(num, 7), checksum_N=checksum), order)
    for n in range(num):
        equal = [m for m in range(num) if contents[m] == contents[n]]
        assert found[n] == min(equal, key=lambda m: order[m])


def test_of_many_photos_of_one_hash_not_every_pair_is_compared(monkeypatch):
    monkeypatch.setattr(duplicates, "_SEVERAL", 2)
    found = duplicates._hash_pairs(
        signatures(9, hashed_N=np.ones(9, np.bool_)),
        np.arange(9),
        np.arange(9),
        radius=0,
        workers=1,
        progress=None,
    )
    assert {(a, b) for a, b, _ in found} == {(a, b) for a in (0, 1) for b in range(9) if b > a}


@st.composite
def graphs(draw):
    num = draw(st.integers(1, 10))
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    kinds = draw(
        st.lists(st.sampled_from(["", "picture", "scene"]), min_size=len(pairs), max_size=len(pairs))
    )
    links = [Link(first=a, second=b, kind=kind) for (a, b), kind in zip(pairs, kinds, strict=True) if kind]
    return num, links, draw(st.permutations(range(num)))


@given(graphs())
def test_every_member_of_a_cluster_is_linked_to_the_one_that_is_kept(graph):
    num, links, order = graph
    linked = {(link.first, link.second, link.kind) for link in links}
    copies, scenes = clusters(np.arange(num), np.array(order), range(num), links)
    for found in (copies, scenes):
        rows = [row for cluster in found for row in cluster.rows]
        assert len(set(rows)) == len(rows), "no photo stands in two clusters"
        for cluster in found:
            for member in cluster.members:
                assert (*sorted((member.row, cluster.kept)), cluster.kind) in linked
                assert order[cluster.kept] < order[member.row]
    spared = {member.row for cluster in copies for member in cluster.members}
    assert not spared & {row for cluster in scenes for row in cluster.rows}
    # nothing that could have been joined was left out: two kept photos are never linked
    alone = set(range(num)) - spared
    assert not any((a, b, "picture") in linked for a in alone for b in alone)


def test_a_chain_does_not_glue():
    links = {n: {} for n in range(4)}
    for a, b in ((0, 1), (1, 2), (2, 3)):
        links[a][b] = links[b][a] = Link(first=a, second=b, kind="picture")
    assert {centre: set(leaves) for centre, leaves in stars(range(4), links).items()} == {0: {1}, 2: {3}}
