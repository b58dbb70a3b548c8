"""Units that are off, at their limits, alike, or without a prediction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.model.starting_gradients import SYMMETRIC_INIT
from striate.doctor.checks.model.unit_outputs import COLLAPSED, DEAD_UNITS, REDUNDANT_FILTERS, SATURATED


def filled(model: nn.Sequential, weight: float | None, bias: float | None) -> nn.Sequential:
    """The hidden layers with one value for all weights, or all biases."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear | nn.Conv2d)]
    for layer in layers[:-1]:
        if weight is not None:
            nn.init.constant_(layer.weight, weight)
        if bias is not None and layer.bias is not None:
            nn.init.constant_(layer.bias, bias)
    return model


@pytest.mark.slow
def test_units_that_are_off_for_all_samples() -> None:
    (found,) = asked(DEAD_UNITS, filled(perceptron(), None, -20.0), digits())
    assert (found.code, found.severity) == ("model.dead-units", "error")
    assert found.measured.startswith("100% of the units")
    assert "with he-normal weights and biases of zero the loss after" in found.measured
    assert not asked(DEAD_UNITS, perceptron(depth=6), digits())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("relu", [F.relu, lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0)])
def test_a_threshold_of_ones_own(relu: Callable[[Tensor], Tensor]) -> None:
    class Threshold(nn.Module):
        def __init__(self, least: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.least = nn.Linear(64, 32), nn.Linear(32, 10), least

        def forward(self, x: Tensor) -> Tensor:
            return self.b(relu(self.a(x.flatten(1)) - self.least))

    assert asked(DEAD_UNITS, Threshold(20.0), digits())
    assert not asked(DEAD_UNITS, Threshold(0.0), digits())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh])
def test_units_at_their_limits(activation: type[nn.Module]) -> None:
    def network(scale: float) -> nn.Sequential:
        model = perceptron(depth=3, activation=activation)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    layer.weight *= scale
        return model

    (found,) = asked(SATURATED, network(60.0), digits(), optimizer=lambda p: torch.optim.SGD(p, lr=0.02))
    assert found.code == "model.saturated"
    assert "xavier_normal_" in found.remedy
    assert not asked(SATURATED, network(1.0), digits())


def test_a_sigmoid_at_the_end_is_no_hidden_one() -> None:
    model = nn.Sequential(perceptron(), nn.Sigmoid())
    nn.init.constant_(model[0][-1].bias, 50.0)
    assert not asked(SATURATED, model, digits())


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("weight", [0.0, 0.05])
def test_units_that_begin_alike(weight: float) -> None:
    model = filled(perceptron(depth=2), weight, 0.0)
    if weight == 0:
        nn.init.zeros_(model[-1].weight)
    (found,) = asked(SYMMETRIC_INIT, model, digits())
    assert (found.code, found.severity) == ("model.symmetric-init", "error")
    assert "after" in found.measured
    assert "they are still the same" in found.measured


def test_one_layer_of_a_constant_before_a_random_one() -> None:
    (found,) = asked(
        SYMMETRIC_INIT,
        filled(perceptron(64), 0.1, None),
        digits(),
        optimizer=lambda p: torch.optim.SGD(p, 0.05),
    )
    assert (found.code, found.severity) == ("model.symmetric-init", "warning")


def test_weights_of_zero_before_random_biases() -> None:
    model = perceptron(64, depth=2)
    for layer in (model[1], model[3], model[5]):
        nn.init.zeros_(layer.weight)
    (found,) = asked(SYMMETRIC_INIT, model, digits(), optimizer=lambda p: torch.optim.SGD(p, 0.05))
    assert found.code == "model.symmetric-init"


class Branch(nn.Module):
    """A residual block whose last layer begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("check", [SYMMETRIC_INIT, COLLAPSED, REDUNDANT_FILTERS])
def test_branches_and_heads_may_begin_at_zero(check: object) -> None:
    model = perceptron()
    model.insert(3, Branch())
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    assert not asked(check, model, digits())  # type: ignore[arg-type]


def test_the_same_answer_whatever_the_input() -> None:
    model = perceptron()
    model.insert(3, nn.GroupNorm(32, 32))
    (found,) = asked(COLLAPSED, model, digits())
    assert (found.code, found.severity) == ("model.collapsed", "error")
    assert "different inputs all outputs are (" in found.measured
    model[3] = nn.GroupNorm(4, 32)
    assert not asked(COLLAPSED, model, digits())


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)
    )


@pytest.mark.slow
def test_filters_that_are_copies() -> None:
    model = convolutions()
    assert not asked(REDUNDANT_FILTERS, model, digits())
    with torch.no_grad():
        model[0].weight[1:] = model[0].weight[:1] + 1e-3 * torch.randn(11, 1, 3, 3)
    (found,) = asked(REDUNDANT_FILTERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    assert (found.code, found.severity, found.where) == ("model.redundant-filters", "warning", "model[0]")
    assert found.measured.startswith("92% of the filters of model[0] are copies")


def test_filters_without_an_answer() -> None:
    model = convolutions()
    with torch.no_grad():
        model[2].weight[2:] = 0
    (found,) = asked(REDUNDANT_FILTERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    assert "83% of its feature maps are the same everywhere" in found.measured


def test_one_number_looked_at_in_many_ways_is_no_copy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 10))
    assert not asked(REDUNDANT_FILTERS, model, digits())


def test_positions_of_padding_are_no_filters_of_an_embedding() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, 20, (256, 8))
    tokens[:, 3:] = 0
    loader = DataLoader(TensorDataset(tokens, tokens[:, 0] % 4), 32, shuffle=True)
    words = nn.Embedding(20, 8, padding_idx=0)
    model = nn.Sequential(words, nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    assert not asked(REDUNDANT_FILTERS, model, loader)
