"""What every layer has to stand: precisions, memory formats, export, compilation, the meta device, odd batches."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import striate.layers
from striate.layers.activations import Maxout
from striate.layers.blocks import Residual, SqueezeExcitation
from striate.layers.convolution import LocallyConnected, SamePadding, WhiteningConv2d
from striate.layers.fixed_filter import FixedFilter
from striate.layers.image_whitening import ImageWhitening
from striate.layers.neocognitron import CCell, ContrastCells, SCell
from striate.layers.normalization import LocalContrastNorm, OneChannelGroupNorm
from striate.layers.pooling import ChannelL2Pool, GlobalAveragePool, L2Pool

SHAPE = (4, 7, 6)


@dataclass(frozen=True)
class Case:
    """How to make the layer, for inputs of `shape`. `tolerance`: how far bfloat16 may be off, as a share of 1."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = SHAPE
    tolerance: float = 0.03


CASES = {
    "l2_pool": Case(lambda: L2Pool(2)),
    "l2_pool_padded": Case(lambda: L2Pool(3, 2, 1)),
    "channel_l2_pool": Case(lambda: ChannelL2Pool(3)),
    "maxout": Case(lambda: Maxout(2)),
    "local_contrast_norm": Case(lambda: LocalContrastNorm(5)),
    "subtractive": Case(lambda: LocalContrastNorm(5, "subtractive")),
    "divisive": Case(lambda: LocalContrastNorm(5, "divisive")),
    "locally_connected": Case(lambda: LocallyConnected(4, 2, (7, 6), 3)),
    "locally_connected_strided": Case(lambda: LocallyConnected(4, 2, (7, 6), 2, stride=2, padding=1, bias=False)),
    "global_average_pool": Case(GlobalAveragePool),
    "one_channel_group_norm": Case(OneChannelGroupNorm, (1, 7, 6)),
    "residual": Case(lambda: Residual(nn.Conv2d(4, 4, 3, padding=1))),
    "same_padding": Case(lambda: nn.Sequential(SamePadding(4, 3), nn.Conv2d(4, 3, 4, 3))),
    "same_padding_pool": Case(lambda: nn.Sequential(SamePadding(3, 2, value=-math.inf), nn.MaxPool2d(3, 2))),
    "whitening": Case(lambda: WhiteningConv2d(4, 2)),
    "fixed_filter": Case(lambda: FixedFilter("sobel-x", 4), tolerance=0.06),
    "fixed_filter_divided": Case(lambda: FixedFilter("gaussian5", 4, "reflect")),
    "fixed_filter_zeros": Case(lambda: FixedFilter("emboss", 4, "zeros"), tolerance=0.06),
    "squeeze_excitation": Case(lambda: SqueezeExcitation(4, 2)),
    "s_cell": Case(lambda: SCell(4, 3, 3)),
    "c_cell": Case(lambda: CCell(3, stride=2, padding=1)),
    "contrast_cells": Case(ContrastCells),
    "image_whitening": Case(lambda: ImageWhitening(7, 6)),
}
every = pytest.mark.parametrize("name", CASES)


def made(name: str, batch: int = 2) -> tuple[nn.Module, torch.Tensor]:
    """The layer as it is initialized, and a batch; S- and C-cells take what is not negative."""
    torch.manual_seed(0)
    layer = CASES[name].make()
    x = torch.randn(batch, *CASES[name].shape, generator=torch.Generator().manual_seed(1))
    return layer, x.abs() if name in ("s_cell", "c_cell") else x


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance)


OTHERS = {"RadialBasis", "ScaledTanh", "Subsampling", "PartialConvolution", "HardThreshold"}
"""Parts of one historical network, tested with it."""
OTHERS |= {"RestrictedBoltzmannMachine", "ConvolutionalBoltzmannMachine", "VisibleBias"}
"""Machines, whose visible biases serve only what they imagine, tested in tests/models/test_boltzmann.py."""
OTHERS |= {"Code", "Transposed"}
"""Layers of autoencoders, tested in tests/models/test_autoencoders.py."""
OTHERS |= {"MotionEntropy", "LateFusion"}
"""Of flow alone, and of several streams: tests/layers/test_motion_entropy.py and tests/training/test_late_fusion.py."""


