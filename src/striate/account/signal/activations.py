"""Sees activations wherever a network calls them: as modules, as functions, as methods of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from striate.layers.activations import Maxout

Note = Callable[[str, str, object], None]
"""Is called with a name, a kind and the output."""

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
_KIND_OF = {function: kind for kind, functions in _FUNCTIONS.items() for function in functions}


def activation_kind(layer: nn.Module) -> str | None:
    """The layer-string word of an activation module, or its torch name in lower case; None for all else."""
    return next((kind for known, kind in _MODULES.items() if isinstance(layer, known)), None)


@contextmanager
def watch_activations(module: nn.Module, note: Note) -> Iterator[None]:
    """While the body runs, `note` is told of every activation: the module's name, or, of a function, that of the
    module that called it with the function's."""
    inside: list[tuple[str, str | None]] = []

    def enter(name: str, kind: str | None) -> Callable[[nn.Module, object], None]:
        return lambda _module, _inputs: inside.append((name, kind))

    def leave(_module: nn.Module, _inputs: object, output: object) -> None:
        name, kind = inside.pop()
        if kind is not None:
            note(name or kind, kind, output)

    handles = []
    for name, layer in module.named_modules():
        handles.append(layer.register_forward_pre_hook(enter(name, activation_kind(layer))))
        handles.append(layer.register_forward_hook(leave))
    try:
        with _Calls(inside, note):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Calls(TorchFunctionMode):
    """Tells `note` of functions that are activations, but for those inside of activation modules."""

    def __init__(self, inside: list[tuple[str, str | None]], note: Note) -> None:
        super().__init__()
        self.inside, self.note = inside, note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        kind = _KIND_OF.get(func) or _kind_of_clamp(func, args[1:], kwargs or {})
        if kind is not None and self.inside and self.inside[-1][1] is None:
            name = self.inside[-1][0]
            self.note(f"{name}.{kind}" if name else kind, kind, output)
        return output


def _kind_of_clamp(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """`relu` where a function cuts off what is below zero, and nothing else."""
    if func not in _CLAMPS and func not in _CLAMPS_BELOW:
        return None
    low = args[0] if args else kwargs.get("min")
    high = args[1] if len(args) > 1 else kwargs.get("max")
    return "relu" if isinstance(low, int | float) and low == 0 and high is None else None
