"""Replace the output layer of a network that was built for another number of outputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from striate.errors import ModelError
from striate.models.features import output_layer
from striate.models.initialization.initialize import initialize_output
from striate.models.weights.auxiliary_outputs import auxiliary_layers


def replace_head(module: nn.Module, outputs: int) -> nn.Module:
    """The network with a new output layer of `outputs` numbers or channels; all other layers stay.

    The layer is replaced in place, except in a network that consists of its output layer. `initialize_output` draws its
    weights. The output layer is the last one with weights, in the order of registration
    (`models.features.output_layer`). Those of auxiliary classifiers are replaced too, if the network names them
    (`models.weights.auxiliary_outputs`).
    Raises ModelError where an output layer is not a linear layer or convolution.
    """
    name = output_layer(module)
    if name is None:
        raise _no_head(module, "no output layer with weights")
    layer = module.get_submodule(name)
    fresh = None if any(map(nn.parameter.is_lazy, layer.parameters())) else _resized(layer, outputs)
    if fresh is None:
        raise _no_head(module, f"the output layer `{name}`, a {type(layer).__name__}")
    initialize_output(fresh)
    if not name:
        return fresh
    module.set_submodule(name, fresh)
    for auxiliary in auxiliary_layers(module):
        layer = module.get_submodule(auxiliary)
        again = _resized(layer, outputs)
        if again is None:
            raise _no_head(module, f"the auxiliary layer `{auxiliary}`, a {type(layer).__name__}")
        initialize_output(again)
        module.set_submodule(auxiliary, again)
    return module


def _resized(layer: nn.Module, outputs: int) -> nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """A layer like this one with another number of outputs; None unless it is a linear layer or convolution."""
    if isinstance(layer, nn.Linear):
        place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        return nn.Linear(layer.in_features, outputs, layer.bias is not None, **place)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and not layer.transposed and outputs % layer.groups == 0:
        kind: Any = next(k for k in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(layer, k))
        fresh: nn.Conv1d | nn.Conv2d | nn.Conv3d = kind(
            layer.in_channels,
            outputs,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        return fresh
    return None


def _no_head(module: nn.Module, got: str) -> ModelError:
    return ModelError(
        f"output of {type(module).__name__}",
        f"{got}, which cannot be replaced",
        "a network that ends in nn.Linear or a convolution",
        "give the function a parameter `classes`, and let the network end in that many outputs",
    )
