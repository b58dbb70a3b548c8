"""What the layers here share: sizes per axis, windows of a map, and a root that is differentiable at zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Size = int | Sequence[int]


def per_axis(value: Size, axes: int, name: str) -> tuple[int, ...]:
    """`value` as one whole number an axis; ValueError where it is written for another number of axes."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{name} has {len(values)} numbers for {axes} spatial axes")
    return values


def root(x: torch.Tensor) -> torch.Tensor:
    """Square root of x ≥ 0 whose gradient at zero is zero instead of infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)


def wide(x: torch.Tensor) -> torch.Tensor:
    """x in at least float32: squares of half precision overflow or lose their last digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
