"""torch's compiler is loaded where something is compiled, and not by the first step of an optimizer."""

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
    """The class of torch with the same methods, of which none loads `torch._dynamo`: that takes a second and a half.

    torch loads it to keep these methods, and the gradient mode of `step`, out of what a compiler makes. That matters
    to who compiles the steps of an optimizer, not to who compiles a network.
    """
    import torch

    methods: dict[str, Any] = {name: inspect.unwrap(getattr(optimizer, name)) for name in _GUARDED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods | {"__module__": optimizer.__module__})
