"""Where the pixels of an augmented batch come from; images and masks are moved by the same record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from striate.data.config import Fill
from striate.data.crop import Mirror, crop_batch
from striate.data.resample import Movement, resample
from striate.data.shift import shift_batch
from striate.data.transfer import sent

_Way = Literal["copied", "cropped", "resampled"]


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
        ways = self._ways(nearest)
        for rows, way in ways:
            if bool(rows.all()):
                return self._moved(way, x_BCHW, nearest, fill)
        out = torch.empty_like(x_BCHW)
        for rows, way in ways:
            chosen = rows.nonzero().squeeze(1)
            if len(chosen):
                there = sent(chosen, out.device)
                moved = self._of(chosen)._moved(way, x_BCHW.index_select(0, there), nearest, fill)
                out.index_copy_(0, there, moved)
        return out

    def _ways(self, nearest: bool) -> list[tuple[torch.Tensor, _Way]]:
        """How images are moved, and (B,) bool which: each in the cheapest way that can, whatever others need."""
        every, none = torch.ones_like(self.flip), torch.zeros_like(self.flip)
        if self.box is None and self.linear is None:
            return [(every, "copied")]
        bent = none if self.linear is None else (self.linear != torch.eye(2).double()).flatten(1).any(1)
        if self.box is None:
            return [(~bent, "copied"), (bent, "resampled")]
        straight = none if nearest else ~bent & self.shift.eq(0).all(1)
        return [(straight, "cropped"), (~straight, "resampled")]

    def _moved(self, way: _Way, x: torch.Tensor, nearest: bool, fill: float | None) -> torch.Tensor:
        if way == "copied":
            return shift_batch(x, self._mirror(), self.shift, self.fill, fill)
        if way == "cropped":
            assert self.box is not None
            return crop_batch(x, _in_pixels(self.box, x.shape), self._mirror())
        movement = Movement(self._mirror(), self.shift, self.box, self.linear, self.fill)
        return resample(x, movement, nearest=nearest, value=fill)

    def _mirror(self) -> Mirror:
        """Upside down and left to right, as the axes are."""
        return torch.zeros_like(self.flip) if self.vertical_flip is None else self.vertical_flip, self.flip

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
