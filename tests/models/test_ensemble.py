"""Ensembles: weighted rows side by side, and the folder that holds the members."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.models import (
    Ensemble,
    Member,
    concatenate_rows,
    join_descriptors,
    load_embedder,
    load_ensemble,
    preset_of,
    save_ensemble,
)
from landseer.models import ensemble as room
from landseer.recipe import DescriptorOptions
from landseer.storage import open_artifact
from landseer.types import Descriptors

WINNERS_2020 = (1.0, 0.8, 0.5, 0.5)


def rows_of(seed, *dims, num=7):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(num, dim)) * 10 ** rng.uniform(-3, 3)).astype(np.float32) for dim in dims]


def slow_concatenation(rows, weights, unit):
    whole = []
    for photo in range(len(rows[0])):
        values = []
        for part, weight in zip(rows, weights, strict=True):
            length = math.sqrt(sum(float(value) ** 2 for value in part[photo]))
            values += [weight * float(value) / length for value in part[photo]]
        length = math.sqrt(sum(value**2 for value in values)) if unit else 1.0
        whole.append([value / length for value in values])
    return np.array(whole)


WEIGHTS = st.lists(st.floats(0.1, 10), min_size=1, max_size=4)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), WEIGHTS, st.booleans())
def test_it_agrees_with_the_loop(seed, weights, unit):
    rows = rows_of(seed, *range(3, 3 + len(weights)))
    got = concatenate_rows(rows, weights, unit=unit)
    assert got.dtype == np.float32
    assert got == pytest.approx(slow_concatenation(rows, weights, unit), rel=1e-6, abs=1e-7)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), WEIGHTS)
def test_the_cosine_is_the_members_weighted_by_their_squares(seed, weights):
    rows = rows_of(seed, *range(5, 5 + len(weights)))
    singles = [concatenate_rows([part], [1.0], unit=True).astype(np.float64) for part in rows]
    cosines = sum(w * w * (x @ x.T) for w, x in zip(weights, singles, strict=True)) / sum(
        w * w for w in weights
    )
    unit = concatenate_rows(rows, weights, unit=True).astype(np.float64)
    assert unit @ unit.T == pytest.approx(cosines, abs=1e-6)
    raw = concatenate_rows(rows, weights, unit=False).astype(np.float64)
    assert raw @ raw.T == pytest.approx(cosines * sum(w * w for w in weights), rel=1e-5, abs=1e-5)


def test_the_2020_winners_rows_have_one_length_and_the_published_shares():
    rows = rows_of(1, 8, 8, 8, 8)
    raw = concatenate_rows(rows, WINNERS_2020, unit=False).astype(np.float64)
    assert np.linalg.norm(raw, axis=1) == pytest.approx(np.full(7, 1.463), abs=5e-4)
    unit = concatenate_rows(rows, WINNERS_2020, unit=True).astype(np.float64)
    shares = np.square(unit).reshape(7, 4, 8).sum(axis=2)
    assert shares == pytest.approx(np.tile([0.467, 0.299, 0.117, 0.117], (7, 1)), abs=5e-4)


@pytest.mark.parametrize("unit", [True, False])
def test_a_row_of_zeros_stays_one_and_leaves_the_others_alone(unit):
    first, second = rows_of(2, 3, 4)
    first[1], second[1], second[4] = 0, 0, 0
    got = concatenate_rows([first, second], [1.0, 2.0], unit=unit)
    assert not got[1].any() and not got[4, 3:].any() and np.isfinite(got).all()
    assert np.linalg.norm(got[4]) == pytest.approx(1.0)
    assert got[0] == pytest.approx(slow_concatenation([first[:1], second[:1]], [1.0, 2.0], unit)[0], abs=1e-6)


def test_blocks_do_not_show_and_half_precision_rows_are_taken(monkeypatch):
    rows = [part / 1000 for part in rows_of(3, 4, 6, num=11)]
    whole = concatenate_rows(rows, [1.0, 0.5], unit=True)
    monkeypatch.setattr(room, "_BLOCK_ROWS", 4)
    assert np.array_equal(concatenate_rows(rows, [1.0, 0.5], unit=True), whole)
    halved = [part.astype(np.float16) for part in rows_of(4, 4, 6)]
    widened = [part.astype(np.float32) for part in halved]
    assert np.array_equal(*(concatenate_rows(given, [1.0, 0.5], unit=True) for given in (halved, widened)))
    assert concatenate_rows([np.zeros((0, 3)), np.zeros((0, 2))], [1, 1], unit=True).shape == (0, 5)


def test_parts_that_do_not_belong_together_are_refused():
    first, second = rows_of(5, 3, 4)
    with pytest.raises(ValueError, match=r"a weight for each part: 2 parts, 1 weights"):
        concatenate_rows([first, second], [1.0], unit=True)
    with pytest.raises(ValueError, match=r"0 parts, 0 weights"):
        concatenate_rows([], [], unit=True)
    for other in (second[:-1], second[0]):
        with pytest.raises(ValueError, match=r"rows of the same photos, not \[\(7, 3\)"):
            concatenate_rows([first, other], [1.0, 1.0], unit=True)


# -- members


@pytest.fixture
def ensemble(tiny):
    return Ensemble(
        members=(
            Member(
                name="b7",
                weight=1.0,
                embedder=tiny(neck="fc", dim=6),
                descriptors=DescriptorOptions(size=64, batch=3),
            ),
            Member(
                name="vit-s.2",
                weight=0.8,
                embedder=tiny("test_vit", pooling="cls+gem"),
                descriptors=DescriptorOptions(size=48, scales=(1.0, 1.5)),
            ),
        ),
        unit=False,
    )


def test_a_saved_ensemble_comes_back_to_the_bit(tmp_path, ensemble, photos):
    assert ensemble.dim == 6 + 128
    save_ensemble(ensemble, tmp_path / "both", made_by={"test": "yes"})
    loaded = load_ensemble(tmp_path / "both")
    assert loaded.fingerprint == ensemble.fingerprint and loaded.unit is False
    assert [(m.name, m.weight, m.descriptors) for m in loaded.members] == [
        (m.name, m.weight, m.descriptors) for m in ensemble.members
    ]
    for one, other in zip(loaded.members, ensemble.members, strict=True):
        assert np.array_equal(one.embedder.describe(photos), other.embedder.describe(photos))
    # a member's folder is a model folder like any other
    alone = tmp_path / "both" / "members" / "vit-s.2"
    assert load_embedder(alone).fingerprint == ensemble.members[1].embedder.fingerprint
    assert preset_of(alone) == ensemble.members[1].descriptors


@pytest.mark.parametrize(
    "file", ["ensemble.json", "members/b7/weights.safetensors", "members/vit-s.2/manifest.json"]
)
def test_a_damaged_ensemble_is_refused(tmp_path, ensemble, file):
    save_ensemble(ensemble, tmp_path / "both", made_by={})
    content = bytearray((tmp_path / "both" / file).read_bytes())
    content[-3] ^= 1
    (tmp_path / "both" / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        load_ensemble(tmp_path / "both")


def test_what_is_no_ensemble_is_refused(tmp_path, ensemble):
    save_ensemble(ensemble, tmp_path / "both", made_by={})
    with pytest.raises(ValueError, match="is a landseer ensemble, not a model"):
        load_embedder(tmp_path / "both")
    with pytest.raises(ValueError, match="is a landseer model, not a ensemble"):
        load_ensemble(tmp_path / "both" / "members" / "b7")
    shutil.rmtree(tmp_path / "both" / "members" / "b7")
    with pytest.raises(ValueError, match=r"b7/\w+.\w+ is missing"):
        load_ensemble(tmp_path / "both")


def test_the_fingerprint_is_of_what_is_computed(ensemble):
    first, second = ensemble.members
    changed = [
        replace(ensemble, unit=True),
        replace(ensemble, members=(second, first)),
        replace(ensemble, members=(first,)),
        replace(ensemble, members=(replace(first, weight=0.9), second)),
        replace(ensemble, members=(replace(first, descriptors=DescriptorOptions(size=96)), second)),
        replace(ensemble, members=(replace(first, embedder=second.embedder), second)),
    ]
    assert len({ensemble.fingerprint, *(one.fingerprint for one in changed)}) == 7
    same = replace(ensemble, members=(replace(first, name="other", weight=1), second))
    assert same.fingerprint == ensemble.fingerprint


def test_members_that_cannot_be_are_refused(ensemble):
    first, second = ensemble.members
    for name in ("", "..", ".hidden", "a/b", "a b", "-x"):
        with pytest.raises(ValueError, match="cannot be called"):
            replace(first, name=name)
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="the weight of member b7 must be above 0"):
            replace(first, weight=weight)
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble(members=())
    with pytest.raises(ValueError, match="two members of the ensemble are called b7"):
        Ensemble(members=(first, replace(second, name="b7")))


def test_the_folder_says_what_it_holds(tmp_path, ensemble):
    save_ensemble(ensemble, tmp_path / "both", made_by={})
    assert json.loads((tmp_path / "both" / "ensemble.json").read_text()) == {
        "members": [{"name": "b7", "weight": 1.0}, {"name": "vit-s.2", "weight": 0.8}],
        "unit": False,
    }
    manifest = json.loads((tmp_path / "both" / "manifest.json").read_text())
    assert manifest["kind"] == "ensemble" and manifest["made_by"]["ensemble"] == ensemble.fingerprint


# -- descriptors of several models as those of one


def described(seed, dim, *, num=7, fingerprint="made", **more):
    rows = rows_of(seed, dim, num=num)[0]
    ids = tuple(f"p{number}" for number in range(num))
    return Descriptors(ids=ids, rows_ND=rows, fingerprint=f"{fingerprint}{seed}", **more)


@pytest.mark.parametrize("unit", [True, False])
def test_joined_descriptors_are_the_rows_side_by_side(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(room, "_BLOCK_ROWS", 3)
    parts, weights = [described(1, 4), described(2, 3, unreadable={"gone": "empty"})], (1.0, 0.5)
    joined = join_descriptors(parts, weights, unit=unit)
    assert joined.ids == parts[0].ids and joined.normalised is unit and joined.unreadable == {"gone": "empty"}
    slow = slow_concatenation([part.rows_ND for part in parts], weights, unit)
    assert joined.rows_ND == pytest.approx(slow, rel=1e-6, abs=1e-7)
    written = join_descriptors(parts, weights, unit=unit, out=tmp_path / "d")
    assert isinstance(written.rows_ND, np.memmap)
    assert np.array_equal(written.rows_ND, joined.rows_ND)
    assert (written.fingerprint, written.normalised) == (joined.fingerprint, unit)
    manifest = open_artifact(tmp_path / "d", "descriptors")
    assert manifest.parents == {"part 0": "made1", "part 1": "made2"}
    assert manifest.made_by["weights"] == [1.0, 0.5]


def test_photos_are_joined_by_id_where_ids_are_given():
    first, second = described(1, 4), described(2, 3)
    turned = second.take(second.ids[::-1])
    wanted = ("p5", "p0", "p3")
    joined = join_descriptors([first, turned], (1.0, 2.0), ids=wanted)
    assert joined.ids == wanted
    whole = join_descriptors([first, second], (1.0, 2.0))
    assert np.array_equal(joined.rows_ND, whole.take(wanted).rows_ND)
    with pytest.raises(ValueError, match="other photos, or in another order; extract the same collection"):
        join_descriptors([first, turned], (1.0, 2.0))
    with pytest.raises(ValueError, match="no descriptor of photo 'p9'"):
        join_descriptors([first, turned], (1.0, 2.0), ids=["p1", "p9"])


def test_what_makes_joined_rows_is_in_their_fingerprint():
    first, second = described(1, 4), described(2, 4)
    joined = [
        join_descriptors([first, second], (1.0, 0.5)),
        join_descriptors([first, second], (1.0, 0.4)),
        join_descriptors([second, first], (1.0, 0.5)),
        join_descriptors([first, second], (1.0, 0.5), unit=False),
        join_descriptors([first, second], (1.0, 0.5), ids=["p1"]),
        join_descriptors([first, second], (1.0, 0.5), ids=["p2"]),
    ]
    assert len({found.fingerprint for found in joined}) == len(joined)
    assert join_descriptors([first, second], (1, 0.5)).fingerprint == joined[0].fingerprint
    unknown = replace(second, fingerprint="")
    assert join_descriptors([first, unknown], (1.0, 0.5)).fingerprint == ""


@pytest.mark.parametrize("weights", [(1.0,), (), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match=r"2 models, \d weights|weights must be above 0"):
        join_descriptors([described(1, 4), described(2, 3)], weights)
