"""The layers that only LeNet-5 has: what they compute, and that they stand what every layer has to."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from striate.layers.activations import ScaledTanh
from striate.layers.convolution import PartialConvolution
from striate.layers.pooling import Subsampling
from striate.layers.radial_basis import RadialBasis

TABLE = ((0, 2), (1,), (3, 1, 0))
MAPS = torch.randn(2, 4, 7, 6, generator=torch.Generator().manual_seed(1))
VECTORS = MAPS.flatten(1)[:, :6]
CASES = {
    "partial_convolution": (lambda: PartialConvolution(4, TABLE, 3), MAPS),
    "subsampling": (lambda: Subsampling(4), MAPS),
    "scaled_tanh": (ScaledTanh, MAPS),
    "radial_basis": (lambda: RadialBasis([[1, -1] * 3, [1] * 6, [-1] * 6]), VECTORS),
}
every = pytest.mark.parametrize("name", CASES)


def made(name):
    torch.manual_seed(0)
    make, x = CASES[name]
    return make(), x.clone()


def test_a_partial_convolution_sums_over_what_it_sees():
    layer = PartialConvolution(4, TABLE, 3)
    assert (layer.weight.shape, layer.bias.shape) == ((6, 3, 3), (3,))
    wanted, place = torch.empty(2, 3, 5, 4), 0
    for number, seen in enumerate(TABLE):
        kernels = layer.weight[place : place + len(seen)]
        place += len(seen)
        wanted[:, number] = layer.bias[number] + sum(
            nn.functional.conv2d(MAPS[:, channel : channel + 1], kernel[None, None])[:, 0]
            for channel, kernel in zip(seen, kernels, strict=True)
        )
    torch.testing.assert_close(layer(MAPS), wanted)


def test_a_full_table_is_a_convolution():
    layer, plain = PartialConvolution(4, [range(4)] * 5, 3), nn.Conv2d(4, 5, 3)
    with torch.no_grad():
        layer.weight.copy_(plain.weight.reshape(20, 3, 3))
        layer.bias.copy_(plain.bias)
    torch.testing.assert_close(layer(MAPS), plain(MAPS))


def test_first_weights_go_by_what_each_map_sees():
    torch.manual_seed(0)
    layer = PartialConvolution(40, [range(1), range(40)], 5)
    for kernels, fan_in in ((layer.weight[:1], 25), (layer.weight[1:], 1000)):
        assert 0.8 < float(kernels.detach().abs().max()) * fan_in**0.5 <= 1


@pytest.mark.parametrize("table", [[[0], []], [[0, 0]], [[4]], [[-1]]])
def test_a_table_that_cannot_be(table):
    with pytest.raises(ValueError, match=f"map {len(table) - 1} sees"):
        PartialConvolution(4, table, 3)


def test_subsampling_is_a_coefficient_times_the_sum_and_a_bias():
    layer = Subsampling(4, 3)
    torch.testing.assert_close(layer(MAPS), nn.functional.avg_pool2d(MAPS, 3))
    with torch.no_grad():
        layer.weight[:, 0, 0] = torch.tensor([0.0, 1.0, 2.0, -1.0])
        layer.bias[:] = torch.arange(4)
    sums = MAPS[:, :, :6].reshape(2, 4, 2, 3, 2, 3).sum((3, 5))
    wanted = sums * torch.tensor([0, 1, 2, -1])[:, None, None] + torch.arange(4)[:, None, None]
    torch.testing.assert_close(layer(MAPS), wanted)


def test_the_scaled_tanh_is_one_at_one_and_bends_most_there():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    y = ScaledTanh()(x)
    assert float(y[400]) == pytest.approx(1, abs=1e-4)
    assert float(y[200]) == pytest.approx(-1, abs=1e-4)
    second = np.gradient(np.gradient(y.numpy(), 0.01), 0.01)
    assert x[np.abs(second).argmax()].abs() == pytest.approx(1, abs=0.02)


def test_radial_basis_units_give_minus_the_squared_distance():
    layer = RadialBasis([[1, 0], [0, -2], [3, 4]])
    assert layer(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[-1, -4, -25], [-20, -45, 0]]
    with pytest.raises(ValueError, match="codes"):
        RadialBasis([[1, 0], [1]])


@every
def test_copy_state_and_meta_device(name):
    layer, x = made(name)
    expected = layer(x)
    with torch.device("meta"):
        empty = CASES[name][0]()
    assert empty(x.to("meta")).shape == expected.shape
    empty.to_empty(device="cpu").load_state_dict(layer.state_dict())
    torch.testing.assert_close(empty(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)


@every
def test_precision_and_layout(name):
    layer, x = made(name)
    expected = layer(x)
    torch.testing.assert_close(copy.deepcopy(layer).double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), expected, rtol=0.03, atol=0.03)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    torch.testing.assert_close(half.float(), expected, rtol=0.06, atol=0.06)
    if x.ndim == 4:
        turned = copy.deepcopy(layer).to(memory_format=torch.channels_last)
        torch.testing.assert_close(turned(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.each_nth(4)
@every
def test_gradients_are_those_of_differences(name):
    layer, x = made(name)
    assert torch.autograd.gradcheck(layer.double(), (x.double().requires_grad_(),))
    names = [name for name, _ in layer.named_parameters()]

    def of_parameters(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x.double(),))

    if names:
        assert torch.autograd.gradcheck(of_parameters, tuple(layer.parameters()))


@pytest.mark.slow
@pytest.mark.each_nth(6)
@every
def test_export_and_one_graph_for_the_compiler(name):
    layer, x = made(name)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    more = torch.cat([x, x, x])
    torch.testing.assert_close(program.module()(more), layer(more))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
