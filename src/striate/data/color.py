"""Brightness, contrast, saturation and hue of a batch as one linear transform of each image's colors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from striate.data.parts import as_bytes, by_parts
from striate.data.transfer import sent

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), as Pillow has them."""

# From RGB to YIQ (NTSC, 1953): brightness, and two axes of color around which hue is an angle.
_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], dtype=torch.float64)


@dataclass(frozen=True)
class ColorChange:
    """Factors of (B,) images, float64; 1 (0 for hue) changes nothing.

    In this order, with m the mean luma of the image and luma(x) that of a pixel:
    `brightness` b: x → b·x. `contrast` c: x → c·x + (1 − c)·m. `saturation` s: x → s·x + (1 − s)·luma(x).
    `hue`: rotation of the (I, Q) plane of YIQ by so many radians. Only the end result is rounded and limited to
    0–255. Saturation and hue need three channels; with another number luma is the mean of the channels.
    """

    brightness: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor

    def apply(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The batch (uint8) in its new colors; an image that nothing changes stays as it is."""
        changed = (self.brightness != 1) | (self.contrast != 1)
        if x_BCHW.shape[1] == 3:
            changed |= (self.saturation != 1) | (self.hue != 0)
        rows = changed.nonzero().squeeze(1)
        if len(rows) == 0:
            return x_BCHW
        if len(rows) == len(x_BCHW):
            return self._changed(x_BCHW)
        out = x_BCHW.clone()
        there = sent(rows, out.device)
        part = ColorChange(self.brightness[rows], self.contrast[rows], self.saturation[rows], self.hue[rows])
        return out.index_copy_(0, there, part._changed(x_BCHW.index_select(0, there)))

    def _changed(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        channels = x_BCHW.shape[1]
        gain = self.brightness * self.contrast
        # The gray axis is left alone by saturation and hue, so what contrast adds passes through both.
        added = self.brightness - gain
        matrix = (self._chroma() if channels == 3 else torch.ones(len(gain), 1, 1).double()) * gain[:, None, None]
        matrix, added = (sent(numbers.float(), x_BCHW.device) for numbers in (matrix, added))
        luma = sent(torch.tensor(LUMA if channels == 3 else [1 / channels] * channels), x_BCHW.device)

        def change(part: torch.Tensor, rows: slice) -> torch.Tensor:
            flat = part.contiguous().float().flatten(2)  # or means would be summed in the order of the strides
            offset = (added[rows] * (flat.mean(2) @ luma))[:, None, None]
            out = torch.baddbmm(offset, matrix[rows], flat) if channels == 3 else flat * matrix[rows] + offset
            return as_bytes(out, part.dtype).view_as(part)

        return by_parts(change, x_BCHW)

    def _chroma(self) -> torch.Tensor:
        """(B, 3, 3) float64: saturation, then hue, of RGB."""
        gray = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
        s = self.saturation[:, None, None]
        saturated = s * torch.eye(3, dtype=torch.float64) + (1 - s) * gray
        turn = torch.zeros(len(self.hue), 3, 3, dtype=torch.float64)
        cos, sin = self.hue.cos(), self.hue.sin()
        turn[:, 0, 0] = 1
        turn[:, 1, 1], turn[:, 1, 2] = cos, -sin
        turn[:, 2, 1], turn[:, 2, 2] = sin, cos
        chroma: torch.Tensor = torch.linalg.inv(_YIQ) @ turn @ _YIQ @ saturated
        return chroma
