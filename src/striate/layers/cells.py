"""What S- and C-cells share: the fixed fall of connections from the center, and products in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from striate.layers.windows import check_positive

FADE = 0.5
"""The strength of a connection that comes from half a window away, as a share of that from the center."""


def fading_window(height: int, width: int) -> torch.Tensor:
    """(1, 1, height, width) float32 of sum 1, which falls with the distance from the center: 0.5^d, with d = 1 half a
    window away.

    UsageError for a size below 1.
    """
    check_positive("kernel_size", (height, width))
    rows, columns = ((torch.arange(n, dtype=torch.float32) - (n - 1) / 2) / (n / 2) for n in (height, width))
    strength = FADE ** (rows.square()[:, None] + columns.square()).sqrt()
    return (strength / strength.sum()).view(1, 1, height, width)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Where autocast is on it is off inside: convolutions and matrix products keep the type of their input."""
    # Of the meta device autocast knows nothing, not even whether it is on.
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
