"""Ensembles: each member in its own way, rows by id, weighted and concatenated, continued member by member."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from landseer.extraction import extract, extract_ensemble
from landseer.models import Ensemble, Member, fit_whitening
from landseer.photos import UnreadablePhoto, load_sized
from landseer.recipe import AspectOptions, DescriptorOptions
from landseer.search import search_exact
from landseer.storage import load_descriptors, open_artifact

SQUARE = DescriptorOptions(size=16, batch=4)
SHAPED = DescriptorOptions(
    aspects=AspectOptions(splits=(1.0,), sizes=((24, 16), (16, 24))), scales=(1.0, 0.5), batch=3
)
SHAPES = ((28, 20), (20, 28))
WEIGHTS = (1.0, 0.5)


@pytest.fixture
def ensemble(embedder) -> Ensemble:
    """Two members of 24 and 8 components that look at photos in different ways."""
    small = type(embedder)(seed=3, dim=8)
    return Ensemble(
        members=(
            Member(name="square", weight=WEIGHTS[0], embedder=embedder, descriptors=SQUARE),
            Member(name="shaped", weight=WEIGHTS[1], embedder=small, descriptors=SHAPED),
        )
    )


def members_folder(out: Path) -> Path:
    return out.parent / f".{out.name}.members"


def slow_oracle(ensemble: Ensemble, collection, *, unit: bool) -> np.ndarray:
    """Photo by photo, each alone."""
    rows = []
    for number, path in enumerate(collection.paths):
        sizes = ((16, 16), SHAPED.aspects.sizes[number % 2])
        whole = []
        for member, size in zip(ensemble.members, sizes, strict=True):
            pixels = load_sized(collection.root, path, size)[None]
            row = member.embedder.describe(pixels, scales=member.descriptors.scales)[0]
            whole += [member.weight * float(value) for value in row]
        length = np.sqrt(sum(value**2 for value in whole)) if unit else 1.0
        rows.append([value / length for value in whole])
    return np.array(rows)


@pytest.mark.parametrize("unit", [True, False])
def test_rows_are_the_weighted_rows_of_each_member_side_by_side(ensemble, draw, tmp_path, unit):
    collection = draw(10, shapes=SHAPES)
    ensemble = dataclasses.replace(ensemble, unit=unit)
    found = extract_ensemble(ensemble, collection, tmp_path / "d", workers=2)
    assert found.ids == collection.ids and found.dim == ensemble.dim == 32
    assert found.rows_ND.dtype == np.float32
    assert found.rows_ND == pytest.approx(slow_oracle(ensemble, collection, unit=unit), abs=1e-5)
    assert found.normalised is unit and load_descriptors(tmp_path / "d").normalised is unit
    length = 1.0 if unit else np.sqrt(1.25)
    assert np.linalg.norm(found.rows_ND, axis=1) == pytest.approx(np.full(10, length), abs=1e-6)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "photos"]
    manifest = open_artifact(tmp_path / "d", "descriptors")
    assert manifest.parents == {"model": ensemble.fingerprint, "collection": collection.fingerprint}


def test_rows_of_one_length_rank_as_unit_rows_do(ensemble, draw, tmp_path):
    collection = draw(12, shapes=SHAPES)
    rankings = []
    for unit in (True, False):
        found = extract_ensemble(
            dataclasses.replace(ensemble, unit=unit), collection, tmp_path / f"{unit}", workers=1
        )
        rankings.append(search_exact(found, found, k=5))
    assert np.array_equal(rankings[0].positions_QK, rankings[1].positions_QK)
    assert [ranking.score_kind for ranking in rankings] == ["cosine", "dot"]
    assert rankings[1].scores_QK == pytest.approx(1.25 * rankings[0].scores_QK, abs=1e-6)


def test_a_photo_that_one_member_cannot_read_has_no_row(ensemble, draw, tmp_path, monkeypatch):
    whole = extract_ensemble(ensemble, draw(10, shapes=SHAPES), tmp_path / "whole", workers=1)

    def failing(root, path, size):
        if (path, size) in (("0004.png", (16, 16)), ("0006.png", (24, 16))):
            raise UnreadablePhoto("read error")
        return load_sized(root, path, size)

    monkeypatch.setitem(extract.__globals__, "load_sized", failing)
    found = extract_ensemble(ensemble, draw(10, unreadable=(2,), shapes=SHAPES), tmp_path / "d", workers=1)
    left = [0, 1, 3, 5, 7, 8, 9]
    assert found.ids == tuple(f"photo-{number}" for number in left)
    assert found.rows_ND == pytest.approx(np.asarray(whole.rows_ND)[left], abs=1e-5)
    assert found.unreadable == {
        "photo-2": "not an image",
        "photo-4": "read error",
        "photo-6": "read error",
    }
    assert found.fingerprint != whole.fingerprint


def test_where_no_photo_is_read_by_all_it_is_a_mistake(ensemble, draw, tmp_path, monkeypatch):
    def failing(root, path, size):
        if (size == (16, 16)) == (path == "0000.png"):
            raise UnreadablePhoto("read error")
        return load_sized(root, path, size)

    monkeypatch.setitem(extract.__globals__, "load_sized", failing)
    with pytest.raises(ValueError, match="none of 2 photos could be read by every member"):
        extract_ensemble(ensemble, draw(2, shapes=SHAPES), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_many_rows_are_joined_a_few_at_a_time(ensemble, draw, tmp_path, monkeypatch):
    collection = draw(10, unreadable=(3,), shapes=SHAPES)
    whole = extract_ensemble(ensemble, collection, tmp_path / "whole")
    monkeypatch.setitem(extract_ensemble.__globals__, "_BLOCK_ROWS", 2)
    found = extract_ensemble(ensemble, collection, tmp_path / "d")
    assert np.array_equal(found.rows_ND, whole.rows_ND) and found.fingerprint == whole.fingerprint


class Stop(Exception):
    """Ends an extraction in the middle."""


def stop_after(photos: int):
    def progress(done: int, total: int) -> None:
        assert total == 40
        if done >= photos:
            raise Stop

    return progress


def stopped(ensemble, collection, out: Path, *, photos: int) -> None:
    with pytest.raises(Stop):
        extract_ensemble(ensemble, collection, out, workers=1, commit_every=6, progress=stop_after(photos))
    assert not out.exists()


def test_whole_members_are_kept_and_the_unfinished_one_goes_on(
    ensemble, draw, tmp_path, content_of, monkeypatch
):
    collection = draw(20, shapes=SHAPES, unreadable=(1,))
    whole, out = tmp_path / "whole", tmp_path / "d"
    extract_ensemble(ensemble, collection, whole)
    stopped(ensemble, collection, out, photos=33)
    assert sorted(entry.name for entry in members_folder(out).iterdir()) == [".shaped.work", "square"]
    monkeypatch.setattr(ensemble.members[0].embedder, "describe", None)
    read = []
    monkeypatch.setitem(
        extract.__globals__,
        "load_sized",
        lambda root, path, size: read.append(path) or load_sized(root, path, size),
    )
    seen = []
    extract_ensemble(ensemble, collection, out, progress=lambda done, total: seen.append((done, total)))
    assert sorted(set(read)) == [f"{number:04d}.png" for number in range(12, 20)]
    assert seen[0] == (32, 40) and seen[-1] == (40, 40), "twelve of the second member's twenty were there"
    assert content_of(whole) == content_of(out)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "photos", "whole"]


def changed(ensemble: Ensemble, number: int, **change) -> Ensemble:
    members = list(ensemble.members)
    members[number] = dataclasses.replace(members[number], **change)
    return dataclasses.replace(ensemble, members=tuple(members))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: changed(it, 1, weight=0.25), r"weights: \[1\.0, 0\.5\] there, \[1\.0, 0\.25\] here"),
        (lambda it: dataclasses.replace(it, unit=False), "unit: True there, False here"),
        (
            lambda it: changed(it, 0, descriptors=dataclasses.replace(SQUARE, size=20)),
            "member 0: size: 16 there, 20 here",
        ),
        (lambda it: changed(it, 1, embedder=type(it.members[1].embedder)(seed=9, dim=8)), "member 1: model"),
        (lambda it: dataclasses.replace(it, members=it.members[:1]), "2 there, 1 here|None here"),
        (lambda it: dataclasses.replace(it, members=it.members[::-1]), "member 0"),
    ],
    ids=["weight", "unit", "size", "model", "fewer", "order"],
)
def test_what_is_there_is_returned_for_the_same_settings_only(
    ensemble, draw, tmp_path, change, said, content_of, monkeypatch
):
    collection, out = draw(6, shapes=SHAPES), tmp_path / "d"
    first = extract_ensemble(ensemble, collection, out)
    before = content_of(out)
    with pytest.raises(ValueError, match=rf"other settings \(.*({said}).*choose another --out"):
        extract_ensemble(change(ensemble), collection, out)
    assert content_of(out) == before
    other = extract_ensemble(change(ensemble), collection, tmp_path / "other")
    assert other.fingerprint != first.fingerprint
    members_folder(out).mkdir()  # what a kill between the two last steps leaves
    for member in ensemble.members:
        monkeypatch.setattr(member.embedder, "describe", None)
    renamed = changed(ensemble, 0, name="renamed")
    assert extract_ensemble(renamed, collection, out).fingerprint == first.fingerprint
    assert not members_folder(out).exists()


def test_other_weights_go_on_from_the_members_that_are_there(ensemble, draw, tmp_path, monkeypatch):
    collection, out = draw(20, shapes=SHAPES), tmp_path / "d"
    stopped(ensemble, collection, out, photos=25)
    other = changed(ensemble, 0, descriptors=dataclasses.replace(SQUARE, size=20))
    with pytest.raises(ValueError, match=r"members/square holds descriptors of other settings \(size: 16"):
        extract_ensemble(other, collection, out)
    monkeypatch.setattr(ensemble.members[0].embedder, "describe", None)
    extract_ensemble(changed(ensemble, 0, weight=2.0), collection, out)


@pytest.mark.parametrize("dtypes", [("float16", "float16"), ("float16", "float32")])
def test_rows_are_rounded_once_and_to_half_only_if_all_say_so(ensemble, draw, tmp_path, dtypes):
    collection = draw(6, shapes=SHAPES)
    precise = extract_ensemble(ensemble, collection, tmp_path / "precise")
    for number, dtype in enumerate(dtypes):
        descriptors = dataclasses.replace(ensemble.members[number].descriptors, dtype=dtype)
        ensemble = changed(ensemble, number, descriptors=descriptors)
    found = extract_ensemble(ensemble, collection, tmp_path / "d")
    wanted = np.float16 if set(dtypes) == {"float16"} else np.float32
    assert found.rows_ND.dtype == wanted
    assert np.array_equal(found.rows_ND, precise.rows_ND.astype(wanted))


def test_mistakes_leave_nothing_behind(ensemble, draw, tmp_path):
    collection = draw(4, shapes=SHAPES)
    refused = changed(ensemble, 1, descriptors=dataclasses.replace(SQUARE, size=17))
    with pytest.raises(ValueError, match=r"descriptors\.size: not 17"):
        extract_ensemble(refused, collection, tmp_path / "d")
    with pytest.raises(ValueError, match="workers: must be at least 1"):
        extract_ensemble(ensemble, collection, tmp_path / "d", workers=0)
    lost = dataclasses.replace(collection, root=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="none of 4 photos could be read"):
        extract_ensemble(ensemble, lost, tmp_path / "d")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos"]


def test_two_processes_cannot_make_one_ensemble(ensemble, draw, tmp_path, monkeypatch):
    collection, refusals = draw(4, shapes=SHAPES), []
    module = extract_ensemble.__globals__
    join = module["_join"]

    def meanwhile(*args) -> None:
        """All members are whole, so nothing but the ensemble's own lock is held."""
        with pytest.raises(ValueError, match=r"another process is extracting to .*/d;") as refused:
            extract_ensemble(ensemble, collection, tmp_path / "d")
        refusals.append(refused)
        join(*args)

    monkeypatch.setitem(module, "_join", meanwhile)
    assert len(extract_ensemble(ensemble, collection, tmp_path / "d")) == 4
    assert len(refusals) == 1


