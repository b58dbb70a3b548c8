"""Networks with auxiliary outputs in train mode: logits of classifiers on inner layers.

In train mode, such a network returns a tuple with its own outputs first. Its attribute `auxiliary_weights` has the
weight of the loss of each further output, and `auxiliary_layers` the names of the layers that compute them, even if the
network was built without them. When weights are loaded, auxiliary classifiers that only the file has are left out, and
those that only the network has stay new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from striate.errors import ModelError
from striate.wording import several


@dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of a forward pass: `outputs` (N, …), or a tree of tensors for a task that reads one, and each
    auxiliary output, of the same shape, with the weight of its loss."""

    outputs: Any
    auxiliary: tuple[tuple[float, torch.Tensor], ...] = ()


def network_outputs(module: nn.Module, result: Any, *, whole: bool = False) -> NetworkOutputs:
    """Split the `result` of `module` into outputs and auxiliary outputs; `whole`: for a task that reads the full
    result. Raises ModelError where the result is neither a tensor nor a tuple with auxiliary outputs."""
    if whole or isinstance(result, torch.Tensor):
        return NetworkOutputs(result)
    given = tuple(result) if isinstance(result, tuple | list) else (result,)
    weights = getattr(module, "auxiliary_weights", None)
    if not all(isinstance(each, torch.Tensor) for each in given):
        return _refuse(module, f"an output of type {type(result).__name__}", "return only tensors from forward")
    if not isinstance(weights, tuple | list) or len(weights) != len(given) - 1:
        told = "no attribute `auxiliary_weights`" if weights is None else f"`auxiliary_weights` = {weights}"
        example = ", ".join(["0.3"] * (len(given) - 1)) + ("," if len(given) == 2 else "")
        return _refuse(
            module, f"{several(len(given), 'output')}, and {told}", f"network.auxiliary_weights = ({example})"
        )
    shapes = [tuple(each.shape) for each in given]
    if len(set(shapes)) > 1:
        remedy = f"make the auxiliary classifiers for {shapes[0][1:]} outputs too, as the last layer is"
        return _refuse(module, f"outputs of the shapes {', '.join(map(str, shapes))}", remedy)
    return NetworkOutputs(given[0], tuple(zip(map(float, weights), given[1:], strict=True)))


def auxiliary_layers(module: nn.Module) -> tuple[str, ...]:
    """Names of the layers of this network that compute auxiliary outputs."""
    names = {name for name, _ in module.named_modules()}
    return tuple(name for name in getattr(module, "auxiliary_layers", ()) if name in names)


def auxiliary_prefixes(module: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the auxiliary classifiers' tensors (`aux1.`), also where this network has none."""
    return tuple(sorted({f"{name.partition('.')[0]}." for name in getattr(module, "auxiliary_layers", ())}))


def _refuse(module: nn.Module, got: str, remedy: str) -> NetworkOutputs:
    expected = "a tensor, or a tuple of the outputs and auxiliary outputs, with a loss weight for each of the latter"
    raise ModelError(f"output of {type(module).__name__} in training", got, expected, remedy)


Tensors = dict[str, Any]


@dataclass(frozen=True)
class Comparable:
    """The tensors of a network and of a file that must agree one by one; `notes` says which ones were left out."""

    own: Tensors
    saved: Tensors
    notes: tuple[str, ...] = ()


def without_lone_auxiliary(network: nn.Module, own: Tensors, saved: Tensors) -> Comparable:
    """`own` and `saved` without the auxiliary classifiers that only one of them has."""
    prefixes = auxiliary_prefixes(network)
    here = [prefix for prefix in prefixes if any(key.startswith(prefix) for key in own)]
    there = [prefix for prefix in prefixes if any(key.startswith(prefix) for key in saved)]
    if there and not here:
        notes = f"its auxiliary classifiers ({_named(there)}) are dropped: the network has none"
        return Comparable(own, _without(saved, prefixes), (notes,))
    if here and not there:
        notes = f"the auxiliary classifiers ({_named(here)}) are new: the file has none"
        return Comparable(_without(own, prefixes), saved, (notes,))
    return Comparable(own, saved)


def layers_of_outputs(network: nn.Module, head: str | None) -> set[str]:
    """Names of the layers with as many outputs as the network: `head`, and those of auxiliary classifiers."""
    return ({head} if head is not None else set()) | set(auxiliary_layers(network))


def _without(tensors: Tensors, prefixes: tuple[str, ...]) -> Tensors:
    return {key: value for key, value in tensors.items() if not key.startswith(prefixes)}


def _named(prefixes: list[str]) -> str:
    return ", ".join(prefix.rstrip(".") for prefix in prefixes)
