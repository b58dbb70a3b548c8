"""S-cells, C-cells, contrast cells and the hard threshold, against NumPy loops; and what every layer has to stand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from striate.errors import UsageError
from striate.layers.activations import HardThreshold, hard_threshold
from striate.layers.neocognitron import CCell, ContrastCells, SCell, fading_window

LAYERS = {
    "s": lambda: learned(SCell(3, 5, 3, selectivity=1.5, padding=1)),
    "s_rectangle": lambda: learned(SCell(3, 5, (2, 4), selectivity=4.0)),
    "c": lambda: CCell(3, stride=2, padding=1),
    "contrast": ContrastCells,
    "threshold": HardThreshold,
}
every = pytest.mark.parametrize("name", LAYERS)


def learned(cells: SCell) -> SCell:
    """Connections of a size as after some reinforcement."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        cells.weight.copy_(torch.rand(cells.weight.shape, generator=generator))
        cells.inhibition.copy_(40 * torch.rand(cells.inhibition.shape, generator=generator))
    return cells


def sample(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, 6, 7, generator=torch.Generator().manual_seed(seed))


def test_s_cells_are_their_formula() -> None:
    cells, x = LAYERS["s"]().double(), sample().double()
    a, b, c = (t.detach().numpy() for t in (cells.weight, cells.inhibition, cells.window))
    assert c.sum() == pytest.approx(1)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)])
    found, r = cells(x).detach().numpy(), 1.5
    for n, k, row, column in np.ndindex(2, 5, 6, 7):
        u = padded[n, :, row : row + 3, column : column + 3]
        v = math.sqrt((c[0] * u**2).sum())
        expected = r * max(0.0, (1 + (a[k] * u).sum()) / (1 + r / (1 + r) * b[k, 0, 0] * v) - 1)
        assert found[n, k, row, column] == pytest.approx(expected, abs=1e-12)
    assert 0.05 < (found > 0).mean() < 0.95


@torch.no_grad()
def test_an_s_cell_that_learned_one_pattern_answers_to_its_cosine_above_the_threshold() -> None:
    cells = SCell(1, 1, 5, selectivity=2.0)
    pattern, other = torch.rand(2, 1, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    cells.weight.copy_(1e6 * cells.window * pattern)
    cells.inhibition.fill_(1e6 * float(cells.v_cells(pattern)))
    w = cells.window
    for x in (pattern, other, 3 * other, 1 - pattern):
        cosine = float((w * pattern * x).sum() / ((w * pattern**2).sum() * (w * x**2).sum()).sqrt())
        assert float(cells(x)) == pytest.approx(max(0.0, 3 * cosine - 2), abs=1e-3)
    assert float(cells(pattern)) == pytest.approx(1, abs=1e-3)


def test_c_cells_are_their_formula() -> None:
    cells, x = CCell(3, stride=2, padding=1, alpha=0.25).double(), sample().double()
    d = cells.window[0, 0].numpy()
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)])
    found = cells(x).numpy()
    assert found.shape == (2, 3, 3, 4)
    for n, row, column in np.ndindex(2, 3, 4):
        sums = (d * padded[n, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]).sum((1, 2))
        inner = np.maximum(0, (1 + sums) / (1 + sums.mean()) - 1)
        np.testing.assert_allclose(found[n, :, row, column], inner / (0.25 + inner), atol=1e-12)


def test_contrast_cells_see_edges_and_no_level() -> None:
    step = torch.zeros(1, 1, 12, 12)
    step[..., 6:] = 1
    on, off = ContrastCells()(step)[0]
    assert on[:, 6].min() > 0.05
    assert off[:, 5].min() > 0.05
    assert (on[:, :6] < 1e-6).all()
    torch.testing.assert_close(ContrastCells()(step - 7.0), ContrastCells()(step), atol=1e-5, rtol=0)
    assert ContrastCells()(torch.full((1, 2, 9, 9), 3.0)).abs().max() < 1e-5
    colors = ContrastCells()(sample())
    torch.testing.assert_close(colors[:, [1, 4]], ContrastCells()(sample()[:, 1:2]))


def test_windows_fall_from_the_center_to_half_at_half_a_window() -> None:
    window = fading_window(7, 5)[0, 0]
    assert float(window.sum()) == pytest.approx(1)
    assert float(window[3, 4] / window[3, 2]) == pytest.approx(0.5 ** (2 / 2.5))
    assert int(window.argmax()) == 3 * 5 + 2
    assert torch.equal(window, window.flip(0, 1))


def test_the_hard_threshold_is_never_zero_and_passes_no_gradient() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-30, -1e-30], requires_grad=True)
    assert hard_threshold(x).tolist() == [-1, 1, 1, 1, -1]
    hard_threshold(x).sum().backward()
    assert x.grad.tolist() == [0] * 5


def test_impossible_sizes_are_refused() -> None:
    for make in (lambda: SCell(1, 1, 3, selectivity=0), lambda: CCell(3, alpha=0), lambda: CCell(0)):
        with pytest.raises(UsageError, match=r"above 0|at least 1"):
            make()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["s", "s_rectangle", "c"])
def test_gradients_are_those_of_differences(name: str) -> None:
    layer, x = LAYERS[name]().double(), sample(1).double().requires_grad_()
    parameters = dict(layer.named_parameters())

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters.values()), atol=1e-5)


@every
def test_autocast_and_layout_change_nothing_and_bfloat16_little(name: str) -> None:
    layer, x = LAYERS[name](), sample()
    plain = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), plain)
    turned = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    torch.testing.assert_close(turned(x.to(memory_format=torch.channels_last)), plain)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.05, rtol=0.05)


@pytest.mark.slow
@pytest.mark.each_nth(5)
@every
def test_export_and_the_compiler_take_it_whole(name: str) -> None:
    layer, x = LAYERS[name](), sample()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    more = sample(5, seed=4)
    torch.testing.assert_close(program.module()(more), layer(more))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), layer(x))


@every
def test_state_and_meta(name: str) -> None:
    layer, x = LAYERS[name](), sample()
    with torch.device("meta"):
        empty = LAYERS[name]()
    assert empty(x.to("meta")).shape == layer(x).shape
    whole: nn.Module = empty.to_empty(device="cpu")
    whole.load_state_dict(layer.state_dict())
    assert torch.equal(whole(x), layer(x))
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])
