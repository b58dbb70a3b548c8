"""Lazy layers get their shapes: whoever copies, averages or restores a network needs parameters that are there."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import torch
from torch import nn

from striate.models.untouched import untouched


def materialize(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Run `module` once, on zeros of `input_shape` (C, *spatial) or (F,), if any parameter or buffer is lazy.

    First weights follow from torch's random state; modes and other buffers stay as they are.
    """
    if not any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return
    seed = int(torch.randint(2**62, ()))  # drawn outside, so that what is drawn next is something else
    with untouched(module), torch.no_grad(), redirect_stdout(sys.stderr):
        torch.manual_seed(seed)
        module(torch.zeros(2, *input_shape))