def test_every_layer_has_a_row() -> None:
    found = set()
    for module in pkgutil.iter_modules(striate.layers.__path__):
        members = vars(importlib.import_module(f"striate.layers.{module.name}"))
        found |= {
            value
            for name, value in members.items()
            if name not in OTHERS
            and inspect.isclass(value)
            and issubclass(value, nn.Module)
            and value.__module__.startswith("striate")
        }
    assert found == {type(part) for case in CASES.values() for part in case.make().modules()} & found


@every
def test_bfloat16_under_autocast_and_without_agrees_with_float32(name) -> None:
    layer, x = made(name)
    expected, tolerance = layer(x), CASES[name].tolerance
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(layer(x), expected, tolerance)
        close(layer(x.bfloat16()), expected, 2 * tolerance)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    close(half, expected, 2 * tolerance)


@every
def test_gradients_arrive_under_autocast(name) -> None:
    layer, x = made(name)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x).float().square().sum().backward()
    assert x.grad.dtype == torch.float32
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.requires_grad)


@every
def test_double_is_computed_in_double(name) -> None:
    layer, x = made(name)
    exact = copy.deepcopy(layer).double()(x.double())
    assert exact.dtype == torch.float64
    close(layer(x), exact.float(), 1e-4)


@every
def test_channels_last_gives_the_same_forward_and_backward(name) -> None:
    layer, x = made(name)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        own = copy.deepcopy(layer).to(memory_format=memory_format)
        given = x.clone(memory_format=memory_format).requires_grad_()
        out = own(given)
        out.square().sum().backward()
        results.append((out, given.grad, *(p.grad for p in own.parameters() if p.requires_grad)))
    for found, expected in zip(*reversed(results), strict=True):
        close(found, expected, 1e-4)


@every
def test_the_state_moves_to_another_layer_of_the_same_form(name) -> None:
    (first, x), second = made(name), CASES[name].make()
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor += 0.25
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(x), second(x))


@every
def test_a_copy_computes_the_same_and_shares_nothing(name) -> None:
    layer, x = made(name)
    twin, before = copy.deepcopy(layer), layer(x)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor += 1
    assert torch.equal(layer(x), before)


@pytest.mark.each_nth(10)
@every
def test_export_keeps_the_numbers_and_takes_any_batch(name) -> None:
    layer, x = made(name)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    close(program.module()(x), layer(x))
    more = torch.cat([x, x, x])
    close(program.module()(more), layer(more))


@pytest.mark.slow
@every
def test_it_is_one_graph_for_the_compiler(name) -> None:
    layer, x = made(name)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x.requires_grad_()
    close(compiled(x), layer(x))
    (found,) = torch.autograd.grad(compiled(x).square().sum(), x)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    close(found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@every
def test_compiled_code_gives_the_same_numbers(name) -> None:
    layer, x = made(name)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True)
    x.requires_grad_()
    out = compiled(x)
    close(out, layer(x), 1e-4)
    (found,) = torch.autograd.grad(out.square().sum(), x)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    close(found, expected, 1e-3)


@pytest.mark.each_nth(3)
@every
def test_the_meta_device_knows_the_shape(name) -> None:
    layer, x = made(name)
    with torch.device("meta"):
        empty = CASES[name].make()
    out = empty(x.to("meta"))
    assert out.device.type == "meta"
    assert out.shape == layer(x).shape


@every
def test_a_layer_from_the_meta_device_is_whole_once_it_has_its_weights(name) -> None:
    layer, x = made(name)
    with torch.device("meta"):
        empty = CASES[name].make()
    empty = empty.to_empty(device="cpu")
    for tensor in empty.state_dict().values():
        tensor.fill_(math.nan)
    empty.load_state_dict(layer.state_dict())
    assert torch.equal(empty(x), layer(x))


@every
def test_a_sample_alone_is_treated_as_among_others(name) -> None:
    layer, x = made(name, batch=3)
    close(torch.cat([layer(x[k : k + 1]) for k in range(3)]), layer(x))


@every
def test_an_empty_batch_gives_an_empty_batch(name) -> None:
    layer, x = made(name)
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])


@every
def test_an_empty_map_is_refused_or_stays_empty_but_never_becomes_a_number(name) -> None:
    layer, x = made(name)
    try:
        out = layer(x[..., :0])
    except (ValueError, RuntimeError):
        return
    assert out.numel() == 0


@every
def test_it_prints_what_it_is(name) -> None:
    layer, _ = made(name)
    assert any(character.isdigit() for character in repr(layer)) or name in ("global_average_pool", "contrast_cells")
