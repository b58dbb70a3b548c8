"""A batch computed part by part, so that what is made on the way stays in the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch

_VALUES = 2**19  # of a part: as float32 they take 2 MB


def by_parts(
    change: Callable[[torch.Tensor, slice], torch.Tensor], x_BCHW: torch.Tensor, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """`change(part, rows)` for consecutive rows of a batch, put together; each gives images of `size`, by default that
    of its input, in the dtype of the batch."""
    rows = max(1, _VALUES // max(1, x_BCHW[:1].numel()))
    if rows >= len(x_BCHW):
        return change(x_BCHW, slice(None))
    out = x_BCHW.new_empty(*x_BCHW.shape[:2], *(size or x_BCHW.shape[2:]))
    for first in range(0, len(x_BCHW), rows):
        part = slice(first, first + rows)
        out[part] = change(x_BCHW[part], part)
    return out


def as_bytes(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounded to nearest and limited to 0–255 if `dtype` is uint8; `values` may be overwritten."""
    return values.to(dtype) if dtype.is_floating_point else values.round_().clamp_(0, 255).to(dtype)
