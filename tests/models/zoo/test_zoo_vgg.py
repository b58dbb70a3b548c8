"""VGG: table 2 of the paper, heads, width, sizes."""

import math
import re

import pytest
import torch
from meta_networks import on_meta
from torch import nn

from striate.account.summarize import count_parameters
from striate.errors import ModelError
from striate.models.build import build_model

# Millions of parameters in table 2 of the paper; layers with weights.
TABLE = {"vgg11": (133, 11), "vgg13": (133, 13), "vgg16": (138, 16), "vgg19": (144, 19)}


@pytest.mark.parametrize("name", TABLE)
def test_depth_and_parameters_of_the_paper(name):
    network = on_meta(name)
    millions, depth = TABLE[name]
    assert round(count_parameters(network) / 1e6) == millions
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules()) == depth
    assert all(m.kernel_size == (3, 3) for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", TABLE)
def test_batch_normalization_adds_two_numbers_a_map_and_nothing_else(name):
    plain, normalized = on_meta(name), on_meta(f"{name}_bn")
    maps = sum(m.out_channels for m in plain.features if isinstance(m, nn.Conv2d))
    assert count_parameters(normalized) - count_parameters(plain) == 2 * maps
    kinds = [type(m) for m in normalized.features if not isinstance(m, nn.BatchNorm2d)]
    assert kinds == [type(m) for m in plain.features]
    for before, layer in zip(normalized.features, normalized.features[1:], strict=False):
        assert isinstance(layer, nn.BatchNorm2d) == isinstance(before, nn.Conv2d)


def test_most_of_vgg16_is_in_one_layer():
    network = on_meta("vgg16")
    assert network.classifier[0].weight.numel() == 102_760_448
    assert count_parameters(network.features) == 14_714_688


def test_small_head():
    network = on_meta("vgg16(head=small)", (3, 32, 32), 10)
    assert count_parameters(network) == 14_714_688 + 512 * 10 + 10
    assert network(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    narrow = build_model("vgg11(width=4,head=small)", (3, 64, 64), 3).eval()
    x = torch.rand(2, 3, 64, 64)
    expected = narrow.classifier(narrow.features(x).mean((2, 3)))
    torch.testing.assert_close(narrow(x), expected)


def test_published_head_repeats_small_maps():
    network = build_model("vgg11(width=4)", (3, 32, 32), 3).eval()
    x = torch.rand(2, 3, 32, 32)
    maps = network.features(x)
    assert maps.shape == (2, 32, 1, 1)
    repeated = maps.expand(-1, -1, 7, 7).flatten(1)
    torch.testing.assert_close(network(x), network.classifier(repeated))


def test_written_out():
    torch.manual_seed(0)
    network = build_model("vgg11_bn(width=2)", (3, 40, 66), 5).eval()
    for name, buffer in network.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.1, 0.2)
    weights, f = network.state_dict(), nn.functional
    y = x = torch.randn(2, 3, 40, 66)
    for number, pooled in zip((0, 4, 8, 11, 15, 18, 22, 25), (1, 1, 0, 1, 0, 1, 0, 1), strict=True):
        y = f.conv2d(y, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1)
        statistics = [
            weights[f"features.{number + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        ]
        y = f.batch_norm(y, *statistics, eps=1e-5).relu()
        y = f.max_pool2d(y, 2) if pooled else y
    y = f.adaptive_avg_pool2d(y, 7).flatten(1)
    for number in (0, 3, 6):
        y = f.linear(y, weights[f"classifier.{number}.weight"], weights[f"classifier.{number}.bias"])
        y = y.relu() if number < 6 else y
    torch.testing.assert_close(network(x), y)


def test_width_scales_every_layer():
    network = on_meta("vgg13(width=8)")
    filters = [m.out_channels for m in network.features if isinstance(m, nn.Conv2d)]
    assert filters == [8, 8, 16, 16, 32, 32, 64, 64, 64, 64]
    assert [m.out_features for m in network.classifier if isinstance(m, nn.Linear)] == [512, 512, 1000]


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (64, 47)])
def test_any_size_from_32(size):
    network = build_model("vgg11_bn(width=4)", (1, 224, 224), 3).eval()
    assert network(torch.zeros(2, 1, *size)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 31, 200)])
def test_too_small_an_image_gets_the_smallest_size_that_fits(shape):
    with pytest.raises(ModelError) as caught:
        on_meta("vgg16", shape, 3)
    assert "→ 1, and no window of 2 fits into 1" in caught.value.got
    size = re.search(r"--size (\w+)", caught.value.remedy).group(1)
    height, _, width = size.partition("x")
    fitting = (shape[0], int(height), int(width or height))
    assert on_meta("vgg16", fitting, 3)(torch.empty(1, *fitting, device="meta")).shape == (1, 3)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("model", ["vgg16(width=8)", "vgg16_bn(width=8)", "vgg11(width=8,head=small)"])
def test_the_loss_begins_near_that_of_a_guess(model):
    torch.manual_seed(0)
    network = build_model(model, (3, 32, 32), 10)
    with torch.no_grad():
        logits = network(torch.randn(16, 3, 32, 32))
    loss = nn.functional.cross_entropy(logits, torch.randint(10, (16,)))
    assert float(loss) == pytest.approx(math.log(10), rel=0.2)
