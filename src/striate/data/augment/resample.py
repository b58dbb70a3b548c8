"""Images moved by an affine map, with a single interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from striate.data.augment.crop import Mirror
from striate.data.config import Fill
from striate.data.memory_layout import as_bytes, by_parts
from striate.data.transfer import sent


@dataclass(frozen=True)
class Movement:
    """An affine map of each image of a batch; fields that are not described are those of `Warp`."""

    mirror: Mirror
    """(B,) bool each: upside down, and left to right."""
    shift: torch.Tensor
    box: torch.Tensor | None
    linear: torch.Tensor | None
    fill: Fill

    def source_map(self, height: int, width: int) -> torch.Tensor:
        """(B, 2, 3) float64: maps a place in the moved image to a place in the original, both −1 to 1 over the
        image."""
        half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        batch = len(self.shift)
        linear = torch.eye(2, dtype=torch.float64).repeat(batch, 1, 1) if self.linear is None else self.linear
        back = _inverse(linear)
        offset = -(back @ self.shift.flip(1).double()[:, :, None])  # in pixels, still before mirror and crop
        sign = torch.where(torch.stack(self.mirror[::-1], dim=1), -1.0, 1.0).double()
        map_back = torch.cat([back * half[None, None, :], offset], dim=2) * (sign / half)[:, :, None]
        if self.box is None:
            return map_back
        top, left, tall, wide = self.box.double().unbind(1)
        map_back = map_back * torch.stack([wide, tall], dim=1)[:, :, None]
        map_back[:, :, 2] += torch.stack([2 * left + wide - 1, 2 * top + tall - 1], dim=1)
        return map_back

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 2) float64 each: where the visible part begins and ends, (right, down), −1 to 1 over the image."""
        if self.box is None:
            return -torch.ones(len(self.shift), 2).double(), torch.ones(len(self.shift), 2).double()
        first, extent = self.box.double()[:, :2].flip(1), self.box.double()[:, 2:].flip(1)
        return 2 * first - 1, 2 * (first + extent) - 1


def resample(
    x_BCHW: torch.Tensor, movement: Movement, *, nearest: bool = False, value: float | None = None
) -> torch.Tensor:
    """The moved batch, of the same shape and dtype, bilinear; `value`: shown outside the image in place of the fill."""
    value = 0.0 if value is None and movement.fill == "zero" else value
    height, width = x_BCHW.shape[2:]
    device = x_BCHW.device
    theta = sent(movement.source_map(height, width).float(), device)
    first, last = (sent(bound.float(), device) for bound in movement.bounds())

    def change(part: torch.Tensor, rows: slice) -> torch.Tensor:
        grid = torch.empty(len(part), height, width, 2, device=device)
        outside = torch.zeros(0, dtype=torch.bool, device=device)
        for axis, plane in enumerate(_places(theta[rows], height, width)):
            low, high = first[rows, axis, None, None], last[rows, axis, None, None]
            half_pixel = 1 / (width, height)[axis]
            if value is not None:
                beyond = (plane < low) | (plane > high)
                outside = beyond if axis == 0 else outside | beyond
            elif movement.fill == "reflect":
                plane = _reflected(plane, low + half_pixel, high - half_pixel)
            if movement.box is not None:
                plane = plane.clamp_(low + half_pixel, high - half_pixel)
            grid[..., axis] = plane
        mode = "nearest" if nearest else "bilinear"
        moved = functional.grid_sample(part.float(), grid, mode, padding_mode="border", align_corners=False)
        if value is not None:
            moved.masked_fill_(outside[:, None], value)
        return as_bytes(moved, part.dtype)

    return by_parts(change, x_BCHW)


def _places(theta: torch.Tensor, height: int, width: int) -> Iterator[torch.Tensor]:
    """(B, H, W) float32 twice: the place of each pixel in the original, right, then down, −1 to 1."""
    right = ((torch.arange(width, device=theta.device) * 2 + 1) / width - 1).view(1, 1, -1)
    down = ((torch.arange(height, device=theta.device) * 2 + 1) / height - 1).view(1, -1, 1)
    for axis in range(2):
        a, b, c = theta[:, axis, :, None, None].unbind(1)
        yield right * a + (down * b + c)


def _reflected(place: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Places reflected at the centers of the outermost pixels, back and forth."""
    extent = (high - low).clamp(min=0)
    around = torch.where(extent > 0, torch.remainder(place - low, (2 * extent).clamp(min=1e-6)), 0.0)
    return low + extent - (extent - around).abs()


def _inverse(linear: torch.Tensor) -> torch.Tensor:
    """(B, 2, 2), by the formula: a general inverse takes longer than all else here."""
    a, b, c, d = linear.flatten(1).unbind(1)
    return torch.stack([d, -b, -c, a], dim=1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
