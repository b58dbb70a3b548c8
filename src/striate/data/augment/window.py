"""Random square parts of training images that are larger than what the network sees at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """`box`: (B, 4) int64 top, left, height, width of a part of each image, in pixels; all become (height, width)
    `size` pixels large."""

    box: torch.Tensor
    size: tuple[int, int]

    def cut(self, x_BCHW: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
        """(B, C, *size) of the same dtype: bilinear and antialiased; `nearest` keeps class numbers what they are."""
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
    """Windows of `side` × `side` pixels, or as much of it as images of `shape` (C, H, W) have, in which these are seen
    up to `zoom` times smaller or larger (log-uniform), and never more than whole. `within`: (B, 4) top, left, height,
    width of the part that windows lie in, or that lies in them where it is smaller."""
    height, width = shape[1:]
    size = min(side, height), min(side, width)
    smallest = max(1 / zoom, size[0] / height, size[1] / width)  # where a whole image is seen
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
    """(B, 4) int64 top, left, height, width of what lies between black margins, such as those of images that were
    padded; of images that are black all over the whole."""
    seen = (x_BCHW != 0).any(1)
    parts = []
    for axis in (2, 1):
        there = seen.any(axis)
        there |= ~there.any(1, keepdim=True)
        first, behind = there.int().argmax(1), there.int().flip(1).argmax(1)
        parts.append((first, there.shape[1] - behind - first))
    (top, height), (left, width) = parts
    return torch.stack([top, left, height, width], 1).cpu()
