"""XFeat and LighterGlue: the networks themselves where their files are at hand, what we do around them everywhere."""

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from landseer.matching import LighterGlue, Matcher, MutualRatio, XFeat, make_pairer, match_features
from landseer.matching.learned import _at, _points
from landseer.recipe.matching_options import LocalFeatureOptions, MatchingOptions

SHARED = Path(__file__).parents[3] / "shared" / "weights"
DETECTOR, PAIRER = SHARED / "xfeat" / "xfeat_256x256.onnx", SHARED / "lighterglue" / "lighterglue_L3.onnx"
INSTALLED = importlib.util.find_spec("onnxruntime") is not None
OPTIONS = LocalFeatureOptions(extractor="xfeat", keypoints=300)
needs_networks = pytest.mark.skipif(
    not (DETECTOR.is_file() and PAIRER.is_file() and INSTALLED),
    reason=f"no networks in {SHARED}, or no onnxruntime",
)


def slow_points(cells):
    """Pixel by pixel: which of the 64 of its cell it is, row by row, among the 65 that share a likelihood."""
    _, rows, columns = cells.shape
    found = np.zeros((rows * 8, columns * 8))
    for y in range(rows * 8):
        for x in range(columns * 8):
            logits = cells[:, y // 8, x // 8]
            found[y, x] = np.exp(logits[(y % 8) * 8 + x % 8]) / np.exp(logits).sum()
    return found


def test_likelihoods_lie_at_their_pixels():
    cells = np.random.default_rng(0).normal(size=(65, 3, 2))
    assert np.allclose(_points(cells), slow_points(cells), atol=1e-6)


def test_a_map_is_read_between_its_places():
    """A plane is kept: value 3 x + 5 y + 1 at the middle of each 8 x 8 pixels; beyond the outer middles it stays."""
    rows, columns = np.mgrid[:6, :5]
    plane = (3 * (columns * 8 + 3.5) + 5 * (rows * 8 + 3.5) + 1)[None]
    x, y = np.array([4, 10, 27, 35]), np.array([4, 30, 9, 43])
    assert np.allclose(_at(plane, x, y)[:, 0], 3 * x + 5 * y + 1)
    assert np.allclose(_at(plane, np.array([0]), np.array([47]))[0, 0], plane[0, 5, 0])


def test_without_onnxruntime_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    weights = tmp_path / "xfeat.onnx"
    weights.touch()
    with pytest.raises(
        ValueError, match="run by onnxruntime, which is not installed; pip install onnxruntime, or"
    ):
        XFeat(weights, OPTIONS)


@pytest.mark.skipif(not INSTALLED, reason="no onnxruntime")
def test_files_that_are_no_such_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file; give the network's ONNX file"):
        XFeat(tmp_path / "nothing.onnx", OPTIONS)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as a network"):
        XFeat(tmp_path / "text.onnx", OPTIONS)
    if PAIRER.is_file():
        with pytest.raises(ValueError, match="has 4 inputs and 2 outputs, not 1 and 3: another network"):
            XFeat(PAIRER, OPTIONS)


@pytest.fixture(scope="module")
def extract():
    return XFeat(DETECTOR, OPTIONS)


@needs_networks
@pytest.mark.photos
@pytest.mark.parametrize("pairing", ["mutual", "lighterglue"])
def test_a_scene_is_found_again_and_another_is_not(extract, scenes, pairing):
    options = MatchingOptions(features=OPTIONS, pairing=pairing, model="homography", residual=4.0)
    pair = make_pairer(options, weights=PAIRER if pairing == "lighterglue" else None)
    features = {name: extract(picture) for name, picture in scenes.items()}
    for name in ("a", "b"):
        found = match_features(features[name], features[f"{name}-tilted"], pair, options)
        assert found.inliers > 40
        back = match_features(features[f"{name}-tilted"], features[name], pair, options)
        assert found.points_a.tobytes() == back.points_b.tobytes()
    assert match_features(features["a"], features["b"], pair, options).inliers < 15


@needs_networks
@pytest.mark.photos
def test_points_are_as_promised(extract, scenes):
    found = extract(scenes["a"])
    assert 100 < len(found) <= 300
    assert found.size == (200, 160) and found.packed() == extract(scenes["a"].copy()).packed()
    assert len(found.packed()) == 70 * len(found)
    assert found.keypoints_K2.min() >= 3.9
    assert (found.keypoints_K2 <= np.array([195.1, 155.1])).all()
    lengths = np.linalg.norm(found.descriptors_KD.astype(float), axis=1)
    assert np.abs(lengths - 255).max() < 25  # a component above 127 is cut


@needs_networks
@pytest.mark.photos
def test_hostile_photos_have_points_or_none_and_no_inliers(extract, scenes, draw):
    pairers = (MutualRatio(0.98), LighterGlue(PAIRER, least_score=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for photo in (
            np.full((160, 200, 3), 120, np.uint8),
            np.full((1, 1, 3), 120, np.uint8),
            draw(0, width=8, height=8),
            draw(0, width=3000, height=16),
            np.full((2000, 3000, 3), 90, np.uint8),
        ):
            found = extract(photo)
            assert max(found.size) <= 256
            for pair in pairers:
                assert match_features(found, extract(scenes["b"]), pair, MatchingOptions()).inliers < 8


@needs_networks
@pytest.mark.photos
def test_a_matcher_of_networks_keeps_their_features(scenes, tmp_path, collect):
    collection = collect(tmp_path / "photos", scenes)
    options = MatchingOptions(features=OPTIONS)

    def matcher():
        return Matcher(
            collection, options=options, extractor=XFeat(DETECTOR, OPTIONS), features=tmp_path / "f"
        )

    first = matcher()
    first.prepare()
    assert matcher().match("a", ["a-tilted", "b"]) == first.match("a", ["a-tilted", "b"])
    with pytest.raises(ValueError, match=r"features of other settings \(contrast: None, not 0.01\)"):
        Matcher(collection, features=tmp_path / "f")
