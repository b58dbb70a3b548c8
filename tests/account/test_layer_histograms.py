"""Histograms of layers count what numpy counts, of the pass that the signal's figures are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from striate.account.signal.histograms import BINS, DECADES, layer_histograms
from striate.account.signal.trace import trace_signal


def mean_of_squares(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.square().mean()


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Dropout(0.2), nn.Linear(5, 3))


def test_layers_and_order_are_those_of_the_signal(network: nn.Module) -> None:
    x = torch.randn(16, 6)
    rows = trace_signal(network, x, mean_of_squares)
    records = layer_histograms(network, x, mean_of_squares)
    assert [(one.name, one.kind) for one in records] == [(row.name, row.kind) for row in rows]
    for one, row in zip(records, rows, strict=True):
        assert sum(one.outputs.counts) == 16 * row.size
        assert one.gradients is not None


def test_counts_are_those_of_numpy(network: nn.Module) -> None:
    x = torch.randn(16, 6)
    first, relu, *_ = layer_histograms(network, x, mean_of_squares)
    out = network[0](x).detach().numpy().ravel()
    assert (first.outputs.low, first.outputs.high) == pytest.approx((out.min(), out.max()))
    assert list(first.outputs.counts) == np.histogram(out, BINS, (out.min(), out.max()))[0].tolist()
    assert relu.outputs.zeros == pytest.approx((out <= 0).mean())


def test_gradients_are_of_one_samples_loss() -> None:
    layer = nn.Linear(4, 1, bias=False)
    x = torch.randn(8, 4)
    (record,) = layer_histograms(layer, x, lambda outputs: (3.0 * outputs).mean())
    assert record.gradients is not None
    place = int((np.log10(3.0) - DECADES[0]) / (DECADES[1] - DECADES[0]) * BINS)
    assert record.gradients.counts[place] == sum(record.gradients.counts) == 8


def test_looking_changes_nothing(network: nn.Module) -> None:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    layer_histograms(network, torch.ones(4, 6), mean_of_squares)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_numbers_that_are_none_or_all_the_same_are_borne() -> None:
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    (record,) = layer_histograms(layer, torch.ones(3, 2), mean_of_squares)
    assert (record.outputs.low, record.outputs.high, record.outputs.zeros) == (-0.5, 0.5, 1.0)
    nn.init.constant_(layer.bias, float("nan"))
    (record,) = layer_histograms(layer, torch.ones(3, 2), mean_of_squares)
    assert sum(record.outputs.counts) == 0
