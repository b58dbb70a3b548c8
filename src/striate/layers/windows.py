"""Helpers of the layers: sizes per axis, checks of sizes and maps, and a root that is differentiable at zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from striate.errors import ShapeError, UsageError
from striate.wording import several

Size = int | Sequence[int]


def per_axis(value: Size, axes: int, name: str) -> tuple[int, ...]:
    """`value` as one whole number for each axis; UsageError if it has another number of entries."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        got = f"{several(len(values), 'number')} for {several(axes, 'spatial axis', 'spatial axes')}"
        raise UsageError(name, got, f"one for all axes, or {axes}", f"{name}={values[0] if values else 1}")
    return values


def check_positive(name: str, size: Size) -> None:
    """UsageError unless `size` is a whole number of at least 1, or several of them."""
    values = (size,) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if not values or not all(isinstance(value, int) and value >= 1 for value in values):
        raise UsageError(name, repr(size), "whole numbers of at least 1", f"{name}=1")


def check_map(layer: str, x: torch.Tensor) -> None:
    """ShapeError unless x is (N, C, *spatial) with at least one spatial axis, and with channels and positions."""
    if x.dim() >= 3 and 0 not in x.shape[1:]:
        return
    remedy = "a larger input, or fewer poolings and strides before it"
    if x.dim() < 3:
        remedy = "x[..., None] for features without positions" if x.dim() == 2 else "x.view(1, 1, -1) for one signal"
    expected = "(N, C, *spatial) with at least one spatial axis, none empty"
    raise ShapeError(f"input of {layer}", f"shape {tuple(x.shape)}", expected, remedy)


def root(x: torch.Tensor) -> torch.Tensor:
    """Square root of x ≥ 0 whose gradient at zero is zero instead of infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)


def wide(x: torch.Tensor) -> torch.Tensor:
    """x in at least float32: in half precision, squares overflow or lose their last digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
