"""A network that outputs maps, for inputs of another size than it was trained at."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.models.decoder import upper_left

MULTIPLE = 32
"""Pixels: networks that halve their maps up to five times take sides that are multiples of it."""


def any_size(module: nn.Module, own: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    """Outputs (N, K, H, W) of `module` for inputs (N, C, H, W). Tried in order: the inputs as they are; with the
    outermost pixels repeated up to a multiple of 32; resized to its `own` (height, width), with the outputs resized
    back."""
    height, width = x.shape[2:]
    if (outputs := _outputs(module, x)) is not None:
        return outputs
    if (outputs := _outputs(module, filled_up(x))) is not None:
        return outputs[..., :height, :width]
    outputs = module(functional.interpolate(x, own, mode="bilinear", antialias=True))
    return functional.interpolate(outputs, (height, width), mode="bilinear")


def multiple_of_sizes(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """The smallest power of two up to 32 that has to divide the sides of inputs for `module`; 1 where even 32 does not
    help."""
    channels, *own = input_shape
    for multiple in (1, 2, 4, 8, 16, MULTIPLE):
        beyond = 2 * MULTIPLE  # sides become odd multiples of `multiple`: no larger power of two divides them
        sides = [-(-side // beyond) * beyond + multiple for side in own]
        if takes(module, torch.zeros(1, channels, *sides)):
            return multiple
    return 1


def any_size_as_traced(module: nn.Module, multiple: int, x: torch.Tensor) -> torch.Tensor:
    """`any_size` of a module whose sides `multiple` has to divide, without comparing sizes: a comparison would be
    decided once, while the network is traced."""
    height, width = x.shape[2:]
    grows: Any = torch.sym_min(1, height % multiple + width % multiple)
    for axis, side in ((2, height), (3, width)):
        parts = (side + grows * (-side % MULTIPLE)) // multiple  # so that the tracer knows what divides the product
        x = x.index_select(axis, torch.arange(multiple * parts).clamp(max=side - 1))
    return upper_left(module(x), height, width)


def filled_up(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) with the outermost pixels repeated up to a multiple of 32."""
    rows, columns = (torch.arange(side + -side % MULTIPLE, device=x.device).clamp(max=side - 1) for side in x.shape[2:])
    return x[:, :, rows[:, None], columns]


def takes(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether `module` outputs maps of the size of the inputs (N, C, H, W)."""
    with torch.no_grad():
        return _outputs(module, x) is not None


def _outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    try:
        outputs: torch.Tensor = module(x)
    except (RuntimeError, ValueError):  # a layer that is made for another size
        return None
    return outputs if outputs.shape[2:] == x.shape[2:] else None
