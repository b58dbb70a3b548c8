"""Spec to modules: shapes, names, initialization, and errors with the arithmetic."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from striate.account.summarize import count_parameters
from striate.errors import LayerStringError, ModelError
from striate.models.from_spec import build_network, build_plan
from striate.models.initialization.initialize import OUTPUT_SCALE
from striate.models.layer_strings.fault import Fault
from striate.models.layer_strings.layer_string import parse_layers, read_layers
from striate.models.layer_strings.shapes import plan_network, read_plan
from striate.models.layer_strings.spec import Layer, Network

EVERYTHING = (
    "local(6,3,pad=same) lcn lrn bn leaky l2pool(2) chpool(3) gn(3) ln prelu elu(0.5) sigmoid tanh swish maxout(2) "
    "up(2) avgpool(2) pool(1) dropout softmax res[conv(5,3,stride=2,pad=1)] gap ln bn gn(1) fc(4) softmax"
)


@pytest.mark.parametrize("shape", [(4, 14), (4, 14, 11), (4, 6, 7, 5)])
def test_every_word_on_one_two_and_three_axes(shape):
    network = build_network(EVERYTHING, shape)
    out = network(torch.randn(3, *shape))
    out[:, 0].sum().backward()
    assert out.shape == (3, 4)
    torch.testing.assert_close(out.sum(1), torch.ones(3))
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_children_are_plain_modules_with_readable_names():
    network = build_network("2*[conv(8,3) relu] pool(2) res[conv(4,1) bn] fc(3)", (1, 12, 12))
    assert [name for name, _ in network.named_children()] == [
        "conv1", "relu1", "conv2", "relu2", "pool1", "res1", "flatten1", "fc1",
    ]  # fmt: skip
    assert type(network) is nn.Sequential
    assert "res1.body.conv3.weight" in network.state_dict()
    assert network.conv1.padding == (0, 0)


def test_parameter_count_of_the_lectures_network():
    text = "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu dropout(0.5) fc(10)"
    assert count_parameters(build_network(text, (1, 28, 28))) == 35_330


def test_a_spec_made_by_hand_is_built_and_its_errors_point_into_its_text():
    network = Network((Layer("conv", (("filters", 2), ("kernel", 3))), Layer("fc", (("n", 4),))))
    assert build_network(network, (1, 8, 8))(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    with pytest.raises(LayerStringError) as caught:
        build_network(Network((Layer("relu"), *network.items)), (1, 2, 2))
    assert caught.value.position == len("relu ")


@pytest.mark.parametrize(
    ("text", "shape", "shortcut"),
    [
        ("res[conv(3,3,pad=1)]", (3, 8, 8), None),
        ("res[conv(5,3,pad=1)]", (3, 8, 8), (5, 3, 1, 1)),
        ("res[conv(3,3,stride=2,pad=1)]", (3, 9, 8), (3, 3, 1, 1)),
        ("res[fc(4)]", (4,), None),
        ("res[fc(6)]", (4,), (6, 4)),
    ],
)
def test_residual_blocks_project_where_shapes_differ(text, shape, shortcut):
    network = build_network(text, shape)
    module = network.res1.shortcut
    assert (None if module is None else tuple(module.weight.shape)) == shortcut
    x = torch.randn(2, *shape)
    added = x if module is None else module(x)
    torch.testing.assert_close(network(x), network.res1.body(x) + added)


def test_upsampling_repeats_the_nearest():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    expected = np.repeat(x.numpy(), 3, axis=3)
    np.testing.assert_array_equal(build_network("up(1x3)", (1, 2, 2))(x).numpy(), expected)


def test_layer_norm_of_a_map_is_over_the_whole_sample():
    x = 3 + 2 * torch.randn(2, 4, 5, 6)
    out = build_network("ln", (4, 5, 6))(x).detach()
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((1, 2, 3), correction=0), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes_are_those_of_torch(mode):
    network = build_network(f"conv(2,3,pad=2,padding_mode={mode})", (1, 6, 6))
    assert network.conv1.padding_mode == mode
    assert network(torch.zeros(1, 1, 6, 6)).shape == (1, 2, 8, 8)


@pytest.fixture
def every_warning():
    """Torch warns of some things once a process, so that a second test would not hear of them."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(1, 9), (1, 7, 9), (1, 6, 7, 8)])
