"""Weights in a dictionary that a script trains in place of its network's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.setup.reached_objects import parameters_held, reached_values


def replacing_weights(model: nn.Module, optimizer: Optimizer, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """The dictionary of tensors, by parameter name as for `torch.func.functional_call`, that a script trains in place
    of a network's parameters: the optimizer has them and no parameter, or they have gradients and no parameter does.
    Empty where there is none."""
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
def weights_replaced(model: nn.Module, weights: Mapping[str, Any]) -> Iterator[None]:
    """While the body runs, the network holds these tensors in place of its parameters."""
    own = dict(model.named_parameters())
    _put(model, weights)
    try:
        yield
    finally:
        _put(model, {name: own[name] for name in weights})


def _put(model: nn.Module, tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        model.get_submodule(layer)._parameters[last] = tensor  # a plain tensor too, as functional_call does
