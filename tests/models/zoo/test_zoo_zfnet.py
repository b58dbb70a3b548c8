"""ZFNet: figure 3 of the paper, the difference to AlexNet, initialization."""

import pytest
import torch
from meta_networks import on_meta
from torch import nn

from striate.account.summarize import count_parameters
from striate.models.build import build_model


def test_maps_have_the_sizes_of_figure_3():
    network, sides = on_meta("zfnet"), []
    x = torch.empty(1, 3, 224, 224, device="meta")
    for module in network:
        x = module(x)
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            assert x.shape[2] == x.shape[3]
            sides.append(x.shape[2])
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]


def test_only_the_first_layer_has_fewer_parameters_than_alexnet_without_groups():
    network, alexnet = on_meta("zfnet"), on_meta("alexnet-2012(groups=1)")
    assert count_parameters(network) == 62_357_608
    fewer = 3 * 96 * (11 * 11 - 7 * 7)
    assert count_parameters(alexnet) - count_parameters(network) == fewer
    assert count_parameters(alexnet.conv1) - count_parameters(network.conv1) == fewer


@pytest.mark.parametrize("size", [(63, 63), (100, 63), (225, 224)])
def test_other_sizes(size):
    network = on_meta("zfnet", (1, *size), 4)
    assert network(torch.empty(2, 1, *size, device="meta")).shape == (2, 4)


def test_the_last_cut_off_column_is_seen():
    """With 110 columns, pooling 3 with stride 2 sees the last one only in a window that reaches over the border."""
    pool = on_meta("zfnet").pool1
    x = torch.zeros(1, 1, 110, 110)
    x[..., -1] = 1
    assert pool(x)[..., -1].min() == 1


def test_printed_first_weights():
    torch.manual_seed(0)
    network = build_model("zfnet(init=printed)", (1, 63, 63), 10)
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert not layer.bias.any()
            if name != "fc8":
                assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert float(network.fc8.weight.detach().std()) == pytest.approx(0.1 / 64, rel=0.05)
