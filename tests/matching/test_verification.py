import threading
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landseer.matching import verify
from landseer.matching.verification import LEAST, _evidence, _plausible
from landseer.recipe.matching_options import MatchingOptions

KINDS = ("homography", "affine", "fundamental")
HOMOGRAPHY = np.array([[0.9, -0.2, 40.0], [0.1, 1.1, -15.0], [2e-4, -1e-4, 1.0]])
AFFINE = np.array([[0.8, -0.3, 40.0], [0.25, 0.9, -15.0], [0, 0, 1.0]])


def options(kind="homography", **given):
    return MatchingOptions(model=kind, residual=3.0, **given)


def mapped(model, points):
    rows = np.c_[points, np.ones(len(points))] @ model.T
    return rows[:, :2] / rows[:, 2:]


def world(model, *, true=60, false=60, noise=0.3, seed=0):
    """Pairs that agree on *model* up to noise, then pairs at random."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0, 400, (true + false, 2))
    b = mapped(model, a) + rng.normal(scale=noise, size=a.shape)
    b[true:] = rng.uniform(0, 400, (false, 2))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize(("kind", "model"), [("homography", HOMOGRAPHY), ("affine", AFFINE)])
@pytest.mark.parametrize("seed", range(5))
def test_a_known_model_is_recovered(kind, model, seed):
    a, b = world(model, seed=seed)
    found = verify(a, b, options(kind))
    assert 58 <= found.inliers <= 62
    assert found.inliers == len(found.points_a) == len(found.points_b)
    # two true points may share a pixel, and then count once
    assert len({tuple(row) for row in found.points_a} & {tuple(row) for row in a[:60]}) >= 58
    corners = np.array([[0, 0], [400, 0], [0, 400], [400, 400.0]])
    full = found.model if kind == "homography" else np.r_[found.model, [[0, 0, 1]]]
    assert np.abs(mapped(full, corners) - mapped(model, corners)).max() < 2


def test_two_views_of_a_scene_with_depth_agree_on_a_fundamental_matrix():
    """No plane holds them: the homography that explains most explains far fewer."""
    rng = np.random.default_rng(0)
    scene = rng.uniform([-2, -2, 4], [2, 2, 9], (80, 3))
    turn = cv2.Rodrigues(np.array([0.05, 0.2, 0.02]))[0]
    views = [(scene, 300), (scene @ turn.T + [0.9, 0.1, 0.3], 320)]
    a, b = ((rows[:, :2] / rows[:, 2:] * focal + 200).astype(np.float32) for rows, focal in views)
    b[60:] = rng.uniform(0, 400, (20, 2))
    found = verify(a, b, options("fundamental"))
    assert found.inliers >= 58
    lines = np.c_[found.points_a, np.ones(found.inliers)] @ found.model.T
    off = np.abs((lines * np.c_[found.points_b, np.ones(found.inliers)]).sum(axis=1))
    assert (off / np.hypot(lines[:, 0], lines[:, 1])).max() <= 3.0
    assert verify(a, b, options("homography")).inliers < 40


@pytest.mark.parametrize(("kind", "model"), [("homography", HOMOGRAPHY), ("affine", AFFINE)])
def test_inliers_are_the_pairs_within_the_residual_seen_from_both_photos(kind, model):
    """The rule by itself, from the model alone, point by point."""
    a, b = world(model, noise=1.5, seed=3)
    found = verify(a, b, options(kind))
    full = found.model if kind == "homography" else np.r_[found.model, [[0, 0, 1]]]
    back = np.linalg.inv(full)
    expected = [
        (p, q)
        for p, q in zip(a.tolist(), b.tolist(), strict=True)
        if np.linalg.norm(mapped(full, np.array([p])) - q) <= 3
        and np.linalg.norm(mapped(back, np.array([q])) - p) <= 3
    ]
    assert list(zip(found.points_a.tolist(), found.points_b.tolist(), strict=True)) == expected
    assert 20 < found.inliers < 62


def one_point(num):
    return np.full((num, 2), 50.0, np.float32)


def on_a_line(num, *, slope=2.0, jitter=0.0):
    x = np.linspace(0, 300, num)
    wave = jitter * np.where(np.arange(num) % 2, 1, -1)
    return np.stack([x, slope * x + wave], axis=1).astype(np.float32)


SCATTERED = np.random.default_rng(1).uniform(0, 300, (40, 2)).astype(np.float32)
DEGENERATE = {
    "nothing": (SCATTERED[:0], SCATTERED[:0]),
    "one pair": (SCATTERED[:1], SCATTERED[:1]),
    "two pairs": (SCATTERED[:2], SCATTERED[:2]),
    "three pairs": (SCATTERED[:3], SCATTERED[:3]),
    "all at one place": (one_point(40), one_point(40)),
    "one place in b": (SCATTERED, one_point(40)),
    "one place in a": (one_point(40), SCATTERED),
    "a pixel in b": (SCATTERED, SCATTERED / 1000),
    "a line": (on_a_line(40), on_a_line(40)),
    "a level line": (on_a_line(40, slope=0), on_a_line(40, slope=0)),
    "a steep line, not quite straight": (on_a_line(40, slope=9, jitter=0.4), on_a_line(40, jitter=0.4)),
    "a line in b alone": (SCATTERED, on_a_line(40)),
    "a line in a alone": (on_a_line(40), SCATTERED),
    "not a number": (np.full((40, 2), np.nan, np.float32), SCATTERED),
    "infinite": (SCATTERED, np.full((40, 2), np.inf, np.float32)),
    "two places": (np.repeat(SCATTERED[:2], 20, axis=0), np.repeat(SCATTERED[:2], 20, axis=0)),
    "three places": (np.repeat(SCATTERED[:3], 20, axis=0), np.repeat(SCATTERED[:3], 20, axis=0)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_pairs_have_no_inliers_and_give_no_warning(kind, case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = verify(*DEGENERATE[case], options(kind))
    assert found.inliers == len(found.points_a) == len(found.points_b) == 0
    assert found.model is None
    assert found.kind == kind


@pytest.mark.parametrize("kind", KINDS)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 14), st.just(2)),
        elements=st.integers(0, 8).map(float) | st.floats(width=32),
    ),
    st.integers(0, 2**32 - 1),
)
def test_no_points_make_it_fail(kind, a, seed):
    """Few places, many repeated, huge, tiny, NaN: inliers are finite pairs that were given, or none."""
    b = a[np.random.default_rng(seed).permutation(len(a))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = verify(a, b, options(kind))
    given_pairs = {(*p, *q) for p, q in zip(a.tolist(), b.tolist(), strict=True)}
    assert {
        (*p, *q) for p, q in zip(found.points_a.tolist(), found.points_b.tolist(), strict=True)
    } <= given_pairs
    assert found.inliers == 0 or found.inliers >= LEAST[kind]
    assert np.isfinite(found.points_a).all() and np.isfinite(found.points_b).all()


@pytest.mark.parametrize(
    ("name", "model"),
    {
        "mirrored": np.diag([-1.0, 1, 1]) + np.outer([400, 0, 0], [0, 0, 1]),
        "upside down in a mirror": np.diag([1.0, -1, 1]) + np.outer([0, 400, 0], [0, 0, 1]),
        "nine times as large": np.diag([9.0, 9, 1]),
        "a ninth": np.diag([1 / 9, 1 / 9, 1]),
        "five times as wide": np.diag([5.0, 1, 1]),
        "sheared to a blade": np.array([[1.0, 4, 0], [0, 1, 0], [0, 0, 1]]),
    }.items(),
)
@pytest.mark.parametrize("kind", ["homography", "affine"])
def test_a_model_no_camera_makes_is_none(kind, name, model):
    a, b = world(model, true=80, false=0, noise=0.02)
    assert verify(a, b, options(kind)).inliers == 0
    loose = options(kind, most_scale=20.0, most_stretch=40.0)
    found = verify(a, b, loose).inliers
    assert found == 0 if "mirror" in name else found > 75


@pytest.mark.parametrize("scale", [1 / 7.5, 7.5])
def test_the_guard_lets_strong_zooms_pass(scale):
    a, b = world(np.diag([scale, scale, 1]), true=80, false=0, noise=0.02)
    assert verify(a, b, options("affine")).inliers >= 70


def test_a_horizon_among_the_points_is_none():
    """x' = x / (1 - x / 200): points beyond x = 200 would lie behind the camera, those on one side are well."""
    model = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 200, 0, 1]])
    points = np.random.default_rng(0).uniform(0, 400, (80, 2)).astype(np.float32)
    loose = options("homography", most_stretch=1e6, most_scale=1e6)
    before = points[points[:, 0] < 150]
    assert _plausible(model, before, loose)
    assert not _plausible(model, np.concatenate([before, [[250, 100]]]), loose)


