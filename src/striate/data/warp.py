"""Where the pixels of an augmented batch come from; images and masks are moved by the same record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from striate.data.config import Fill
from striate.data.crop import Mirror, crop_batch
from striate.data.resample import Movement, resample
from striate.data.shift import shift_batch

_Change = Callable[["Warp", torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Warp:
    """How each image of a batch is moved: cropped, then mirrored, then bent about its center, then shifted.

    `flip`, `vertical_flip`: (B,) bool, mirrored left to right, upside down. `shift`: (B, 2) int64 pixels down and
    right. `box`: (B, 4) float32 top, left, height, width of the kept part as shares of the image (0 to 1), resized
    back; what is beside it is not seen again. `linear`: (B, 2, 2) float64, takes (right, down) in pixels from the
    center to where it is moved. None leaves all as they are. `fill`: what moves in from outside.
    An image whose `box` and `linear` change nothing is copied and not interpolated: bytes stay bytes.
    """

    flip: torch.Tensor
    shift: torch.Tensor
    box: torch.Tensor | None = None
    vertical_flip: torch.Tensor | None = None
    linear: torch.Tensor | None = None
    fill: Fill = "edge"

    def apply(self, x_BCHW: torch.Tensor, *, nearest: bool = False, fill: float | None = None) -> torch.Tensor:
        """The moved batch, of the same shape and dtype; `nearest` keeps class numbers what they are.

        `fill` is the value of what moves in from outside, in place of the record's. Bilinear; bytes are rounded to
        nearest.
        """

        def copied(warp: Warp, x: torch.Tensor) -> torch.Tensor:
            return shift_batch(x, warp._mirror(), warp.shift, warp.fill, fill)

        def cropped(warp: Warp, x: torch.Tensor) -> torch.Tensor:
            assert warp.box is not None
            return crop_batch(x, _in_pixels(warp.box, x.shape), warp._mirror())

        def resampled(warp: Warp, x: torch.Tensor) -> torch.Tensor:
            movement = Movement(warp._mirror(), warp.shift, warp.box, warp.linear, warp.fill)
            return resample(x, movement, nearest=nearest, value=fill)

        if self.box is None and self.linear is None:
            return copied(self, x_BCHW)
        bent, cut = self._bent(), torch.full_like(self.flip, self.box is not None)
        straight = cut & ~bent & self.shift.eq(0).all(1) & (not nearest)
        ways: list[tuple[torch.Tensor, _Change]] = [
            (~cut & ~bent, copied),
            (straight, cropped),
            ((cut | bent) & ~straight, resampled),
        ]
        for rows, change in ways:
            if bool(rows.all()):
                return change(self, x_BCHW)
        out = torch.empty_like(x_BCHW)
        for rows, change in ways:
            chosen = rows.nonzero().squeeze(1)
            if len(chosen):
                there = chosen.to(out.device)
                out[there] = change(self._of(chosen), x_BCHW[there])
        return out

    def _mirror(self) -> Mirror:
        """Upside down and left to right, as the axes are."""
        return torch.zeros_like(self.flip) if self.vertical_flip is None else self.vertical_flip, self.flip

    def _bent(self) -> torch.Tensor:
        if self.linear is None:
            return torch.zeros_like(self.flip)
        return (self.linear != torch.eye(2, dtype=self.linear.dtype)).flatten(1).any(1)

    def _of(self, rows: torch.Tensor) -> Warp:
        def of(field: torch.Tensor | None) -> torch.Tensor | None:
            return None if field is None else field[rows]

        flip, shift = self.flip[rows], self.shift[rows]
        return Warp(flip, shift, of(self.box), of(self.vertical_flip), of(self.linear), self.fill)


def _in_pixels(box: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(B, 4) float64; shares of whole pixels, which float32 cannot hold exactly, are whole again."""
    pixels = box.double() * torch.tensor([*shape[2:], *shape[2:]], dtype=torch.float64)
    whole = pixels.round()
    return torch.where((pixels - whole).abs() < 1e-2, whole, pixels)
