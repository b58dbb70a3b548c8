"""Deconvnet and guided backpropagation: the definition in NumPy, captum, ReLUs of every kind, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import captum.attr
import numpy as np
import pytest
import torch
from looked_at import left_as_it_was
from torch import nn
from torch.nn import functional

from striate.errors import ModelError, UsageError
from striate.reference import convolve, convolve_backward, max_pool, max_pool_backward
from striate.visualize.inside.projections import project_units, projection_words, projections_figure
from striate.visualize.inside.rectified import RULES, rectified_gradients


def two_layers(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU()
    with torch.no_grad():
        layers[3].bias += 0.3  # no unit is silent
    return nn.Sequential(*layers).double()


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, 14, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def by_definition(
    module: nn.Sequential, x: np.ndarray, unit: int, place: tuple[int, int], rule: str, *, shuffle: bool = False
) -> np.ndarray:
    """(1, 14, 14) of one image (1, 14, 14): forth with all that the way back needs, then back layer by layer."""
    (w1, b1), (w2, b2) = ([p.detach().numpy() for p in module[k].parameters()] for k in (0, 3))
    x = x[None]
    first = convolve(x, w1, b1)
    hidden = np.maximum(first, 0)
    pooled = max_pool(hidden, 2)
    second = convolve(pooled, w2, b2)

    def through_relu(back: np.ndarray, before: np.ndarray) -> np.ndarray:
        back = np.maximum(back, 0)
        return back if rule == "deconvnet" else back * (before > 0)

    back = np.zeros_like(second)
    back[(0, unit, *place)] = max(0, second[(0, unit, *place)]) if rule == "deconvnet" else 1
    back = convolve_backward(through_relu(back, second), pooled, w2)[0]
    # The switches are where the maxima of `hidden` were.
    switched = np.random.default_rng(0).permuted(hidden, axis=3) if shuffle else hidden
    back = max_pool_backward(back, switched, 2)
    return convolve_backward(through_relu(back, first), x, w1)[0][0]


def whole(found, k: int, box) -> np.ndarray:
    """A projection of one unit back in its place in an image of 14 × 14."""
    (top, height), (left, width) = box
    image = np.zeros((1, 14, 14))
    image[:, top : top + height, left : left + width] = found.values[0][k]
    return image


@pytest.mark.parametrize("rule", RULES)
def test_it_is_the_definition_and_what_captum_computes(rule):
    module, x = two_layers(), images()
    found = project_units(module, x, rule, "4", units=[1])
    (unit,) = found.patches.units
    assert (found.relus, found.pools, len(unit.samples)) == (2, 1, 6)
    of = {"deconvnet": captum.attr.NeuronDeconvolution, "guided-backprop": captum.attr.NeuronGuidedBackprop}[rule]
    for k, (sample, place, box) in enumerate(zip(unit.samples, unit.positions, unit.boxes, strict=True)):
        image = whole(found, k, box)
        defined = by_definition(module, x[sample].numpy(), 1, place, rule)
        np.testing.assert_allclose(image, defined, atol=1e-6)
        with pytest.warns(UserWarning, match="backward hooks"):
            theirs = of(module, module[4]).attribute(x[sample : sample + 1].clone().requires_grad_(), (1, *place))
        scale = unit.values[k] if rule == "deconvnet" else 1
        np.testing.assert_allclose(image, scale * theirs[0].detach().numpy(), atol=1e-6)
        shuffled = by_definition(module, x[sample].numpy(), 1, place, rule, shuffle=True)
        assert unit.values[k] == 0 or np.abs(shuffled - defined).max() > 0.1 * np.abs(defined).max()
    assert unit.values[0] > 0


def test_the_two_rules_and_the_gradient_differ():
    module, x = two_layers(1), images()
    one, two = (project_units(module, x, rule, "4", units=[0]).values[0] for rule in RULES)
    assert np.abs(one - two).max() > 1e-3


class Calls(nn.Module):
    """The same ReLU in four ways, one of them in place; `way` chooses."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.again, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=way == "in place")
        self.way = way

    def activated(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "function":
            return functional.relu(x)
        if self.way == "written over":
            x.relu_()
            return x
        return x.clamp(min=0) if self.way == "clamp" else self.relu(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.activated(self.again(self.activated(self.conv(x)))))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("rule", RULES)
def test_a_relu_counts_however_it_is_called(rule):
    found = {}
    for way in ("module", "in place", "function", "written over", "clamp"):
        module = Calls(way)
        with left_as_it_was(module):
            found[way] = project_units(module, images(2).float(), rule, "last", units=[2])
        assert found[way].relus == 2
        np.testing.assert_array_equal(found[way].values[0], found["module"].values[0])


@pytest.mark.parametrize("module", [two_layers(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU6()).double()])
def test_outputs_stay_as_they_are(module):
    x = 9 * images()
    with torch.no_grad():
        plain = module(x)
        with rectified_gradients("deconvnet"):
            assert torch.equal(module(x), plain)
    assert project_units(module, x, "guided-backprop", units=[0]).relus == len(module) // 2


def test_what_no_rule_is_for_is_refused():
    module, x = two_layers(), images()
    with pytest.raises(ModelError, match=r"no ReLU between it and the image(.|\n)*--layer 1"):
        project_units(module, x, "deconvnet", "0")
    smooth = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.ReLU())
    with pytest.raises(ModelError, match=r"tanh between it and the image, for guided-backprop"):
        project_units(smooth, x.float(), "guided-backprop")
    with pytest.raises(UsageError, match=r"up to 3,3(.|\n)*--position 2,2"):
        project_units(module, x, "deconvnet", "4", position=(4, 0))


def test_one_position_and_the_figure():
    module, x = two_layers(), images()
    found = project_units(module, x, "deconvnet", "4", position=(1, 2), each=3)
    assert {place for unit in found.patches.units for place in unit.positions} == {(1, 2)}
    document = found.to_json()
    assert np.shape(document["units"][0]["projections"]) == (3, 1, 8, 8)
    pixels = np.zeros((6, 1, 14, 14), np.uint8)
    figure = projections_figure(found, pixels, title="t", labels=list("aaaaaa"))
    figure.canvas.draw()
    assert figure.axes[0].get_title("left") == f"unit {found.patches.units[0].unit}: class a in 3 of 3"


def test_the_patches_of_one_image_fill_the_page():
    found = project_units(two_layers(), images(1), "deconvnet", "4")
    figure = projections_figure(found, np.zeros((1, 1, 14, 14), np.uint8), title="t")
    height, width = figure.axes[1].images[0].get_array().shape[:2]
    assert height == width  # one patch, not one of nine places
    assert height < 1.2 * 32
    words = projection_words(replace(found, patches=replace(found.patches, silent=1)))
    assert "the highest activation of a unit in one image, a patch of 8 pixels; left, what activates it," in words
    assert "1 of 3 units is 0 for every sample." in words