def test_pairs_at_one_place_count_once():
    a, b = world(HOMOGRAPHY, true=30, false=0, noise=0.0)
    again = verify(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0), options())
    assert again.inliers == verify(a, b, options()).inliers == 30


def test_several_points_paired_with_one_place_count_once():
    """Within the residual of the truth in a, all at one place in b."""
    a, b = world(AFFINE, true=30, false=0, noise=0.0)
    near = a[0] + np.array([[1.4, 0], [0, 1.4], [-1.4, 0], [0, -1.4]], np.float32)
    crowded = np.concatenate([a, near]), np.concatenate([b, np.repeat(b[:1], 4, axis=0)])
    assert verify(*crowded, options("affine")).inliers == 30
    assert verify(*crowded[::-1], options("affine")).inliers == 30


def test_points_on_a_line_are_no_evidence_in_either_photo():
    for kind in KINDS:
        assert _evidence(SCATTERED, SCATTERED, kind)
        for line in (on_a_line(40), on_a_line(40, slope=0, jitter=0.9), one_point(40)):
            assert not _evidence(SCATTERED, line, kind)
            assert not _evidence(line, SCATTERED, kind)
    assert _evidence(SCATTERED, on_a_line(40, slope=0, jitter=1.1), "affine")


@pytest.mark.parametrize("seed", [14825, 30504])
def test_where_opencv_stumbles_over_having_found_nothing(seed):
    """Places of a coarse grid, shuffled: no sample gives a fundamental matrix, and OpenCV fails an assertion."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(8, 11))
    a, b = (np.stack(np.divmod(rng.permutation(16)[:num], 4), 1).astype(np.float32) * 50 for _ in range(2))
    with pytest.raises(cv2.error, match=r"model\.empty"):
        cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 3.0, 0.999, 2000)
    assert verify(a, b, options("fundamental")).inliers == 0


def test_other_errors_of_opencv_come_through(monkeypatch):
    def broken(*args, **given):
        raise cv2.error("out of memory")

    monkeypatch.setattr(cv2, "estimateAffine2D", broken)
    with pytest.raises(cv2.error, match="out of memory"):
        verify(*world(AFFINE), options("affine"))


def test_a_sample_is_no_evidence_of_itself():
    for kind, num in LEAST.items():
        a, b = world(AFFINE, true=num, false=0, noise=0.0)
        assert verify(a, b, options(kind)).inliers == num
        assert verify(a[1:], b[1:], options(kind)).inliers == 0


def test_turned_it_says_the_same_of_the_other_photo():
    for kind, model in (("homography", HOMOGRAPHY), ("affine", AFFINE)):
        found = verify(*world(model), options(kind))
        there = found.turned()
        full = there.model if kind == "homography" else np.r_[there.model, [[0, 0, 1]]]
        assert np.abs(mapped(full, there.points_a) - there.points_b).max() <= 3.0
        assert np.allclose(there.turned().model, found.model, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_points_give_equal_answers_whatever_ran_before(kind):
    """In any thread, whatever the state of OpenCV's generator."""
    worlds = [world(HOMOGRAPHY, true=25, false=80, seed=seed) for seed in range(6)]
    first = [verify(*pair, options(kind)) for pair in worlds]
    found: dict[int, list] = {}

    def again(number):
        cv2.setRNGSeed(number)
        found[number] = [verify(*pair, options(kind)) for pair in reversed(worlds)][::-1]

    threads = [threading.Thread(target=again, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in found.values():
        for one, other in zip(first, answers, strict=True):
            assert one.points_a.tobytes() == other.points_a.tobytes()
            assert (one.model is None) == (other.model is None)
            assert one.model is None or one.model.tobytes() == other.model.tobytes()


def test_tables_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match=r"two tables \[M, 2\]"):
        verify(SCATTERED, SCATTERED[:5], options())
