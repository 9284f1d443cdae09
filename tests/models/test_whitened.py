"""Whitening of descriptors against its definition, written slowly; the artifact; what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.models import (
    Ensemble,
    Member,
    fit_whitening,
    load_ensemble,
    load_whitening,
    save_ensemble,
    save_whitening,
    whitened,
)
from landseer.recipe import DescriptorOptions
from landseer.storage import open_artifact
from landseer.types import Descriptors

SEEDS = st.integers(0, 2**32 - 1)


def descriptors_of(rows, *, prefix="p", unit=True, **more):
    if unit:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ids = tuple(f"{prefix}{number}" for number in range(len(rows)))
    return Descriptors(ids=ids, rows_ND=rows.astype(np.float32), normalised=unit, **more)


def world(seed, *, num=60, dim=6, landmarks=7, **more):
    """Rows that cluster by landmark, spread unequally and far from the origin; and the landmarks."""
    rng = np.random.default_rng(seed)
    landmark_N = rng.integers(0, landmarks, num) * 5 + 2
    landmark_N[rng.random(num) < 0.1] = -1
    centres = rng.normal(size=(landmarks * 5 + 3, dim))
    rows = centres[landmark_N] + rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) * 0.3 + 2
    return descriptors_of(rows, fingerprint="made", **more), landmark_N


def linear(whitening, rows):
    """What the map gives before rows are made unit."""
    return np.array([whitening.map_KD @ (row.astype(np.float64) - whitening.mean_D) for row in rows])


def matching_pairs(landmark_N):
    return [
        (one, other)
        for one, other in itertools.permutations(range(len(landmark_N)), 2)
        if landmark_N[one] == landmark_N[other] >= 0
    ]


def mean_outer(differences, weights):
    total = sum(weight * np.outer(row, row) for row, weight in zip(differences, weights, strict=True))
    return total / sum(weights)


def scatter_of_matches(rows, landmark_N):
    """Each photo with each other of its landmark; every photo counts alike."""
    rows, pairs = rows.astype(np.float64), matching_pairs(landmark_N)
    asked = [one for one, _ in pairs]
    return mean_outer(
        [rows[one] - rows[other] for one, other in pairs], [1 / asked.count(one) for one in asked]
    )


# -- the definition


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_pca_is_the_eigenvectors_of_the_covariance_each_scaled_to_variance_one(seed, dim):
    made, _ = world(seed)
    rows = made.rows_ND.astype(np.float64)
    covariance = mean_outer(list(rows - rows.mean(axis=0)), [1] * len(rows))
    values, vectors = np.linalg.eigh(covariance)
    order = sorted(range(6), key=lambda axis: -values[axis])[:dim]
    found = fit_whitening(made, dim=dim)
    assert found.mean_D == pytest.approx(rows.mean(axis=0), abs=1e-12)
    for row, axis in zip(found.map_KD, order, strict=True):
        wanted = vectors[:, axis] / np.sqrt(values[axis])
        assert row == pytest.approx(wanted * np.sign(wanted @ row), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("kind", "ridge"), [("pca", 0.0), ("pca", 0.3), ("learned", 0.0), ("learned", 0.3)])
def test_the_photos_themselves_come_out_white(kind, ridge):
    made, landmark_N = world(1, num=90)
    labels = {"landmark_N": landmark_N} if kind == "learned" else {}
    found = fit_whitening(made, kind=kind, ridge=ridge, **labels)
    rows = linear(found, made.rows_ND)
    covariance = mean_outer(list(rows - rows.mean(axis=0)), [1] * len(rows))
    assert rows.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-9)
    # strongest axis first, and the axes are those of what comes out: nothing beside the diagonal
    assert covariance == pytest.approx(np.diag(np.diag(covariance)), abs=1e-9)
    assert (np.diff(np.diag(covariance)) < 1e-9).all()
    white = covariance if kind == "pca" else scatter_of_matches(rows, landmark_N)
    if ridge == 0:
        assert white == pytest.approx(np.eye(6), abs=1e-8)
    else:  # as if each axis had the mean variance times the ridge more
        before = made.rows_ND.astype(np.float64)
        plain = np.cov(before.T, bias=True) if kind == "pca" else scatter_of_matches(before, landmark_N)
        more = ridge * np.trace(plain) / 6
        added = found.map_KD @ found.map_KD.T * more
        assert white + added == pytest.approx(np.eye(6), abs=1e-8)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 6), st.sampled_from([0.0, 0.1, 1.0]))
def test_a_learned_whitening_is_that_of_the_pairs(seed, dim, ridge):
    made, landmark_N = world(seed, num=30, landmarks=4)
    rows = made.rows_ND.astype(np.float64)
    scatter = scatter_of_matches(rows, landmark_N)
    scatter += ridge * np.trace(scatter) / 6 * np.eye(6)
    values, vectors = np.linalg.eigh(scatter)
    root = vectors @ np.diag(values**-0.5) @ vectors.T  # another square root than Cholesky's, on purpose
    turned = (rows - rows.mean(axis=0)) @ root
    strengths, axes = np.linalg.eigh(turned.T @ turned)
    wanted = axes[:, np.argsort(-strengths)[:dim]].T @ root
    found = fit_whitening(made, kind="learned", landmark_N=landmark_N, dim=dim, ridge=ridge)
    signs = np.sign((found.map_KD * wanted).sum(axis=1, keepdims=True))
    scale = np.abs(wanted).max()
    assert found.map_KD / scale == pytest.approx(signs * wanted / scale, abs=1e-5)


def test_with_the_scatter_of_all_pairs_the_axes_are_those_of_pairs_that_do_not_match():
    made, landmark_N = world(3, num=40)
    landmark_N = np.where(landmark_N < 0, 99, landmark_N)
    rows, pairs = made.rows_ND.astype(np.float64), matching_pairs(landmark_N)
    found = fit_whitening(made, kind="learned", pairs_P2=np.array(pairs))
    assert found.facts["matches"] == len(pairs)
    others = set(itertools.permutations(range(40), 2)) - set(pairs)
    for chosen, diagonal in ((pairs, True), (others, False)):
        differences = linear(
            found, np.array([rows[one] - rows[other] for one, other in chosen]) + found.mean_D
        )
        scatter = mean_outer(list(differences), [1] * len(differences))
        wanted = np.eye(6) if diagonal else np.diag(np.diag(scatter))
        assert scatter == pytest.approx(wanted, abs=1e-8)
        assert diagonal or (np.diff(np.diag(scatter)) < 0).all()


def test_pairs_of_which_each_photo_has_one_are_those_of_landmarks_of_two():
    made, _ = world(4, num=40)
    landmark_N = np.arange(40) // 2
    pairs = np.arange(40).reshape(20, 2)
    one = fit_whitening(made, kind="learned", landmark_N=landmark_N)
    other = fit_whitening(made, kind="learned", pairs_P2=pairs)
    assert one.map_KD == pytest.approx(other.map_KD, rel=1e-8, abs=1e-8)


def test_without_scaling_distances_between_photos_stay():
    made, _ = world(5)
    found = fit_whitening(made, scale=False)
    assert found.map_KD @ found.map_KD.T == pytest.approx(np.eye(6), abs=1e-12)
    rows = linear(found, made.rows_ND)
    for one, other in itertools.combinations(range(10), 2):
        before = np.linalg.norm(made.rows_ND[one].astype(np.float64) - made.rows_ND[other])
        assert np.linalg.norm(rows[one] - rows[other]) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_sign_of_an_axis_is_decided(seed):
    found = fit_whitening(world(seed)[0])
    assert (found.map_KD[np.arange(6), np.abs(found.map_KD).argmax(axis=1)] > 0).all()


def test_fewer_photos_than_components_span_fewer_axes():
    made, _ = world(6, num=5, dim=9)
    found = fit_whitening(made, ridge=0.1)
    assert found.dim == 4
    with pytest.raises(ValueError, match=r"span only 4 axes, and 5 are asked for \(dim\); ask for fewer"):
        fit_whitening(made, dim=5)
    labels = np.array([1, 1, 2, 2, 2])
    assert fit_whitening(made, kind="learned", landmark_N=labels, ridge=0.1).dim == 4
    with pytest.raises(ValueError, match="too few directions; raise ridge"):
        fit_whitening(made, kind="learned", landmark_N=labels)


# -- how it is computed


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 9), st.sampled_from(["pca", "landmarks", "pairs"]))
def test_blocks_do_not_show(seed, size, kind):
    made, landmark_N = world(seed, num=25, dim=4, landmarks=3)
    asked = {
        "pca": {},
        "landmarks": {"kind": "learned", "landmark_N": landmark_N, "ridge": 0.1},
        "pairs": {"kind": "learned", "pairs_P2": np.array(matching_pairs(landmark_N)), "ridge": 0.1},
    }[kind]
    whole = fit_whitening(made, **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whitened, "_BLOCK_ROWS", size)
        parts = fit_whitening(made, **asked)
        assert parts.map_KD == pytest.approx(whole.map_KD, rel=1e-6, abs=1e-6)
        assert whole.rows(made.rows_ND[:20]) == pytest.approx(whole.rows(made.rows_ND)[:20], abs=1e-7)


def test_rows_far_from_the_origin_keep_their_digits():
    made, _ = world(7, num=200)
    moved = dataclasses.replace(made, rows_ND=made.rows_ND + np.float32(4096), normalised=False)
    back = dataclasses.replace(moved, rows_ND=moved.rows_ND - np.float32(4096))
    far, near = fit_whitening(moved), fit_whitening(back)
    assert far.map_KD == pytest.approx(near.map_KD, rel=1e-7, abs=1e-7)


def test_memory_is_not_that_of_all_rows(tmp_path, monkeypatch):
    rng = np.random.default_rng(8)
    np.save(tmp_path / "rows.npy", rng.normal(size=(40_000, 64)).astype(np.float32))  # 10 MB, 20 in float64
    made = Descriptors(
        ids=tuple(map(str, range(40_000))),
        rows_ND=np.load(tmp_path / "rows.npy", mmap_mode="r"),
        normalised=False,
    )
    landmark_N = rng.integers(0, 9000, 40_000)
    monkeypatch.setattr(whitened, "_BLOCK_ROWS", 500)
    tracemalloc.start()
    fit_whitening(made, kind="learned", landmark_N=landmark_N, ridge=0.1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 6e6


# -- rows


def test_whitened_rows_are_unit_rows_of_the_same_photos():
    made, _ = world(9, num=30)
    made = dataclasses.replace(made, unreadable={"gone": "not an image"})
    found = fit_whitening(made, dim=4)
    rows = found.apply(made)
    assert (rows.ids, rows.unreadable, rows.normalised, rows.dim) == (made.ids, made.unreadable, True, 4)
    for row, plain in zip(rows.rows_ND, linear(found, made.rows_ND), strict=True):
        assert row == pytest.approx(plain / np.linalg.norm(plain), abs=1e-6)
    uneven, _ = world(9, num=30, unit=False)
    assert not uneven.normalised and fit_whitening(uneven).apply(uneven).normalised
    other = fit_whitening(made, dim=3)
    prints = {rows.fingerprint, other.apply(made).fingerprint, made.fingerprint}
    prints.add(found.apply(dataclasses.replace(made, fingerprint="other")).fingerprint)
    assert len(prints) == 4
    assert found.apply(dataclasses.replace(made, fingerprint="")).fingerprint == ""


def test_half_precision_stays_and_the_mean_itself_has_no_direction():
    made, _ = world(10)
    half = dataclasses.replace(made, rows_ND=made.rows_ND.astype(np.float16))
    found = fit_whitening(made)
    assert found.apply(half).rows_ND.dtype == np.float16
    centred = dataclasses.replace(found, mean_D=made.rows_ND[3].astype(np.float64))
    rows = centred.apply(made).rows_ND
    assert not rows[3].any() and np.linalg.norm(rows[2]) == pytest.approx(1)


def test_rows_that_it_was_not_fitted_for_are_refused():
    made, _ = world(11)
    found = fit_whitening(made)
    with pytest.raises(ValueError, match=r"of rows with 6 components, not 5"):
        found.apply(world(11, dim=5)[0])
    with pytest.raises(ValueError, match=r"fitted on unit rows, but these are declared rows of any length"):
        found.apply(world(11, unit=False)[0])


# -- what is refused


def test_scored_photos_are_refused():
    made, _ = world(12)
    with pytest.raises(ValueError, match=r"2 of the photos, 'p1' the first, are among those that are scored"):
        fit_whitening(made, scored=["q1", "p7", "p1"])
    assert fit_whitening(made, scored=["q1"]).facts["photos"] == 60


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "learned"}, "landmark_N or pairs_P2, one of the two"),
        ({"kind": "learned", "landmark_N": np.arange(59)}, "60 rows need as many landmarks"),
        ({"kind": "learned", "landmark_N": np.arange(60)}, "no two matching photos differ"),
        ({"kind": "learned", "landmark_N": np.full(60, -1)}, "no two matching photos differ"),
        ({"kind": "learned", "landmark_N": np.zeros(60, int), "scale": False}, "always scales"),
        ({"kind": "learned", "pairs_P2": np.zeros((3, 1), int)}, r"\[P, 2\], not \(3, 1\)"),
        ({"kind": "learned", "pairs_P2": np.array([[0, 60]])}, "from 0 to 59"),
        ({"kind": "learned", "pairs_P2": np.array([[-1, 5]])}, "from 0 to 59"),
        ({"kind": "learned", "pairs_P2": np.array([[4, 4]])}, "no two matching photos differ"),
        ({"dim": 0}, "dim at least 1, not 0.0 and 0"),
        ({"ridge": -1.0}, "ridge must not be negative"),
        ({"dim": 7}, "span only 6 axes, and 7"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(asked, said):
    with pytest.raises(ValueError, match=said) as caught:
        fit_whitening(world(13)[0], **asked)
    assert "\n" not in str(caught.value)


def test_rows_that_teach_nothing_are_refused():
    made, _ = world(14)
    broken = made.rows_ND.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_whitening(dataclasses.replace(made, rows_ND=broken))
    with pytest.raises(ValueError, match="at least two photos, not 1"):
        fit_whitening(made.take(made.ids[:1]))
    alike = np.repeat(made.rows_ND[:1], 60, axis=0)
    with pytest.raises(ValueError, match="span only 0 axes, and 1"):
        fit_whitening(dataclasses.replace(made, rows_ND=alike))


# -- the artifact


def test_a_saved_whitening_comes_back_to_the_bit_with_its_origin(tmp_path):
    made, landmark_N = world(15)
    found = fit_whitening(made, kind="learned", landmark_N=landmark_N, dim=4, ridge=0.1)
    save_whitening(found, tmp_path / "w", made_by={"test": "yes"})
    loaded = load_whitening(tmp_path / "w")
    assert (loaded.kind, loaded.facts, loaded.parents) == ("learned", found.facts, {"descriptors": "made"})
    assert loaded.fingerprint == found.fingerprint != fit_whitening(made).fingerprint
    assert np.array_equal(loaded.rows(made.rows_ND), found.rows(made.rows_ND))
    manifest = open_artifact(tmp_path / "w", "whitening")
    assert manifest.made_by["test"] == "yes" and manifest.parents == {"descriptors": "made"}
    content = bytearray((tmp_path / "w" / "map.npy").read_bytes())
    content[-3] ^= 1
    (tmp_path / "w" / "map.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"map.npy is damaged"):
        load_whitening(tmp_path / "w")


def test_a_whitening_is_a_part_of_an_ensemble_and_of_its_folder(tmp_path, tiny, photos):
    embedder = tiny(neck="fc", dim=6)
    member = Member(name="one", weight=0.5, embedder=embedder, descriptors=DescriptorOptions(size=64))
    found = fit_whitening(world(16)[0], dim=4)
    plain, ensemble = Ensemble(members=(member,)), Ensemble(members=(member,), whitening=found)
    assert (plain.dim, ensemble.dim) == (6, 4)
    rows = embedder.describe(photos)
    assert np.array_equal(ensemble.join([rows]), found.rows(plain.join([rows])))
    prints = {plain.fingerprint, ensemble.fingerprint}
    prints.add(dataclasses.replace(ensemble, whitening=fit_whitening(world(16)[0], dim=3)).fingerprint)
    assert len(prints) == 3
    for number, one in enumerate((plain, ensemble)):
        save_ensemble(one, tmp_path / f"{number}", made_by={})
        loaded = load_ensemble(tmp_path / f"{number}")
        assert loaded.fingerprint == one.fingerprint
        assert np.array_equal(loaded.join([rows]), one.join([rows]))
    assert load_whitening(tmp_path / "1" / "whitening").fingerprint == found.fingerprint
    with pytest.raises(ValueError, match="rows with 6 components, but those of the members have 12 together"):
        Ensemble(members=(member, dataclasses.replace(member, name="two")), whitening=found)
    with pytest.raises(ValueError, match="whitened rows are unit rows"):
        dataclasses.replace(ensemble, unit=False)
