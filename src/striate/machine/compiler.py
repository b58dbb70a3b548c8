"""Keeps torch's compiler from being loaded by the first step of an optimizer, rather than by the first compilation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def without_compiler(optimizer: type[Optimizer]) -> Callable[..., Optimizer]:
    """The optimizer class with the same methods, none of which loads `torch._dynamo`, which takes a second and a half.

    torch loads it to exclude these methods, and the gradient mode of `step`, from compilation. That matters only to
    code that compiles optimizer steps, not to code that compiles a network.
    """
    import torch

    methods: dict[str, Any] = {name: inspect.unwrap(getattr(optimizer, name)) for name in _GUARDED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods | {"__module__": optimizer.__module__})
