"""A loop whose number of iterations depends on values, in a form that can be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

State = tuple[torch.Tensor, ...]


def repeat_while(goes_on: Callable[..., torch.Tensor], step: Callable[..., State], state: State) -> State:
    """Repeat `step` while `goes_on(*state)`, a boolean tensor (), is true, and return the last state. Each tensor keeps
    its shape, dtype and memory layout. In an exported program it is one operation: torch's `while_loop`, ONNX's
    `Loop`."""
    if torch.compiler.is_exporting():
        from torch._higher_order_ops import while_loop

        found: Any = while_loop(goes_on, step, state)
        return tuple(found)
    while bool(goes_on(*state)):
        state = step(*state)
    return state
