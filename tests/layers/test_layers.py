"""The layers against naive NumPy loops."""

import ast
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from striate.errors import ShapeError, StriateError, UsageError
from striate.layers.activations import Maxout
from striate.layers.blocks import Residual, SqueezeExcitation
from striate.layers.convolution import LocallyConnected
from striate.layers.neocognitron import CCell, SCell
from striate.layers.normalization import LocalContrastNorm
from striate.layers.pooling import ChannelL2Pool, GlobalAveragePool, L2Pool
from striate.layers.radial_basis import RadialBasis

SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}


def sample(axes, channels=4, batch=2):
    return torch.randn(
        batch, channels, *SIZES[axes], dtype=torch.float64, generator=torch.Generator().manual_seed(axes)
    )


def windows(x, kernel, stride, pad):
    """(output position, window (N, C, *kernel)) of the zero-padded array."""
    axes = x.ndim - 2
    padded = np.pad(x, [(0, 0)] * 2 + [(pad, pad)] * axes)
    out = [(size + 2 * pad - kernel) // stride + 1 for size in x.shape[2:]]
    for position in itertools.product(*map(range, out)):
        place = tuple(slice(p * stride, p * stride + kernel) for p in position)
        yield position, padded[(slice(None), slice(None), *place)]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, None, 0), (3, 1, 1), (3, 2, 0)])
def test_l2_pool_is_the_root_of_summed_squares(axes, kernel, stride, pad):
    x = sample(axes)
    found = L2Pool(kernel, stride, pad)(x).numpy()
    for position, window in windows(x.numpy(), kernel, stride or kernel, pad):
        expected = np.sqrt((window**2).sum(axis=tuple(range(2, window.ndim))))
        np.testing.assert_allclose(found[(slice(None), slice(None), *position)], expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 1000])
@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (2, 5, 3, 4), (2, 5, 2, 3, 2)])
def test_channel_l2_pool_sums_over_the_window_around_each_channel(size, shape):
    x = np.random.default_rng(0).normal(size=shape)
    found = ChannelL2Pool(size)(torch.from_numpy(x)).numpy()
    for c in range(shape[1]):
        low, high = max(0, c - size // 2), min(shape[1], c + (size - 1) // 2 + 1)
        np.testing.assert_allclose(found[:, c], np.sqrt((x[:, low:high] ** 2).sum(axis=1)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (2, 6, 3, 4), (1, 6, 2, 3, 2)])
def test_maxout_is_the_largest_of_consecutive_channels(shape):
    x = np.random.default_rng(0).normal(size=shape)
    found = Maxout(3)(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found, np.stack([x[:, :3].max(1), x[:, 3:].max(1)], axis=1))


def test_maxout_gives_the_gradient_of_a_tie_to_one():
    x = torch.ones(1, 4, requires_grad=True)
    Maxout(2)(x).sum().backward()
    assert x.grad.tolist() in ([[1, 0, 1, 0]], [[0, 1, 0, 1]])


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 9])
def test_local_contrast_norm_follows_its_formula(axes, size):
    x = sample(axes).numpy()
    half, spatial = size // 2, x.shape[2:]

    def average(values):
        """Gaussian mean over the window inside the map and over all channels."""
        out = np.zeros((len(values), 1, *spatial))
        for center in itertools.product(*map(range, spatial)):
            total = 0.0
            for position in itertools.product(*map(range, spatial)):
                offsets = np.subtract(position, center)
                if np.abs(offsets).max() <= half:
                    weight = math.exp(-0.5 * float((offsets**2).sum()) / (size / 4) ** 2)
                    total += weight
                    out[(slice(None), 0, *center)] += weight * values[(slice(None), slice(None), *position)].mean(1)
            out[(slice(None), 0, *center)] /= total
        return out

    centered = x - average(x)
    spread = np.sqrt(average(centered**2))
    typical = spread.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    found = LocalContrastNorm(size)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, centered / np.maximum(spread, typical), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_its_two_parts_make_the_whole(axes):
    x = sample(axes)
    subtracted = LocalContrastNorm(5, "subtractive")(x)
    torch.testing.assert_close(LocalContrastNorm(5, "divisive")(subtracted), LocalContrastNorm(5)(x))
    ones = torch.ones_like(x)
    assert LocalContrastNorm(5, "subtractive")(ones).abs().max() < 1e-12
    torch.testing.assert_close(LocalContrastNorm(5, "divisive")(ones), ones)


def test_local_contrast_norm_of_a_constant_map_is_zero():
    assert LocalContrastNorm(5)(torch.full((1, 3, 8, 8), 7.0)).abs().max() < 1e-3


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 1, 0), (3, 2, 1), (1, 1, 0)])
def test_locally_connected_has_a_filter_bank_at_every_position(axes, kernel, stride, pad):
    x = sample(axes)
    layer = LocallyConnected(4, 3, SIZES[axes], kernel, stride, pad).double()
    found, weight, bias = (t.detach().numpy() for t in (layer(x), layer.weight, layer.bias))
    for position, window in windows(x.numpy(), kernel, stride, pad):
        flat = window.reshape(len(window), -1)
        expected = flat @ weight[position].reshape(3, -1).T + bias[(slice(None), *position)]
        np.testing.assert_allclose(found[(slice(None), slice(None), *position)], expected, rtol=1e-9, atol=1e-12)
    assert found.shape == (2, *bias.shape)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_locally_connected_with_equal_weights_is_a_convolution_also_with_same_padding(kernel):
    x = sample(2)
    conv = nn.Conv2d(4, 3, kernel, padding="same" if kernel % 2 else 0).double()
    layer = LocallyConnected(4, 3, SIZES[2], kernel, padding="same" if kernel % 2 else 0).double()
    with torch.no_grad():
        layer.weight.copy_(conv.weight.expand_as(layer.weight))
        layer.bias.copy_(conv.bias[:, None, None].expand_as(layer.bias))
    torch.testing.assert_close(layer(x), conv(x))
    assert LocallyConnected(4, 3, (7, 6), kernel, padding="same").out_size == (7, 6)


