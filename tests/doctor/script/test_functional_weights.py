"""Weights that a script keeps beside its network, in a dictionary, and trains in place of the network's own."""

from __future__ import annotations

import torch
from torch.func import functional_call
from torch.nn import functional

from for_checks.asked import digits, perceptron
from striate.doctor.script.examined_step import Weights
from striate.doctor.script.functional_weights import replacing_weights, weights_replaced


def test_a_network_with_gradients_of_its_own_is_not_trained_elsewhere() -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    inner = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    x, y = next(iter(digits()))
    for weights in ({}, inner):
        functional.cross_entropy(functional_call(model, weights, x), y).backward()
    assert not replacing_weights(model, optimizer, {"inner": inner})


def test_weights_without_a_module_stay_as_they_are() -> None:
    own = {"params.body.weight": torch.ones(2)}  # of a dictionary, whose names have dots
    model = Weights(own)
    with weights_replaced(model, {}):
        assert dict(model.named_parameters(recurse=False)) == own
    assert model._parameters == own
