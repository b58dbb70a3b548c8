"""A network for maps, given inputs of another size than it was trained at."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

MULTIPLE = 32
"""Pixels: networks that halve their maps up to five times take sizes that it divides."""


def any_size(module: nn.Module, own: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    """Outputs (N, K, H, W) of `module` for inputs (N, C, H, W): of these as they are where it takes them; else with the
    outermost pixels repeated up to a multiple of 32; else at its `own` (height, width), resized."""
    height, width = x.shape[2:]
    if (outputs := _outputs(module, x)) is not None:
        return outputs
    padded = functional.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
    if (outputs := _outputs(module, padded)) is not None:
        return outputs[..., :height, :width]
    outputs = module(functional.interpolate(x, own, mode="bilinear", antialias=True))
    return functional.interpolate(outputs, (height, width), mode="bilinear")


def _outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    try:
        outputs: torch.Tensor = module(x)
    except (RuntimeError, ValueError):  # a layer that is made for another size
        return None
    return outputs if outputs.shape[2:] == x.shape[2:] else None
