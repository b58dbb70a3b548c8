"""The features that a network offers to a task (vector, maps, sequence), and the layers that compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from striate.models.preserved_state import preserved
from striate.observe.module_calls import ModuleCall, module_calls
from striate.wording import several, show_shape


def weighted_layers(module: nn.Module) -> list[str]:
    """Names of the modules that own a kernel or matrix (two axes or more), in the order of registration."""
    return list(
        dict.fromkeys(
            name.rpartition(".")[0]
            for name, parameter in module.named_parameters()
            if nn.parameter.is_lazy(parameter) or (parameter.ndim > 1 and not name.endswith("bias"))
        )
    )


def parameter_depths(module: nn.Module) -> dict[str, int]:
    """From parameter name to depth, from 0. A layer without a kernel (a normalization) has the depth of the layer
    before it."""
    places = {name: place for place, name in enumerate(weighted_layers(module))}
    depths: dict[str, int] = {}
    depth = 0
    for name, _ in module.named_parameters():
        depth = places.get(name.rpartition(".")[0], depth)
        depths[name] = depth
    return depths


def output_layer(module: nn.Module) -> str | None:
    """The name of the output layer: the last layer with a kernel or matrix; None if there is none.

    "Last" means the order of registration, which usually is that of execution; torch does not know the latter without
    an input.
    """
    layers = weighted_layers(module)
    return layers[-1] if layers else None


def output_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters of `output_layer`."""
    layer = output_layer(module)
    return {name for name, _ in module.named_parameters() if name.rpartition(".")[0] == layer}


@dataclass(frozen=True)
class FeatureMap:
    """The output (N, `channels`, *`size`) of the module `name`."""

    name: str
    channels: int
    size: tuple[int, ...]


@dataclass(frozen=True)
class Features:
    """The features that a network computes for inputs of one shape."""

    vector: int | None
    """Number of features of a sample before the output layer; None where they are not a vector."""
    pyramid: tuple[FeatureMap, ...]
    """The last feature map of each size with more than one position, in the order of computation."""
    sequence: tuple[int, int] | None
    """(length, features) of the output layer's input, if that is (N, length, features); else None."""

    def __str__(self) -> str:
        """`a vector of 512 numbers, and maps of 64×32×32, 128×16×16`."""
        parts = [] if self.vector is None else [f"a vector of {several(self.vector, 'number')}"]
        if self.sequence is not None:
            parts.append(f"a sequence of {self.sequence[0]:,} × {several(self.sequence[1], 'number')}")
        if self.pyramid:
            parts.append(f"maps of {', '.join(show_shape((part.channels, *part.size)) for part in self.pyramid)}")
        return ", and ".join(parts) or "only its output"


def network_features(module: nn.Module, x: torch.Tensor, forward: Callable[[], object] | None = None) -> Features:
    """The features of `module` for a batch like `x` (N, C, *spatial) or (N, F). `forward` runs the module where it is
    not called with `x`. The module is not changed; its exceptions are raised unchanged."""
    done: list[FeatureMap] = []
    before: list[torch.Size] = []

    def note(call: ModuleCall) -> None:
        output = call.output
        if isinstance(output, torch.Tensor) and output.ndim == x.ndim > 2 and output.shape[2:].numel() > 1:
            done.append(FeatureMap(call.name, output.shape[1], tuple(output.shape[2:])))

    def note_input(call: ModuleCall) -> None:
        if call.args and isinstance(call.args[0], torch.Tensor):
            before.append(call.args[0].shape)

    last = output_layer(module)
    parts = {name: part for name, part in module.named_modules() if name}
    ends = {last: module.get_submodule(last)} if last else {}
    with preserved(module), torch.no_grad(), module_calls(parts, end=note), module_calls(ends, note_input):
        if forward is None:
            module(x)
        else:
            forward()
    names = [part.name for part in done]
    # The map of a module that runs more than once is ambiguous.
    sizes = {part.size: part for part in done if names.count(part.name) == 1}
    shape = before[-1] if before else torch.Size()
    return Features(
        shape[1] if len(shape) == 2 else None,
        tuple(sorted(sizes.values(), key=lambda part: names.index(part.name))),
        (shape[1], shape[2]) if len(shape) == 3 and x.ndim != 3 else None,
    )
