"""LeNet-5 as printed: parameters and connections of the paper, layer by layer; its codes; sizes."""

import math
import re

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.pooling import Subsampling
from striate.layers.radial_basis import RadialBasis
from striate.models.build import build_model
from striate.models.zoo.lenet import CONNECTIONS, output_codes

PARAMETERS = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
LINKS = {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164, "output": 840}
"""Connections, as section II-B of the paper counts them: a bias is one, in each unit that has it."""


def own(module):
    return sum(p.numel() for p in module.parameters())


def connections(module, output):
    positions = math.prod(output.shape[2:])
    if isinstance(module, Subsampling):
        return output[0].numel() * (module.size**2 + 1)  # four inputs share one coefficient
    if isinstance(module, RadialBasis):
        return sum(map(len, module.codes))
    return positions * own(module)


def test_parameters_and_connections_of_the_paper():
    network = build_model("lenet5-1998")
    x, found = torch.zeros(1, 1, 32, 32), {}
    for name, module in network.named_children():
        x = module(x)
        if name in LINKS:
            found[name] = connections(module, x)
    assert {name: own(network.get_submodule(name)) for name in PARAMETERS} == PARAMETERS
    assert own(network) == 60_000
    assert found == LINKS
    assert sum(found.values()) == 340_908


def test_maps_have_the_sizes_of_figure_2():
    network, shapes = build_model("lenet5-1998"), {}
    x = torch.zeros(1, 1, 32, 32)
    for name, module in network.named_children():
        x = module(x)
        shapes[name] = tuple(x.shape[1:])
    assert [shapes[name] for name in PARAMETERS] == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,),
    ]  # fmt: skip


def test_the_connection_table():
    assert [len(seen) for seen in CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    assert len(set(CONNECTIONS)) == 16
    # Every map of S2 is seen equally often, 10 times, as in table I.
    assert [sum(channel in seen for seen in CONNECTIONS) for channel in range(6)] == [10] * 6
    convolution = build_model("lenet5-1998").c3
    x = torch.zeros(1, 6, 5, 5)
    base = convolution(x)
    for channel in range(6):
        changed = x.clone()
        changed[0, channel] = 1
        differ = (convolution(changed) - base).flatten().abs() > 1e-7
        assert [k for k in range(16) if differ[k]] == [k for k, seen in enumerate(CONNECTIONS) if channel in seen]


def test_the_answer_is_the_nearest_bitmap():
    codes = torch.tensor(output_codes(10))
    network = build_model("lenet5-1998")
    assert network.output(codes).argmax(1).tolist() == list(range(10))
    torch.testing.assert_close(network.output(codes).diagonal(), torch.zeros(10))
    apart = -network.output(codes) / 4 + 84 * torch.eye(10)
    assert apart.min() >= 8  # pixels; the most alike are 3 and 8


def test_bitmaps_look_like_digits():
    """Those of one shape: 0, 1 and 8 are nearly the same upside down, and 6 is the 9 turned around."""
    bitmaps = torch.tensor(output_codes(10)).reshape(10, 12, 7)
    assert set(bitmaps.unique().tolist()) == {-1.0, 1.0}
    ink = bitmaps[:, 1:10]
    assert bool((ink[0] == ink[0].flip(0)).all())
    assert int((ink[8] != ink[8].flip(0)).sum()) <= 4 * 2
    assert int((ink[6] != ink[9].flip(0, 1)).sum()) <= 4
    assert not bool((bitmaps[:, [0, 10, 11]] == 1).any())


def test_codes_of_other_numbers_of_classes():
    codes = torch.tensor(output_codes(100))
    assert codes.shape == (100, 84)
    assert output_codes(100) == output_codes(100)
    assert output_codes(26)[:2] != output_codes(10)[:2]
    different = (84 - codes @ codes.T) / 2 + 84 * torch.eye(100)
    assert different.min() >= 20
    assert float(((84 - codes @ codes.T) / 2)[~torch.eye(100, dtype=torch.bool)].mean()) == pytest.approx(42, abs=1)
    assert build_model("lenet5-1998", (1, 28, 28), 26)(torch.zeros(2, 1, 28, 28)).shape == (2, 26)


def test_28_and_32_pixels_have_the_same_weights():
    small, large = build_model("lenet5-1998", (1, 28, 28), 10), build_model("lenet5-1998", (1, 32, 32), 10)
    small.load_state_dict(large.state_dict())
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(small(x), large(nn.functional.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 40), (2, 64, 33)])
def test_other_sizes(shape):
    network = build_model("lenet5-1998", shape, 4)
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


def test_too_small_an_image():
    with pytest.raises(ModelError) as caught:
        build_model("lenet5-1998", (1, 8, 30), 10)
    assert re.search(r"--size (\w+)", caught.value.remedy).group(1) == "12x30"
    build_model("lenet5-1998", (1, 12, 30), 10)


def test_the_codes_are_neither_trained_nor_saved():
    network = build_model("lenet5-1998")
    assert not any(name.startswith("output") for name in [*network.state_dict(), *dict(network.named_parameters())])


def test_first_weights_are_uniform_by_the_fan_in_of_each_unit():
    torch.manual_seed(0)
    network = build_model("lenet5-1998")
    c3 = network.c3.weight.split([len(seen) for seen in CONNECTIONS])
    bounds = [(network.c1.weight, 25), (network.s2.weight, 4), (network.c5.weight, 400), (network.f6.bias, 120)]
    for values, fan_in in [*bounds, *((kernels, 25 * len(kernels)) for kernels in c3)]:
        largest = float(values.detach().abs().max()) * fan_in / 2.4
        assert (0.9 if values.numel() > 20 else 0.5) < largest <= 1


@pytest.mark.parametrize("classes", [10, 26])
def test_the_loss_begins_near_that_of_a_guess_and_every_weight_learns(classes):
    torch.manual_seed(0)
    network = build_model("lenet5-1998", (1, 28, 28), classes)
    logits = network(torch.randn(64, 1, 28, 28))
    loss = nn.functional.cross_entropy(logits, torch.randint(classes, (64,)))
    assert float(loss.detach()) == pytest.approx(math.log(classes), rel=0.05)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())
