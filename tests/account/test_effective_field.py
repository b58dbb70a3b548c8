"""The effective receptive field of networks whose gradient is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from striate import summarize
from striate.account.field.effective import MASS, effective_receptive_field, measure_field, shortest_runs
from striate.errors import StriateError


def boxes(count: int, kernel: int = 3, axes: int = 2) -> nn.Sequential:
    """Convolutions with weights of one value: the gradient is a box, convolved with itself."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    layers = [conv(1, 1, kernel, bias=False) for _ in range(count)]
    for layer in layers:
        nn.init.constant_(layer.weight, 0.1)
    return nn.Sequential(*layers)


def test_one_layer_looks_evenly_at_its_window() -> None:
    field = effective_receptive_field(boxes(1, 5), (1, 12, 12), samples=2)
    assert (field.layer, field.size, field.samples) == ("0", (5.0, 5.0), 2)
    # 8 × 8 units; the center one, 4, reads 4 to 8.
    expected = np.zeros((12, 12))
    expected[4:9, 4:9] = 1 / 25
    np.testing.assert_allclose(field.map, expected)
    assert field.first == (4, 4)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_stacked_layers_are_the_convolution_of_their_windows(axes: int) -> None:
    field = effective_receptive_field(boxes(4, axes=axes), (1, *(15,) * axes), samples=1)
    line = np.ones(3) / 3
    for _ in range(3):
        line = np.convolve(line, np.ones(3) / 3)
    along = field.map.sum(tuple(range(1, axes)))
    np.testing.assert_allclose(along[along > 1e-12], line, rtol=1e-5)
    # Of a binomial of 9 positions, the middle 7 hold 79/81, the middle 5 only 71/81.
    assert field.size == (7.0,) * axes


def test_depth_makes_it_wider_more_slowly_than_the_theory() -> None:
    few, many = (effective_receptive_field(boxes(n), (1, 70, 70), samples=1).size[0] for n in (8, 32))
    # Luo et al.: it grows with the square root of the depth. In theory 17 and 65.
    assert many / few == pytest.approx(2, abs=0.25)


def test_of_several_shortest_runs_the_middle_one_is_taken() -> None:
    # 96 of 100 equal positions have 95.45 %: from 0, 1, 2, 3 or 4 on.
    assert shortest_runs(np.ones(100)) == [(2, 96.0)]
    assert shortest_runs(np.ones((100, 3))) == [(2, 96.0), (0, 3.0)]


def test_a_run_has_its_mass_and_a_shorter_one_has_not() -> None:
    shares = np.random.default_rng(0).random((9, 14))
    shares /= shares.sum()
    for axis, (first, length) in enumerate(shortest_runs(shares)):
        along = shares.sum(1 - axis)
        n = int(length)
        assert along[first : first + n].sum() >= MASS
        assert max(np.convolve(along, np.ones(n - 1), "valid")) < MASS


def test_a_named_layer() -> None:
    network = boxes(3)
    assert effective_receptive_field(network, (1, 12, 12), "1", samples=1).size == (5.0, 5.0)
    assert effective_receptive_field(network, (1, 12, 12), "0", samples=1).layer == "0"


def test_it_is_within_the_theoretical_field_and_the_same_each_time() -> None:
    ledger = summarize("mnist-cnn", effective=True)
    assert ledger.effective_receptive_field is not None
    for measured, theory in zip(ledger.effective_receptive_field, ledger.receptive_field, strict=True):
        assert theory / 2 < measured <= theory
    assert measure_field("mnist-cnn", (1, 28, 28)).size == ledger.effective_receptive_field


def test_the_network_and_the_random_state_stay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True))
    network[1].eval()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    effective_receptive_field(network, (1, 9, 9), samples=2)
    measure_field("mnist-cnn", (1, 28, 28))
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in network] == [True, False, True, True]
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(part._forward_hooks for part in network.modules())


@pytest.mark.slow
def test_closed_residual_branches_are_opened_to_look_through_them() -> None:
    # Residual blocks of the zoo begin as their shortcuts, through which the stem's 11 positions are all.
    size = measure_field("resnet18", (3, 64, 64)).size
    assert min(size) > 30


class Blind(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(torch.ones_like(x))


@pytest.mark.parametrize(
    ("network", "shape", "options", "said"),
    [
        (nn.Linear(5, 2), (5,), {}, "features"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), (1, 3, 3), {}, "no module that outputs a map"),
        (boxes(1), (1, 9, 9), {"layer": "nine"}, "'nine'"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (1, 9, 9), {"layer": "1"}, "layer 1"),
        (boxes(1), (1, 9, 9), {"samples": 0}, "samples"),
        (Blind(), (1, 9, 9), {}, "no gradient"),
        (nn.Conv2d(1, 2, 3, device="meta"), (1, 9, 9), {}, "without values"),
    ],
)
def test_what_cannot_be_measured_is_explained(network: nn.Module, shape: tuple, options: dict, said: str) -> None:
    with pytest.raises(StriateError, match=said):
        effective_receptive_field(network, shape, **options)