@pytest.mark.usefixtures("every_warning")
def test_same_padding_of_an_even_kernel_is_that_of_torch_without_its_warning(mode, shape):
    network = build_network(f"conv(3,4,pad=same,padding_mode={mode},dilation=1) relu", shape)
    kind = type(network.conv1)
    peer = kind(1, 3, 4, padding="same", padding_mode=mode)
    peer.load_state_dict(network.conv1.state_dict())
    x = torch.randn(2, *shape)
    out = network(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(out, peer(x).relu())
    assert "conv1.weight" in network.state_dict()


def test_same_padding_of_an_even_kernel_puts_one_more_after():
    network = build_network("conv(1,4,pad=same)", (1, 7, 9))
    local = build_network("local(1,4,pad=same)", (1, 7, 9))
    with torch.no_grad():
        local.local1.weight.copy_(network.conv1.weight.expand_as(local.local1.weight))
    x = torch.randn(2, 1, 7, 9)
    assert network(x).shape == (2, 1, 7, 9)
    torch.testing.assert_close(local(x), network(x))


@pytest.mark.parametrize(
    ("after", "variance"),
    [
        ("relu", 2 / 400),
        ("bn pool(2) dropout leaky(0.5)", 1.6 / 400),
        ("tanh", 0.25 / 400),
        ("fc(3)", 1 / 400),
    ],
)
def test_first_weights_follow_the_next_activation(after, variance):
    torch.manual_seed(0)
    network = build_network(f"conv(64,5) {after}", (16, 9, 9))
    weight = network.conv1.weight.detach()
    assert float(weight.var()) == pytest.approx(variance, rel=0.05)
    assert float(weight.mean().abs()) < 0.01
    assert not network.conv1.bias.any()


# Where nothing follows that would undo it: the layer whose initial weights are small.
@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("conv(64,5) relu fc(400)", ["fc1"]),
        ("conv(64,5) relu fc(400) softmax", ["fc1"]),
        ("conv(64,5) relu local(64,3) gap dropout", ["local1"]),
        ("conv(64,5) relu res[conv(64,3,pad=1) relu conv(80,3,pad=1)] gap", ["res1.body.conv3", "res1.shortcut"]),
        ("conv(64,5) relu fc(400) tanh", []),
        ("conv(64,5) relu fc(400) maxout(2)", ["fc1"]),
        ("conv(64,5) relu conv(64,3) bn gap", []),
    ],
)
def test_the_output_layer_starts_small(text, small):
    torch.manual_seed(0)
    found = []
    for name, module in build_network(text, (16, 9, 9)).named_modules():
        if "weight" in dict(module.named_parameters(recurse=False)) and not isinstance(module, nn.BatchNorm2d):
            weight = module.weight.detach()
            fan_in = module.fan_in if "local" in name else weight[0].numel()
            if float(weight.std()) * math.sqrt(fan_in) == pytest.approx(OUTPUT_SCALE, rel=0.05):
                found.append(name)
                assert module.bias is None or not module.bias.any()
    assert found == small


@pytest.mark.parametrize("shape", [(4, 14), (4, 14, 11), (4, 6, 7, 5)])
def test_biases_and_normalization_are_told_by_name_or_axes(shape):
    """What weight decay leaves out: parameters named bias, and those of one axis."""
    for name, p in build_network(EVERYTHING, shape).named_parameters():
        layer, _, kind = name.rpartition(".")
        if layer.rstrip("0123456789") in ("bn", "gn", "ln", "prelu"):
            assert p.ndim == 1, name
        elif kind == "weight":
            assert p.ndim > 1, name
        else:
            assert kind == "bias", name


