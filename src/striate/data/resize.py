"""Whole batches of images and masks made smaller."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.parts import as_bytes, by_parts


def resize_batch(x_BCHW: torch.Tensor, size: tuple[int, int], *, nearest: bool = False) -> torch.Tensor:
    """The batch at `size` (height, width) in pixels, of the same dtype: bilinear and antialiased, so that every pixel
    counts; bytes are rounded to nearest. `nearest`: each pixel takes the value at its center, which keeps class numbers
    what they are. Of that size already, the batch is returned as it is."""
    if tuple(x_BCHW.shape[2:]) == tuple(size):
        return x_BCHW
    if nearest:
        return functional.interpolate(x_BCHW, size, mode="nearest-exact")
    if x_BCHW.device.type == "cpu" or x_BCHW.is_floating_point():
        return functional.interpolate(x_BCHW, size, mode="bilinear", antialias=True)

    def change(part: torch.Tensor, _: slice) -> torch.Tensor:  # torch resizes bytes on the CPU alone
        resized = functional.interpolate(part.float(), size, mode="bilinear", antialias=True)
        return as_bytes(resized, part.dtype)

    return by_parts(change, x_BCHW, size)
