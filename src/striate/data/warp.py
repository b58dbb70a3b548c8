"""Where the pixels of an augmented batch come from; images and masks are moved by the same record."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Warp:
    """How each image of a batch is moved: cropped, then mirrored, then bent about its center, then shifted.

    `flip`, `vertical_flip`: (B,) bool, mirrored left to right, upside down. `shift`: (B, 2) int64 pixels down and
    right. `box`: (B, 4) float32 top, left, height, width of the kept part as shares of the image (0 to 1), resized
    back. `linear`: (B, 2, 2) float64, takes (right, down) in pixels from the center to where it is moved. None leaves
    all as they are. An image whose `box` and `linear` change nothing is copied and not interpolated: bytes stay bytes.
    """

    flip: torch.Tensor
    shift: torch.Tensor
    box: torch.Tensor | None = None
    vertical_flip: torch.Tensor | None = None
    linear: torch.Tensor | None = None

    def apply(self, x_BCHW: torch.Tensor, *, nearest: bool = False, fill: float | None = None) -> torch.Tensor:
        """The moved batch, of the same shape and dtype; `nearest` keeps class numbers what they are.

        What is moved in from outside repeats the pixels of the edge, or is `fill`. Bilinear; bytes are rounded to
        nearest.
        """
        rows = self._interpolated()
        if not rows.any():
            return self._copied(x_BCHW, fill)
        if rows.all():
            return self._sampled(x_BCHW, nearest, fill)
        out = self._copied(x_BCHW, fill)
        chosen = rows.nonzero().squeeze(1)
        part, there = self._of(chosen), chosen.to(out.device)
        out = out.clone() if out is x_BCHW else out
        out[there] = part._sampled(x_BCHW[there], nearest, fill)
        return out

    def _of(self, rows: torch.Tensor) -> Warp:
        fields = (self.flip, self.shift, self.box, self.vertical_flip, self.linear)
        return Warp(*(None if field is None else field[rows] for field in fields))  # type: ignore[arg-type]

    def _interpolated(self) -> torch.Tensor:
        """(B,) bool: whose pixels fall between the pixels of the original."""
        if self.box is not None:
            return torch.ones_like(self.flip)
        if self.linear is None:
            return torch.zeros_like(self.flip)
        return (self.linear != torch.eye(2, dtype=self.linear.dtype)).flatten(1).any(1)

    def _copied(self, x_BCHW: torch.Tensor, fill: float | None) -> torch.Tensor:
        """The batch mirrored and shifted, pixel by pixel."""
        out = _mirror(x_BCHW, self.flip, -1)
        if self.vertical_flip is not None:
            out = _mirror(out, self.vertical_flip, -2)
        return _shift(out, self.shift, fill)

    def _sampled(self, x_BCHW: torch.Tensor, nearest: bool, fill: float | None) -> torch.Tensor:
        """All of the movement as one interpolation."""
        grid = self._grid(x_BCHW)
        mode = "nearest" if nearest else "bilinear"
        moved = functional.grid_sample(x_BCHW.float(), grid, mode, padding_mode="border", align_corners=False)
        if fill is not None:
            outside = (grid.abs() > 1).any(-1)
            moved.masked_fill_(outside[:, None], fill)
        return moved if x_BCHW.is_floating_point() else moved.round_().to(x_BCHW.dtype)

    def _grid(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 2) float32: which place of the original (right, down; −1 to 1 over the image) each pixel shows."""
        height, width = x_BCHW.shape[-2:]
        theta = self._source_map(height, width).to(device=x_BCHW.device, dtype=torch.float32)
        right = ((torch.arange(width, device=x_BCHW.device) * 2 + 1) / width - 1).view(1, 1, -1)
        down = ((torch.arange(height, device=x_BCHW.device) * 2 + 1) / height - 1).view(1, -1, 1)
        grid = torch.empty(len(theta), height, width, 2, device=x_BCHW.device)
        for axis in range(2):
            a, b, c = theta[:, axis, :, None, None].unbind(1)
            torch.add(right * a, down * b + c, out=grid[..., axis])
        return grid

    def _source_map(self, height: int, width: int) -> torch.Tensor:
        """(B, 2, 3) float64, from a place in the moved image to one in the original, both −1 to 1 over the image."""
        half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        linear = torch.eye(2, dtype=torch.float64).repeat(len(self.flip), 1, 1) if self.linear is None else self.linear
        back = torch.linalg.inv(linear)
        offset = -(back @ self.shift.flip(1).double()[:, :, None])  # in pixels, still before mirror and crop
        mirrored = torch.stack([self.flip, self._upside_down()], dim=1)
        sign = torch.where(mirrored, -1.0, 1.0).double()
        map_back = torch.cat([back * half[None, None, :], offset], dim=2) * (sign / half)[:, :, None]
        if self.box is None:
            return map_back
        top, left, tall, wide = self.box.double().unbind(1)
        map_back = map_back * torch.stack([wide, tall], dim=1)[:, :, None]
        map_back[:, :, 2] += torch.stack([2 * left + wide - 1, 2 * top + tall - 1], dim=1)
        return map_back

    def _upside_down(self) -> torch.Tensor:
        return torch.zeros_like(self.flip) if self.vertical_flip is None else self.vertical_flip


def _mirror(x_BCHW: torch.Tensor, which: torch.Tensor, axis: int) -> torch.Tensor:
    # Mirroring all and picking rows is several times faster than torch.where on bytes.
    both = torch.cat([x_BCHW, x_BCHW.flip(axis)])
    rows = torch.arange(len(which)) + len(which) * which
    return both.index_select(0, rows.to(x_BCHW.device))


def _shift(x_BCHW: torch.Tensor, shift: torch.Tensor, fill: float | None) -> torch.Tensor:
    reach = int(shift.abs().max()) if len(shift) else 0
    if reach == 0:
        return x_BCHW
    batch, _, height, width = x_BCHW.shape
    padded = _pad_with_edges(x_BCHW, reach) if fill is None else functional.pad(x_BCHW, (reach,) * 4, value=fill)
    # Every window of the padded batch as a view; one advanced index then copies the wanted one of each image.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    start = reach - shift.to(x_BCHW.device)
    return windows[torch.arange(batch, device=x_BCHW.device), :, start[:, 0], start[:, 1]]


def _pad_with_edges(x_BCHW: torch.Tensor, reach: int) -> torch.Tensor:
    """The batch with `reach` pixels more on every side, each the nearest of the image; torch pads no bytes so."""
    batch, channels, height, width = x_BCHW.shape
    padded = x_BCHW.new_empty(batch, channels, height + 2 * reach, width + 2 * reach)
    rows = padded[:, :, reach : reach + height]
    rows[..., reach : reach + width] = x_BCHW
    rows[..., :reach] = x_BCHW[..., :1]
    rows[..., reach + width :] = x_BCHW[..., -1:]
    padded[:, :, :reach] = rows[:, :, :1]
    padded[:, :, reach + height :] = rows[:, :, -1:]
    return padded