def test_weights_follow_from_the_seed_alone():
    torch.manual_seed(3)
    first = build_network("conv(4,3) relu fc(2)", (1, 6, 6)).state_dict()
    torch.manual_seed(3)
    second = build_network("conv(4,3) relu fc(2)", (1, 6, 6)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


# text, input shape, character, part of the arithmetic, remedy (None: any that fits)
MISFITS = [
    ("conv(16,7)", (1, 5, 5), 0, "kernel 7 is larger than its map 5 + 2·0 padding = 5", "conv(16,5)"),
    ("relu conv(16,7,pad=1)", (1, 4, 9), 5, "4 + 2·1 padding = 6", "relu conv(16,6x7,pad=1)"),
    ("conv(2,5,dilation=3)", (3, 8, 8), 0, "spans 13", "conv(2,3,dilation=3)"),
    ("pool(3)", (1, 2), 0, "size 3 is larger than its map 2", "pool(2)"),
    ("local(2,3)", (1, 2, 9), 0, "kernel 3", "local(2,2x3)"),
    ("8*[conv(16,3) pool(2)] fc(10)", (1, 28, 28), 3, "map 1", "3*[conv(16,3) pool(2)] fc(10)"),
    ("conv(16,5) pool(2) conv(24,7) conv(30,7) fc(3)", (3, 16, 16), 19, "map 6", None),
    ("fc(9) conv(3,3)", (1, 8, 8), 6, "vector of 9 features", "fc(9) fc(3)"),
    ("flatten conv(3,3)", (1, 8, 8), 8, "vector of 64 features", "flatten fc(3)"),
    ("conv(3,3)", (13,), 0, "vector of 13 features", "fc(3)"),
    ("pool(2) fc(2)", (13,), 0, "tables and the outputs of", "fc(2)"),
    ("gap up(2)", (3, 4, 4), 4, "vector of 3", "gap"),
    ("gap gap", (3, 4, 4), 4, "vector", "gap"),
    ("lrn relu", (5,), 0, "vector", "relu"),
    ("res[pool(2)]", (5,), 4, "vector", None),
    ("conv(6,3,groups=2)", (3, 9, 9), 0, "a divisor of both, that is of 3", "conv(6,3)"),
    ("conv(6,3,groups=4)", (8, 9, 9), 0, "4 groups for 8 input channels and 6 filters", "conv(8,3,groups=4)"),
    ("gn(4)", (6, 9), 0, "4 groups for 6 channels", "gn(3)"),
    ("gap gn(6)", (6, 9), 4, "6 groups for 6 values", "gap gn(3)"),
    ("gn(1) tanh", (1, 1), 0, "1 group for 1 value", "tanh"),
    ("gn(2) gn(1)", (1, 1), 0, "2 groups for 1 channel", "relu"),
    ("maxout(4)", (6, 9), 0, "4 pieces for 6 channels", "maxout(3)"),
    ("fc(7) maxout(2)", (6,), 6, "2 pieces for 7", "fc(7) maxout(7)"),
    ("conv(8,3,stride=2,pad=same)", (3, 9), 0, "stride 2", "conv(8,3,stride=2,pad=1)"),
    ("conv(8,3x5) relu", (3, 9), 0, "2 axes on a map with 1", "conv(8,3) relu"),
    ("conv(8,3,stride=2x1)", (3, 9, 9, 9), 0, "`stride` 2x1", "conv(8,3,stride=2x1x1)"),
    ("pool(3,pad=2)", (1, 8, 8), 0, "at most half the window, 1", "pool(3,pad=1)"),
    ("conv(3,3,pad=9,padding_mode=reflect)", (3, 8, 8), 0, "at most 7", "conv(3,3,pad=9)"),
    ("conv(3,3,pad=9,padding_mode=circular)", (3, 8, 8), 0, "at most 8", "conv(3,3,pad=9)"),
    (
        "res[conv(16,3) relu conv(16,3)] fc(4)", (16, 28, 28), 0, "16×24×24 of 16×28×28",
        "res[conv(16,3,pad=same) relu conv(16,3,pad=same)] fc(4)",
    ),
    ("res[conv(4,2) pool(2)]", (4, 9), 0, "none gives 4", None),
    ("res[up(2)]", (1, 4, 4), 0, "8 is larger than 4", "up(2)"),
    ("res[fc(10)]", (1, 4, 4), 0, "10 of 1×4×4", "flatten res[fc(10)]"),
    ("fc(1000000) fc(1000000)", (3,), 12, "parameters", None),
    ("up(1000000)", (3, 4, 4), 0, "values a sample", None),
    ("conv(1,1,pad=1000000)", (3, 8, 8), 0, "values a sample", None),
    ("local(1000,9)", (64, 64, 64), 0, "parameters", None),
]  # fmt: skip


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("text", "shape", "position", "words", "remedy"), MISFITS, ids=[m[0][:30] for m in MISFITS])
def test_misfits_show_the_arithmetic_and_their_remedy_builds(text, shape, position, words, remedy):
    with pytest.raises(LayerStringError) as caught:
        plan_network(parse_layers(text), shape)
    error = caught.value
    assert error.position == position, error
    assert words in error.got + " " + error.expected, error
    mended = re.search(r'"(.*)"', error.remedy).group(1)
    network = build_network(mended, shape)
    network.eval()(torch.zeros(1, *shape))
    if remedy is not None:
        assert " ".join(mended.split()) == remedy


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 2, 3, 4, 5), (1, 2.5), (True, 3), (10**5, 10**5)])
def test_input_shapes_that_are_none_are_refused(shape):
    with pytest.raises(ModelError):
        build_network("relu", shape)


