"""A network for maps, given inputs of another size than it was trained at."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.models.decoder import upper_left

MULTIPLE = 32
"""Pixels: networks that halve their maps up to five times take sizes that it divides."""


def any_size(module: nn.Module, own: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    """Outputs (N, K, H, W) of `module` for inputs (N, C, H, W): of these as they are where it takes them; else with the
    outermost pixels repeated up to a multiple of 32; else at its `own` (height, width), resized."""
    height, width = x.shape[2:]
    if (outputs := _outputs(module, x)) is not None:
        return outputs
    if (outputs := _outputs(module, filled_up(x))) is not None:
        return outputs[..., :height, :width]
    outputs = module(functional.interpolate(x, own, mode="bilinear", antialias=True))
    return functional.interpolate(outputs, (height, width), mode="bilinear")


def multiple_of_sizes(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """The smallest power of two up to 32 that has to divide the sides of what `module` takes; 1 where none of them is
    enough, too."""
    channels, *own = input_shape
    for multiple in (1, 2, 4, 8, 16, MULTIPLE):
        beyond = 2 * MULTIPLE  # an odd number of times `multiple`, so that no larger power of two divides it
        sides = [-(-side // beyond) * beyond + multiple for side in own]
        if takes(module, torch.zeros(1, channels, *sides)):
            return multiple
    return 1


def any_size_as_traced(module: nn.Module, multiple: int, x: torch.Tensor) -> torch.Tensor:
    """`any_size` of a module that takes sides which `multiple` divides, without a comparison of sizes, which would have
    to be decided while a network is traced."""
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
    """Whether a module for maps gives them for inputs (N, C, H, W) of this size."""
    with torch.no_grad():
        return _outputs(module, x) is not None


def _outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    try:
        outputs: torch.Tensor = module(x)
    except (RuntimeError, ValueError):  # a layer that is made for another size
        return None
    return outputs if outputs.shape[2:] == x.shape[2:] else None
