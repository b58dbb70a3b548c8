"""The lectures' classifier: what its stages are, sizes, and that contrast does not matter to it."""

import math
import re

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.normalization import LocalContrastNorm
from striate.models.build import build_model


def test_four_layers_with_weights_in_three_stages():
    network = build_model("lcn-net")
    kinds = [type(m) for m in network if not isinstance(m, nn.Flatten)]
    assert kinds == 3 * [nn.Conv2d, nn.ReLU, LocalContrastNorm, nn.MaxPool2d] + [nn.Linear]


@pytest.mark.parametrize(("stages", "side"), [(1, 2), (3, 8), (5, 32)])
def test_stages_halve_the_maps(stages, side):
    network = build_model(f"lcn-net(stages={stages},width=2)", (3, side, side + 3), 4)
    assert sum(isinstance(m, LocalContrastNorm) for m in network) == stages
    assert network(torch.rand(2, 3, side, side + 3)).shape == (2, 4)
    with pytest.raises(ModelError) as caught:
        build_model(f"lcn-net(stages={stages},width=2)", (3, side - 1, side), 4)
    assert re.search(r"--size (\w+)", caught.value.remedy).group(1) == f"{side}x{side}"


@pytest.mark.parametrize(("shape", "other"), [((1, 28, 40), "lcn-net(stages=4,width=2)"), ((1, 1, 9), "small-cnn")])
def test_too_small_an_image_gets_as_many_stages_as_fit(shape, other):
    with pytest.raises(ModelError) as caught:
        build_model("lcn-net(stages=6,width=2)", shape, 4)
    found = re.search(r"--model '?([^' ]+)", caught.value.remedy).group(1)
    assert found == other
    build_model(found, shape, 4)


def test_filters_double_from_width():
    network = build_model("lcn-net(width=3)")
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [3, 6, 12]


def test_the_contrast_of_the_first_maps_does_not_matter():
    network = build_model("lcn-net").eval()
    maps = torch.rand(2, 16, 28, 28)
    torch.testing.assert_close(network[2:](5 * maps), network[2:](maps), rtol=1e-3, atol=1e-4)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_loss_begins_near_that_of_a_guess(classes):
    torch.manual_seed(0)
    network = build_model("lcn-net", (1, 28, 28), classes)
    with torch.no_grad():
        logits = network(torch.randn(32, 1, 28, 28))
    loss = nn.functional.cross_entropy(logits, torch.randint(classes, (32,)))
    assert float(loss) == pytest.approx(math.log(classes), rel=0.2)