small = st.integers(1, 4)
shapes = (
    st.tuples(small, st.integers(1, 12))
    | st.tuples(small, st.integers(1, 9), st.integers(1, 9))
    | st.tuples(small, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
    | st.tuples(st.integers(1, 12))
)
plain = st.sampled_from(
    ["relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish", "softmax", "bn", "ln"]
) | st.sampled_from(["lrn", "lcn(3)", "gap", "flatten", "dropout", "fc(4)", "fc(6,bias=false)", "up"])
convolutions = st.builds(
    "{}({},{},stride={},pad={}{})".format,
    st.sampled_from(["conv", "local"]),
    small,
    small,
    st.integers(1, 3),
    st.sampled_from([0, 1, 2, "same"]),
    st.sampled_from(["", ",bias=false"]),
)
dilated = st.builds(
    "conv({},{},dilation={},groups={},padding_mode={},pad={})".format,
    small,
    small,
    small,
    st.integers(1, 2),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    st.integers(0, 2),
)
pools = st.builds(
    "{}({},stride={},pad={})".format, st.sampled_from(["pool", "avgpool", "l2pool"]), small, small, st.integers(0, 1)
)
divided = st.builds("{}({})".format, st.sampled_from(["gn", "maxout", "chpool"]), small)
words = plain | convolutions | dilated | pools | divided
groups = st.builds("{}[{} {}]".format, st.sampled_from(["res", "2*"]), words, words)


@settings(max_examples=150, deadline=None)
@given(st.lists(words | groups, min_size=1, max_size=5).map(" ".join), shapes)
def test_the_planned_shape_is_that_of_the_forward_pass(text, shape):
    try:
        plan = read_plan(read_layers(text), shape)
    except Fault:
        # What does not fit has a remedy, and what the remedy says fits.
        with pytest.raises(LayerStringError) as caught:
            plan_network(parse_layers(text), shape)
        mended = re.search(r'"(.*)"', caught.value.remedy)
        assert mended is not None, caught.value
        plan = plan_network(parse_layers(mended.group(1)), shape)
    assume(math.prod(plan.out_shape) < 10**6)
    network = build_plan(plan).eval()
    with torch.no_grad():
        assert tuple(network(torch.zeros(2, *shape)).shape) == (2, *plan.out_shape)
