"""Record which layers a network calls: as modules, as functions, as methods of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.layers.activations import Maxout
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.torch_calls import torch_functions

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding)
"""Modules that compute products with weights."""
PRODUCT = "product"


@dataclass(eq=False, slots=True)
class LayerCall:
    """One call of a module, or of a function that does what a layer does."""

    name: str
    """The module's path, "" of the network; of a function, the path of the module that calls it, and the function's
    name."""
    kind: str | None
    """The word for an activation, `product` for a function with weights; None of all other modules."""
    given: tuple[Any, ...]
    """The arguments."""
    output: Any
    """What it returned."""
    module: nn.Module | None = None
    """The module; None of a function."""
    weight: torch.Tensor | None = None
    """Of a product, (units, inputs of a unit), a copy; None where channels are grouped, and of other calls."""


_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: "leaky",
    nn.PReLU: "prelu",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.CELU: "celu",
    nn.GELU: "gelu",
    nn.SiLU: "swish",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Softplus: "softplus",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    Maxout: "maxout",
}

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "relu": (functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
    "relu6": (functional.relu6,),
    "leaky": (functional.leaky_relu, functional.leaky_relu_),
    "elu": (functional.elu, functional.elu_),
    "selu": (functional.selu, torch.selu, torch.selu_),
    "celu": (functional.celu, torch.celu, torch.celu_),
    "gelu": (functional.gelu,),
    "swish": (functional.silu,),
    "mish": (functional.mish,),
    "hardswish": (functional.hardswish,),
    "softplus": (functional.softplus,),
    "hardtanh": (functional.hardtanh, functional.hardtanh_),
    "hardsigmoid": (functional.hardsigmoid,),
    "softsign": (functional.softsign,),
    "sigmoid": (torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, functional.sigmoid),
    "tanh": (torch.tanh, torch.tanh_, torch.Tensor.tanh, torch.Tensor.tanh_, functional.tanh),
}
_CLAMPS = (torch.clamp, torch.clamp_, torch.clip, torch.Tensor.clamp, torch.Tensor.clamp_, torch.Tensor.clip)
_CLAMPS_BELOW = (torch.clamp_min, torch.Tensor.clamp_min, torch.Tensor.clamp_min_)
_CONVOLUTIONS = {
    functional.conv1d: "conv1d",
    functional.conv2d: "conv2d",
    functional.conv3d: "conv3d",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
}
_MATRIX = {
    torch.matmul: "matmul",
    torch.mm: "matmul",
    torch.Tensor.matmul: "matmul",
    torch.Tensor.mm: "matmul",
    torch.Tensor.__matmul__: "matmul",
}
_PRODUCTS: dict[Any, str] = {**_CONVOLUTIONS, functional.linear: "linear", **_MATRIX}
_KIND_OF = {function: kind for kind, functions in _FUNCTIONS.items() for function in functions}


def activation_kind(layer: nn.Module) -> str | None:
    """The layer-string word of an activation module, or its torch name in lower case; None for other modules."""
    return next((kind for known, kind in _MODULES.items() if isinstance(layer, known)), None)


def function_kind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The word for an activation that is called as a function of torch with these arguments; None for other calls."""
    return _KIND_OF.get(func) or _kind_of_clamp(func, args[1:], kwargs)


@contextmanager
def layer_calls(module: nn.Module, note: Callable[[LayerCall], object]) -> Iterator[None]:
    """While the body runs, call `note` with each call of a module that returns, with each activation that is called as
    a function outside activation modules, and with each product with weights outside weighted modules."""

    def ended(call: ModuleCall) -> None:
        given = (*call.args, *call.kwargs.values())
        note(LayerCall(call.name, activation_kind(call.module), given, call.output, call.module))

    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        here = calls.innermost
        if here is not None:
            activation = function_kind(func, args, kwargs)
            if activation is not None and activation_kind(here.module) is None:
                note(LayerCall(_joined(here.name, activation), activation, args, output))
            elif func in _PRODUCTS and not isinstance(here.module, WEIGHTED) and _has_weights(func, args):
                weight = _rows(func, args, kwargs)
                note(LayerCall(_joined(here.name, _PRODUCTS[func]), PRODUCT, args, output, weight=weight))
        return output

    with module_calls(module, end=ended, prepend=True) as calls, torch_functions(around):
        yield


def _joined(module: str, function: str) -> str:
    return f"{module}.{function}" if module else function


def _has_weights(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether a product has weights, unlike that of two activations in attention."""
    if len(args) < 2 or not isinstance(args[0], torch.Tensor) or not isinstance(args[1], torch.Tensor):
        return False
    return func not in _MATRIX or (isinstance(args[1], nn.Parameter) and args[1].ndim == 2)


def _rows(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The weights as (units, inputs of a unit), a copy; None for grouped channels."""
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    if func in _CONVOLUTIONS and groups != 1:
        return None
    weight = args[1].detach()
    rows = weight.t() if func in _MATRIX else weight
    return rows.flatten(1).float().clone() if rows.ndim > 1 else None


def _kind_of_clamp(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """`relu` for a function that clamps negative values to zero and changes no others; else None."""
    if func not in _CLAMPS and func not in _CLAMPS_BELOW:
        return None
    low = args[0] if args else kwargs.get("min")
    high = args[1] if len(args) > 1 else kwargs.get("max")
    return "relu" if isinstance(low, int | float) and low == 0 and high is None else None
