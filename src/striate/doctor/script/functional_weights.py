"""Weights that a script keeps beside its network, in a dictionary, and trains in place of the network's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from striate.doctor.setup.reached_objects import parameters_held, reached_values


@contextmanager
def holding_trained_weights(model: nn.Module, optimizer: Optimizer, names: Mapping[str, Any]) -> Iterator[None]:
    """While the body runs, the network holds the tensors that the optimizer trains in place of its parameters, found by
    the names of these in a dictionary, as `torch.func.functional_call` takes it."""
    own = dict(model.named_parameters())
    held = parameters_held(optimizer)
    trained: dict[str, Any] = {}
    if own and held.isdisjoint(map(id, own.values())):
        tables = (value for value in reached_values(names) if isinstance(value, dict) and value.keys() == own.keys())
        trained = next((table for table in tables if held.issuperset(map(id, table.values()))), {})
    _put(model, trained)
    try:
        yield
    finally:
        _put(model, own)


def _put(model: nn.Module, tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        model.get_submodule(layer)._parameters[last] = tensor  # a plain tensor too, as functional_call does
