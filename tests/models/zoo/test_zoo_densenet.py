"""DenseNet: layers of the names, what a dense block keeps, small images."""

from __future__ import annotations

import math

import pytest
import torch
from meta_networks import on_meta
from torch import nn

from striate.account.summarize import count_parameters
from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.zoo.densenet import DenseBlock, DenseLayer, DenseNet

NAMES = {"densenet121": 7_978_856, "densenet161": 28_681_000, "densenet169": 14_149_480, "densenet201": 20_013_928}
SMALL = "densenet121(growth=4,width=8{})"


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", NAMES)
def test_the_name_counts_the_layers_with_weights(name):
    network = on_meta(name)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(name.removeprefix("densenet"))
    assert count_parameters(network) == NAMES[name]


def test_maps_have_the_sizes_of_the_papers_table():
    network, sizes = on_meta("densenet121").eval(), {}
    for name, part in network.features.named_children():
        part.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert [sizes[f"denseblock{k}"] for k in (1, 2, 3, 4)] == [
        (256, 56, 56),
        (512, 28, 28),
        (1024, 14, 14),
        (1024, 7, 7),
    ]
    assert [sizes[f"transition{k}"] for k in (1, 2, 3)] == [(128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_a_dense_block_keeps_its_input_and_every_layer_sees_all_before():
    torch.manual_seed(0)
    block, x = DenseBlock(6, 3, 4).eval(), torch.randn(2, 6, 5, 5)
    out = block(x)
    assert out.shape == (2, 6 + 3 * 4, 5, 5)
    assert torch.equal(out[:, :6], x)
    for number, layer in enumerate(block.values()):
        before = 6 + number * 4
        assert torch.equal(layer(out[:, :before]), out[:, before : before + 4])


def test_a_dense_layer_without_weights_adds_nothing():
    layer = DenseLayer(3, 2)
    nn.init.zeros_(layer.conv2.weight)
    assert torch.equal(layer(torch.randn(2, 3, 4, 4)), torch.zeros(2, 2, 4, 4))
    assert layer.conv1.out_channels == 8, "four times the growth rate"


@pytest.mark.slow
def test_growth_and_width_are_channels():
    network = on_meta("densenet121(growth=5,width=10)", (3, 32, 32), 4)
    assert network.features.conv0.out_channels == 10
    assert network.features.denseblock1["denselayer1"].conv2.out_channels == 5
    assert network.features.transition1.conv.in_channels == 10 + 6 * 5


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "least"), [("", 29), (",stem=small", 8)])
def test_the_smallest_size_runs_and_one_less_is_explained(stem, least):
    network = on_meta(SMALL.format(stem), (1, least, least + 9), 3).eval()
    assert network(torch.empty(1, 1, least, least + 9, device="meta")).shape == (1, 3)
    with pytest.raises(ModelError) as caught:
        on_meta(SMALL.format(stem), (1, least + 9, least - 1), 3)
    assert f"--size {least + 9}x{least}" in caught.value.remedy
    other = caught.value.remedy.rpartition("--model ")[2].strip("'")
    assert other == ("small-cnn" if stem else "densenet121(stem=small)")
    assert on_meta(other, (1, least + 9, least - 1), 3) is not None


@pytest.mark.slow
def test_the_small_stem_keeps_more_of_a_small_image():
    maps = {}
    for stem in ("", ",stem=small"):
        network = on_meta(SMALL.format(stem), (3, 32, 32), 10).eval()
        network.features.register_forward_hook(lambda _m, _i, out, stem=stem: maps.update({stem: tuple(out.shape[2:])}))
        network(torch.empty(1, 3, 32, 32, device="meta"))
    assert maps == {"": (1, 1), ",stem=small": (4, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10])
def test_the_loss_begins_near_that_of_a_guess_and_every_parameter_learns(classes):
    torch.manual_seed(0)
    network = build_model(SMALL.format(",stem=small"), (1, 16, 16), classes)
    logits = network(torch.randn(16, 1, 16, 16))
    loss = nn.functional.cross_entropy(logits, torch.randint(classes, (16,)))
    assert float(loss.detach()) == pytest.approx(math.log(classes), rel=0.1)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("older", "now"),
    [
        ("features.denseblock1.denselayer1.norm.1.weight", "features.denseblock1.denselayer1.norm1.weight"),
        ("features.denseblock3.denselayer12.conv.2.weight", "features.denseblock3.denselayer12.conv2.weight"),
        ("features.denseblock1.denselayer1.norm.1.running_var", "features.denseblock1.denselayer1.norm1.running_var"),
        ("features.transition1.norm.weight", "features.transition1.norm.weight"),
        ("features.denseblock1.denselayer1.norm1.weight", "features.denseblock1.denselayer1.norm1.weight"),
        ("classifier.bias", "classifier.bias"),
    ],
)
def test_names_of_before_2018_are_understood(older, now):
    assert DenseNet.older_name(older) == now


def test_tables_and_signals_are_refused_with_a_network_that_takes_them():
    for shape in ((10,), (3, 40)):
        with pytest.raises(ModelError) as caught:
            on_meta("densenet121", shape, 3)
        assert on_meta(caught.value.remedy.rpartition("--model ")[2], shape, 3) is not None
