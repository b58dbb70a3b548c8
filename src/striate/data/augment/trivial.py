"""TrivialAugment (Müller and Hutter 2021): one operation per image; operation and strength are drawn uniformly."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from striate.data.memory_layout import as_bytes
from striate.data.transfer import sent

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "posterize",
    "solarize",
    "sharpness",
    "brightness",
    "contrast",
    "rotate",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "saturation",
)
"""The fourteen operations of the paper. The last needs color, and is not drawn for gray images."""

_ENHANCE = 0.99  # factors of brightness, contrast, saturation and sharpness lie in 1 ± 0.99
_ROTATE = torch.pi * 135 / 180
_SHEAR = 0.99  # as a tangent
_TRANSLATE = 32  # pixels, and at most half the side: beyond, small images would be all edge


@dataclass(frozen=True)
class Trivial:
    """One random operation for each of B images.

    At strength 1 the ranges are the paper's wide ones: rotation 135°, shear 0.99, translation 32 pixels (here at most
    half the side), factors 1 ± 0.99, 2 bits left, all solarized. The paper has 31 steps of strength; here it is
    continuous.
    """

    operation: torch.Tensor
    """(B,) int64, an index into OPERATIONS."""
    strength: torch.Tensor
    """(B,) in [0, 1)."""
    sign: torch.Tensor
    """(B,) ±1."""

    def amount(self, name: str) -> torch.Tensor:
        """(B,) float64 in (−1, 1): strength with its sign where `name` was drawn, 0 elsewhere."""
        return torch.where(self.operation == OPERATIONS.index(name), self.strength * self.sign, 0.0)

    def factor(self, name: str) -> torch.Tensor:
        """(B,) float64: the factor of brightness, contrast or saturation."""
        return 1 + _ENHANCE * self.amount(name)

    def angle(self) -> torch.Tensor:
        """(B,) float64 radians, counterclockwise."""
        return _ROTATE * self.amount("rotate")

    def shear(self, axis: str) -> torch.Tensor:
        """(B,) float64: tangents of the slant along `x` or `y`."""
        return _SHEAR * self.amount(f"shear-{axis}")

    def shift(self, height: int, width: int) -> torch.Tensor:
        """(B, 2) int64 pixels down and right."""
        reach = torch.tensor([min(_TRANSLATE, height / 2), min(_TRANSLATE, width / 2)], dtype=torch.float64)
        return (torch.stack([self.amount("translate-y"), self.amount("translate-x")], dim=1) * reach).round().long()

    def apply_tones(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The batch (uint8) after the operations that are neither a movement nor a linear change of color."""
        out = x_BCHW
        for name, change in _TONES.items():
            rows = (self.operation == OPERATIONS.index(name)).nonzero().squeeze(1)
            if len(rows):
                out = out.clone() if out is x_BCHW else out
                there = sent(rows, out.device)
                signed = sent((self.strength * self.sign)[rows].float(), out.device)
                out.index_copy_(0, there, change(x_BCHW.index_select(0, there), signed.view(-1, 1, 1, 1)))
        return out


def draw_trivial(u: torch.Tensor, color: bool) -> Trivial:
    """The operations of B images, from (B, 3) uniform numbers. `color`: whether images have three channels."""
    count = len(OPERATIONS) if color else len(OPERATIONS) - 1
    return Trivial((u[:, 0] * count).long(), u[:, 1], torch.where(u[:, 2] < 0.5, -1.0, 1.0).double())


def _posterize(x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Each value with only its 8 to 2 highest bits."""
    dropped = (strength.abs() * 7).to(torch.uint8)
    return (x >> dropped) << dropped


def _solarize(x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Values from a threshold on (256 at strength 0, 0 at 1) are inverted."""
    last_kept = (torch.ceil(256 * (1 - strength.abs())) - 1).to(torch.uint8)
    return x ^ ((x > last_kept).to(torch.uint8) * 255)  # several times faster than torch.where on bytes


def _sharpen(x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Each image moved away from (or towards) its copy smoothed by 1 1 1; 1 5 1; 1 1 1, as in Pillow: edge pixels do
    not change."""
    if min(x.shape[-2:]) < 3:
        return x
    values = x.float()
    inner = values[:, :, 1:-1, 1:-1]
    lines = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    # Sums of slices: for so few images, they are faster than to start a convolution.
    smooth = (lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:] + 4 * inner) / 13
    values[:, :, 1:-1, 1:-1] = smooth.lerp_(inner, 1 + _ENHANCE * strength)
    return as_bytes(values, x.dtype)


def _autocontrast(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Each channel stretched to 0–255; a constant channel is not changed."""
    values = x.float()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    stretched = ((values - low) * (255 / (high - low).clamp(min=1))).round_().to(x.dtype)
    return torch.where(high > low, stretched, x)


def _equalize(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Histogram equalization of each channel, by Pillow's table."""
    flat = x.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    last = flat.amax(2, keepdim=True)
    step = (flat.shape[2] - counts.gather(2, last)) // 255
    before = counts.cumsum(2) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(2, flat), flat).to(x.dtype).view_as(x)


_TONES = {
    "posterize": _posterize,
    "solarize": _solarize,
    "sharpness": _sharpen,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
