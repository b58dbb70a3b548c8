"""Permanent changes to a copy of a network, for the doctor's trials of remedies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def change_inputs(module: nn.Module, change: Callable[[tuple[Any, ...]], tuple[Any, ...] | None]) -> None:
    """From now on the module gets `change(args)` in place of its positional arguments, or the same ones if that is
    None. In a call with keyword arguments only, `args` is the first floating-point tensor among them."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any] | None:
        named = ((key, v) for key, v in kwargs.items() if isinstance(v, torch.Tensor) and v.is_floating_point())
        key, value = next(named, ("", None)) if not args else ("", None)
        changed = change(args if value is None else (value,))
        if changed is None:
            return None
        return (changed, kwargs) if value is None else ((), {**kwargs, key: changed[0]})

    module.register_forward_pre_hook(hook, with_kwargs=True)


def change_output(module: nn.Module, change: Callable[[tuple[Any, ...], Any], Any]) -> None:
    """From now on the module returns `change(args, output)` in place of its output, unless that is None."""
    module.register_forward_hook(lambda _, args, output: change(args, output))


def change_gradient(tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """From now on the tensor gets `change(gradient)` in place of its gradient, unless that is None."""
    tensor.register_hook(change)