def test_residual_adds_the_shortcut():
    x = torch.randn(3, 4)
    double = nn.Linear(4, 4, bias=False)
    nn.init.eye_(double.weight)
    torch.testing.assert_close(Residual(double)(x), 2 * x)
    torch.testing.assert_close(Residual(nn.Identity(), double)(x), 2 * x)


LAYERS = {
    "l2_pool": lambda _: L2Pool(2),
    "l2_pool_padded": lambda _: L2Pool(3, 2, 1),
    "channel_l2_pool": lambda _: ChannelL2Pool(3),
    "maxout": lambda _: Maxout(2),
    "local_contrast_norm": lambda _: LocalContrastNorm(5),
    "locally_connected": lambda axes: LocallyConnected(4, 2, SIZES[axes], 2),
    "global_average_pool": lambda _: GlobalAveragePool(),
}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_agree_with_finite_differences(name, axes):
    layer = LAYERS[name](axes).double()
    x = sample(axes, batch=1)[..., :4] if name != "locally_connected" else sample(axes, batch=1)
    assert gradcheck(layer, (x.requires_grad_(),))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_at_zero_are_finite(name, axes):
    x = torch.zeros(2, 4, *SIZES[axes], requires_grad=True)
    LAYERS[name](axes)(x).square().sum().add(LAYERS[name](axes)(x).sum()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Maxout(0),
        lambda: ChannelL2Pool(0),
        lambda: LocalContrastNorm(4),
        lambda: LocalContrastNorm(5, "multiplicative"),
        lambda: LocalContrastNorm(5)(torch.zeros(1, 4, 3, 0)),
        lambda: GlobalAveragePool()(torch.zeros(1, 4, 0)),
        lambda: LocallyConnected(1, 1, (3, 3), 4),
        lambda: LocallyConnected(1, 1, (3, 3), 3, stride=2, padding="same"),
        lambda: LocallyConnected(1, 1, (3, 3), (3, 3, 3)),
        lambda: Maxout(3)(torch.zeros(1, 4)),
        lambda: L2Pool((2, 2))(torch.zeros(1, 1, 4)),
        lambda: LocallyConnected(1, 1, (3, 3), 2)(torch.zeros(1, 1, 4, 3)),
    ],
)
def test_wrong_sizes_are_refused(make):
    with pytest.raises(StriateError) as caught:
        make()
    assert all((caught.value.where, caught.value.got, caught.value.expected, caught.value.remedy))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Maxout, {"pieces": 0}),
        (ChannelL2Pool, {"size": 0}),
        (LocalContrastNorm, {"size": 4}),
        (LocalContrastNorm, {"size": -3}),
        (LocalContrastNorm, {"parts": "all"}),
        (SCell, {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "selectivity": 0}),
        (CCell, {"kernel_size": 3, "alpha": float("nan")}),
        (CCell, {"kernel_size": 0}),
        (RadialBasis, {"codes": [[1, 0], [1]]}),
        (RadialBasis, {"codes": []}),
        (SqueezeExcitation, {"channels": 0}),
        (SqueezeExcitation, {"channels": 8, "reduction": 0}),
        (LocallyConnected, {"in_channels": 1, "out_channels": 1, "in_size": (5, 5), "kernel_size": (3, 3, 3)}),
        (LocallyConnected, {"in_channels": 1, "out_channels": 1, "in_size": (2, 5), "kernel_size": 3}),
        (
            LocallyConnected,
            {"in_channels": 1, "out_channels": 1, "in_size": (5, 5), "kernel_size": 3, "stride": 2, "padding": "same"},
        ),
    ],
)
def test_the_remedy_of_a_refused_argument_is_one_that_the_layer_takes(make, wrong):
    with pytest.raises(UsageError) as caught:
        make(**wrong)
    name, _, value = caught.value.remedy.partition("=")
    make(**wrong | {name: ast.literal_eval(value)})


@pytest.mark.parametrize(
    "make", [GlobalAveragePool, lambda: LocalContrastNorm(3), lambda: SqueezeExcitation(4)], ids=["gap", "lcn", "se"]
)
def test_features_without_positions_are_refused_and_taken_as_the_remedy_says(make):
    layer, x = make(), torch.ones(2, 4)
    with pytest.raises(ShapeError, match=r"shape \(2, 4\)") as caught:
        layer(x)
    assert caught.value.remedy.startswith("x[..., None] ")
    assert layer(x[..., None]).shape[:2] == (2, 4)


def test_locally_connected_before_a_normalization_of_one_sample():
    # Of one sample torch's batch normalization in eval mode gave wrong gradients for the strides of a bare reshape.
    torch.manual_seed(0)
    layer, norm = LocallyConnected(2, 3, (6, 6), 3).double(), nn.BatchNorm2d(3).double().eval()
    nn.init.normal_(norm.weight)
    x = torch.randn(1, 2, 6, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(layer(x)), (x,))
