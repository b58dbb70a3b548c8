"""Random square windows of training images that are larger than the input of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """A window of each of B images."""

    box: torch.Tensor
    """(B, 4) int64 top, left, height, width in pixels."""
    size: tuple[int, int]
    """(height, width) that all windows are resized to."""

    def cut(self, x_BCHW: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
        """(B, C, *size) of the same dtype: bilinear and antialiased, or `nearest`, as class numbers need."""
        parts = [
            x_BCHW[k : k + 1, :, top : top + tall, left : left + wide]
            for k, (top, left, tall, wide) in enumerate(self.box.tolist())
        ]
        return torch.cat(
            [part if part.shape[2:] == self.size else _resized(part, self.size, nearest) for part in parts]
        )


def _resized(part: torch.Tensor, size: tuple[int, int], nearest: bool) -> torch.Tensor:
    if nearest:
        return functional.interpolate(part, size, mode="nearest-exact")
    if part.device.type == "cpu" or part.is_floating_point():
        # Slices are not contiguous: torch's code for bytes would round differently.
        return functional.interpolate(part.contiguous(), size, mode="bilinear", antialias=True)
    resized = functional.interpolate(part.float(), size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(part.dtype)


def draw_window(
    side: int, zoom: float, u: dict[str, torch.Tensor], shape: tuple[int, ...], within: torch.Tensor | None = None
) -> Window:
    """Windows of `side` × `side` pixels, or less where images of `shape` (C, H, W) are smaller.

    Images appear in them up to `zoom` times smaller or larger (log-uniform), but a window never exceeds the image.
    `within`: (B, 4) top, left, height, width of the part that contains the windows, or that they contain where it is
    smaller."""
    height, width = shape[1:]
    size = min(side, height), min(side, width)
    smallest = max(1 / zoom, size[0] / height, size[1] / width)  # at which a window shows the whole image
    low = math.log(min(1.0, smallest))
    scale = torch.exp(low + (math.log(zoom) - low) * u["area"])
    sides = torch.tensor([height, width], dtype=torch.float64)
    extent = (torch.tensor(size, dtype=torch.float64) / scale[:, None]).round().clamp(min=torch.ones(2), max=sides)
    start, span = torch.zeros(2, dtype=torch.float64), sides
    if within is not None:
        first, last = within[:, :2].double(), within[:, :2] + within[:, 2:] - extent
        start = torch.minimum(first, last).clamp(min=0)
        span = torch.minimum(torch.maximum(first, last), sides - extent) - start + extent
    first = start + torch.floor(torch.stack([u["top"], u["left"]], dim=1) * (span - extent + 1))
    return Window(torch.cat([first, extent], dim=1).long(), size)


def without_margins(x_BCHW: torch.Tensor) -> torch.Tensor:
    """(B, 4) int64 top, left, height, width of the part between black margins, such as those of padded images; of a
    black image, all of it."""
    seen = (x_BCHW != 0).any(1)
    parts = []
    for axis in (2, 1):
        there = seen.any(axis)
        there |= ~there.any(1, keepdim=True)
        first, behind = there.int().argmax(1), there.int().flip(1).argmax(1)
        parts.append((first, there.shape[1] - behind - first))
    (top, height), (left, width) = parts
    return torch.stack([top, left, height, width], 1).cpu()
