"""AlexNet: the lectures' table, what groups and response normalization do, sizes, initialization."""

import re

import numpy as np
import pytest
import torch
from meta_networks import on_meta
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.zoo.alexnet import response_norm


def counts(network):
    return {
        name: sum(p.numel() for p in m.parameters())
        for name, m in network.named_children()
        if isinstance(m, nn.Conv2d | nn.Linear)
    }


def test_the_table_of_the_lectures_with_one_bias_a_unit():
    found = counts(on_meta("alexnet-2012(groups=1)"))
    assert found == {
        "conv1": 34_944,
        "conv2": 614_656,
        "conv3": 885_120,
        "conv4": 1_327_488,
        "conv5": 884_992,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert sum(found.values()) == 62_378_344
    convolutions = sum(count for name, count in found.items() if name.startswith("conv"))
    assert round(100 * convolutions / sum(found.values())) == 6


def test_groups_halve_the_weights_of_three_layers():
    both, two = counts(on_meta("alexnet-2012(groups=1)")), counts(on_meta("alexnet-2012"))
    assert sum(two.values()) == 60_965_224
    for name, maps in {"conv2": 256, "conv4": 384, "conv5": 256}.items():
        assert two[name] - maps == (both[name] - maps) / 2
    convolutions = sum(count for name, count in two.items() if name.startswith("conv"))
    assert round(100 * convolutions / sum(two.values()), 1) == 3.8


def test_maps_have_the_sizes_of_the_paper():
    network, shapes = on_meta("alexnet-2012"), {}
    x = torch.empty(1, 3, 227, 227, device="meta")
    for name, module in network.named_children():
        x = module(x)
        shapes[name] = tuple(x.shape[1:])
    assert [shapes[f"conv{k}"] for k in range(1, 6)] == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13),
    ]  # fmt: skip
    assert [shapes[f"pool{k}"] for k in (1, 2, 5)] == [(96, 27, 27), (256, 13, 13), (256, 6, 6)]
    order = list(shapes)
    assert [order[order.index(name) + 1] for name in ("conv1", "relu1", "norm1", "conv3")] == [
        "relu1", "norm1", "pool1", "relu3",
    ]  # fmt: skip
    assert order[-1] == "fc8"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("groups", "changed"), [(2, 128), (1, 256)])
def test_a_group_does_not_see_the_other(groups, changed):
    convolution = build_model(f"alexnet-2012(groups={groups})", (1, 67, 67), 2).conv2
    x = torch.randn(1, 96, 5, 5)
    other = x.clone()
    other[:, :48] += 1
    differ = (convolution(x) - convolution(other)).abs().amax((0, 2, 3)) > 1e-6
    assert differ[:128].all()
    assert int(differ.sum()) == changed


def test_response_normalization_is_the_formula_of_the_paper():
    x = np.random.default_rng(0).normal(0, 50, (2, 9, 3, 3))
    wanted = np.empty_like(x)
    for i in range(9):
        window = x[:, max(0, i - 2) : i + 3]
        wanted[:, i] = x[:, i] / (2 + 1e-4 * (window**2).sum(1)) ** 0.75
    np.testing.assert_allclose(response_norm()(torch.tensor(x)).numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize(("size", "features"), [((227, 227), 9216), ((224, 224), 6400), ((67, 99), 512)])
def test_the_2012_form_takes_the_maps_as_they_come(size, features):
    network = on_meta("alexnet-2012", (1, *size), 5)
    assert network.fc6.in_features == features
    assert network(torch.empty(2, 1, *size, device="meta")).shape == (2, 5)


def test_weights_of_the_one_column_form_fit_any_size():
    network = build_model("alexnet(width=2)", (3, 224, 224), 5).eval()
    for size in ((63, 63), (64, 200), (131, 97)):
        assert network(torch.zeros(2, 3, *size)).shape == (2, 5)


def test_the_one_column_form_written_out():
    network = build_model("alexnet(width=2)", (3, 70, 95), 5).eval()
    weights, f = network.state_dict(), nn.functional
    x = torch.randn(2, 3, 70, 95)

    def layer(apply, x, name, **arguments):
        return apply(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **arguments)

    y = f.max_pool2d(layer(f.conv2d, x, "features.0", stride=4, padding=2).relu(), 3, 2)
    y = f.max_pool2d(layer(f.conv2d, y, "features.3", padding=2).relu(), 3, 2)
    for name in ("features.6", "features.8", "features.10"):
        y = layer(f.conv2d, y, name, padding=1).relu()
    y = f.adaptive_avg_pool2d(f.max_pool2d(y, 3, 2), 6).flatten(1)
    y = layer(f.linear, layer(f.linear, y, "classifier.1").relu(), "classifier.4").relu()
    torch.testing.assert_close(network(x), layer(f.linear, y, "classifier.6"))


def test_dropout_comes_before_both_hidden_layers_of_the_one_column_form_and_behind_them_in_2012():
    kinds = [type(m) for m in on_meta("alexnet").classifier]
    assert kinds == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]
    kinds = [type(m) for m in on_meta("alexnet-2012")][-7:]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_width_scales_every_layer():
    network = on_meta("alexnet(width=16)")
    filters = [m.out_channels for m in network.features if isinstance(m, nn.Conv2d)]
    assert filters == [16, 48, 96, 64, 64]
    assert [m.out_features for m in network.classifier if isinstance(m, nn.Linear)] == [1024, 1024, 1000]


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("shape", [(3, 62, 300), (1, 5, 5), (3, 40, 40)])
@pytest.mark.parametrize("name", ["alexnet", "alexnet-2012", "zfnet"])
def test_too_small_an_image_gets_the_smallest_size_that_fits(name, shape):
    with pytest.raises(ModelError) as caught:
        on_meta(name, shape, 3)
    assert "no window of" in caught.value.got
    size, other = re.search(r"--size (\w+), or another network: --model ([\w-]+)", caught.value.remedy).groups()
    sides = [int(side) for side in size.split("x")]
    height, width = sides * 2 if len(sides) == 1 else sides
    fitting = (shape[0], height, width)
    assert on_meta(name, fitting, 3)(torch.empty(2, *fitting, device="meta")).shape == (2, 3)
    assert build_model(other, shape, 3).eval()(torch.zeros(1, *shape)).shape == (1, 3)
    smallest = min(height, width)
    with pytest.raises(ModelError):
        on_meta(name, (shape[0], smallest - 1, smallest), 3)


@pytest.mark.parametrize("shape", [(13,), (1, 100), (1, 70, 70, 70)])
def test_what_is_no_image_gets_a_network_that_takes_it(shape):
    with pytest.raises(ModelError) as caught:
        on_meta("alexnet-2012", shape, 3)
    other = re.search(r"--model ([\w-]+)", caught.value.remedy).group(1)
    on_meta(other, shape, 3)


def test_printed_first_weights():
    torch.manual_seed(0)
    network = build_model("alexnet-2012(init=printed)", (1, 67, 67), 10)
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.all(layer.bias == (name in ones))
            if name != "fc8":
                assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.02)


def test_the_signal_keeps_its_strength_with_he_weights():
    torch.manual_seed(0)
    network = build_model("alexnet(width=8)", (3, 63, 63), 10).eval()
    with torch.no_grad():
        before = network.classifier[:6](network.avgpool(network.features(torch.randn(8, 3, 63, 63))).flatten(1))
    assert 0.3 < float(before.square().mean()) < 10
