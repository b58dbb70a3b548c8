"""Which functions and operations of torch run, and, where a watcher wants it, something else in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Around = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Is given what is called, its arguments and its named arguments; calls it, and returns the result."""


@contextmanager
def torch_functions(around: Around) -> Iterator[None]:
    """While the body runs, every function of torch and method of a tensor is called by `around`; what those call
    in turn is not. Above autograd: `F.conv2d`, `torch.Tensor.item`."""
    with _Functions(around):
        yield


@contextmanager
def torch_operations(around: Around) -> Iterator[None]:
    """While the body runs, every operation below autograd (`aten.convolution.default`) is called by `around`."""
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
        return False  # or torch would load its compiler to keep it away from this

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.around(func, args, kwargs or {})


def function_name(func: Any) -> str:
    """The name of a function of torch, one for its forms as function, method, and in place."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    if name.startswith("__i") and name not in ("__index__", "__int__", "__invert__"):
        return f"__{name[3:]}"  # x += y
    return name.rstrip("_") if not name.endswith("__") else name
