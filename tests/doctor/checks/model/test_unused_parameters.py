"""`model.unused-parameters`: are there parameters that are never used?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from for_checks.asked import asked, digits, perceptron, quick_adam, stepped
from for_checks.networks import InList, NeverCalled, Small
from striate.doctor.checks.model.unused_parameters import UNUSED_PARAMETERS
from striate.doctor.checks.optim.parameters_missing import PARAMETERS_MISSING
from striate.doctor.script.functional_weights import replacing_weights, weights_replaced


@pytest.mark.parametrize("idle", [True, False])
def test_a_dictionary_is_trained_in_place_of_the_network_s_own_weights(idle: bool) -> None:
    model = perceptron()
    if idle:
        model.add_module("spare", nn.Linear(2, 2))
        model.forward = lambda x: model[1:4](model[0](x))  # type: ignore[method-assign]
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(params.values(), 1e-3)

    def step(_: Any, batch: Any, optimizer: Any, __: Any) -> Tensor:
        return stepped(functional.cross_entropy(functional_call(model, params, batch[0]), batch[1]), optimizer)

    own = dict(model.named_parameters())
    with weights_replaced(model, replacing_weights(model, optimizer, {"params": params})):
        assert all(p is params[name] for name, p in model.named_parameters())
        found = asked(UNUSED_PARAMETERS, model, digits(), optimizer=optimizer, step=step)
    assert [one.where for one in found] == ["spare"] * idle
    assert all(p is own[name] for name, p in model.named_parameters())


@pytest.mark.parametrize("of_network", [True, False])
def test_an_optimizer_of_the_networks_weights_next_to_the_trained_ones(of_network: bool) -> None:
    model = perceptron()
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    names = {"rates": dict.fromkeys(params, 0.1), "average": {k: p.detach() for k, p in params.items()}, "own": params}
    optimizer = torch.optim.Adam(model.parameters() if of_network else params.values(), 1e-3)

    def step(_: Any, batch: Any, optimizer: Any, __: Any) -> Tensor:
        return stepped(functional.cross_entropy(functional_call(model, params, batch[0]), batch[1]), optimizer)

    step(model, next(iter(digits())), optimizer, None)
    weights = replacing_weights(model, optimizer, names)
    assert weights is params
    with weights_replaced(model, weights):
        unused = asked(UNUSED_PARAMETERS, model, digits(most=128), optimizer=optimizer, step=step)
        found = asked(PARAMETERS_MISSING, model, digits(most=128), optimizer=optimizer, step=step)
    assert not unused
    assert ["none of which belongs to this network" in one.measured for one in found] == [True] * of_network


def test_layers_that_are_never_called() -> None:
    (found,) = asked(UNUSED_PARAMETERS, NeverCalled(), digits(), optimizer=quick_adam)
    assert (found.code, found.severity, found.where) == ("model.unused-parameters", "warning", "norm")
    assert "48 of" in found.measured
    assert "`x = self.norm(x)`" in found.remedy


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


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, UsedByFunction, InEvaluationOnly, InList])
def test_layers_that_are_used_in_some_way(network: type[nn.Module]) -> None:
    assert not asked(UNUSED_PARAMETERS, network(), digits(), optimizer=quick_adam)
