"""Residual networks, wide ones and ResNeXt: depth and sizes of the papers, small forms, groups, errors."""

import functools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.registry import MODELS
from striate.models.zoo.resnet import BasicBlock, Bottleneck, projected_block

FAMILY = [name for name in MODELS if re.fullmatch(r"(wide_)?resne[x]?t\d+(_\w+)?", name) and MODELS[name].weights]
GROUPED = [name for name in FAMILY if name.startswith("resnext")]
SMALL = {name: 16 if name in GROUPED else 4 for name in FAMILY}
"""Widths that make a network light."""


def deep_ones_are_slow(names):
    return [pytest.param(n, marks=pytest.mark.slow if "101" in n or "152" in n else ()) for n in names]


@functools.cache
def on_meta(name):
    with torch.device("meta"):
        return build_model(name).eval()


def last_map(network, height, width):
    """The size of the map that the mean is taken of."""
    sizes = []
    handle = network.avgpool.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    with handle, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return sizes[0]


def test_the_family_is_complete():
    assert len(FAMILY) == 10
    assert len(GROUPED) == 3


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", FAMILY)
def test_as_many_layers_with_weights_as_the_name_says(name):
    weighted = [
        path
        for path, module in on_meta(name).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in path
    ]
    assert len(weighted) == int(re.search(r"\d+", name).group())


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_sizes_and_channels_of_the_stages_are_those_of_table_1(name):
    network, maps = on_meta(name), {}
    handles = [
        child.register_forward_hook(lambda _, __, out, key=key: maps.update({key: tuple(out.shape[1:])}))
        for key, child in network.named_children()
    ]
    network(torch.empty(1, 3, 224, 224, device="meta"))
    for handle in handles:
        handle.remove()
    times = 1 if name == "resnet34" else 4
    assert maps["conv1"] == (64, 112, 112)
    assert maps["maxpool"] == (64, 56, 56)
    sizes = zip((64, 128, 256, 512), (56, 28, 14, 7), strict=True)
    assert [maps[f"layer{n}"] for n in (1, 2, 3, 4)] == [(times * c, size, size) for c, size in sizes]


def test_a_bottleneck_halves_in_its_3x3_convolution():
    strides = {key: module.stride for key, module in on_meta("resnet50").layer2[0].named_modules() if "conv" in key}
    assert strides == {"conv1": (1, 1), "conv2": (2, 2), "conv3": (1, 1)}


