import pytest

from landseer.recipe.load import options_from
from landseer.recipe.loss_options import LossOptions


def test_a_recipe_may_say_nothing():
    assert options_from(LossOptions, {}) == LossOptions()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"kind": "arc"}, "did you mean 'arcface'"),
        ({"margin": -0.1}, "margin: must lie in 0..1"),
        ({"margin": 17.2}, "margin: must lie in 0..1"),
        ({"scale": -1}, "scale: must not be negative"),
        ({"triplet": -1}, "triplet: must not be negative"),
        ({"noisy_weight": 0}, "noisy_weight: must be above 0"),
        ({"margin_power": 0}, "margin_power: must be above 0"),
        ({"subcentres": 0}, "subcentres: must be at least 1"),
        ({"smoothing": 1}, "smoothing: must lie in 0..1 without 1"),
        ({"negatives": 0.0}, "negatives: must lie in 0..1 without 0, not 0.0"),
        ({"negatives": 1.1}, "negatives: must lie in 0..1 without 0, not 1.1"),
        ({"negatives": 0.1, "adacos": "dynamic"}, "adacos: 'dynamic' needs every landmark at every step"),
        ({"negatives": 0.1, "smoothing": 0.2}, "smoothing: 0.2 needs every landmark at every step"),
        ({"margin_low": 0.6}, r"margin_low: must not be above margin_high \(0.5\), not 0.6"),
        ({"adacos": "dynamic", "scale": 30}, "adacos: 'dynamic' chooses the scale"),
        ({"margins": "range", "margin": 0.3}, "margins: 'range' gives every landmark its own"),
        ({"kind": "softmax", "scale": 30}, 'scale: kind "softmax" has no cosines'),
        ({"kind": "softmax", "adacos": "stateful"}, 'adacos: kind "softmax" has no cosines'),
        ({"kind": "softmax", "margin": 0.1}, 'margin: kind "softmax" has no cosines'),
        ({"kind": "softmax", "margins": "power"}, 'margins: kind "softmax" has no cosines'),
        ({"kind": "softmax", "subcentres": 3}, 'subcentres: kind "softmax" has one row a landmark'),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(found, message):
    with pytest.raises(ValueError, match=message):
        options_from(LossOptions, found)
