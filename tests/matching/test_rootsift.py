import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from landseer.matching import LocalFeatures, MutualRatio, RootSift, match_features
from landseer.matching.features import bytes_a_point, unpacked
from landseer.matching.rootsift import rooted
from landseer.photos import resize_longest
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions

EXTRACT = RootSift(LocalFeatureOptions(longest=256, keypoints=500))
PAIR = MutualRatio(0.9)


def inliers(first, second, **options):
    return match_features(EXTRACT(first), EXTRACT(second), PAIR, MatchingOptions(**options)).inliers


def test_a_scene_is_found_again_and_another_is_not(scenes, tilt):
    found = match_features(
        EXTRACT(scenes["a"]),
        EXTRACT(scenes["a-tilted"]),
        PAIR,
        MatchingOptions(model="homography", residual=3.0),
    )
    assert found.inliers > 60
    corners = np.array([[20, 20, 1], [180, 20, 1], [20, 140, 1], [180, 140, 1.0]])
    there, expected = corners @ found.model.T, corners @ tilt.T
    assert np.abs(there[:, :2] / there[:, 2:] - expected[:, :2] / expected[:, 2:]).max() < 2.5
    for other in ("b", "b-tilted"):
        assert inliers(scenes["a"], scenes[other]) < 8


@pytest.mark.parametrize("model", ["homography", "affine", "fundamental"])
def test_exchanged_photos_give_the_exchanged_answer(scenes, model):
    options = MatchingOptions(model=model)
    features = [EXTRACT(picture) for picture in scenes.values()]
    for a in features:
        for b in features:
            there, back = match_features(a, b, PAIR, options), match_features(b, a, PAIR, options)
            assert there.inliers == back.inliers
            assert there.points_a.tobytes() == back.points_b.tobytes()
            assert there.points_b.tobytes() == back.points_a.tobytes()


def test_a_mirror_image_is_not_the_same_place(scenes):
    assert inliers(scenes["a"], scenes["a"][:, ::-1]) < 8


def flat(height, width):
    return np.full((height, width, 3), 120, np.uint8)


def ramp():
    return np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 160, axis=0).repeat(3, axis=2)


HOSTILE = {
    "textureless": lambda draw: flat(160, 200),
    "black": lambda draw: np.zeros((160, 200, 3), np.uint8),
    "a ramp": lambda draw: ramp(),
    "one pixel": lambda draw: flat(1, 1),
    "8 x 8": lambda draw: draw(0, width=8, height=8),
    "a row": lambda draw: draw(0, width=300, height=1),
    "a column": lambda draw: draw(0, width=2, height=300),
    "a strip": lambda draw: draw(0, width=4000, height=16),
    "a pole": lambda draw: draw(0, width=17, height=4000),
    "not contiguous": lambda draw: draw(0)[::-1, ::-1],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_photos_give_features_or_none_and_no_inliers(name, scenes, draw):
    photo = HOSTILE[name](draw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = EXTRACT(photo)
        assert len(found) <= EXTRACT.keypoints
        assert found.size == resize_longest(photo, 256).shape[1::-1]
        assert match_features(found, EXTRACT(scenes["b"]), PAIR, MatchingOptions()).inliers < 8
        if name in ("textureless", "black", "one pixel", "8 x 8", "a row", "a column"):
            assert len(found) == 0
            assert match_features(found, found, PAIR, MatchingOptions()).inliers == 0


def test_equal_pixels_give_equal_features_and_the_strongest_stay(scenes):
    few = RootSift(LocalFeatureOptions(keypoints=40))
    all_of_it, first, again = EXTRACT(scenes["a"]), few(scenes["a"]), few(scenes["a"].copy())
    assert len(first) == 40 < len(all_of_it)
    assert first.packed() == again.packed()
    assert np.array_equal(first.scores_K, all_of_it.scores_K[:40])


def test_equally_strong_points_are_no_more_than_asked_for():
    """OpenCV gives all 288 points of 36 equal dots where 8 are asked for."""
    dot = np.zeros((32, 32, 3), np.uint8)
    cv2.circle(dot, (16, 16), 5, (255, 255, 255), -1)
    assert len(RootSift(LocalFeatureOptions(keypoints=8))(np.tile(dot, (6, 6, 1)))) == 8


def test_photos_narrower_than_a_neighbourhood_have_no_points(draw):
    assert len(EXTRACT(draw(0, width=200, height=15))) == len(EXTRACT(draw(0, width=15, height=200))) == 0
    assert len(EXTRACT(draw(0, width=200, height=16))) > 0


def test_roots_of_shares():
    """By hand: shares 1/4 and 3/4 of two bins; one bin alone is cut at 255; nothing stays nothing."""
    rows = np.zeros((3, 128), np.float32)
    rows[0, :16] = 10
    rows[1, 5] = 7
    found = rooted(rows)
    assert found[0, :17].tolist() == [128] * 16 + [0]  # 512 sqrt(1/16)
    assert found[1, 5] == 255
    assert not found[2].any()


def test_features_survive_the_small_form(scenes):
    found = EXTRACT(scenes["a"])
    small = found.packed()
    assert len(small) == len(found) * 134
    again = unpacked(small, num=len(found), dim=128, dtype=np.dtype(np.uint8), size=found.size)
    assert np.array_equal(again.keypoints_K2, found.keypoints_K2)
    assert np.array_equal(again.scores_K, found.scores_K)
    assert np.array_equal(again.descriptors_KD, found.descriptors_KD)
    with pytest.raises(ValueError, match=f"{len(found)} points take {134 * len(found)} bytes, not"):
        unpacked(small[:-1], num=len(found), dim=128, dtype=np.dtype(np.uint8), size=found.size)


@given(
    arrays(np.float64, array_shapes(min_dims=1, max_dims=1, max_side=9), elements=st.floats(0, 1)),
    st.integers(16, 8192),
)
def test_a_place_moves_by_less_than_a_hundredth_of_640(shares, longest):
    num = len(shares)
    places = np.stack([shares * longest, shares[::-1] * 10], axis=1).astype(np.float32)
    before = LocalFeatures(
        keypoints_K2=places,
        scores_K=np.ones(num, np.float32),
        descriptors_KD=np.zeros((num, 4), np.uint8),
        size=(longest, 16),
    )
    after = before.settled()
    assert np.abs(after.keypoints_K2 - places).max() <= longest / 65535 / 2 * 1.01 + 1e-6
    assert after.packed() == before.packed()
    assert len(before.packed()) == num * bytes_a_point(4)


def test_features_that_contradict_themselves_are_refused():
    good = {
        "keypoints_K2": np.zeros((2, 2), np.float32),
        "scores_K": np.array([2, 1], np.float32),
        "descriptors_KD": np.zeros((2, 4), np.uint8),
        "size": (9, 9),
    }
    LocalFeatures(**good)
    for wrong, message in (
        ({"scores_K": np.array([1, 2], np.float32)}, "best first"),
        ({"keypoints_K2": np.zeros((3, 2), np.float32)}, r"keypoints \[2, 2\]"),
        ({"descriptors_KD": np.zeros((2, 4), np.float32)}, "uint8 or int8"),
        ({"keypoints_K2": np.full((2, 2), np.nan, np.float32)}, "finite"),
        ({"scores_K": np.array([2, 1], np.float64)}, "float32"),
    ):
        with pytest.raises(ValueError, match=message):
            LocalFeatures(**{**good, **wrong})
