"""Lazy layers get their shapes: whoever copies, averages or restores a network needs parameters that are there."""

from __future__ import annotations

import torch
from torch import nn

from striate.models.untouched import is_lazy, on_trial, zero_input


def materialize(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Run `module` once, on zeros of `input_shape` (C, *spatial) or (F,), if any parameter or buffer is lazy.

    The initialization follows from torch's random state; modes and other buffers stay as they are.
    """
    if not is_lazy(module):
        return
    seed = int(torch.randint(2**62, ()))  # drawn outside, so that what is drawn next is something else
    with on_trial(module), torch.no_grad():
        torch.manual_seed(seed)
        module(zero_input(module, input_shape, 2))
