"""Changes to a copy of a network that last as long as the copy does: the doctor's trials of what would help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def change_inputs(module: nn.Module, change: Callable[[tuple[Any, ...]], tuple[Any, ...] | None]) -> None:
    """From now on the module is given `change(args)` in place of its positional arguments; None leaves them."""
    module.register_forward_pre_hook(lambda _, args: change(args))


def change_output(module: nn.Module, change: Callable[[tuple[Any, ...], Any], Any]) -> None:
    """From now on the module returns `change(args, output)` in place of its output; None leaves it."""
    module.register_forward_hook(lambda _, args, output: change(args, output))


def change_gradient(tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """From now on the tensor gets `change(gradient)` in place of its gradient; None leaves it."""
    tensor.register_hook(change)
