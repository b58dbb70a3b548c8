"""Parameters that nobody knows of, nobody uses, or that learn nothing; layers that are one and the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED, UNREGISTERED_PARAMETERS
from striate.doctor.checks.model.idle_parameters import FROZEN_PARAMETERS, UNUSED_PARAMETERS
from striate.doctor.checks.model.shared_weights import SHARED_WEIGHTS


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


class Small(nn.Module):
    """What the networks here have in common: `forward` gets rows of 64 numbers, and gives 10 scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(64, 24), nn.Linear(24, 10)
        self.make()

    def make(self) -> None:
        """More parts."""

    def middle(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x.flatten(1)).relu()))


class InList(Small):
    def make(self) -> None:
        self.layers = [nn.Linear(24, 24) for _ in range(3)]

    def middle(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


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
    (found,) = asked(UNREGISTERED_PARAMETERS, network(), digits(), optimizer=adam)
    assert (found.code, found.severity, found.where) == ("model.unregistered-parameters", "error", where)
    assert "numbers to learn take part in forward" in found.measured


def test_layers_made_anew_are_told_from_those_in_a_list() -> None:
    (anew,) = asked(UNREGISTERED_PARAMETERS, MadeInForward(), digits(), optimizer=adam)
    (listed,) = asked(UNREGISTERED_PARAMETERS, InList(), digits(), optimizer=adam)
    assert "made anew in every forward" in anew.measured
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
    assert not asked(UNREGISTERED_PARAMETERS, network(), digits(), optimizer=adam)


class Temperature(nn.Module):
    """A loss with something to learn of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.scale * outputs, y)


def test_parameters_of_the_loss_are_not_the_network() -> None:
    assert not asked(UNREGISTERED_PARAMETERS, Small(), digits(), loss=Temperature(), optimizer=adam)


class NeverCalled(Small):
    def make(self) -> None:
        self.norm, self.second = nn.BatchNorm1d(24), nn.Linear(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        return self.second(x).relu()


class UsedByFunction(Small):
    def make(self) -> None:
        self.second, self.embedding = nn.Linear(24, 24), nn.Parameter(torch.zeros(1, 24))

    def middle(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.second.weight, self.second.bias) + self.embedding


class InEvaluationOnly(Small):
    def make(self) -> None:
        self.second = nn.Linear(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        return x if self.training else self.second(x)


def test_layers_that_are_never_called() -> None:
    (found,) = asked(UNUSED_PARAMETERS, NeverCalled(), digits(), optimizer=adam)
    assert (found.code, found.severity, found.where) == ("model.unused-parameters", "warning", "norm")
    assert "48 of" in found.measured
    assert "`x = self.norm(x)`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, UsedByFunction, InEvaluationOnly, InList])
def test_layers_that_are_used_in_some_way(network: type[nn.Module]) -> None:
    assert not asked(UNUSED_PARAMETERS, network(), digits(), optimizer=adam)


class Cut(Small):
    def __init__(self, cut: Any) -> None:
        super().__init__()
        self.cut = cut

    def middle(self, x: Tensor) -> Tensor:
        return self.cut(x)


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 1.0


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.detach(),
        lambda x: x.data,
        lambda x: torch.tensor(x.tolist()),
        lambda x: torch.from_numpy(x.detach().numpy()),
        without_gradient,
        lambda x: (x > 0.5).float(),
    ],
)
def test_the_way_back_is_cut(cut: Any) -> None:
    (found,) = asked(GRAPH_DETACHED, Cut(cut), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.graph-detached", "error")
    assert "first take part" in found.measured


class NoGradients(Small):
    """The first layer runs where gradients are off."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x.flatten(1)).relu()
        return self.last(x)


def test_gradients_that_are_off() -> None:
    (found,) = asked(GRAPH_DETACHED, NoGradients(), digits(), optimizer=adam)
    assert found.severity == "error"
    assert "torch.no_grad()" in found.remedy


def test_what_is_left_out_of_the_optimizer_may_be_cut_off() -> None:
    model = NoGradients()
    optimizer = torch.optim.Adam(model.last.parameters(), lr=0.01)
    assert not asked(GRAPH_DETACHED, model, digits(), optimizer=optimizer)


def step_with_a_number(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value = torch.tensor(loss(model(batch[0]), batch[1]).item(), requires_grad=True)
    value.backward()
    optimizer.step()
    return value


def step_with_the_answers(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    optimizer.zero_grad()
    value = (model(batch[0]).argmax(1) != batch[1]).float().mean()
    value.backward()
    optimizer.step()
    return value


@torch.no_grad()
def step_without_gradients(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value


@pytest.mark.parametrize("step", [step_with_a_number, step_with_the_answers, step_without_gradients])
def test_a_loss_that_knows_no_parameters(step: Any) -> None:
    (found,) = asked(GRAPH_DETACHED, Small(), digits(), step=step, optimizer=adam)
    assert (found.code, found.severity) == ("model.graph-detached", "error")


class StraightThrough(Small):
    def middle(self, x: Tensor) -> Tensor:
        return x + ((x > 0.5).float() - x).detach()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, StraightThrough, NeverCalled])
def test_a_way_back_that_is_whole(network: type[nn.Module]) -> None:
    assert not asked(GRAPH_DETACHED, network(), digits(), optimizer=adam)


def frozen(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("last" in name or name.startswith("7."))
    return model


def test_a_random_trunk_that_is_frozen() -> None:
    model = frozen(perceptron(depth=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (found,) = asked(FROZEN_PARAMETERS, model, digits(), optimizer=optimizer)
    assert (found.code, found.severity) == ("model.frozen-parameters", "error")
    assert "with all of them trained, the loss after" in found.measured


def test_nothing_that_wants_a_gradient() -> None:
    model = perceptron().requires_grad_(False)
    (found,) = asked(FROZEN_PARAMETERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.severity == "error"


def test_a_trained_trunk_may_be_frozen() -> None:
    model = perceptron(depth=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in digits():
        loop(model, batch, optimizer, nn.CrossEntropyLoss())
    nn.init.kaiming_uniform_(model[7].weight)
    assert not asked(FROZEN_PARAMETERS, frozen(model), digits(), optimizer=adam)
    assert not asked(FROZEN_PARAMETERS, perceptron(), digits(), optimizer=adam)


class TwiceTheSame(Small):
    def make(self) -> None:
        self.second = nn.Linear(24, 24)
        self.third = self.second

    def middle(self, x: Tensor) -> Tensor:
        return self.third(self.second(x).relu()).relu()


class Shallow(Small):
    def make(self) -> None:
        block = nn.Sequential(nn.Linear(24, 24), nn.ReLU())
        self.blocks = nn.ModuleList(copy.copy(block) for _ in range(3))

    def middle(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class TheWrongOne(Small):
    def make(self) -> None:
        self.second, self.third = nn.Linear(24, 24), nn.Linear(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        return self.second(self.second(x).relu()).relu()


class OneNorm(Small):
    def make(self) -> None:
        self.second, self.norm = nn.Linear(24, 24), nn.BatchNorm1d(24)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(x)).relu())


def repeated() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), *[nn.Linear(24, 24), nn.ReLU()] * 3, nn.Linear(24, 10))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [TwiceTheSame, Shallow, TheWrongOne, OneNorm, repeated])
def test_layers_that_are_one_and_the_same(network: Any) -> None:
    (found,) = asked(SHARED_WEIGHTS, network(), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.shared-weights", "warning")


class Loop(Small):
    def make(self) -> None:
        self.again, self.act, self.drop = nn.Linear(24, 24), nn.PReLU(), nn.Dropout(0.1)

    def middle(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.drop(self.act(self.again(x)))
        return x


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Linear(32, 16)
        self.right = self.left
        self.last = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flatten(1).chunk(2, 1)
        return self.last(torch.cat([self.left(a).relu(), self.right(b).relu()], 1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode = nn.Linear(64, 16), nn.Linear(16, 64)
        self.decode.weight = nn.Parameter(self.encode.weight.T.clone())
        self.last = nn.Linear(64, 10)
        self.last_again = nn.Linear(64, 10)
        self.last_again.weight = self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.linear(self.encode(x.flatten(1)).relu(), self.encode.weight.T)
        return self.last(hidden) + self.last_again(self.decode(hidden[:, :16]))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, Loop, Siamese, Tied])
def test_weights_that_are_shared_on_purpose(network: type[nn.Module]) -> None:
    assert not asked(SHARED_WEIGHTS, network(), digits(), optimizer=adam)
