"""`model.unregistered-parameters`: are there layers that are used, but that no module registers?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, quick_adam
from for_checks.networks import InList, Small
from striate.doctor.checks.model.unregistered_parameters import UNREGISTERED_PARAMETERS


class InDictionary(Small):
    def make(self) -> None:
        self.parts = {"a": [nn.Linear(24, 24)], "b": (nn.Linear(24, 24),)}

    def middle(self, x: Tensor) -> Tensor:
        return (self.parts["a"][0](x) + self.parts["b"][0](x)).relu()


class MadeInForward(Small):
    def middle(self, x: Tensor) -> Tensor:
        return nn.Linear(24, 24)(x).relu()


class PlainTensor(Small):
    def make(self) -> None:
        self.weight = (0.2 * torch.randn(24, 24)).requires_grad_()

    def middle(self, x: Tensor) -> Tensor:
        return (x @ self.weight).relu()


class ListOfParameters(Small):
    def make(self) -> None:
        self.weights = [nn.Parameter(0.2 * torch.randn(24, 24)) for _ in range(2)]

    def middle(self, x: Tensor) -> Tensor:
        return (x @ self.weights[0] @ self.weights[1]).relu()


OUTSIDE = nn.Linear(24, 24)


class OfTheModule(Small):
    def middle(self, x: Tensor) -> Tensor:
        return OUTSIDE(x).relu()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("network", "where"),
    [
        (InList, "layers"),
        (InDictionary, "parts"),
        (MadeInForward, "forward"),
        (PlainTensor, "weight"),
        (ListOfParameters, "weights"),
        (OfTheModule, "Linear"),
    ],
)
def test_layers_that_nobody_knows_of(network: type[nn.Module], where: str) -> None:
    (found,) = asked(UNREGISTERED_PARAMETERS, network(), digits(), optimizer=quick_adam)
    assert (found.code, found.severity, found.where) == ("model.unregistered-parameters", "error", where)
    assert "trainable values that are not in model.parameters()" in found.measured


def test_layers_created_in_forward_differ_from_those_in_a_list() -> None:
    (anew,) = asked(UNREGISTERED_PARAMETERS, MadeInForward(), digits(), optimizer=quick_adam)
    (listed,) = asked(UNREGISTERED_PARAMETERS, InList(), digits(), optimizer=quick_adam)
    assert "created in every forward pass" in anew.measured
    assert "nn.ModuleList" in listed.remedy


def test_layers_that_the_optimizer_was_given_are_a_note() -> None:
    model = InList()
    everything = [*model.parameters(), *(p for layer in model.layers for p in layer.parameters())]
    (found,) = asked(UNREGISTERED_PARAMETERS, model, digits(), optimizer=torch.optim.Adam(everything, lr=0.01))
    assert found.severity == "note"


class ListOfKnown(Small):
    def make(self) -> None:
        self.a, self.b = nn.Linear(24, 24), nn.Linear(24, 24)
        self.order = [self.a, self.b]

    def middle(self, x: Tensor) -> Tensor:
        for layer in self.order:
            x = layer(x).relu()
        return x


class StateWithGradient(Small):
    def make(self) -> None:
        self.cell = nn.GRUCell(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 24).requires_grad_()
        return self.cell(x, state)


@pytest.mark.parametrize("network", [Small, ListOfKnown, StateWithGradient])
def test_registered_layers_are_right(network: type[nn.Module]) -> None:
    assert not asked(UNREGISTERED_PARAMETERS, network(), digits(), optimizer=quick_adam)


class Temperature(nn.Module):
    """A loss with something to learn of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.scale * outputs, y)


def test_parameters_of_the_loss_are_not_the_network() -> None:
    assert not asked(UNREGISTERED_PARAMETERS, Small(), digits(), loss=Temperature(), optimizer=quick_adam)
