"""One operation of torch as the account sees it: its name, arguments and results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """A call below autograd (`aten.convolution.default`) with its arguments and its result."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", short_name(self.func))

    def get(self, name: str, default: Any = None) -> Any:
        """An argument by the name that the operation's schema gives it; `default` where it has none of that name."""
        if name in self.kwargs:
            return self.kwargs[name]
        for place, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if place < len(self.args) and not argument.kwarg_only:
                    return self.args[place]
                return argument.default_value if argument.has_default_value() else default
        return default

    def inputs(self) -> Iterator[torch.Tensor]:
        """The tensors among the arguments, those in lists too."""
        for value in (*self.args, *self.kwargs.values()) if self.kwargs else self.args:
            if isinstance(value, torch.Tensor):
                yield value
            elif isinstance(value, list | tuple):
                yield from (item for item in value if isinstance(item, torch.Tensor))

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The tensors of the result."""
        if isinstance(self.out, torch.Tensor):
            return (self.out,)
        if isinstance(self.out, list | tuple):
            return tuple(item for item in self.out if isinstance(item, torch.Tensor))
        return ()


_UNTAGGED = frozenset(("hardswish", "_prelu_kernel", "prelu", "rrelu_with_noise", "log_sigmoid_forward", "bucketize"))
_NAMES: dict[Any, str] = {}


def is_pointwise(operation: Operation) -> bool:
    """Whether each number of the result is computed from the numbers at its own place alone."""
    return torch.Tag.pointwise in operation.func.tags or operation.name in _UNTAGGED


def short_name(func: Any) -> str:
    """`add` of `aten.add_.Tensor`; `mylib.fused` of an operation that is not torch's own."""
    name = _NAMES.get(func)
    if name is None:
        packet = func._schema.name
        space, _, bare = packet.partition("::")
        if not (bare.startswith("__") or bare.endswith("__")):
            bare = bare.removesuffix("_")
        name = _NAMES[func] = bare if space in ("aten", "prims", "prim") else f"{space}.{bare}"
    return name


def dims_of(operation: Operation, name: str = "dim") -> tuple[int, ...]:
    """The dimensions of the first tensor that a reduction names, counted from the front; all where it names none."""
    ndim = next(operation.inputs()).ndim
    given = operation.get(name)
    if given is None or given == []:
        return tuple(range(ndim))
    return tuple(dim % max(ndim, 1) for dim in ([given] if isinstance(given, int) else given))
