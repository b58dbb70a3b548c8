"""Record or replace the functions and operations of torch that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Around = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Gets a function, its arguments and its keyword arguments; calls it, and returns the result."""


@contextmanager
def torch_functions(around: Around) -> Iterator[None]:
    """While the body runs, call every function of torch and method of a tensor through `around`, except those that
    they call themselves. Above autograd: `F.conv2d`, `torch.Tensor.item`."""
    with _Functions(around):
        yield


@contextmanager
def torch_operations(around: Around) -> Iterator[None]:
    """While the body runs, call every operation below autograd (`aten.convolution.default`) through `around`."""
    with _Operations(around):
        yield


class _Functions(TorchFunctionMode):
    def __init__(self, around: Around) -> None:
        super().__init__()
        self.around = around

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.around(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __init__(self, around: Around) -> None:
        super().__init__()
        self.around = around

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch loads its compiler

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.around(func, args, kwargs or {})


def function_name(func: Any) -> str:
    """The name of a function of torch, the same for function, method, and in-place variant."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    if name.startswith("__i") and name not in ("__index__", "__int__", "__invert__"):
        return f"__{name[3:]}"  # x += y
    return name.rstrip("_") if not name.endswith("__") else name


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
        """An argument by its name in the operation's schema; `default` if there is none of that name."""
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


_UNTAGGED = frozenset(
    (
        "hardswish",
        "_prelu_kernel",
        "prelu",
        "rrelu_with_noise",
        "log_sigmoid_forward",
        "bucketize",
        "floor_divide",
        "bernoulli",
    )
)
_NAMES: dict[Any, str] = {}


def is_pointwise(operation: Operation) -> bool:
    """Whether each number of the result depends only on numbers at the same position."""
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


def dims_of(operation: Operation) -> tuple[int, ...]:
    """The dimensions that a reduction reduces in its first tensor, counted from the front; all if it names none."""
    ndim = next(operation.inputs()).ndim
    given = operation.get("dim")
    if given is None or given == []:
        return tuple(range(ndim))
    return tuple(dim % max(ndim, 1) for dim in ([given] if isinstance(given, int) else given))
