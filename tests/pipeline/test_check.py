"""A check of the mini world with copies planted in it: what is found, what is missed, what is written."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageOps

from landseer.matching import MatchingSetup
from landseer.photos import read_bytes
from landseer.pipeline.check import check_collection, check_facts
from landseer.recipe.check_options import CheckOptions
from landseer.types import PHOTO_SCHEMA, Descriptors

CHANGES = {
    "equal": lambda p: p,
    "q20": lambda p: p,
    "half": lambda p: p.resize((p.width // 2, p.height // 2)),
    "dark": lambda p: p.point(lambda level: level * 0.6),
    "mirrored": ImageOps.mirror,
    "crop": lambda p: p.crop((10, 6, p.width - 10, p.height - 6)),
    "turned": lambda p: p.rotate(90, expand=True),
}
FOUND = {"equal": "bytes", "q20": "picture", "half": "picture", "dark": "picture", "mirrored": "picture"}


@pytest.fixture(scope="module")
def planted(world, collection_folder, tmp_path_factory):
    """The mini world with one changed copy of a training photo each, as queries."""
    from landseer.storage import load_collection

    root = tmp_path_factory.mktemp("planted")
    whole = load_collection(collection_folder)
    train = whole.in_split("train")
    rows, of = whole.photos.to_pylist(), {}
    for number, (name, change) in enumerate(CHANGES.items()):
        row = train.photos.slice(7 * number, 1).to_pylist()[0]
        data = read_bytes(whole.root, row["path"])
        if name != "equal":
            stream = io.BytesIO()
            change(Image.open(io.BytesIO(data))).save(stream, "JPEG", quality=20 if name == "q20" else 90)
            data = stream.getvalue()
        (root / f"{name}.jpg").write_bytes(data)
        rows.append({**row, "id": name, "path": f"planted/{name}.jpg", "split": "query", "clean": True})
        of[name] = row["id"]
    (root / "broken.jpg").write_bytes(data[: len(data) // 2])
    rows.append({**row, "id": "broken", "path": "planted/broken.jpg", "split": "index"})
    both = tmp_path_factory.mktemp("both")
    (both / "planted").symlink_to(root)
    for folder in ("train", "index", "test"):
        (both / folder).symlink_to(whole.root / folder)
    photos = pa.Table.from_pylist(rows, schema=whole.photos.schema)
    return replace(whole, photos=photos, root=both), of


def rows_in(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_each_kind_of_copy_is_found_or_needs_descriptors(planted, tmp_path):
    collection, of = planted
    checked = check_collection(collection, tmp_path / "out", name="mini", workers=1)
    rows = rows_in(tmp_path / "out" / "duplicates.csv")
    cluster_of = {row["photo"]: row["cluster"] for row in rows}
    found = {
        name: row["same_as_kept"]
        for name in CHANGES
        for row in rows
        if row["photo"] == of[name] and cluster_of.get(name) == row["cluster"]
    }
    assert found == FOUND
    assert {row["photo"] for row in rows if row["keep"] == "yes"} >= set(FOUND), "queries are kept, not train"
    assert {row["keep"] for row in rows if row["photo"] in {of[name] for name in FOUND}} == {"no"}
    leaks = {(row["earlier_photo"], row["photo"]): row for row in rows_in(tmp_path / "out" / "leaks.csv")}
    assert {(of[name], name) for name in FOUND} <= set(leaks)
    assert leaks[of["equal"], "equal"]["kind"] == "bytes"
    assert [(row["photo"], row["split"]) for row in rows_in(tmp_path / "out" / "unreadable.csv")] == [
        ("broken", "index")
    ]
    facts = check_facts(checked)
    assert facts == json.loads((tmp_path / "out" / "check.json").read_text())
    assert facts["unreadable"] == 1
    assert facts["photo_leaks"]["from_to"]["train -> query"] >= len(FOUND)
    assert checked.failed


def test_with_descriptors_a_crop_is_found_and_features_are_kept(planted, tmp_path):
    collection, of = planted
    pair = [of["crop"], "crop"]
    rows = np.ones((2, 4), np.float32) / 2
    setup = MatchingSetup(features=tmp_path / "features")
    checked = check_collection(
        collection,
        tmp_path / "out",
        descriptors=[Descriptors(ids=tuple(pair), rows_ND=rows)],
        matching=setup,
        workers=1,
    )
    (row,) = [row for row in rows_in(tmp_path / "out" / "duplicates.csv") if row["photo"] == of["crop"]]
    assert row["same_as_kept"] == "picture"
    assert float(row["overlap"]) < 0.85
    assert float(row["likeness"]) >= CheckOptions().laid_likeness
    assert checked.described == 2
    assert list((tmp_path / "features").glob("shard-*"))


def test_a_repeated_check_reads_no_photo_and_says_the_same(planted, tmp_path, monkeypatch):
    collection, _ = planted
    check_collection(collection, tmp_path / "out", workers=1)
    first = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert set(first) == {
        "check.json", "duplicates.csv", "leaks.csv", "landmarks.csv", "unreadable.csv", "report.html"
    }  # fmt: skip
    reads = []
    read = read_bytes

    def noting(root, path):
        reads.append(path)
        return read(root, path)

    monkeypatch.setattr("landseer.cleaning.signatures.read_bytes", noting)
    check_collection(collection, tmp_path / "out", workers=1)
    assert reads == ["planted/broken.jpg"], "what could not be read is tried again"
    assert first == {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()}


def test_another_collection_is_leaked_into_by_photos_and_landmarks(collection, planted, tmp_path):
    other, _ = planted
    queries = other.in_split("query")
    ours = replace(collection.in_split("train"), truth=None)
    checked = check_collection(ours, tmp_path / "out", against={"other": queries}, workers=1)
    facts = check_facts(checked)
    assert facts["photos"] == len(ours)
    assert facts["photo_leaks"]["from_to"] == {"train -> query of other": facts["photo_leaks"]["photos"]}
    assert facts["photo_leaks"]["photos"] >= len(FOUND)
    assert facts["landmarks_trained_on"]["other"]["share"] > 0
    assert {row["collection"] for row in rows_in(tmp_path / "out" / "leaks.csv")} == {"other"}
    assert "train → query of other" in (tmp_path / "out" / "report.html").read_text()


def test_the_page_asks_nobody_and_escapes_what_it_shows(planted, tmp_path):
    collection, _ = planted
    rows = collection.photos.to_pylist()
    rows[-1]["id"] = "<script>alert(1)</script>"
    photos = pa.Table.from_pylist(rows, schema=collection.photos.schema)
    check_collection(replace(collection, photos=photos), tmp_path / "out", name="a & b", workers=1)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "Check of a &amp; b" in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert text.count("data:image/jpeg;base64,") >= 2 * len(FOUND)
    assert "The long tail" in text


def test_what_cannot_be_checked_is_refused(planted, tmp_path):
    collection, _ = planted
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="mine exists and is no earlier check; choose another --out"):
        check_collection(collection, tmp_path / "mine")
    empty = replace(collection, photos=PHOTO_SCHEMA.empty_table(), truth=None)
    with pytest.raises(ValueError, match="has no photos, so there is nothing to check"):
        check_collection(empty, tmp_path / "out")
    near = Descriptors(ids=("nobody",), rows_ND=np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="no photo of the collection is among the descriptors"):
        check_collection(collection, tmp_path / "out", descriptors=[near])
    wide = Descriptors(ids=("equal",), rows_ND=np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="descriptors of 2 and 3 components"):
        check_collection(collection, tmp_path / "out", descriptors=[near, wide])
    assert not (tmp_path / "out").exists(), "a mistake writes nothing"
