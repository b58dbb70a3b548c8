"""Memory formats of batches, with well-defined strides; and batches that are computed in parts, so that intermediate
results stay in the cache, or fit into the memory of a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def contiguous(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in contiguous order, without a copy where they have it.

    An axis of length 1 may have any stride; here it gets the one of the contiguous order. Convolutions derive the
    layout of their outputs from the strides of their inputs, and a network may rely on contiguous maps.
    """
    x = x.contiguous()
    if 1 not in x.shape:
        return x
    strides, step = [], 1
    for size in reversed(x.shape):
        strides.append(step)
        step *= max(1, size)
    return x.as_strided(x.shape, strides[::-1])


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in channels-last order. Images and volumes with one channel have it already, and only get its
    strides; batches of other data are returned contiguous."""
    if x.ndim not in _CHANNELS_LAST:
        return contiguous(x)
    x = x.contiguous(memory_format=_CHANNELS_LAST[x.ndim])
    if 1 not in x.shape:
        return x
    last_to_first = [1, *range(x.ndim - 1, 1, -1), 0]
    strides, step = [0] * x.ndim, 1
    for axis in last_to_first:
        strides[axis] = step
        step *= max(1, x.shape[axis])
    return x.as_strided(x.shape, strides)


_VALUES = 2**19  # values in a part: 2 MB as float32
_VALUES_ON_DEVICE = 2**26  # 256 MB: an accelerator is better with fewer, larger operations


def by_parts(
    change: Callable[[torch.Tensor, slice], torch.Tensor], x_BCHW: torch.Tensor, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """The results of `change(part, rows)` for consecutive rows of a batch, concatenated. They are images of `size`, by
    default that of the batch, in its dtype."""
    values = _VALUES if x_BCHW.device.type == "cpu" else _VALUES_ON_DEVICE
    rows = max(1, values // max(1, x_BCHW[:1].numel()))
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