def test_the_manifest_tells_every_member_and_is_read_back_as_it_was_written(ensemble, draw, tmp_path):
    extract_ensemble(ensemble, draw(2, shapes=SHAPES), tmp_path / "d")
    settings = open_artifact(tmp_path / "d", "descriptors").made_by["settings"]
    assert settings["weights"] == list(WEIGHTS) and settings["unit"] is True
    assert settings["member 0: size"] == 16
    assert settings["member 1: size"] == [[24, 16], [16, 24]]
    assert settings["member 1: scales"] == [1.0, 0.5]
    assert settings["member 1: model"] == ensemble.members[1].embedder.fingerprint
    assert json.loads(json.dumps(settings)) == settings


def test_a_whitening_is_applied_to_the_joined_rows(ensemble, draw, tmp_path, monkeypatch):
    collection = draw(10, shapes=SHAPES)
    plain = extract_ensemble(ensemble, collection, tmp_path / "plain")
    whitening = fit_whitening(plain, dim=5, ridge=0.1)
    whitened = dataclasses.replace(ensemble, whitening=whitening)
    found = extract_ensemble(whitened, collection, tmp_path / "d")
    assert np.array_equal(found.rows_ND, whitening.rows(np.asarray(plain.rows_ND)))
    assert found.normalised and found.dim == 5 and found.fingerprint != plain.fingerprint
    settings = open_artifact(tmp_path / "d", "descriptors").made_by["settings"]
    assert settings["whitening"] == whitening.fingerprint
    with pytest.raises(ValueError, match=r"holds descriptors of other settings \(whitening: "):
        extract_ensemble(ensemble, collection, tmp_path / "d")
