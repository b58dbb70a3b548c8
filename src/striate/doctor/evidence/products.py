"""Sees convolutions and matrix products with weights that a network computes outside of torch's own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Note = Callable[[str, torch.Tensor, "torch.Tensor | None", object], None]
"""Is called with a name, the input, the weights as (units, inputs of a unit) where they are known, and the output."""

_CONVOLUTIONS = {
    functional.conv1d: "conv1d",
    functional.conv2d: "conv2d",
    functional.conv3d: "conv3d",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
}
_LINEAR = {functional.linear: "linear"}
_MATRIX = {
    torch.matmul: "matmul",
    torch.mm: "matmul",
    torch.Tensor.matmul: "matmul",
    torch.Tensor.mm: "matmul",
    torch.Tensor.__matmul__: "matmul",
}
_NAMES: dict[Any, str] = {**_CONVOLUTIONS, **_LINEAR, **_MATRIX}


@contextmanager
def watch_products(model: nn.Module, layers: tuple[type[nn.Module], ...], note: Note) -> Iterator[None]:
    """While the body runs, `note` is told of each product with weights that is not computed inside one of `layers`."""
    inside: list[tuple[str, bool]] = []

    def enter(name: str, own: bool) -> Callable[..., None]:
        return lambda _module, _inputs: inside.append((name, own))

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        if inside:
            inside.pop()

    handles = []
    for name, part in model.named_modules():
        handles.append(part.register_forward_pre_hook(enter(name, isinstance(part, layers)), prepend=True))
        handles.append(part.register_forward_hook(leave))
    try:
        with _Calls(inside, note):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Calls(TorchFunctionMode):
    def __init__(self, inside: list[tuple[str, bool]], note: Note) -> None:
        super().__init__()
        self.inside, self.note = inside, note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _NAMES and self.inside and not self.inside[-1][1] and len(args) > 1:
            given, weight = args[0], args[1]
            if isinstance(given, torch.Tensor) and isinstance(weight, torch.Tensor) and _are_weights(func, weight):
                name = self.inside[-1][0]
                self.note(f"{name}.{_NAMES[func]}" if name else _NAMES[func], given, _rows(func, args, kwargs), output)
        return output


def _are_weights(func: Any, weight: torch.Tensor) -> bool:
    """A product of two activations, as in attention, is none with weights."""
    return func not in _MATRIX or (isinstance(weight, nn.Parameter) and weight.ndim == 2)


def _rows(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> torch.Tensor | None:
    groups = args[6] if len(args) > 6 else (kwargs or {}).get("groups", 1)
    if func in _CONVOLUTIONS and groups != 1:
        return None
    weight = args[1].detach()
    rows = weight.t() if func in _MATRIX else weight
    return rows.flatten(1).float().clone() if rows.ndim > 1 else None
