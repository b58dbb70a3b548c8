"""What units put out: `model.saturated`, `model.dead-units`, `model.collapsed` and `model.redundant-filters`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, said
from for_checks.embeddings import DeepEmbedding
from for_checks.networks import filled
from striate.doctor.checks.model.unit_outputs import COLLAPSED, DEAD_UNITS, REDUNDANT_FILTERS, SATURATED


class Coupling(nn.Module):
    """Half of its outputs are left out by a mask; its last layer begins at zero."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 32), nn.Linear(32, 16)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.classes, self.mask = nn.Linear(16, 10), torch.arange(16) % 2 if masked else torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classes(self.last(self.hidden(x.flatten(1)).relu()) * self.mask)
        return found


@pytest.mark.parametrize("masked", [True, False])
def test_outputs_that_a_mask_leaves_out_are_no_copies(masked: bool) -> None:
    torch.manual_seed(0)
    model = Coupling(masked)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert not asked(REDUNDANT_FILTERS, model, digits(), optimizer=optimizer, step=loop, loss=functional.cross_entropy)


def rapid(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("pulls_alone", [True, False])
def test_embeddings_that_fall_into_one_point(pulls_alone: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        z = model(batch[0])
        apart = (z[:, None] - z[None]).square().sum(2)
        same = batch[1][:, None] == batch[1][None]
        value = apart.mean() if pulls_alone else apart[same].mean() + functional.relu(1 - apart[~same]).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(COLLAPSED, DeepEmbedding(), digits(), step=step, optimizer=rapid)
    assert [one.code for one in found] == ["model.collapsed"] * pulls_alone


def test_embeddings_that_are_no_numbers_are_not_one_point() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = model(batch[0]).square().mean() * float("nan")
        value.backward()
        optimizer.step()
        return value.detach()

    assert said(COLLAPSED, DeepEmbedding(), digits(), step=step, optimizer=rapid) == []


@pytest.mark.slow
def test_units_that_are_off_for_all_samples() -> None:
    (found,) = asked(DEAD_UNITS, filled(perceptron(), None, -20.0), digits())
    assert (found.code, found.severity) == ("model.dead-units", "error")
    assert found.measured.startswith("100% of the units")
    assert "with he-normal weights and biases of zero the loss after" in found.measured
    assert not asked(DEAD_UNITS, perceptron(depth=6), digits())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("relu", [functional.relu, lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0)])
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