@pytest.mark.slow
@settings(max_examples=15)
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_any_size_is_divided_by_32_or_by_8_in_the_small_form(height, width):
    for name, divisor in (("resnet18(width=2)", 32), ("resnet18(width=2,stem=small)", 8)):
        assert last_map(on_meta(name), height, width) == (-(-height // divisor), -(-width // divisor))


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", deep_ones_are_slow(FAMILY))
def test_the_catalog_says_by_how_much_sizes_are_divided_and_which_form_keeps_more(name):
    info = MODELS[name]
    assert last_map(on_meta(name), 32, 64) == (32 // info.reduction, 64 // info.reduction)
    assert last_map(on_meta(info.small_form), 32, 64) == (4, 8)


def test_the_small_form_differs_in_the_first_filters_only():
    usual, small = (build_model(f"resnet18(width=4{stem})", (3, 32, 32), 5) for stem in ("", ",stem=small"))
    shapes = [{key: tuple(t.shape) for key, t in network.state_dict().items()} for network in (usual, small)]
    assert shapes[0].pop("conv1.weight") == (4, 3, 7, 7)
    assert shapes[1].pop("conv1.weight") == (4, 3, 3, 3)
    assert shapes[0] == shapes[1]
    assert not hasattr(small, "maxpool")


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", deep_ones_are_slow(FAMILY))
def test_half_the_width_halves_every_channel(name):
    usual, half = (on_meta(text).state_dict() for text in (name, f"{name}(width=32)"))
    for key, tensor in usual.items():
        if key.startswith("fc.bias") or tensor.dim() == 0:
            continue
        ratios = [a / b for a, b in zip(tensor.shape[:2], half[key].shape[:2], strict=True)]
        fixed = [2.0, 1.0] if key == "conv1.weight" else [1.0, 2.0] if key == "fc.weight" else [2.0] * len(ratios)
        assert ratios == fixed, key


@pytest.mark.parametrize(("wide", "plain"), [("wide_resnet50_2", "resnet50"), ("wide_resnet101_2", "resnet101")])
def test_a_wide_network_has_twice_the_channels_inside_its_blocks_only(wide, plain):
    for block, narrow in zip(on_meta(wide).layer3, on_meta(plain).layer3, strict=True):
        assert block.conv2.weight.shape[:2] == tuple(2 * size for size in narrow.conv2.weight.shape[:2])
        assert block.bn3.num_features == narrow.bn3.num_features


@pytest.mark.parametrize("name", GROUPED)
def test_groups_and_their_width_are_those_of_the_name(name):
    groups, width = map(int, re.search(r"_(\d+)x(\d+)d", name).groups())
    for stage in range(4):
        for block in getattr(on_meta(name), f"layer{stage + 1}"):
            assert block.conv2.groups == groups
            assert block.conv2.weight.shape[:2] == (groups * width << stage, width << stage)


def test_a_group_sees_its_own_channels_only():
    block = Bottleneck(16, 16, 1, widening=2, groups=4)
    x = torch.randn(1, 8, 5, 5)
    changed = x.clone()
    changed[:, 2:4] += 1
    differs = (block.conv2(x) != block.conv2(changed)).any(dim=(0, 2, 3)).tolist()
    assert differs == [False] * 2 + [True] * 2 + [False] * 4


@pytest.mark.parametrize("make", [projected_block, Bottleneck])
def test_a_fresh_block_is_its_shortcut(make):
    x = torch.randn(3, 8, 5, 6)
    same, smaller = make(8, 8, 1), make(8, 16, 2)
    assert torch.equal(same(x), x.relu())
    assert same.downsample is None
    assert torch.equal(smaller(x), smaller.downsample(x).relu())
    assert smaller(x).shape == (3, 16, 3, 3)


def test_a_block_adds_what_its_convolutions_find_to_its_input():
    block = BasicBlock(2, 2, 1, None).eval()
    with torch.no_grad():
        block.bn2.weight.fill_(1)
        for conv, scale in ((block.conv1, 2.0), (block.conv2, 3.0)):
            nn.init.dirac_(conv.weight)
            conv.weight.mul_(scale)
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(block(x), torch.relu(x + 6 * x.relu()), rtol=1e-4, atol=1e-5)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 32)])
def test_images_of_any_channels_and_size_down_to_one_pixel(channels, size):
    network = build_model("resnet18(width=4)", (channels, *size), 6).eval()
    assert network(torch.randn(2, channels, *size)).shape == (2, 6)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", deep_ones_are_slow(FAMILY))
def test_the_loss_begins_near_that_of_a_guess(name):
    torch.manual_seed(0)
    network = build_model(f"{name}(width={SMALL[name]})", (3, 32, 32), 10)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10)
    assert float(loss) == pytest.approx(math.log(10), rel=0.1)


@pytest.mark.parametrize("name", ["resnet18(width=4)", "resnext50_32x4d(width=16)"])
def test_every_module_runs_once_and_none_changes_what_another_gave(name):
    network, given_out = build_model(name, (3, 32, 32), 10), {}

    def keep(module, _, out):
        assert module not in given_out
        given_out[module] = (out, out.detach().clone())

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(keep)
    network(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(out, copy) for out, copy in given_out.values())


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("text", "widened", "nearest"),
    [
        ("resnext50_32x4d(width=20)", "2·20 = 40 channels in 32 groups", "resnext50_32x4d(width=16)"),
        ("resnext50_32x4d(width=3,stem=small)", "2·3 = 6", "resnext50_32x4d(width=16, stem=small)"),
        ("resnext101_64x4d(width=25)", "4·25 = 100 channels in 64 groups", "resnext101_64x4d(width=32)"),
        ("senet154(width=16)", "2·16 = 32 channels in 64 groups", "senet154(width=32)"),
    ],
)
def test_a_width_that_groups_do_not_divide_gets_the_nearest_that_they_do(text, widened, nearest):
    with torch.device("meta"), pytest.raises(ModelError) as caught:
        build_model(text, (3, 32, 32), 10)
    assert widened in caught.value.got
    assert caught.value.remedy == f'write "{nearest}"'
    with torch.device("meta"):
        build_model(nearest, (3, 32, 32), 10)
