"""Residual networks for CIFAR-10: the counts of the paper, and shortcuts without parameters."""

import math

import pytest
import torch
from torch import nn

from striate.account.summarize import count_parameters
from striate.models.build import build_model
from striate.models.zoo.resnet import ZeroPaddedShortcut

PAPER = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}
"""Millions of parameters, Table 6."""


@pytest.mark.parametrize("name", PAPER)
def test_layers_and_parameters_are_those_of_the_paper(name):
    with torch.device("meta"):
        network = build_model(name)
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(weighted) == int(name.removeprefix("resnet"))
    digits = 1 if name == "resnet110" else 2
    assert round(count_parameters(network) / 1e6, digits) == PAPER[name]


def test_stages_have_the_sizes_and_channels_of_section_4_2():
    network, maps = build_model("resnet20"), []
    for stage in (network.layer1, network.layer2, network.layer3):
        stage.register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape[1:])))
    network(torch.zeros(2, 3, 32, 32))
    assert maps == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_shortcut_keeps_every_second_position_and_adds_channels_of_zeros():
    x = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    out = ZeroPaddedShortcut(3, stride=2)(x)
    assert out.shape == (2, 6, 3, 2)
    for channel, row, column in [(0, 0, 0), (1, 2, 1), (2, 1, 0)]:
        assert torch.equal(out[:, channel, row, column], x[:, channel, 2 * row, 2 * column])
    assert not out[:, 3:].any()


def test_no_shortcut_has_parameters_and_a_fresh_block_is_its_shortcut():
    network = build_model("resnet20")
    shortcuts = [block.downsample for stage in (network.layer1, network.layer2, network.layer3) for block in stage]
    assert [shortcut is not None for shortcut in shortcuts] == [False] * 3 + [True, False, False] * 2
    assert not [key for key in network.state_dict() if "downsample" in key]
    x = torch.rand(2, 16, 9, 8)
    torch.testing.assert_close(network.layer2[0](x), ZeroPaddedShortcut(16, 2)(x))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 1, 1), (4, 33, 20), (3, 224, 160)])
def test_any_image_and_any_width(shape):
    network = build_model("resnet20(width=4)", shape, 5).eval()
    assert network.conv1.weight.shape == (4, shape[0], 3, 3)
    assert network.fc.in_features == 16
    assert network(torch.zeros(1, *shape)).shape == (1, 5)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_the_loss_begins_near_that_of_a_guess(name):
    torch.manual_seed(0)
    with torch.no_grad():
        logits = build_model(f"{name}(width=8)", (3, 16, 16), 10)(torch.randn(32, 3, 16, 16))
    loss = float(nn.functional.cross_entropy(logits, torch.arange(32) % 10))
    assert loss == pytest.approx(math.log(10), rel=0.05)
