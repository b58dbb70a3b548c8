"""Where a parameter lies in a network: by the layer that it belongs to, in the order in which layers were made."""

from __future__ import annotations

from torch import nn


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
    """Parameter name to depth, from 0. A layer without a kernel (a normalization) has the depth of the one before."""
    places = {name: place for place, name in enumerate(weighted_layers(module))}
    depths: dict[str, int] = {}
    depth = 0
    for name, _ in module.named_parameters():
        depth = places.get(name.rpartition(".")[0], depth)
        depths[name] = depth
    return depths


def output_layer(module: nn.Module) -> str | None:
    """The name of the layer that gives the outputs: the last one with a kernel or matrix, None where there is none.

    "Last" is by registration, as networks are usually written; torch knows no order of execution without an input.
    """
    layers = weighted_layers(module)
    return layers[-1] if layers else None


def output_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters of `output_layer`."""
    layer = output_layer(module)
    return {name for name, _ in module.named_parameters() if name.rpartition(".")[0] == layer}
