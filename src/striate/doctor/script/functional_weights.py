"""Weights that a script keeps beside its network, in a dictionary, and trains in place of the network's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.setup.reached_objects import parameters_held, reached_values


def weights_beside(model: nn.Module, optimizer: Optimizer, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tensors that are trained in place of a network's parameters, found by the names of these in a dictionary, as
    `torch.func.functional_call` takes it: the optimizer holds them, or the first step left gradients in them and none
    in the network's own. Empty where there are none."""
    own = dict(model.named_parameters())
    held = parameters_held(optimizer)
    none_held, no_gradient = held.isdisjoint(map(id, own.values())), not any(map(_has_gradient, own.values()))
    for table in reached_values(names) if none_held or no_gradient else ():
        if not isinstance(table, dict) or table.keys() != own.keys():
            continue
        all_held = held.issuperset(map(id, table.values()))
        if (none_held and all_held) or (no_gradient and all(map(_has_gradient, table.values()))):
            return table
    return {}


def _has_gradient(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_leaf and value.grad is not None


@contextmanager
def holding(model: nn.Module, weights: Mapping[str, Any]) -> Iterator[None]:
    """While the body runs, the network holds these tensors in place of its parameters."""
    own = dict(model.named_parameters())
    _put(model, weights)
    try:
        yield
    finally:
        _put(model, own)


def _put(model: nn.Module, tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        model.get_submodule(layer)._parameters[last] = tensor  # a plain tensor too, as functional_call does
