"""How the numbers of a batch lie in memory, by definite strides."""

from __future__ import annotations

import torch

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def contiguous(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in the order of the axes, without a copy where they lie so.

    An axis of length 1 may have any stride; here it has the one that belongs to the order. Convolutions take the
    layout of their outputs from the strides of their inputs, and a network may rely on maps that are contiguous.
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
    """The same numbers, those of all channels of a pixel beside each other; images and volumes of one channel are
    that already, and are said to be. Batches of other data come back contiguous."""
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
