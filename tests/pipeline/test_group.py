"""Unlabelled photos of the mini world to groups, names, a collection that votes; and photos that come later."""

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from landseer.cleaning.group_tables import GROUPS, PHOTOS
from landseer.cli import group_command
from landseer.pipeline.group import apply_groups, group_collection
from landseer.pipeline.rerank import bank_of, bank_photos
from landseer.recipe import BankOptions
from landseer.recipe.grouping_options import GroupingOptions
from landseer.storage import load_collection, load_descriptors, save_collection, save_descriptors
from landseer.types import Descriptors

OPTIONS = GroupingOptions(mode="descriptors", neighbours=10, likeness=3.0)


def column(collection, name, values, kind):
    place = collection.photos.schema.get_field_index(name)
    field = collection.photos.schema.field(place)
    return dataclasses.replace(
        collection, photos=collection.photos.set_column(place, field, pa.array(values, kind))
    )


@pytest.fixture(scope="module")
def given(collection_folder, tmp_path_factory):
    """Index photos without labels, one known to show none, rows around the middle of each landmark; the labels."""
    folder = tmp_path_factory.mktemp("group")
    photos = dataclasses.replace(load_collection(collection_folder).in_split("index"), truth=None)
    label_N = photos.landmark_N.copy()
    kinds = ["unknown"] * len(photos)
    kinds[0] = "none"
    hidden = column(column(photos, "landmark", [None] * len(photos), pa.int64()), "kind", kinds, pa.string())
    north = [48.0 + n / 1000 if n < 40 else None for n in range(len(photos))]
    hidden = column(hidden, "latitude", north, pa.float64())
    hidden = column(hidden, "longitude", [7.0 if n else None for n in north], pa.float64())
    save_collection(hidden, folder / "C", made_by={"test": "hidden"})
    rng = np.random.default_rng(0)
    middle_of = {int(n): rng.normal(size=32) for n in np.unique(label_N)}
    rows = np.stack(
        [middle_of[int(n)] * (n >= 0) + (0.5 if n >= 0 else 1.0) * rng.normal(size=32) for n in label_N]
    )
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    save_descriptors(Descriptors(ids=photos.ids, rows_ND=unit), folder / "D", made_by={"test": "rows"})
    return folder, dict(zip(photos.ids, label_N.tolist(), strict=True))


@pytest.fixture(scope="module")
def groups(given):
    folder, _ = given
    group_collection(folder / "C", folder / "D", folder / "G", options=OPTIONS)
    return folder / "G"


def rows_of(file):
    return list(csv.DictReader(file.open(newline="")))


def test_groups_are_places_and_the_rest_stays_unknown(given, groups):
    folder, label_of = given
    listed = rows_of(groups / PHOTOS)
    none = load_collection(folder / "C").ids[0]
    assert {row["photo"] for row in listed} == set(label_of) - {none}, (
        "a photo that shows no landmark is left out"
    )
    labels = {}
    for row in listed:
        if row["group"]:
            labels.setdefault(row["group"], []).append(label_of[row["photo"]])
    assert len(labels) >= 4 and all(len(set(found)) == 1 for found in labels.values())
    landmarks = load_collection(folder / "C").landmarks["landmark"].to_pylist()
    sizes = [int(row["photos"]) for row in rows_of(groups / GROUPS)]
    assert sizes == sorted(sizes, reverse=True)
    assert [int(row["group"]) for row in rows_of(groups / GROUPS)] == [
        max(landmarks) + 1 + n for n in range(len(sizes))
    ]
    assert json.loads((groups / "grouping.json").read_text())["options"]["likeness"] == 3.0


