"""Crops that are resized to the size of their image, and resizing of batches of images and masks."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from striate.data.memory_layout import as_bytes, by_parts

Mirror = tuple[torch.Tensor, torch.Tensor]
"""(B,) bool: which images are mirrored upside down, and which left to right."""
_SMALL = 40 * 40  # pixels: up to this size, matrix products are faster than a call for each image


def crop_batch(x_BCHW: torch.Tensor, box: torch.Tensor, mirror: Mirror) -> torch.Tensor:
    """Crops of images in memory, mirrored, in the shape and dtype of the images: bilinear, bytes rounded to nearest.

    `box`: (B, 4) float64 top, left, height, width in pixels, at least one each. Pixels beside a box have no influence.
    """
    height, width = x_BCHW.shape[2:]
    small = height * width <= _SMALL
    if not small and x_BCHW.dtype == torch.uint8 and bool((box == box.round()).all()):
        return _one_by_one(x_BCHW.numpy(), box, mirror)
    rows = _weights(box[:, 0], box[:, 2], mirror[0], height)
    columns = _weights(box[:, 1], box[:, 3], mirror[1], width)
    if small:
        # In one thread: distributing products this small costs more than computing them.
        images = x_BCHW.numpy().astype(np.float32).reshape(len(box), -1, width)
        lines = (images @ columns.transpose(0, 2, 1)).reshape(x_BCHW.shape)
        return as_bytes(torch.from_numpy(rows[:, None] @ lines), x_BCHW.dtype)

    def change(part: torch.Tensor, at: slice) -> torch.Tensor:
        left, right = (torch.from_numpy(matrix[at])[:, None] for matrix in (rows, columns))
        return as_bytes(left @ part.float() @ right.transpose(2, 3), part.dtype)

    return by_parts(change, x_BCHW)


def _one_by_one(x: np.ndarray, box: torch.Tensor, mirror: Mirror) -> torch.Tensor:
    """`crop_batch` by torch's interpolation of bytes, which is many times faster than that of floats, but needs boxes
    of whole pixels."""
    out = np.empty(x.shape, np.uint8)
    turns = torch.stack(mirror, dim=1).tolist()
    for k, ((top, left, tall, wide), (upside_down, mirrored)) in enumerate(zip(box.int().tolist(), turns, strict=True)):
        part = x[k : k + 1, :, top : top + tall, left : left + wide]
        part = np.flip(part, -2) if upside_down else part
        part = np.ascontiguousarray(np.flip(part, -1) if mirrored else part)
        whole = functional.interpolate(torch.from_numpy(part), x.shape[2:], mode="bilinear", antialias=True)
        out[k] = whole[0].numpy()
    return torch.from_numpy(out)


def _weights(first: torch.Tensor, length: torch.Tensor, mirrored: torch.Tensor, side: int) -> np.ndarray:
    """(B, side, side) float32: the weight of each pixel of an axis (last) in each pixel of the crop; two neighbors have
    one.

    A dense matrix has more products than two weights for each pixel, but is a single matrix product.
    """
    batch = len(first)
    start, extent = (values.numpy()[:, None] for values in (first, length))
    places = np.arange(side) + 0.5
    shares = np.where(mirrored.numpy()[:, None], side - places, places) / side
    centers = (start + shares * extent - 0.5).clip(start, start + extent - 1)
    before = np.floor(centers).astype(np.int64)
    weights = np.zeros(batch * side * side, np.float32)
    at = (np.arange(batch * side) * side).reshape(batch, side) + before
    after = (centers - before).astype(np.float32)
    weights[at] = 1 - after
    weights[at + (before < side - 1)] += after  # of the last pixel all is in the first summand
    return weights.reshape(batch, side, side)


def resize_batch(x_BCHW: torch.Tensor, size: tuple[int, int], *, nearest: bool = False) -> torch.Tensor:
    """The batch at `size` (height, width) in pixels, of the same dtype: bilinear and antialiased, bytes rounded to
    nearest. `nearest`: each pixel takes the value at its center, as class numbers need. A batch of that size is
    returned unchanged."""
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
