"""`model.vanishing-gradient`, `model.exploding-gradient`: is the gradient of similar strength in all layers?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.model.vanishing_gradient import GRADIENT_STRENGTH

CHECK = GRADIENT_STRENGTH


def drawn(model: nn.Sequential, std: float) -> nn.Sequential:
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
    return model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("std", "code"), [(0.01, "model.vanishing-gradient"), (1.0, "model.exploding-gradient")])
def test_weights_too_small_or_too_large(std: float, code: str) -> None:
    model = drawn(perceptron(32, depth=8), std)
    (found,) = asked(CHECK, model, digits(), optimizer=sgd(model))
    assert (found.code, found.severity) == (code, "error")
    assert "with he-normal weights the loss after" in found.measured
    assert "kaiming_normal_" in found.remedy


@pytest.mark.slow
def test_many_sigmoids() -> None:
    model = perceptron(32, depth=10, activation=nn.Sigmoid)
    (found,) = asked(CHECK, model, digits())
    assert found.code == "model.vanishing-gradient"
    assert "times the norm of that of" in found.measured


class Doubled(nn.Module):
    """A second activation behind each, or softmax in place of one; `gated`: a product instead."""

    def __init__(self, second: Any, gated: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(64, 48), nn.Linear(48, 48)])
        self.last, self.second, self.gated = nn.Linear(48, 10), second, gated

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
            x = x * self.second(x) if self.gated else self.second(torch.relu(x))
        return self.last(x)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("second", [torch.sigmoid, lambda x: x.softmax(1)])
def test_bounded_functions_between_layers_pass_on_too_little(second: Any) -> None:
    model = Doubled(second)
    (found,) = asked(CHECK, model, digits(), optimizer=sgd(model))
    assert (found.code, found.severity) == ("model.vanishing-gradient", "error")
    assert "before layers with weights; with ReLU instead, the loss after" in found.measured


def test_a_gate_is_no_activation() -> None:
    model = Doubled(torch.sigmoid, gated=True)
    assert not asked(CHECK, model, digits(), optimizer=sgd(model))


@pytest.mark.slow
def test_products_outside_of_layers() -> None:
    class Functional(nn.Module):
        def __init__(self, std: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            sizes = [64, *[32] * 8, 10]
            self.weights = nn.ParameterList(std * torch.randn(b, a) for a, b in pairwise(sizes))

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            for weight in self.weights[:-1]:
                x = torch.relu(nn.functional.linear(x, weight))
            return x @ self.weights[-1].t()

    assert [f.code for f in asked(CHECK, Functional(0.02), digits())] == ["model.vanishing-gradient"]
    assert not asked(CHECK, Functional(0.22), digits())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_usual_starts_are_sound(depth: int) -> None:
    model = perceptron(32, depth=depth)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    assert not asked(CHECK, model, digits(), optimizer=sgd(model))


def test_a_last_layer_of_zeros_gives_no_gradient_at_first() -> None:
    model = perceptron(32, depth=3)
    nn.init.zeros_(model[-1].weight)
    assert not asked(CHECK, model, digits(), optimizer=sgd(model))