def test_the_page_is_complete_in_itself_and_shows_each_medoid(groups):
    page = (groups / "groups.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page) and "<script" not in page
    for row in rows_of(groups / GROUPS):
        assert 'class="medoid" src="data:image/jpeg;base64,' in page and f'alt="{row["medoid"]}"' in page
    assert page.count('class="medoid"') == len(rows_of(groups / GROUPS))


def edited(groups, to: Path, change):
    to.mkdir()
    for file in groups.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    for name in (GROUPS, PHOTOS):
        rows = rows_of(to / name)
        change(name, rows)
        with (to / name).open("w", newline="") as stream:
            table = csv.DictWriter(stream, rows[0])
            table.writeheader()
            table.writerows(rows)
    return to


def test_names_become_landmarks_that_vote_at_once(given, groups, tmp_path):
    folder, _ = given

    def change(name, rows):
        if name == GROUPS:
            rows[0]["name"], rows[2]["same_as"] = "Old Tower", rows[0]["group"]
        else:
            rows[0]["group"] = ""

    done = apply_groups(folder / "C", edited(groups, tmp_path / "E", change), tmp_path / "N", split="train")
    before, named = load_collection(folder / "C"), load_collection(tmp_path / "N")
    rows, sizes = rows_of(groups / GROUPS), [int(row["photos"]) for row in rows_of(groups / GROUPS)]
    tower = int(rows[0]["group"])
    assert named.name_of(tower) == "Old Tower" and done.named == 1
    assert (named.landmark_N == tower).sum() == sizes[0] + sizes[2] - 1
    assert done.landmarks == len(rows) - 1 and done.photos == sum(sizes) - 1
    left_out = rows_of(groups / PHOTOS)[0]["photo"]
    at = named.ids.index(left_out)
    assert named.photos.slice(at, 1).equals(before.photos.slice(at, 1)), "a photo of no place stays as it was"
    bank = bank_photos(named, BankOptions())
    assert set(bank.landmark_N.tolist()) == {int(row["group"]) for n, row in enumerate(rows) if n != 2}
    unit = np.eye(len(bank), dtype=np.float32)
    assert len(bank_of(named, Descriptors(ids=bank.ids, rows_ND=unit), BankOptions())) == done.photos
    # the middle of the known positions of its photos
    latitude = dict(
        zip(named.landmarks["landmark"].to_pylist(), named.landmarks["latitude"].to_pylist(), strict=True)
    )
    for number in np.unique(bank.landmark_N):
        known = [
            value
            for value, landmark in zip(named.photos["latitude"].to_pylist(), named.landmark_N, strict=True)
            if landmark == number and value is not None
        ]
        assert latitude[number] == (pytest.approx(np.mean(known), abs=1e-4) if known else None)


def test_photos_that_come_later_are_placed_in_the_edited_groups(given, groups, tmp_path):
    folder, label_of = given
    collection = load_collection(folder / "C")
    early = collection.select(np.arange(len(collection)) % 3 != 0)
    save_collection(early, tmp_path / "early", made_by={"test": "early"})
    rows = load_descriptors(folder / "D")
    save_descriptors(rows.take(early.ids), tmp_path / "D", made_by={"test": "early"})
    group_collection(tmp_path / "early", tmp_path / "D", tmp_path / "first", options=OPTIONS)

    def change(name, rows):
        if name == GROUPS:
            rows[0]["name"] = "Old Tower"

    kept = edited(tmp_path / "first", tmp_path / "edited", change)
    group_collection(folder / "C", folder / "D", tmp_path / "second", options=OPTIONS, onto=kept)
    before = {row["photo"]: row["group"] for row in rows_of(kept / PHOTOS) if row["group"]}
    after = {row["photo"]: row["group"] for row in rows_of(tmp_path / "second" / PHOTOS)}
    assert {photo: after[photo] for photo in before} == before
    first = next(row for row in rows_of(tmp_path / "second" / GROUPS) if row["name"] == "Old Tower")
    place = {label_of[photo] for photo, group in after.items() if group == first["group"]}
    assert len(place) == 1 and int(first["photos"]) == sum(label == min(place) for label in label_of.values())
    with pytest.raises(
        ValueError, match=r"groups \d+ photos that have no descriptor.* give descriptors of all"
    ):
        group_collection(
            tmp_path / "early", tmp_path / "D", tmp_path / "third", options=OPTIONS, onto=tmp_path / "second"
        )


def test_points_prove_what_descriptors_leave_open(given, groups, tmp_path):
    """The same rows with a bar that none reaches: only what is matched point by point is joined."""
    folder, label_of = given
    strict = GroupingOptions(neighbours=10, likeness=50.0, near=0.0, proven=0.5)
    found = group_collection(folder / "C", folder / "D", tmp_path / "G", options=strict)
    assert found.groups and all(group.proven > 0 for group in found.groups)
    assert all(len({label_of[photo] for photo in group.members}) == 1 for group in found.groups)


def test_mistakes_are_told_in_one_line_and_nothing_is_written(given, groups, collection_folder, tmp_path):
    folder, _ = given
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"all photos .* have a landmark already, or show none"):
        labelled = load_collection(collection_folder).in_split("train")
        unit = np.eye(len(labelled), 400, dtype=np.float32)
        save_descriptors(Descriptors(ids=labelled.ids, rows_ND=unit), tmp_path / "T", made_by={"test": "t"})
        group_collection(collection_folder, tmp_path / "T", out)
    with pytest.raises(ValueError, match=r"a photo '.*' that the collection does not know"):
        group_collection(folder / "C", tmp_path / "T", out)
    with pytest.raises(ValueError, match=r"none of \d+ photos .* can be read"):
        group_collection(folder / "C", folder / "D", out, root=tmp_path)
    with pytest.raises(ValueError, match="exists already"):
        group_collection(folder / "C", folder / "D", groups)

    def strange(name, rows):
        if name == PHOTOS:
            rows[0]["photo"] = "nobody"

    with pytest.raises(ValueError, match="photo 'nobody' is in a group, but not in the collection"):
        apply_groups(folder / "C", edited(groups, tmp_path / "E1", strange), out)

    def taken(name, rows):
        if name == PHOTOS:
            rows[0]["group"] = str(load_collection(folder / "C").landmarks["landmark"][0].as_py())

    with pytest.raises(
        ValueError, match="is the number of another landmark of the collection; take a larger one"
    ):
        apply_groups(folder / "C", edited(groups, tmp_path / "E2", taken), out)

    def nothing(name, rows):
        for row in rows if name == PHOTOS else ():
            row["group"] = ""

    with pytest.raises(ValueError, match="puts no photo in a group"):
        apply_groups(folder / "C", edited(groups, tmp_path / "E3", nothing), out)
    apply_groups(folder / "C", groups, tmp_path / "N")
    with pytest.raises(ValueError, match=r"is in group \d+, but shows landmark \d+ in the collection"):
        apply_groups(tmp_path / "N", groups, out)
    with pytest.raises(ValueError, match="--split: unknown split 'bank'"):
        apply_groups(folder / "C", groups, out, split="bank")
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_the_command(given, tmp_path):
    folder, _ = given

    def call(*arguments):
        return CliRunner().invoke(group_command.command, [str(argument) for argument in arguments])

    given_arguments = ("--descriptors", folder / "D", "--mode", "descriptors", "--likeness", 3.5)
    result = call(folder / "C", *given_arguments, "--least", 3, "--out", tmp_path / "G", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["photos in groups"] + facts["photos that fit none"] == len(load_collection(folder / "C")) - 1
    result = call(folder / "C", "--apply", tmp_path / "G", "--out", tmp_path / "N")
    assert result.exit_code == 0 and f"landmarks: {facts['groups']}\n" in result.stdout
    for wrong, message in (
        ((), "say --descriptors DESC to group photos, or --apply"),
        ((*given_arguments, "--apply", tmp_path / "G"), "say --descriptors DESC to group photos, or --apply"),
        ((*given_arguments, "--split", "train"), "--split goes with --apply"),
        (("--apply", tmp_path / "G", "--onto", tmp_path / "G"), "one after the other"),
    ):
        result = call(folder / "C", *wrong, "--out", tmp_path / "X")
        assert isinstance(result.exception, ValueError) and message in str(result.exception)
