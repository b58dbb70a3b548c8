"""Inputs that are one value nearly everywhere."""

from __future__ import annotations

import torch

from striate.doctor.evidence.features import is_grid

_BARE = 0.96


def near_blank_samples(x: torch.Tensor) -> torch.Tensor:
    """Which images and signals (N, …) are one value nearly everywhere, so that two of them may be equal by chance."""
    if not is_grid(x):
        return torch.zeros(len(x), dtype=torch.bool)
    flat = x.flatten(1)
    # A value at more than half of the positions is the median.
    return (flat == flat.median(1, keepdim=True).values).float().mean(1) >= _BARE
